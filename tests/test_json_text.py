"""JSON on one line of UTF-8, whatever the value holds."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.jobs.json_text import MAX_DEPTH, find_flaw, serialize_line

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@patient
@given(ANY_VALUE)
def test_any_value_is_one_line_of_utf8(value: object) -> None:
    line = serialize_line(value)
    line.encode()
    assert len(f"{line}x".splitlines()) == 1


@patient
@given(ANY_VALUE)
def test_any_value_is_read_back_as_pythons_own_json_would(value: object) -> None:
    # repr: nan is not equal to itself. Two surrogates that fit become one character in any JSON.
    assert repr(json.loads(serialize_line(value))) == repr(json.loads(json.dumps(value)))


def test_text_that_people_can_read_stays_readable() -> None:
    assert serialize_line({"name": "é 🎧 日本"}) == '{"name": "é 🎧 日本"}'


@pytest.mark.parametrize("character", ["\x85", "\x9b", "\u2028", "\u2029", "\ud800"])
def test_what_ends_a_line_or_cannot_be_encoded_is_escaped(character: str) -> None:
    assert serialize_line(character) == f'"\\u{ord(character):04x}"'


@patient
@given(ANY_VALUE)
def test_a_value_without_a_flaw_is_json_for_everybody(value: object) -> None:
    if find_flaw(value) is None:
        json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_a_flaw_wherever_it_stands(number: float) -> None:
    assert find_flaw({"a": [1, (number,)]}) == f"the number {number}, which JSON does not have"


@pytest.mark.parametrize("deeper", [0, 1, 100_000])
def test_nesting_has_a_limit_however_deep_it_is(deeper: int) -> None:
    value: object = []
    for _ in range(MAX_DEPTH - 1 + deeper):
        value = [value]
    flaw = find_flaw(value)
    assert flaw == ("lists or objects nested more than 100 deep" if deeper else None)
