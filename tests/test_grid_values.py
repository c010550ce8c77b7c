from __future__ import annotations

import sys

import pytest

from colab_magics.errors import VariableError
from colab_magics.grid_values import GridValues, Point
from colab_magics.jobs.spec import Json


def point(acc: object, state: str = "succeeded", **axes: Json) -> Point:
    values = {} if acc is None else {"acc": acc}
    scalars = tuple((name, value) for name, value in values.items() if isinstance(value, float))
    return Point(tuple(axes.items()), state, scalars, values)


TWO_AXES = [point(0.5, lr=0.1, bs=16), point(0.6, lr=0.1, bs=32), point(0.7, lr=0.2, bs=16)]


def test_a_value_is_found_by_its_parameters_in_the_order_of_the_axes() -> None:
    acc = GridValues("acc", TWO_AXES, expected=4)
    assert acc[0.1, 32] == 0.6
    assert acc[(0.2, 16)] == 0.7
    assert (len(acc), acc.is_complete) == (3, False)


def test_keys_have_the_axes_names() -> None:
    acc = GridValues("acc", TWO_AXES, expected=3)
    assert [(key.lr, key.bs) for key in acc] == [(0.1, 16), (0.1, 32), (0.2, 16)]
    assert max(acc, key=acc.get).lr == 0.2
    assert acc.is_complete


def test_one_axis_needs_no_tuple() -> None:
    acc = GridValues("acc", [point(0.5, lr=0.1), point(0.6, lr="auto")], expected=2)
    assert (acc[0.1], acc["auto"]) == (0.5, 0.6)


def test_fixing_some_axes_leaves_a_value_or_the_rest_of_the_grid() -> None:
    acc = GridValues("acc", TWO_AXES, expected=4)
    assert acc.at(lr=0.1, bs=32) == 0.6
    assert acc.at(lr=0.2) == 0.7
    assert dict(acc.at(lr=0.1)) == {(0.1, 16): 0.5, (0.1, 32): 0.6}
    with pytest.raises(KeyError, match="no value where"):
        acc.at(lr=9)


def test_an_unknown_key_says_which_there_are() -> None:
    with pytest.raises(KeyError, match=r"acc has no value for 7; it has Params\(lr=0.1, bs=16\)"):
        GridValues("acc", TWO_AXES, expected=4)[7]


def test_lists_and_objects_can_be_values_of_an_axis() -> None:
    acc = GridValues("acc", [point(0.5, sizes=[1, [2]]), point(0.6, sizes={"a": 1})], expected=2)
    assert acc[1, (2,)] == 0.5
    assert acc[[1, [2]]] == 0.5
    assert acc[{"a": 1}] == 0.6


@pytest.mark.parametrize("axis", ["class", "_x", "count"])
def test_axes_may_have_any_name_that_a_variable_has(axis: str) -> None:
    acc = GridValues("acc", [point(0.5, **{axis: 1}, b=2)], expected=1)
    assert acc[1, 2] == 0.5


def test_the_frame_has_parameters_and_scalars_and_the_state_where_it_differs() -> None:
    points = [*TWO_AXES, point(None, "failed", lr=0.2, bs=32)]
    frame = GridValues("acc", points, expected=4).frame
    assert list(frame.columns) == ["lr", "bs", "acc", "state"]
    assert list(frame["acc"])[:3] == [0.5, 0.6, 0.7]
    assert frame["acc"].isna().tolist() == [False, False, False, True]
    assert list(GridValues("acc", TWO_AXES, expected=4).frame.columns) == ["lr", "bs", "acc"]


def test_what_is_no_scalar_is_not_in_the_frame() -> None:
    frame = GridValues("acc", [point([1, 2], lr=0.1)], expected=1).frame
    assert list(frame.columns) == ["lr"]


def test_the_frame_says_that_it_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(VariableError, match=r"^the frame of a grid needs pandas: pip install pandas$"):
        _ = GridValues("acc", TWO_AXES, expected=4).frame


def test_it_shows_what_it_has_and_how_much_is_missing() -> None:
    acc = GridValues("<acc>", [], expected=4)
    assert repr(acc) == "<acc>: 0 of 4 configurations"
    assert "&lt;acc&gt;" in acc._repr_mimebundle_()["text/html"]
    many = GridValues("acc", [point(float(number), lr=number) for number in range(12)], expected=12)
    assert "… and 2 more" in repr(many)
    assert repr(many).splitlines()[1] == "  0: 0.0"
