"""Python values as JSON that a person can read and that comes back exactly.

What JSON has by itself is written as it is. The rest is an object with one key that starts with `$`:

    (1, 2)             {"$tuple": [1, 2]}
    {1: "a"}           {"$dict": [[1, "a"]]}
    {1, 2}             {"$set": [1, 2]}              also $frozenset
    nan, inf, -inf     {"$float": "nan"}
    b"\\0"              {"$bytes": "AA=="}            base64
    np.float32(0.5)    {"$numpy": ["float32", 0.5]}
    array, tensor      {"$array": name}, {"$tensor": name}: the data lies beside the JSON under that name

A dict that has such a key itself is written as `$dict`: no value of the person's can be mistaken for a tag.
Nothing is converted silently: a value of any other type, a subclass of one of these too, is refused with
the place where it stands.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from colab_magics.errors import VariableError
from colab_magics.jobs.spec import Json

EncodeLeaf = Callable[[object, str], Json]
DecodeLeaf = Callable[[str, str], object]

MAX_DEPTH = 100
"""Deeper values are almost always lists that contain themselves."""

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_NUMPY_KINDS = "?bhilqBHILQefdFDMm"
"""Characters of the numpy scalar types that one JSON value holds exactly. No long doubles, no records."""


def encode(value: object, *, place: str, leaf: EncodeLeaf) -> Json:
    """The JSON form of `value`.

    Args:
        value: what to encode; it is not changed.
        place: how the person writes the value, as in `x['a']`; messages name it.
        leaf: called with (value, place) for what the table above does not know. Returns the JSON that
            stands for it, or None where it does not know it either.

    Raises:
        VariableError: something in it has no exact form; the message names the place.
    """
    return _encode(value, place, leaf, 0)


def decode(value: Json, *, leaf: DecodeLeaf) -> Any:
    """The value that `encode` was given.

    Args:
        value: parsed JSON.
        leaf: called with (tag, name) for `$array` and `$tensor`.

    Raises:
        ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError: the JSON was not written
            by `encode`.
        ImportError: it holds numpy scalars and numpy is not installed.
    """
    if isinstance(value, list):
        return [decode(item, leaf=leaf) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag.startswith("$"):
            return _decode_tagged(tag, content, leaf)
    return {key: decode(item, leaf=leaf) for key, item in value.items()}


def dumps(value: Json, *, place: str) -> str:
    """The JSON text, with letters of all alphabets as they are.

    Raises:
        VariableError: an integer has more digits than Python reads back.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise VariableError(f"{place} cannot be sent as JSON ({error}); send it as a string") from error


def _encode(value: object, place: str, leaf: EncodeLeaf, depth: int) -> Json:
    if depth > MAX_DEPTH:
        _refuse(place[:80] + "…", f"is nested more than {MAX_DEPTH} levels deep, or contains itself")
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value  # type: ignore[return-value]
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, str) and kind is str:
        return _check_text(value, place)
    if isinstance(value, bytes) and kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)) and kind in (list, tuple):
        items = [_encode(item, f"{place}[{i}]", leaf, depth + 1) for i, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if isinstance(value, (set, frozenset)) and kind in (set, frozenset):
        # Sorted, so that equal sets are equal bytes: inputs are stored under the hash of their content.
        members = [_encode(item, f"{place}{{…}}", leaf, depth + 1) for item in value]
        return {f"${kind.__name__}": sorted(members, key=json.dumps)}
    if isinstance(value, dict) and (kind is dict or _is_ordered_dict(value)):
        return _encode_dict(value, place, leaf, depth)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return _encode_numpy(value, place)
    known = leaf(value, place)
    if known is None:
        _refuse(place, f"is {describe(value)}, which has no open format")
    return known


def _encode_dict(value: dict[Any, Any], place: str, leaf: EncodeLeaf, depth: int) -> Json:
    pairs = [(key, _encode(item, f"{place}[{_short(key)}]", leaf, depth + 1)) for key, item in value.items()]
    plain = all(type(key) is str for key in value)
    tagged = len(value) == 1 and plain and next(iter(value)).startswith("$")
    if plain and not tagged:
        return {_check_text(key, place): item for key, item in pairs}
    return {
        "$dict": [
            [_encode(key, f"the key {_short(key)} of {place}", leaf, depth + 1), item] for key, item in pairs
        ]
    }


def _encode_numpy(value: Any, place: str) -> Json:
    dtype = value.dtype
    if dtype.char == "U":
        return {"$numpy": ["str", _check_text(str(value), place)]}
    if dtype.char not in _NUMPY_KINDS:
        _refuse(place, f"is a numpy scalar of dtype {dtype}; send numpy.asarray({place})")
    content: Json
    if dtype.kind in "mM":
        content = int(value.view("int64"))
    elif dtype.kind == "c":
        content = [_encode_float(float(value.real)), _encode_float(float(value.imag))]
    else:
        content = value.item()
        content = _encode_float(content) if isinstance(content, float) else content
    return {"$numpy": [str(dtype), content]}


def _encode_float(value: float) -> Json:
    return value if math.isfinite(value) else {"$float": str(value)}


def _decode_tagged(tag: str, content: Any, leaf: DecodeLeaf) -> object:
    match tag:
        case "$tuple":
            return tuple(decode(item, leaf=leaf) for item in _expect(content, list))
        case "$dict":
            return {decode(key, leaf=leaf): decode(item, leaf=leaf) for key, item in _expect(content, list)}
        case "$set":
            return {decode(item, leaf=leaf) for item in _expect(content, list)}
        case "$frozenset":
            return frozenset(decode(item, leaf=leaf) for item in _expect(content, list))
        case "$float":
            return _NON_FINITE[content]
        case "$bytes":
            return base64.b64decode(_expect(content, str), validate=True)
        case "$numpy":
            return _decode_numpy(*_expect(content, list))
        case "$array" | "$tensor":
            return leaf(tag, _expect(content, str))
    raise ValueError(f"{tag!r} is not a tag of this version of colab-magics")


def _decode_numpy(name: str, content: Any) -> object:
    import numpy as np

    if name == "str":
        return np.str_(content)
    dtype = np.dtype(_expect(name, str))
    if dtype.char not in _NUMPY_KINDS:
        raise ValueError(f"{name!r} is not the type of a number")
    if dtype.kind in "mM":
        return np.int64(content).view(dtype)
    if dtype.kind == "c":
        real, imaginary = (decode(part, leaf=_no_leaf) for part in content)
        return dtype.type(complex(real, imaginary))
    return dtype.type(decode(content, leaf=_no_leaf))


def _no_leaf(tag: str, name: str) -> NoReturn:
    raise ValueError(f"{tag} {name!r} stands where a number belongs")


def _expect(content: Any, kind: type) -> Any:
    if not isinstance(content, kind):
        raise TypeError(f"found {type(content).__name__} where {kind.__name__} belongs")
    return content


def _is_ordered_dict(value: dict[Any, Any]) -> bool:
    """An OrderedDict (a torch state dict is one) comes back as a dict, which keeps the order as well."""
    return type(value).__name__ == "OrderedDict" and type(value).__module__ == "collections"


def _check_text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(place, "has text with half of a surrogate pair in it, which is not valid Unicode")
    return text


def describe(value: object) -> str:
    """The type of `value` for a message: `a datetime.datetime`, `a numpy.ndarray`."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _refuse(place: str, what: str) -> NoReturn:
    raise VariableError(f"{place} {what}")


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 40 else f"{text[:39]}…"
