"""Kernelspecs: the one that pip puts in place, and those that `install` writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from colab_kernel import install
from colab_kernel.install import KernelspecError

SOURCE = harness.ROOT / "kernel/colab_kernel/kernelspec"
LOGOS = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's kernelspecs are; none is there yet."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "kernels"


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
    return found


# --- the one that pip puts in place ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["wheel", "in place"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, built_wheel: Path
) -> Path:
    """A new environment with our package in it; what it depends on is seen where the tests have it."""
    prefix = tmp_path_factory.mktemp("kernelspec") / "env"
    harness.run([sys.executable, "-m", "venv", prefix])
    what = [built_wheel] if request.param == "wheel" else ["--editable", harness.ROOT]
    pip = [prefix / "bin/python", "-m", "pip", "install", "-q", "--no-deps"]
    harness.run([*pip, *what])
    asked = "import site; print(site.getsitepackages()[0])"
    packages = Path(harness.run([prefix / "bin/python", "-c", asked]).stdout.strip())
    others = [path for path in sys.path if path.endswith("site-packages")]
    harness.write(packages / "what_tests_have.pth", "\n".join(others) + "\n")
    return prefix


@pytest.mark.timeout(600)
def test_jupyter_kernelspec_list_shows_it(environment: Path, tmp_path: Path) -> None:
    command = [environment / "bin/python", "-m", "jupyter_client.kernelspecapp", "list", "--json"]
    found = json.loads(harness.run(command, cwd=tmp_path).stdout)["kernelspecs"]["colab"]
    assert Path(found["resource_dir"]) == environment / "share/jupyter/kernels/colab"
    assert {path.name for path in Path(found["resource_dir"]).iterdir()} == {"kernel.json", *LOGOS}
    assert found["spec"]["display_name"] == "Colab GPU"
    assert found["spec"]["interrupt_mode"] == "message"
    assert found["spec"]["metadata"]["debugger"] is True


@pytest.mark.timeout(600)
def test_its_program_is_found_without_the_environment_being_activated(
    environment: Path, tmp_path: Path
) -> None:
    """As jupyter_client starts it, from an interpreter by its path, with a PATH that knows nothing of it."""
    program = (
        "import json, sys\n"
        "from jupyter_client import KernelManager\n"
        "manager = KernelManager(kernel_name='colab', connection_file=sys.argv[1])\n"
        "manager._launch_args = {}\n"  # as in start_kernel
        "print(json.dumps(manager.format_kernel_cmd()))\n"
    )
    bare = {"PATH": os.defpath}
    asked = [environment / "bin/python", "-c", program, tmp_path / "c.json"]
    command = json.loads(harness.run(asked, cwd=tmp_path, env=bare).stdout)
    assert Path(command[0]).resolve() == (environment / "bin/colab-kernel").resolve()
    assert command[1:] == ["-f", str(tmp_path / "c.json")]
    # It is our program, in this environment, to the end: there is no connection file.
    done = subprocess.run(
        command, env={**os.environ, **bare}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert str(tmp_path / "c.json") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(600)
def test_a_link_to_the_environment_does_as_well(environment: Path, tmp_path: Path) -> None:
    link = tmp_path / "env"
    link.symlink_to(environment)
    first = read(link / "share/jupyter/kernels/colab")["argv"][0]
    program = first.replace("{resource_dir}", str(link / "share/jupyter/kernels/colab"))
    assert "connect" in harness.run([program, "--help"], env={"PATH": os.defpath}).stdout


def test_its_names_are_none_that_vs_code_takes_for_its_own() -> None:
    kernelspec = read(SOURCE)
    assert Path(kernelspec["argv"][0]).name == "colab-kernel"
    # Quotes in `--f={connection_file}` would stay there.
    assert kernelspec["argv"][1:] == ["-f", "{connection_file}"]
    assert "ipykernel" not in json.dumps(kernelspec)
    assert kernelspec["language"] == "python"
    assert "python" not in kernelspec["display_name"].lower()
    assert {path.name for path in SOURCE.iterdir()} == {"kernel.json", *LOGOS}


@pytest.mark.parametrize("size", [32, 64])
def test_a_logo_has_the_size_in_its_name(size: int) -> None:
    data = (SOURCE / f"logo-{size}x{size}.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data[16:24] == size.to_bytes(4, "big") * 2


# --- those that `install` writes -------------------------------------------------------------------------


def test_it_starts_this_interpreter_by_its_path(kernels: Path) -> None:
    folder = install.install()
    assert folder == kernels / "colab"
    kernelspec = read(folder)
    assert kernelspec["argv"] == [sys.executable, "-m", "colab_kernel", "-f", "{connection_file}"]
    assert Path(kernelspec["argv"][0]).is_absolute()
    assert {**kernelspec, "argv": []} == {**read(SOURCE), "argv": []}
    assert {path.name for path in folder.iterdir()} == {"kernel.json", *LOGOS}


def test_jupyter_finds_it(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    install.install("Colab-A100", display_name="Colab A100", runtime_name="a100")
    found = KernelSpecManager().get_kernel_spec("colab-a100")
    assert found.display_name == "Colab A100"
    assert found.argv[-2:] == ["--runtime", "a100"]
    assert found.interrupt_mode == "message"
    assert found.metadata == {"debugger": True}


def test_an_environment_has_its_own(tmp_path: Path, kernels: Path) -> None:
    folder = install.install(prefix=str(tmp_path / "prefix"))
    assert folder == tmp_path / "prefix/share/jupyter/kernels/colab"
    assert read(folder)["argv"][0] == sys.executable
    assert not kernels.exists()
    assert install.uninstall(prefix=str(tmp_path / "prefix")) == folder
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *((name, "Colab") for name in ("python3", "python", "Python", "python3.12", "colab_ipykernel")),
        ("colab", "Python 3 (ipykernel)"),
    ],
)
def test_a_name_that_is_taken_for_a_local_python_is_refused(kernels: Path, name: str, shown: str) -> None:
    with pytest.raises(KernelspecError, match="taken for a kernel of this machine"):
        install.install(name, display_name=shown)
    assert not kernels.exists()


@pytest.mark.parametrize("name", ["", "a b", "../colab", "a/b", ".", "..", "é"])
def test_a_name_that_is_no_folders_is_refused(kernels: Path, name: str) -> None:
    for attempt in (install.install, install.uninstall):
        with pytest.raises(KernelspecError, match="cannot name a kernelspec"):
            attempt(name)
    assert not kernels.exists()


def test_one_of_ours_is_replaced(kernels: Path) -> None:
    install.install(runtime_name="a", display_name="A")
    folder = install.install(runtime_name="b", display_name="B")
    assert (read(folder)["display_name"], read(folder)["argv"][-1]) == ("B", "b")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"argv": ["/usr/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}),
        json.dumps({"argv": []}),
        json.dumps({"argv": None}),
        "[]",
        "not JSON",
        None,
    ],
)
def test_somebody_elses_is_left_alone(kernels: Path, text: str | None) -> None:
    (kernels / "colab").mkdir(parents=True)
    if text is not None:
        harness.write(kernels / "colab/kernel.json", text)
    before = {path: path.read_bytes() for path in kernels.rglob("*") if path.is_file()}
    with pytest.raises(KernelspecError, match="not of colab_kernel"):
        install.install()
    with pytest.raises(KernelspecError, match="not of colab_kernel"):
        install.uninstall()
    assert {path: path.read_bytes() for path in kernels.rglob("*") if path.is_file()} == before


def test_what_pip_brought_is_replaced_and_removed_by_pip_alone(kernels: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prefix/share/jupyter/kernels/colab"
    shutil.copytree(SOURCE, folder)
    with pytest.raises(KernelspecError, match="pip uninstall colab-magics"):
        install.uninstall(prefix=str(tmp_path / "prefix"))
    assert folder.exists()
    install.install(prefix=str(tmp_path / "prefix"))
    assert read(folder)["argv"][0] == sys.executable


def test_none_to_remove_says_where_one_is(kernels: Path, tmp_path: Path) -> None:
    with pytest.raises(KernelspecError, match=f"there is no kernelspec {kernels / 'gone'}$"):
        install.uninstall("gone")
    there = install.install("colab-x")
    with pytest.raises(KernelspecError, match=f"there is {there}: say --user"):
        install.uninstall("colab-x", prefix=str(tmp_path))
    assert there.exists()


def test_a_folder_that_cannot_be_written_is_told(kernels: Path) -> None:
    kernels.parent.mkdir()
    kernels.write_text("a file")
    with pytest.raises(KernelspecError, match="cannot be written"):
        install.install()
