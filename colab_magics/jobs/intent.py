"""experiments.json: what people want run. Read it, add to it, change one entry; the rest keeps its text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from json.decoder import JSONDecodeError

from colab_magics.errors import CorruptError, SpecError
from colab_magics.jobs.json_text import MAX_DEPTH, find_flaw, serialize_line
from colab_magics.jobs.spec import Json

FILE = "experiments.json"
_SPACE = " \t\r\n"
_BYTE_ORDER_MARK = "\ufeff"  # some editors on Windows begin a file with one


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
    position = _start(text)
    if position == len(text):
        return []
    if text[position] != "[":
        raise CorruptError(
            f"{FILE} is not a list: it starts with {text[position : position + 20]!r}, not with ["
        )
    entries: list[Entry] = []
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        if entries:
            position = _skip_comma(text, position)
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
        SpecError: an added entry holds what JSON cannot.
    """
    entries = parse_intent(data)
    known = {entry.own_id for entry in entries}
    lines = []
    for entry in added:
        own_id = entry.get("id")
        if not isinstance(own_id, str) or own_id not in known:
            lines.append(f"  {_line(entry)}")
            known.add(own_id if isinstance(own_id, str) else None)
    text = _decode(data or b"")
    newline = "\r\n" if "\r\n" in text else "\n"
    if _start(text) == len(text):
        text += f"[]{newline}"
    if not lines:
        return text.encode()
    if entries:
        end = entries[-1].end
        return (text[:end] + "".join(f",{newline}{line}" for line in lines) + text[end:]).encode()
    opened, closed = text.index("[") + 1, text.rindex("]")
    return (text[:opened] + newline + f",{newline}".join(lines) + newline + text[closed:]).encode()


def replace_entries(data: bytes | None, change: Callable[[int, Entry], Mapping[str, Json] | None]) -> bytes:
    """The file with some entries changed in place.

    Args:
        data: the file.
        change: called with each entry's position in the list and the entry; what it returns takes the
            entry's place, None leaves its text as it is.

    Raises:
        CorruptError: as `parse_intent`.
        SpecError: a changed entry holds what JSON cannot.
    """
    text, done, parts = _decode(data or b""), 0, []
    for index, entry in enumerate(parse_intent(data)):
        new = change(index, entry)
        if new is not None:
            parts += [text[done : entry.start], _line(new)]
            done = entry.end
    return ("".join(parts) + text[done:]).encode()


def _line(entry: Mapping[str, Json]) -> str:
    flaw = find_flaw(entry)
    if flaw is not None:
        raise SpecError(f"the entry {entry.get('name')!r} cannot be written into {FILE}: it has {flaw}")
    return serialize_line(entry)


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorruptError(
            f"{FILE} is not UTF-8 text: {error.reason} at byte {error.start}, in line {line}"
        ) from error


def _start(text: str) -> int:
    return _skip(text, text.startswith(_BYTE_ORDER_MARK))


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _skip_comma(text: str, position: int) -> int:
    if text[position : position + 1] != ",":
        raise CorruptError(f"{FILE} does not parse: expected ',' or ']', {_where(text, position)}")
    after = _skip(text, position + 1)
    if text[after : after + 1] == "]":
        raise CorruptError(f"{FILE} does not parse: no ',' may stand before ']', {_where(text, position)}")
    return after


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _value(text: str, position: int) -> tuple[object, int]:
    try:
        value, end = _DECODER.raw_decode(text, position)
    except JSONDecodeError as error:
        raise CorruptError(f"{FILE} does not parse: {error.msg}: {_where(text, error.pos)}") from error
    except ValueError as error:  # from the hooks below, or a whole number of thousands of digits
        told = str(error).partition(":")[0]
        raise CorruptError(
            f"{FILE} does not parse: {told}, in the entry of {_where(text, position)}"
        ) from error
    except RecursionError as error:
        raise CorruptError(f"{FILE} does not parse: nested too deeply, {_where(text, position)}") from error
    brackets = text.count("[", position, end) + text.count("{", position, end)
    if brackets > MAX_DEPTH and find_flaw(value):
        raise CorruptError(f"{FILE} does not parse: nested too deeply, {_where(text, position)}")
    return value, end


def _where(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    begin = text.rfind("\n", 0, position) + 1 or int(text.startswith(_BYTE_ORDER_MARK))
    found = text[position : position + 20].partition("\n")[0].rstrip()
    end = "the end of the line" if position < len(text) else "the end of the file"
    return f"line {line} column {position - begin + 1}, at {repr(found) if found else end}"
