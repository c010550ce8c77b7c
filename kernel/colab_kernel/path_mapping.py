"""A project's folder here and the same folder on the runtime, as the debugger's path mappings.

debugpy takes them with `attach` and from then on speaks of the project's files by their local paths. A file
outside of every mapping then comes with a `sourceReference`, so that a frontend asks for its text rather than
look for it on its own disk. Cells must not: their files are mapped onto themselves.

Source: https://github.com/microsoft/debugpy/wiki/Debug-configuration-settings (pathMappings), and
_vendored/pydevd/pydevd_file_utils.py (setup_client_server_paths), read and tried in debugpy 1.8.22
"""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath

from colab_kernel.errors import RegistryError
from colab_kernel.messages import Json

WINDOWS = "windows"
"""What `attach` says in `clientOS` so that debugpy takes a client's paths for Windows'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathMapping:
    """The same folder here and there.

    Attributes:
        local_root, remote_root: each absolute, by POSIX's rules or by Windows'; with or without a separator
            at the end.

    Raises:
        RegistryError: one of them is not absolute.
    """

    local_root: str
    remote_root: str

    def __post_init__(self) -> None:
        for place, root in (("local", self.local_root), ("remote", self.remote_root)):
            if not root.startswith("/") and not is_windows(root):
                raise RegistryError(
                    f"the project's {place} folder is {root!r}, which is not an absolute path; "
                    f"give the runtime's entry one that is, such as '/content/project' or 'C:\\\\project'"
                )

    @property
    def is_local_windows(self) -> bool:
        """Whether the frontend's machine runs Windows."""
        return is_windows(self.local_root)

    def to_remote(self, path: str) -> str | None:
        """Where the local `path` is on the runtime; None if it is not in this project."""
        local, remote = _folder(self.local_root), _folder(self.remote_root)
        if self.is_local_windows:
            path = path.replace("/", "\\")
            if not path.lower().startswith(local.lower()):
                return None
        elif not path.startswith(local):
            return None
        rest = path[len(local) :]
        if self.is_local_windows != is_windows(self.remote_root):
            rest = rest.replace("\\", "/") if self.is_local_windows else rest.replace("/", "\\")
        return remote + rest

    def for_debugpy(self) -> Json:
        """This mapping as DAP has it.

        Both roots end with a separator: without one, debugpy would take `/project2` to lie in `/project`.
        """
        return {"localRoot": _folder(self.local_root), "remoteRoot": _folder(self.remote_root)}


def attach_arguments(
    arguments: dict[str, Json], *, mappings: Sequence[PathMapping], tmp_file_prefix: str
) -> dict[str, Json]:
    """The arguments of `attach` with everything that makes breakpoints in a project's modules work.

    Args:
        arguments: what the frontend sent; its own `pathMappings` and `clientOS` stay and come before ours.
        mappings: at least one.
        tmp_file_prefix: where the cells' files are, from `debugInfo`. They are mapped onto themselves, and
            first: a project may lie above them.
    """
    theirs = arguments.get("pathMappings")
    added: dict[str, Json] = {
        "pathMappings": [
            {"localRoot": tmp_file_prefix, "remoteRoot": tmp_file_prefix},
            *(theirs if isinstance(theirs, list) else []),
            *(mapping.for_debugpy() for mapping in mappings),
        ]
    }
    if any(mapping.is_local_windows for mapping in mappings):
        added["clientOS"] = arguments.get("clientOS", WINDOWS)
    return {**arguments, **added}


def is_windows(root: str) -> bool:
    """Whether `root` is absolute by Windows' rules only: `C:\\…`, `C:/…`, `\\\\host\\share\\…`."""
    return not root.startswith("/") and PureWindowsPath(root).is_absolute()


def is_disguised(path: str) -> bool:
    """Whether `path` is a POSIX path with Windows' separators: rooted, but on no drive and no host."""
    return path.startswith("\\") and not path.startswith("\\\\")


def _folder(root: str) -> str:
    separator = "\\" if is_windows(root) else "/"
    plain = ntpath.normpath(root) if is_windows(root) else posixpath.normpath(root)
    return plain if plain.endswith(separator) else plain + separator
