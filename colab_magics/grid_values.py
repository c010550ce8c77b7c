"""A variable of a whole grid: the value of each configuration, under the parameters that tell it apart."""

from __future__ import annotations

import html
import json
import keyword
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colab_magics.errors import VariableError
from colab_magics.jobs.spec import Json

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a grid that has ended: its axes' values, its state, its scalars and its value."""

    axes: tuple[tuple[str, Json], ...]
    state: str
    scalars: tuple[tuple[str, object], ...]
    values: Mapping[str, object]


class GridValues(Mapping[Any, Any]):
    """One variable of all configurations of a grid: a mapping from parameters to values.

    `acc[0.1, 16]` is the value where the first axis is 0.1 and the second 16, `acc[0.1]` where there is one
    axis; keys are named tuples (`for key in acc: key.lr`). `acc.at(lr=0.1)` is what is left when some axes
    are fixed. `acc.frame` is a pandas frame with a row for each configuration: its parameters, and every
    variable of it that is a number, a truth value or a text. Configurations that have not ended yet are not
    in it.
    """

    def __init__(self, name: str, points: Sequence[Point], *, expected: int) -> None:
        """`points` are those that have ended, in the grid's order; `expected` is how many there will be."""
        self._name, self._points, self._expected = name, tuple(points), expected
        axes = [axis for axis, _ in points[0].axes] if points else []
        self._make = _key_maker(axes)
        self._values = {
            self._make([value for _, value in point.axes]): point.values[name]
            for point in points
            if name in point.values
        }

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._values[_freeze(key)]
        except KeyError:
            known = ", ".join(map(str, list(self._values)[:3])) or "none yet"
            raise KeyError(f"{self._name} has no value for {key!r}; it has {known}") from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def is_complete(self) -> bool:
        """Whether every configuration of the grid has its value."""
        return len(self._values) == self._expected

    def at(self, **axes: Json) -> Any:
        """The value where the axes are as given, or a GridValues of those that are, where several are.

        Raises:
            KeyError: no configuration is.
        """
        wanted = {name: _freeze(value) for name, value in axes.items()}
        points = [
            point
            for point in self._points
            if self._name in point.values
            and wanted.items() <= {name: _freeze(value) for name, value in point.axes}.items()
        ]
        if not points:
            raise KeyError(f"{self._name} has no value where {axes}")
        if len(points) == 1:
            return points[0].values[self._name]
        return GridValues(self._name, points, expected=len(points))

    @property
    def frame(self) -> Any:
        """A pandas frame: a row for each configuration that has ended, its parameters × its scalars.

        Raises:
            VariableError: pandas is not installed.
        """
        return points_frame(self._points)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        rows = "".join(
            f"<tr><td>{html.escape(str(key))}</td><td>{html.escape(_short(value))}</td></tr>"
            for key, value in list(self.items())[:SHOWN]
        )
        return {
            "text/plain": repr(self),
            "text/html": f"<div>{html.escape(self._head())}</div><table>{rows}</table>",
        }

    def __repr__(self) -> str:
        lines = [f"  {key}: {_short(value)}" for key, value in list(self.items())[:SHOWN]]
        more = [f"  … and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([self._head(), *lines, *more])

    def _head(self) -> str:
        return f"{self._name}: {len(self)} of {self._expected} configurations"


def points_frame(points: Sequence[Point]) -> Any:
    """A pandas frame with a row for each point: its axes, its scalars, and its state if not all succeeded.

    Raises:
        VariableError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise VariableError("the frame of a grid needs pandas: pip install pandas") from error
    states = {point.state for point in points}
    rows = [
        {
            **dict(point.axes),
            **dict(point.scalars),
            **({"state": point.state} if states != {"succeeded"} else {}),
        }
        for point in points
    ]
    return pandas.DataFrame(rows)


def _key_maker(axes: Sequence[str]) -> Callable[[Sequence[Json]], Any]:
    """What makes a key of the axes' values: a named tuple, or the value itself where there is one axis."""
    if len(axes) == 1:
        return lambda values: _freeze(values[0])
    named = all(axis.isidentifier() and not keyword.iskeyword(axis) and axis[0] != "_" for axis in axes)
    if not named:
        return lambda values: tuple(_freeze(value) for value in values)
    kind = namedtuple("Params", list(axes))  # type: ignore[misc]
    return lambda values: kind(*(_freeze(value) for value in values))


def _freeze(value: Any) -> Any:
    """A value that can be part of a key: a list as a tuple, an object as its JSON."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list):
        return tuple(_freeze(each) for each in value)
    return value


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 70 else text[:69] + "…"
