"""experiments.json: what people want run. Read it, add to it, change one entry; the rest keeps its text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from json.decoder import JSONDecodeError

from colab_magics.errors import CorruptError
from colab_magics.jobs.spec import Json

FILE = "experiments.json"
_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Entry:
    """One element of the list, and where its text stands: `text[start:end]`."""

    value: object
    start: int
    end: int

    @property
    def own_id(self) -> str | None:
        """The id that the entry carries itself, if it does."""
        found = self.value.get("id") if isinstance(self.value, dict) else None
        return found if isinstance(found, str) else None


def parse_intent(data: bytes | None) -> list[Entry]:
    """The entries of an experiments.json, in its order. Absent is empty; what does not parse raises.

    Raises:
        CorruptError: not UTF-8, not JSON, or not a list; the message says line and column.
    """
    if data is None:
        return []
    text = _decode(data)
    if not text.strip():
        return []
    position = _skip(text, 0)
    if text[position] != "[":
        raise CorruptError(
            f"{FILE} is not a list: it starts with {text[position : position + 20]!r}, not with ["
        )
    entries: list[Entry] = []
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        if entries:
            _expect(text, position, ",")
            position = _skip(text, position + 1)
        value, end = _value(text, position)
        entries.append(Entry(value=value, start=position, end=end))
        position = _skip(text, end)
    rest = _skip(text, position + 1)
    if rest != len(text):
        raise CorruptError(f"{FILE} goes on after its list ends: {_where(text, rest)}")
    return entries


def append_entries(data: bytes | None, added: Iterable[Mapping[str, Json]]) -> bytes:
    """The file with entries added at its end, one a line; an entry whose id is there already is not.

    Raises:
        CorruptError: as `parse_intent`; the file is never overwritten with a guess.
    """
    entries = parse_intent(data)
    known = {entry.own_id for entry in entries if entry.own_id}
    lines = [_line(entry) for entry in added if entry.get("id") not in known]
    text = _decode(data or b"")
    if not entries:
        return ("[\n" + ",\n".join(lines) + "\n]\n").encode() if lines else (data or b"[]\n")
    end = entries[-1].end
    return (text[:end] + "".join(",\n" + line for line in lines) + text[end:]).encode()


def replace_entries(data: bytes | None, change: Callable[[int, Entry], Mapping[str, Json] | None]) -> bytes:
    """The file with some entries changed in place.

    Args:
        data: the file.
        change: called with each entry's position in the list and the entry; what it returns takes the
            entry's place, None leaves its text as it is.

    Raises:
        CorruptError: as `parse_intent`.
    """
    text, done, parts = _decode(data or b""), 0, []
    for index, entry in enumerate(parse_intent(data)):
        new = change(index, entry)
        if new is not None:
            parts += [text[done : entry.start], _line(new).strip()]
            done = entry.end
    return ("".join(parts) + text[done:]).encode()


def _line(entry: Mapping[str, Json]) -> str:
    return "  " + json.dumps(entry, ensure_ascii=False)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptError(f"{FILE} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _value(text: str, position: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except JSONDecodeError as error:
        raise CorruptError(f"{FILE} does not parse: {error.msg}, {_where(text, error.pos)}") from error
    except RecursionError as error:
        raise CorruptError(f"{FILE} does not parse: nested too deeply, {_where(text, position)}") from error


def _expect(text: str, position: int, wanted: str) -> None:
    if text[position : position + 1] != wanted:
        raise CorruptError(f"{FILE} does not parse: expected '{wanted}' or ']', {_where(text, position)}")


def _where(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return f"line {line} column {column}"
