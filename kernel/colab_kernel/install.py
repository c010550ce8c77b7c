"""Kernelspecs: what a frontend's menu is made of. `pip install` brings one; these functions write others.

One that is written here starts an interpreter by its absolute path: VS Code hides a kernelspec for Python
whose program is just `python`, and runs any other as it is.
Source: https://github.com/microsoft/vscode-jupyter/blob/main/src/kernels/raw/finder
(interpreterKernelSpecFinderHelper.node.ts), read in 2026.6.1
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from colab_kernel.errors import KernelError

DISPLAY_NAME = "Colab GPU"
NAME = "colab"

_RESOURCES = Path(__file__).with_name("kernelspec")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PYTHONS_OWN = re.compile(r"python[0-9.]*|.*ipykernel.*")
"""VS Code hides the first as doubles of its own, and starts the second otherwise than they say."""


class KernelspecError(KernelError):
    """A kernelspec cannot be written, or be removed; what is there is as it was."""


def install(
    name: str = NAME,
    *,
    display_name: str = DISPLAY_NAME,
    runtime_name: str | None = None,
    prefix: str | None = None,
) -> Path:
    """Write a kernelspec that starts this interpreter; one of ours that is there by this name is replaced.

    Args:
        runtime_name: the runtime it is for; without one, whichever is current when it starts.
        prefix: the environment whose frontends are to find it (`sys.prefix` is this one); without one, all
            of this user's do.

    Returns:
        Its folder.

    Raises:
        KernelspecError: the name is refused, somebody else's kernelspec has it, or it cannot be written.
    """
    folder = _folder(name, prefix=prefix)
    if _PYTHONS_OWN.fullmatch(folder.name) or "ipykernel" in display_name.lower():
        raise KernelspecError(
            f"{name!r}, shown as {display_name!r}, would be taken for a kernel of this machine; choose a "
            "name that is not Python's, without ipykernel in it"
        )
    if folder.exists() and not _is_ours(folder):
        raise KernelspecError(f"{folder} is there and is not of colab_kernel: choose another name")
    runtime = ["--runtime", runtime_name] if runtime_name else []
    kernelspec = {
        **json.loads((_RESOURCES / "kernel.json").read_text(encoding="utf-8")),
        "argv": [sys.executable, "-m", "colab_kernel", "-f", "{connection_file}", *runtime],
        "display_name": display_name,
    }
    try:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / folder.name
            shutil.copytree(_RESOURCES, source)
            (source / "kernel.json").write_text(json.dumps(kernelspec, indent=2) + "\n", encoding="utf-8")
            KernelSpecManager().install_kernel_spec(str(source), user=prefix is None, prefix=prefix)
    except OSError as error:
        raise KernelspecError(f"{folder} cannot be written ({error.strerror or error})") from error
    return folder


def uninstall(name: str = NAME, *, prefix: str | None = None) -> Path:
    """Remove a kernelspec that `install` has written, from the place that `prefix` means there.

    Raises:
        KernelspecError: there is none, it is somebody else's, it came with the package, or it cannot be
            removed.
    """
    folder = _folder(name, prefix=prefix)
    if not folder.exists():
        known = KernelSpecManager(ensure_native_kernel=False)  # for which it would import ipykernel
        elsewhere = known.find_kernel_specs().get(folder.name)
        hint = f"; there is {elsewhere}: say --user, --sys-prefix or --prefix" if elsewhere else ""
        raise KernelspecError(f"there is no kernelspec {folder}{hint}")
    if not _is_ours(folder):
        raise KernelspecError(f"{folder} is not of colab_kernel, and stays")
    if _argv(folder)[0].startswith("{resource_dir}"):
        raise KernelspecError(f"{folder} came with the package: `pip uninstall colab-magics` removes it")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise KernelspecError(f"{folder} cannot be removed ({error.strerror or error})") from error
    return folder


def _folder(name: str, *, prefix: str | None) -> Path:
    """Where Jupyter puts a kernelspec. KernelspecError: it can have no such name.

    Source: https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
    """
    name = name.lower()  # as Jupyter does
    if not _NAME.fullmatch(name):
        raise KernelspecError(
            f"{name!r} cannot name a kernelspec: letters, digits, dots, hyphens and underscores can"
        )
    if prefix is None:
        return Path(KernelSpecManager().user_kernel_dir) / name
    return Path(prefix).absolute() / "share/jupyter/kernels" / name


def _is_ours(folder: Path) -> bool:
    argv = _argv(folder)
    return argv[1:3] == ["-m", "colab_kernel"] or Path(argv[0]).name == "colab-kernel"


def _argv(folder: Path) -> list[str]:
    """The command line of a kernelspec; [""] if there is none that could be ours."""
    try:
        kernelspec: Any = json.loads((folder / "kernel.json").read_text(encoding="utf-8"))
        return [str(word) for word in kernelspec["argv"]] or [""]
    except (OSError, RecursionError, TypeError, ValueError, LookupError):
        return [""]
