"""What `pip install colab-magics` puts on a machine."""

from __future__ import annotations

import email
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import harness
import pytest
from jupyter_servers import jupyter_server

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory, built_wheel: Path) -> Path:
    """A new environment with our wheel in it; what it depends on is seen where the tests have it."""
    folder = tmp_path_factory.mktemp("fresh") / "env"
    harness.run([sys.executable, "-m", "venv", folder])
    python = folder / "bin/python"
    harness.run([python, "-m", "pip", "install", "-q", "--no-deps", built_wheel])
    # Behind its own packages, so that colab_magics comes from the wheel and all else from the tests' own.
    packages = Path(
        harness.run([python, "-c", "import site; print(site.getsitepackages()[0])"]).stdout.strip()
    )
    others = [path for path in sys.path if path.endswith("site-packages")]
    harness.write(packages / "what_tests_have.pth", "\n".join(others) + "\n")
    return python


@pytest.fixture(scope="module")
def editable_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment in which this checkout is installed in place, and nothing else."""
    folder = tmp_path_factory.mktemp("in-place") / "env"
    harness.run([sys.executable, "-m", "venv", folder])
    python = folder / "bin/python"
    harness.run([python, "-m", "pip", "install", "-q", "--no-deps", "--editable", harness.ROOT])
    return python


def where_found(python: Path, name: str, *, cwd: Path) -> str:
    """The file that `import name` would run; "" if there is none (a folder on the path is no file)."""
    program = f"import importlib.util as u; s = u.find_spec({name!r}); print(s and s.origin or '')"
    return harness.run([python, "-c", program], cwd=cwd).stdout.strip()


def test_the_wheel_holds_the_packages_and_no_more(built_wheel: Path) -> None:
    names = zipfile.ZipFile(built_wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("colab_magics-")} == {"colab_magics", "colab_kernel"}
    assert {"colab_magics/py.typed", "colab_kernel/py.typed"} <= set(names)
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


@pytest.mark.parametrize("package", ["colab_magics", "kernel/colab_kernel"])
def test_every_module_is_in_the_wheel(built_wheel: Path, package: str) -> None:
    names = set(zipfile.ZipFile(built_wheel).namelist())
    folder = harness.ROOT / package
    ours = {path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.py")}
    assert ours
    assert ours <= names


@pytest.mark.parametrize("package", ["colab_magics", "colab_kernel"])
def test_both_packages_are_found_in_a_wheel_and_in_place(
    fresh_python: Path, editable_python: Path, tmp_path: Path, package: str
) -> None:
    installed = where_found(fresh_python, package, cwd=tmp_path)
    assert Path(installed).is_relative_to(fresh_python.parent.parent)
    places = {"colab_magics": "colab_magics", "colab_kernel": "kernel/colab_kernel"}
    in_place = where_found(editable_python, package, cwd=tmp_path)
    assert Path(in_place) == harness.ROOT / places[package] / "__init__.py"


def test_nothing_is_installed_under_the_name_kernel(
    fresh_python: Path, editable_python: Path, tmp_path: Path
) -> None:
    assert where_found(fresh_python, "kernel", cwd=tmp_path) == ""
    assert where_found(editable_python, "kernel", cwd=tmp_path) == ""


def test_the_wheel_says_what_it_needs(built_wheel: Path) -> None:
    wheel = zipfile.ZipFile(built_wheel)
    (path,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(path))
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    needed = metadata.get_all("Requires-Dist") or []
    plain = [line for line in needed if "extra ==" not in line]
    assert not [line for line in plain if line.startswith("torch")]


def test_torch_is_never_a_range() -> None:
    """A range would pull gigabytes of CUDA by accident."""
    project = tomllib.loads((harness.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = [line for group in groups for line in group if re.match(r"torch\b", line)]
    assert named == ["torch==2.13.0"]


def test_no_requirement_has_a_cap() -> None:
    project = tomllib.loads((harness.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [line for line in project["dependencies"] if re.search("<|==|~=|!=", line)] == []


def test_the_package_is_imported_from_the_wheel(fresh_python: Path, tmp_path: Path) -> None:
    said = harness.run(
        [fresh_python, "-c", "import colab_magics; print(colab_magics.__file__)"], cwd=tmp_path
    )
    assert Path(said.stdout.strip()).is_relative_to(fresh_python.parent.parent)


def test_the_extension_loads(fresh_python: Path, tmp_path: Path) -> None:
    program = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'colab_magics')\n"
        "print('colab_queue' in shell.magics_manager.magics['cell'])\n"
    )
    assert harness.run([fresh_python, "-c", program], cwd=tmp_path).stdout.splitlines()[-1:] == ["True"]


def test_the_command_is_there(fresh_python: Path, tmp_path: Path) -> None:
    said = harness.run([fresh_python.parent / "jupyter-colab", "--help"], cwd=tmp_path)
    assert "queue" in said.stdout


def test_the_kernel_that_it_brings_runs_a_cell_after_connect(fresh_python: Path, tmp_path: Path) -> None:
    env = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    script = harness.write(tmp_path / "script.py", "import os\nprint(6 * 7, os.getcwd())\n")
    with jupyter_server(tmp_path / "server") as server:
        connect = [fresh_python, "-m", "colab_kernel", "connect", server.url, "--token", server.token]
        harness.run(connect, env=env, cwd=tmp_path)
        said = harness.run(
            [fresh_python, "-m", "jupyter_client.runapp", "--kernel", "colab", script], env=env, cwd=tmp_path
        )
        assert said.stdout == f"42 {server.root}\n"
