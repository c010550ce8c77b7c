"""Parameters as people type them, and the product of a grid's axes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.errors import SpecError
from colab_magics.jobs.grid import (
    MAX_JOBS,
    describe_params,
    fill_command,
    grid_product,
    parse_axis,
    parse_param,
)
from colab_magics.jobs.spec import check_name

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


# One parameter


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-3", 0.001),
        ("5", 5),
        ("-5", -5),
        (".5", 0.5),
        ("-.5e-1", -0.05),
        ("5.", 5.0),
        ("+1.5", 1.5),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ('"5"', "5"),
        ("[1, 2]", [1, 2]),
        ('{"a": [1]}', {"a": [1]}),
        ("adam", "adam"),
        (" adam ", "adam"),
        ("a=b", "a=b"),
        ("a,b", "a,b"),
        ("", ""),
        ("007", "007"),
        ("1.2.3", "1.2.3"),
        ("1_000", "1_000"),
        ("[1, 2", "[1, 2"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("9.9e999", "9.9e999"),
        ("٣.٥", "٣.٥"),
        ("9" * 5000, "9" * 5000),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_what_it_reads_as_in_json_or_python_and_else_text(text: str, value: object) -> None:
    assert parse_param(f"p={text}") == ("p", value)
    assert type(parse_param(f"p={text}")[1]) is type(value)


@patient
@given(JSON_VALUES)
def test_any_json_value_can_be_given(value: object) -> None:
    assert parse_param(f"p={json.dumps(value)}") == ("p", value)


@patient
@given(st.text())
def test_whatever_is_typed_can_be_written_as_json(text: str) -> None:
    json.dumps(parse_param(f"p={text}")[1], allow_nan=False)


@pytest.mark.parametrize("text", ["", "lr", "=1", "1r=1", "l r=1", " lr=1", "lr =1", "a.b=1"])
def test_a_parameter_is_a_name_and_a_value(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_param(text)
    told = f"a parameter is written NAME=VALUE with a name that Python allows; found {text!r}"
    assert str(caught.value) == told


# One axis


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.2", (0.1, 0.2)),
        ("adam", ("adam",)),
        ("adam, sgd", ("adam", "sgd")),
        ("1,a,true,null", (1, "a", True, None)),
        ("1,true", (1, True)),
        ('1,"1"', (1, "1")),
        ("[1,2],[3]", ([1, 2], [3])),
        ('{"a":1,"b":2},{"a":2}', ({"a": 1, "b": 2}, {"a": 2})),
        ('"a,b","c"', ("a,b", "c")),
        (r'"a\",b",c', ('a",b', "c")),
        ('["a]",","],x', (["a]", ","], "x")),
        ('5",6"', ('5"', '6"')),
        ("a],b", ("a]", "b")),
        ("x[0,1],y", ("x[0,1]", "y")),
        ("a=1,b=2", ("a=1", "b=2")),
        ("0:3", (0, 1, 2)),
        (" 0:3 ", (0, 1, 2)),
        ("5:0:-2", (5, 3, 1)),
        ("-2:1", (-2, -1, 0)),
        ("0:3,5", ("0:3", 5)),
        ("a:b", ("a:b",)),
        ("0:" + "9" * 5000, ("0:" + "9" * 5000,)),
        ("0:10000", tuple(range(10_000))),
    ],
)
def test_an_axis_is_a_list_or_a_range(text: str, values: tuple[object, ...]) -> None:
    assert parse_axis(f"p={text}") == ("p", values)


@patient
@given(
    st.lists(JSON_VALUES, min_size=1, max_size=5, unique_by=lambda value: json.dumps(value, sort_keys=True))
)
def test_an_axis_of_any_json_values_is_read_back(values: list[object]) -> None:
    text = ",".join(json.dumps(value) for value in values)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(set(numbers)) == len(numbers):
        assert parse_axis(f"p={text}") == ("p", tuple(values))


@pytest.mark.parametrize("text", ["", "lr", "=1,2", "1r=1", "lr=", "lr=  ", "a b=1"])
def test_an_axis_is_a_name_and_values(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_axis(text)
    assert str(caught.value) == (
        f"an axis is written NAME=A,B,C (or NAME=0:10) with a name that Python allows; found {text!r}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p=1,1", "the axis 'p=1,1' has a value twice; each configuration runs once"),
        ("p=1,1.0", "the axis 'p=1,1.0' has a value twice; each configuration runs once"),
        ("p=0.1,1e-1", "the axis 'p=0.1,1e-1' has a value twice; each configuration runs once"),
        ("p=0.0,-0.0", "the axis 'p=0.0,-0.0' has a value twice; each configuration runs once"),
        (
            'p={"a":1,"b":2},{"b":2,"a":1}',
            """the axis 'p={"a":1,"b":2},{"b":2,"a":1}' has a value twice; each configuration runs once""",
        ),
        ("p=1,,2", "the list '1,,2' has an empty value between its commas"),
        ("p=1,2,", "the list '1,2,' has an empty value between its commas"),
        ("p=[1,2", "the list '[1,2' has a quote or bracket that is not closed"),
        ('p="a,b', """the list '"a,b' has a quote or bracket that is not closed"""),
        ("p=3:3", "the axis 'p=3:3' has no values"),
        ("p=3:0", "the axis 'p=3:0' has no values"),
        ("p=0:9:0", "the range 0:9:0 has a step of 0"),
        ("p=0:10001", "the range 0:10001 has more than 10,000 values"),
        (f"p=0:{10**30}", f"the range 0:{10**30} has more than 10,000 values"),
        (f"p=0:-{10**30}:-1", f"the range 0:-{10**30}:-1 has more than 10,000 values"),
    ],
)
def test_what_is_wrong_with_an_axis_is_told(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_axis(text)
    assert str(caught.value) == message


@patient
@given(st.text())
def test_whatever_is_typed_is_an_axis_or_told_why_not(text: str) -> None:
    try:
        _, values = parse_axis(f"p={text}")
    except SpecError:
        return
    assert 1 <= len(values) <= max(MAX_JOBS, len(text))


# The product


def test_the_last_axis_changes_fastest_behind_what_is_fixed() -> None:
    assert grid_product([("model", "cnn")], [("lr", (0.1, 0.2)), ("bs", (16, 32))]) == [
        (("model", "cnn"), ("lr", 0.1), ("bs", 16)),
        (("model", "cnn"), ("lr", 0.1), ("bs", 32)),
        (("model", "cnn"), ("lr", 0.2), ("bs", 16)),
        (("model", "cnn"), ("lr", 0.2), ("bs", 32)),
    ]


def test_without_axes_there_is_one_configuration() -> None:
    assert grid_product([("lr", 1)], []) == [(("lr", 1),)]
    assert grid_product([], []) == [()]


@patient
@given(st.lists(st.integers(1, 4), max_size=4))
def test_every_combination_is_there_once(sizes: list[int]) -> None:
    axes = [(f"p{place}", tuple(range(size))) for place, size in enumerate(sizes)]
    grid = grid_product([], axes)
    assert len(set(grid)) == len(grid) == math.prod(sizes)
    assert grid == sorted(grid)


@pytest.mark.parametrize(
    ("fixed", "axes"),
    [
        ([("lr", 1)], [("lr", (1, 2))]),
        ([("lr", 1), ("lr", 1)], []),
        ([], [("lr", (1,)), ("lr", (2,))]),
    ],
)
def test_a_name_is_given_once(fixed: list[tuple[str, int]], axes: list[tuple[str, tuple[int, ...]]]) -> None:
    with pytest.raises(SpecError, match=r"^the parameter lr is given twice$"):
        grid_product(fixed, axes)  # type: ignore[arg-type]


def test_a_grid_has_a_limit_that_is_checked_before_it_is_built() -> None:
    axis = tuple(range(100))
    assert len(grid_product([], [("a", axis), ("b", axis)])) == MAX_JOBS
    with pytest.raises(SpecError, match="the grid has 10,000,000,000 configurations; 10,000 is the most"):
        grid_product([], [(name, axis) for name in "abcde"])  # type: ignore[arg-type]


# Names and command lines


def test_parameters_are_told_behind_a_name() -> None:
    params = (("lr", 0.1), ("opt", "adam"), ("layers", [1, 2]), ("warm", True), ("cap", None))
    assert describe_params(params) == "lr=0.1 opt=adam layers=[1, 2] warm=true cap=null"
    assert describe_params(()) == ""


@patient
@given(st.text(min_size=1, max_size=20))
def test_whatever_its_text_a_parameter_can_stand_in_a_name(text: str) -> None:
    check_name(f"job {describe_params([('p', text)])}")


@pytest.mark.parametrize(
    ("command", "filled"),
    [
        ("train --lr {lr}", "train --lr 0.1"),
        ("{opt} {opt}", "adam adam"),
        ("--λ {λ}", "--λ 3"),
        ("echo ${lr} {other} {} { lr } {a,b} {0}", "echo ${lr} {other} {} { lr } {a,b} {0}"),
        ("{{lr}}", "{0.1}"),
        ("{nested} {on}", "{lr} true"),
        ("{shape}", "[1, 2]"),
    ],
)
def test_a_command_line_is_filled_with_parameters_and_keeps_its_other_braces(
    command: str, filled: str
) -> None:
    params = [("lr", 0.1), ("opt", "adam"), ("λ", 3), ("nested", "{lr}"), ("on", True), ("shape", [1, 2])]
    assert fill_command(command, params) == filled  # type: ignore[arg-type]
