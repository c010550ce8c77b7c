"""A second environment with the exact versions that Colab's machine has, to install into and to run in.

What takes the time, the pinned packages themselves, is built once and kept outside the repository under the
hash of what it is made of. A test session works in a copy, which it may change.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
from pathlib import Path

import harness

DATA = Path(__file__).resolve().parent / "colab"
VERSIONS = ("3.13", "3.12")
"""The Pythons of Colab's images that are offered today, the newest first."""

PLAIN_KERNEL = (
    "--IPKernelApp.kernel_class=ipykernel.ipkernel.IPythonKernel",
    "--InteractiveShellApp.extensions=[]",
    "--IPKernelApp.capture_fd_output=True",
)
"""With these a kernel on Colab is an ordinary one."""


def pins() -> dict[str, str]:
    """Return Colab's pins, normalized package name → version."""
    lines = (DATA / "pins.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalize(name): version for name, version in pairs}


def normalize(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@functools.cache
def interpreter() -> Path | None:
    """Return a Python as Colab has, or None where this machine has none."""
    return harness.find_interpreter(*VERSIONS)


def pinned_environment() -> Path:
    """Return the folder of the environment that has the pins and nothing of ours; build it if need be.

    Nobody may change it: `copy_environment` gives one to work in. One process at a time builds it.
    """
    base = interpreter()
    assert base is not None, "no Python of Colab's versions"
    folder = harness.cache_folder() / f"colab-pins-{_content_hash(base)}"
    done = folder / "complete"
    with (harness.cache_folder() / "colab-pins.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            harness.remove_folder(folder)
            harness.run([base, "-m", "venv", folder])
            python = folder / "bin/python"
            harness.run([python, "-m", "pip", "install", "-q", "-r", DATA / "pins.txt"], timeout_s=1500)
            _add_what_colab_adds(python)
            done.touch()
    return folder


def copy_environment(source: Path, target: Path) -> Path:
    """Copy an environment and return the copy's Python. Programs in its bin/ work too."""
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
    for script in (target / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if str(source).encode() in content:
            # Linked: a new file, or the source would change.
            mode = script.stat().st_mode
            script.unlink()
            script.write_bytes(content.replace(str(source).encode(), str(target).encode()))
            script.chmod(mode)
    return target / "bin/python"


def installed(python: Path) -> dict[str, str]:
    """Return what is installed in an environment, normalized name → version."""
    said = harness.run([python, "-m", "pip", "list", "--format=json"]).stdout
    return {normalize(one["name"]): one["version"] for one in json.loads(said)}


def would_install(python: Path, requirement: str, *, report: Path) -> dict[str, str]:
    """Return what pip would install for `requirement`, normalized name → version; change nothing."""
    harness.run([python, "-m", "pip", "install", "-q", "--dry-run", "--report", report, requirement])
    found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {normalize(one["metadata"]["name"]): one["metadata"]["version"] for one in found}


def _add_what_colab_adds(python: Path) -> None:
    said = harness.run(
        [python, "-c", "import site, sys; print(sys.prefix); print(site.getsitepackages()[0])"]
    )
    prefix, packages = map(Path, said.stdout.splitlines())
    shutil.copytree(DATA / "google", packages / "google")
    # On Colab it lies in /etc/ipython; an environment's own etc/ipython is read in the same way.
    # Source: IPython/core/application.py, ENV_CONFIG_DIRS.
    (prefix / "etc/ipython").mkdir(parents=True)
    shutil.copy(DATA / "ipython_config.py", prefix / "etc/ipython/ipython_config.py")


def _content_hash(base: Path) -> str:
    # The last of what it is made of is the code above.
    files = sorted(path for path in DATA.rglob("*") if path.suffix in {".txt", ".py"})
    parts = [str(base).encode(), harness.run([base, "-VV"]).stdout.encode()]
    parts += [path.read_bytes() for path in [*files, Path(__file__)]]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
