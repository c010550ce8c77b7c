"""A visitor's files here and over there: the queued cell, and the project's modules.

The notebook's cell begins with `%%colab_queue …`, which the job's source lacks: its lines are the job's,
moved down by one. A frontend knows a cell by its text's hash, so the two are files of different names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Content = dict[str, Any]

CELL = "the queued cell"

_HERE = " (Current frame)"
_FILE = re.compile(r'(?<=^  )File "(?P<path>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file, or with a slash at the end a folder, here and there.

    Attributes:
        moved: by how many lines it begins later here.
    """

    here: str
    there: str
    moved: int = 0


def outward(command: str, arguments: Mapping[str, Any], places: Sequence[Place]) -> Content:
    """A request's arguments as the job's debugger has to get them."""
    source = arguments.get("source")
    if not isinstance(source, Mapping) or not isinstance(source.get("path"), str):
        return dict(arguments)
    path, moved = _there(source["path"], places)
    changed: Content = {**arguments, "source": {**source, "path": path}}
    if command == "setBreakpoints":
        points = arguments.get("breakpoints") or []
        changed["breakpoints"] = [{**point, "line": point["line"] - moved} for point in points]
        if "lines" in arguments:
            changed["lines"] = [line - moved for line in arguments["lines"]]
    return changed


def source_path(arguments: Mapping[str, Any]) -> str:
    """The file that a request is about; empty if it is about none."""
    source = arguments.get("source")
    return str(source.get("path") or "") if isinstance(source, Mapping) else ""


def homeward(command: str, body: Mapping[str, Any], places: Sequence[Place]) -> Content:
    """A reply's body as the visitor has to get it."""
    changed: Content = dict(body)
    match command:
        case "stackTrace":
            frames = [_at_home(each, places) for each in body.get("stackFrames") or []]
            changed["stackFrames"] = [{**each, "name": _plain(each.get("name"))} for each in frames]
        case "setBreakpoints":
            changed["breakpoints"] = [_at_home(each, places) for each in body.get("breakpoints") or []]
        case "debugInfo":
            changed["breakpoints"] = [_listed(each, places) for each in body.get("breakpoints") or []]
        case "exceptionInfo":
            changed["exceptionId"] = error_name(body.get("exceptionId"))
            if isinstance(details := body.get("details"), Mapping):
                trace = _trace(str(details.get("stackTrace") or ""), places)
                changed["details"] = {**details, "stackTrace": trace}
    return changed


def is_cell(path: str) -> bool:
    """Whether a file is one that a kernel made for its debugger, with a cell's text in it."""
    return "ipykernel_" in path


def error_name(exception_id: object) -> str:
    """An exception's name without pydevd's note on where the program really stopped."""
    return str(exception_id or "").partition("(note:")[0].strip()


def _plain(name: object) -> str:
    """A frame's name without pydevd's mark on the one where the program really stopped."""
    return str(name).removesuffix(_HERE)


def _trace(text: str, places: Sequence[Place]) -> str:
    """A traceback with the files' names of here; a cell's is made up by its kernel, and is said in words."""

    def renamed(found: re.Match[str]) -> str:
        path, moved = _here(found["path"], places)
        return f'File "{CELL if is_cell(path) else path}", line {int(found["line"]) + moved}'

    return _FILE.sub(renamed, text.replace(f"{_HERE}\n", "\n"))


def _at_home(item: Mapping[str, Any], places: Sequence[Place]) -> Content:
    source = item.get("source")
    if not isinstance(source, Mapping) or not isinstance(source.get("path"), str):
        return dict(item)
    path, moved = _here(source["path"], places)
    return {**item, "source": {**source, "path": path}, **_lines(item, moved)}


def _listed(item: Mapping[str, Any], places: Sequence[Place]) -> Content:
    path, moved = _here(str(item.get("source")), places)
    points = [{**point, **_lines(point, moved)} for point in item.get("breakpoints") or []]
    return {**item, "source": path, "breakpoints": points}


def _lines(item: Mapping[str, Any], moved: int) -> Content:
    return {key: item[key] + moved for key in ("line", "endLine") if isinstance(item.get(key), int)}


def _there(path: str, places: Sequence[Place]) -> tuple[str, int]:
    for place in places:
        if path == place.here:
            return place.there, place.moved
        if place.here.endswith("/") and path.startswith(place.here):
            return place.there + path[len(place.here) :], 0
    return path, 0


def _here(path: str, places: Sequence[Place]) -> tuple[str, int]:
    for place in places:
        if path == place.there:
            return place.here, place.moved
        if place.there.endswith("/") and path.startswith(place.there):
            return place.here + path[len(place.there) :], 0
    return path, 0
