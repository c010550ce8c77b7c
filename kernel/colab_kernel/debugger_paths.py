"""Paths in the debugger's messages: what a frontend means, and what the remote kernel calls it.

Most pass as they are: debugpy itself maps the project's paths (path_mapping). What is left to us:
- cells' files, which a frontend on Windows may spell `\\tmp\\ipykernel_1\\2.py`, and debugpy too once it
  knows that its client is on Windows;
- `source`, whose path ipykernel opens as it is, without debugpy's mapping;
- breakpoints taken away from a cell: VS Code then names the cell itself, and not its file.

Source: ipykernel/debugger.py (source, setBreakpoints) in 7.4; vscode-jupyter,
src/notebooks/debugger/helper.ts and https://github.com/microsoft/vscode-jupyter/issues/17291
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from colab_kernel.messages import Json, JsonObject
from colab_kernel.path_mapping import PathMapping, attach_arguments, is_disguised

K = TypeVar("K")
V = TypeVar("V")

CELLS_AT_MOST = 1000
"""How many cells are remembered, and how many versions of cells: the oldest are forgotten first."""

_TELL_SOURCES = frozenset({"breakpoint", "loadedSource", "output", "scopes", "setBreakpoints", "stackTrace"})
"""The commands and events in whose body there is a `source` of DAP's."""


class DebuggerPaths:
    """The paths of one remote kernel's debugger.

    Attributes:
        mappings: the project's folders, here and there.
        tmp_file_prefix: what the paths of all cells' files begin with; empty as long as it is not known.
    """

    def __init__(self, mappings: Sequence[PathMapping]) -> None:
        self.mappings = tuple(mappings)
        self.tmp_file_prefix = ""
        self._client_disguises = False
        self._files: dict[bytes, str] = {}  # a cell's code, hashed → its file
        self._codes: dict[str, bytes] = {}  # a cell's URI → the code that it ran last, hashed

    def dumped(self, code: str, *, path: str) -> None:
        """The kernel has put a cell's code into a file."""
        _remember(self._files, _hash(code), path)

    def executed(self, cell_id: str, *, code: str) -> None:
        """A cell with this URI runs."""
        _remember(self._codes, cell_id, _hash(code))

    # --- to the kernel -----------------------------------------------------------------------------------

    def for_kernel(self, request: JsonObject) -> JsonObject | None:
        """A request as the kernel must have it; None: as it is."""
        arguments = request.get("arguments")
        if not isinstance(arguments, dict):
            return None
        if request.get("command") == "attach":
            if not self.mappings or not self.tmp_file_prefix:
                return None
            more = attach_arguments(arguments, mappings=self.mappings, tmp_file_prefix=self.tmp_file_prefix)
            return {**request, "arguments": more}
        source = arguments.get("source")
        path = source.get("path") if isinstance(source, dict) else None
        if not isinstance(source, dict) or not isinstance(path, str):
            return None
        meant = self._meant(path, command=request.get("command"), arguments=arguments)
        if meant == path:
            return None
        return {**request, "arguments": {**arguments, "source": {**source, "path": meant}}}

    def _meant(self, path: str, *, command: Json, arguments: JsonObject) -> str:
        if is_disguised(path):
            plain = path.replace("\\", "/")
            if self._is_cell(plain):
                self._client_disguises = True
                return plain
            return plain if self._is_debugpy_disguising else path
        if command == "source":
            return next((there for one in self.mappings if (there := one.to_remote(path)) is not None), path)
        if command == "setBreakpoints" and not arguments.get("breakpoints"):
            return self._files.get(self._codes.get(path, b""), path)
        return path

    # --- to the frontend ---------------------------------------------------------------------------------

    def for_frontend(self, content: JsonObject, *, kind: Json) -> JsonObject:
        """A reply or an event as the frontend must have it: `content` itself if that is as it is.

        Args:
            kind: the reply's command or the event's name.
        """
        if kind not in _TELL_SOURCES or not (self._client_disguises or self._is_debugpy_disguising):
            return content
        return {**content, "body": _with_paths(content.get("body"), self._shown)}

    def _shown(self, path: str) -> str:
        plain = path.replace("\\", "/") if is_disguised(path) else path
        return plain.replace("/", "\\") if self._client_disguises and self._is_cell(plain) else plain

    # --- which is which ----------------------------------------------------------------------------------

    @property
    def _is_debugpy_disguising(self) -> bool:
        return any(mapping.is_local_windows for mapping in self.mappings)

    def _is_cell(self, path: str) -> bool:
        return bool(self.tmp_file_prefix) and path.startswith(self.tmp_file_prefix)


def _with_paths(value: Json, change: Callable[[str], str]) -> Json:
    """`value` with every `source`'s path changed."""
    if isinstance(value, list):
        return [_with_paths(one, change) for one in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _with_paths(one, change) for name, one in value.items()}
    source = changed.get("source")
    if isinstance(source, dict) and isinstance(path := source.get("path"), str):
        changed["source"] = {**source, "path": change(path)}
    return changed


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > CELLS_AT_MOST:
        del memory[next(iter(memory))]
