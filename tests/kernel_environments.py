"""The stacks that the proxy kernel must get on with: Pythons that have an ipykernel and a Jupyter Server.

- `NEWEST`: the environment that runs the tests;
- `NEWEST_313`: the same versions on Python 3.13, whose debugger stands on sys.monitoring;
- `COLAB`: what Colab's machine has (`colab_pins`), with an ordinary kernel.
"""

from __future__ import annotations

import enum
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import colab_pins
import harness

_PACKAGES = (
    *("debugpy", "ipykernel", "ipython", "ipywidgets", "jupyter_client", "jupyter_server"),
    *("pyzmq", "tornado", "traitlets"),
)

DEBUGGABLE = {"PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"}
"""What a kernel wants in its environment before it starts, so that stepping stays in the cell.

Source: https://github.com/ipython/ipykernel/issues/1004
"""


class Stack(enum.StrEnum):
    """A Python with what the remote side needs."""

    NEWEST = "newest"
    NEWEST_313 = "newest-3.13"
    COLAB = "colab"


@functools.cache
def python_of(stack: Stack) -> Path:
    """Return a stack's interpreter; build its environment if need be, skip the test if that cannot be."""
    match stack:
        case Stack.NEWEST:
            return Path(sys.executable)
        case Stack.NEWEST_313:
            return Path(sys.executable) if sys.version_info[:2] == (3, 13) else _same_versions("3.13")
        case Stack.COLAB:
            if colab_pins.interpreter() is None:
                harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
            return colab_pins.pinned_environment() / "bin/python"


@functools.cache
def version_of(stack: Stack) -> tuple[int, int]:
    """Return the Python version of a stack: (3, 13)."""
    said = harness.run([python_of(stack), "-c", "import sys; print(*sys.version_info[:2])"]).stdout
    major, minor = said.split()
    return int(major), int(minor)


def write_ipykernel_spec(folder: Path, *, name: str, stack: Stack) -> None:
    """Write the kernelspec of an ordinary ipykernel of `stack` below `folder`, a search path of Jupyter's."""
    argv = [
        *(str(python_of(stack)), "-Xfrozen_modules=off", "-m", "ipykernel_launcher"),
        *("-f", "{connection_file}", *(colab_pins.PLAIN_KERNEL if stack is Stack.COLAB else ())),
    ]
    write_kernelspec(folder, name=name, argv=argv, env=DEBUGGABLE)


def write_kernelspec(
    folder: Path, *, name: str, argv: Sequence[str], env: Mapping[str, str], display_name: str | None = None
) -> None:
    """Write a Python kernelspec with a debugger, interrupted by message, as `folder`/kernels/`name`."""
    spec = {
        "argv": list(argv),
        "env": dict(env),
        "display_name": display_name or name,
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": True},
    }
    harness.write(folder / "kernels" / name / "kernel.json", json.dumps(spec, indent=1))


def _same_versions(version: str) -> Path:
    """Return a Python of `version` with the packages that this environment has; one process builds it."""
    base = harness.find_interpreter(version)
    if base is None:
        harness.missing(f"no Python {version} on this machine")
    wanted = [f"{package}=={importlib.metadata.version(package)}" for package in _PACKAGES]
    digest = hashlib.sha256("\0".join([str(base), *wanted]).encode()).hexdigest()[:12]
    folder = harness.cache_folder() / f"newest-{version}-{digest}"
    python = folder / "bin/python"
    with (harness.cache_folder() / f"newest-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            harness.remove_folder(folder)
            harness.run([base, "-m", "venv", folder])
            harness.run([python, "-m", "pip", "install", "-q", *wanted], timeout_s=1500)
            (folder / "complete").touch()
    return python
