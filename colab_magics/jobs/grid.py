"""Parameters of a job: reading `k=v` and `k=a,b,c`, and the product of a grid's axes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence

from colab_magics.errors import SpecError
from colab_magics.jobs.spec import Json

MAX_JOBS = 10_000
"""GitHub shows and diffs an experiments.json of this many entries (1.2 MB); more is a mistyped range."""

_RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")

Params = tuple[tuple[str, Json], ...]


def parse_param(text: str) -> tuple[str, Json]:
    """`lr=0.1` as ("lr", 0.1). A value that reads as JSON is one; anything else is text.

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
    told = [json.dumps(value) for value in values]
    if len(set(told)) != len(told):
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
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params
    )


def fill_command(command: str, params: Iterable[tuple[str, Json]]) -> str:
    """A command line with `{lr}` replaced by the parameter lr; other braces stay (a shell has its own)."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in params}
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), command)


def _value(text: str) -> Json:
    text = text.strip()
    constants: dict[str, Json] = {"True": True, "False": False, "None": None}
    if text in constants:
        return constants[text]
    try:
        value: Json = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    return value


def _refuse_constant(name: str) -> Json:
    raise ValueError(name)


def _span(match: re.Match[str]) -> tuple[Json, ...]:
    start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if step == 0:
        raise SpecError(f"the range {match[0]} has a step of 0")
    if len(range(start, stop, step)) > MAX_JOBS:
        raise SpecError(f"the range {match[0]} has more than {MAX_JOBS:,} values")
    return tuple(range(start, stop, step))


def _split(text: str) -> list[str]:
    """The parts between commas that stand outside brackets and quotes."""
    parts, depth, quoted, start, escaped = [], 0, False, 0, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    if any(not part.strip() for part in parts):
        raise SpecError(f"the list {text!r} has an empty value between its commas")
    return parts
