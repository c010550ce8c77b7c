"""JSON with comments, as VS Code keeps its settings: one change, and every other character as it was.

Source: https://code.visualstudio.com/docs/languages/json#_json-with-comments (comments, trailing commas)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\r\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r",(?=\s*[\]}])")
_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Item:
    """One value and where it stands. `key` is empty in an array."""

    key: str
    value: Any
    start: int
    end: int


def loads(text: str) -> Any:
    """What it says. ValueError: it is no JSON, comments and trailing commas allowed."""
    return json.loads(_bare(text))


def put(text: str, path: tuple[str | int, ...], key: str | None, value: Any) -> str:
    """Set one value.

    Args:
        path: the way to an object or an array: keys and positions. It must be there.
        key: what to set in the object, in its place or at its end; None adds to the array.

    Raises:
        ValueError: it is no JSON, or the way leads elsewhere.
    """
    bare = _bare(text)
    json.loads(bare)
    start = _SPACE.match(bare, 0).end()  # type: ignore[union-attr]
    for step in path:
        found = [
            item for at, item in enumerate(_items(bare, start)) if step == (at if not item.key else item.key)
        ]
        if not found:
            raise ValueError(f"there is no {step!r} in it")
        start = found[0].start
    if bare[start] != ("[" if key is None else "{"):
        raise ValueError(f"{'.'.join(map(str, path)) or 'it'} is no {'array' if key is None else 'object'}")
    items = _items(bare, start)
    depth = len(path) + 1
    for item in items:
        if item.key == key and key is not None:
            return text[: item.start] + _written(text, value, depth=depth) + text[item.end :]
    written = _written(text, value, depth=depth)
    return _append(text, bare, start, items, written if key is None else f"{json.dumps(key)}: {written}")


def _append(text: str, bare: str, start: int, items: list[Item], written: str) -> str:
    _, end = json.JSONDecoder().raw_decode(bare, start)
    close = end - 1
    line_end, indent = _style(text)
    last = items[-1].end if items else start + 1
    rest = text[last:close]
    has_comma = not items or _without_comments(rest).strip() == ","
    body, outer = rest.rstrip(), _indent_of(text, start)
    inner = outer + indent
    return "".join(
        (
            text[:last],
            "" if has_comma else ",",
            body,
            f"{line_end}{inner}{written}{line_end}{outer}",
            text[close:],
        )
    )


def _items(bare: str, start: int) -> list[Item]:
    """What is in the object or the array that begins at `start`; nothing in what is neither."""
    decoder, found = json.JSONDecoder(), []
    position = _skip(bare, start + 1)
    while bare[start] in "[{" and bare[position] not in "]}":
        key = ""
        if bare[start] == "{":
            key, position = scanstring(bare, position + 1)
            position = _skip(bare, _skip(bare, position) + 1)
        value, end = decoder.raw_decode(bare, position)
        found.append(Item(key, value, position, end))
        position = _skip(bare, end)
        if bare[position] == ",":
            position = _skip(bare, position + 1)
    return found


def _skip(bare: str, position: int) -> int:
    return _SPACE.match(bare, position).end()  # type: ignore[union-attr]


def _bare(text: str) -> str:
    """The same text, as long, with spaces for comments, for trailing commas, and for a byte order mark."""
    bare = _without_comments(text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text)
    strings = [found.span() for found in _TOKEN.finditer(bare)]
    for comma in _TRAILING_COMMA.finditer(bare):
        if not any(begin < comma.start() < end for begin, end in strings):
            bare = f"{bare[: comma.start()]} {bare[comma.end() :]}"
    return bare


def _without_comments(text: str) -> str:
    def blank(found: re.Match[str]) -> str:
        return found[0] if found[0].startswith('"') else re.sub(r"[^\r\n]", " ", found[0])

    return _TOKEN.sub(blank, text)


def _written(text: str, value: Any, *, depth: int) -> str:
    line_end, indent = _style(text)
    lines = json.dumps(value, indent=indent, ensure_ascii=False).split("\n")
    return f"{line_end}{indent * depth}".join(lines)


def _style(text: str) -> tuple[str, str]:
    """How lines end there, and what one step of indentation is."""
    found = _INDENT.search(text)
    return "\r\n" if "\r\n" in text else "\n", found[1] if found else "    "


def _indent_of(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def update(text: str, path: tuple[str | int, ...], values: Mapping[str, Any]) -> str:
    """Set several values of an object; those that it has already stay as they are written."""
    for key, value in values.items():
        there = loads(text)
        for step in path:
            there = there[step]
        if not isinstance(there, dict):
            raise ValueError(f"{'.'.join(map(str, path))} is no object")
        if key not in there or there[key] != value:
            text = put(text, path, key, value)
    return text
