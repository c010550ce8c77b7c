"""On Colab's exact versions the package installs without changing any, and a kernel is whose it should be."""

from __future__ import annotations

from pathlib import Path

import colab_pins
import harness
import pytest

pytestmark = [pytest.mark.colab_pins, pytest.mark.timeout(1800)]

OURS_BRINGS = {"colab-magics", "gitpython", "gitdb", "smmap", "nvidia-ml-py", "pynacl"}
"""What the package may add to Colab's machine: itself, and what the machine does not have."""

ASK_A_KERNEL = """
import sys
from jupyter_client.manager import KernelManager

manager = KernelManager()
manager.start_kernel(extra_arguments=sys.argv[1:])
client = manager.client()
client.start_channels()
try:
    client.wait_for_ready(timeout=120)
    kind = "type(get_ipython().kernel)"
    code = f"print({kind}.__module__, {kind}.__name__, 'colab_extension_is_loaded' in globals())"
    client.execute_interactive(code, timeout=120)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.fixture(scope="module")
def pinned_python() -> Path:
    """The environment as Colab has it, without anything of ours; not to be changed."""
    if colab_pins.interpreter() is None:
        harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
    return colab_pins.pinned_environment() / "bin/python"


def test_the_environment_has_every_pin(pinned_python: Path) -> None:
    found = colab_pins.installed(pinned_python)
    assert colab_pins.pins().items() <= found.items()
    assert not {"torch", "gitpython"} & set(found)


@pytest.mark.parametrize("extra", ["", "[data]", "[html]"])
def test_installing_would_change_none_of_the_packages(
    pinned_python: Path, built_wheel: Path, tmp_path: Path, extra: str
) -> None:
    would = colab_pins.would_install(pinned_python, f"{built_wheel}{extra}", report=tmp_path / "report.json")
    assert set(would) == OURS_BRINGS


def test_installing_changed_none_of_the_packages(pinned_python: Path, colab_python: Path) -> None:
    before, after = colab_pins.installed(pinned_python), colab_pins.installed(colab_python)
    assert before.items() <= after.items()
    assert set(after) - set(before) == OURS_BRINGS


def test_every_requirement_of_ours_is_met(colab_python: Path) -> None:
    assert harness.run([colab_python, "-m", "pip", "check"]).stdout.strip() == "No broken requirements found."


def test_a_kernel_started_plainly_is_colabs(colab_python: Path) -> None:
    said = harness.run([colab_python, "-c", ASK_A_KERNEL])
    assert said.stdout.strip() == "google.colab._kernel Kernel True"


def test_a_kernel_started_with_our_flags_is_an_ordinary_one(colab_python: Path) -> None:
    said = harness.run([colab_python, "-c", ASK_A_KERNEL, *colab_pins.PLAIN_KERNEL])
    assert said.stdout.strip() == "ipykernel.ipkernel IPythonKernel False"


def test_the_package_is_imported_from_its_wheel(colab_python: Path, tmp_path: Path) -> None:
    said = harness.run(
        [colab_python, "-c", "import colab_magics; print(colab_magics.__file__)"], cwd=tmp_path
    )
    assert Path(said.stdout.strip()).is_relative_to(colab_python.parent.parent)
