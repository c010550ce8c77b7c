"""Parameters of a job: reading `k=v` and `k=a,b,c`, and the product of a grid's axes."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence

from colab_magics.errors import SpecError
from colab_magics.jobs.spec import Json

MAX_JOBS = 10_000
"""GitHub shows and diffs an experiments.json of this many entries (1.2 MB); more is a mistyped range."""

_RANGE = re.compile(r"(-?\d{1,999}):(-?\d{1,999})(?::(-?\d{1,999}))?", re.ASCII)
_PYTHON_FLOAT = re.compile(r"[+-]?(\d+\.|\d*\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLACEHOLDER = re.compile(r"(?<!\$)\{([^\W\d]\w*)\}")
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Params = tuple[tuple[str, Json], ...]


def parse_param(text: str) -> tuple[str, Json]:
    """`lr=0.1` as ("lr", 0.1). A value that reads as JSON, or as a number, True, False or None in Python,
    is that; anything else is text.

    Raises:
        SpecError: no `=`, or the name is not one that Python allows.
    """
    name, found, value = text.partition("=")
    if not found or not name.isidentifier():
        raise SpecError(f"a parameter is written NAME=VALUE with a name that Python allows; found {text!r}")
    return name, _value(value)


def parse_axis(text: str) -> tuple[str, tuple[Json, ...]]:
    """`lr=0.1,0.2` as ("lr", (0.1, 0.2)); `seed=0:3` as ("seed", (0, 1, 2)); `x=[1,2],[3]` keeps its lists.

    Raises:
        SpecError: no `=`, a bad name, no values, or the same value twice.
    """
    name, found, rest = text.partition("=")
    if not found or not name.isidentifier() or not rest.strip():
        raise SpecError(
            f"an axis is written NAME=A,B,C (or NAME=0:10) with a name that Python allows; found {text!r}"
        )
    span = _RANGE.fullmatch(rest.strip())
    values = _span(span) if span else tuple(_value(each) for each in _split(rest))
    if not values:
        raise SpecError(f"the axis {text!r} has no values")
    told = {_same(value) for value in values}
    if len(told) != len(values):
        raise SpecError(f"the axis {text!r} has a value twice; each configuration runs once")
    return name, values


def grid_product(
    fixed: Sequence[tuple[str, Json]], axes: Sequence[tuple[str, tuple[Json, ...]]]
) -> list[Params]:
    """All configurations of the grid, the last axis changing fastest; one if there are no axes.

    Raises:
        SpecError: a name is given twice, or the product has more than 10,000 configurations.
    """
    names = [name for name, _ in fixed] + [name for name, _ in axes]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"the parameter {name} is given twice")
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > MAX_JOBS:
        raise SpecError(f"the grid has {count:,} configurations; {MAX_JOBS:,} is the most for one push")
    combinations = itertools.product(*(values for _, values in axes))
    keys = [name for name, _ in axes]
    return [tuple(fixed) + tuple(zip(keys, values, strict=True)) for values in combinations]


def describe_params(params: Iterable[tuple[str, Json]]) -> str:
    """`lr=0.1 bs=16`, as it stands behind a job's name."""
    return " ".join(
        f"{key}={value if isinstance(value, str) and not _UNPRINTED.search(value) else json.dumps(value)}"
        for key, value in params
    )


def fill_command(command: str, params: Iterable[tuple[str, Json]]) -> str:
    """A command line with `{lr}` replaced by the parameter lr; other braces stay.

    A shell has braces of its own: `${lr}` is its variable, not the parameter.
    """
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), command)


def _value(text: str) -> Json:
    text = text.strip()
    constants: dict[str, Json] = {"True": True, "False": False, "None": None}
    if text in constants:
        return constants[text]
    if _PYTHON_FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return text
    return value


def _same(value: Json) -> str:
    """The same text for the same value: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _refuse_constant(name: str) -> Json:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _span(match: re.Match[str]) -> tuple[Json, ...]:
    start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if step == 0:
        raise SpecError(f"the range {match[0]} has a step of 0")
    if -((start - stop) // step) > MAX_JOBS:  # len(range(…)) has a limit of its own
        raise SpecError(f"the range {match[0]} has more than {MAX_JOBS:,} values")
    return tuple(range(start, stop, step))


def _split(text: str) -> list[str]:
    """The parts between commas outside brackets and quotes. A quote within a word (`5"`) is a character."""
    parts, depth, quoted, start, escaped = [], 0, False, 0, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = char == "\\", char != '"'
        elif char == '"' and (depth or not text[start:index].strip()):
            quoted = True
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth = max(depth - 1, 0)
        elif char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    if quoted or depth:
        raise SpecError(f"the list {text!r} has a quote or bracket that is not closed")
    if any(not part.strip() for part in parts):
        raise SpecError(f"the list {text!r} has an empty value between its commas")
    return parts
