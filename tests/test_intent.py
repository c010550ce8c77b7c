"""experiments.json: what people format by hand keeps its text; what does not parse says where."""

from __future__ import annotations

import json
import re
from itertools import cycle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.errors import CorruptError, SpecError
from colab_magics.jobs.intent import append_entries, parse_intent, replace_entries

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

BY_HAND = """\
[
    {
        "name":    "audio",
        "command": "python train.py --lr 0.1",   "timeout": 7200
    },

  { "name":"video" , "command" :"make" ,"timeout":60}
]
"""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=5).filter(lambda key: key != "id"), VALUES, max_size=3)
LISTS = st.lists(OBJECTS, max_size=4)
SPACES = st.lists(st.sampled_from(["", " ", "\n", "\t", "\r\n", "\n\n  "]), min_size=1, max_size=12)
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def spread(values: object, spaces: list[str], *, readable: bool = True) -> bytes:
    """`values` as JSON with `spaces` between its tokens, over and over."""
    between = cycle(spaces)
    text = json.dumps(values, ensure_ascii=not readable)
    return ("".join(next(between) + token for token in TOKEN.findall(text)) + next(between)).encode()


def values_of(data: bytes | None) -> list[object]:
    return [entry.value for entry in parse_intent(data)]


# Reading


@pytest.mark.parametrize(
    "data", [None, b"", b" \r\n\t", b"[]", b" [ ]\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf[]"]
)
def test_a_file_that_is_absent_or_empty_has_no_entries(data: bytes | None) -> None:
    assert parse_intent(data) == []


def test_an_entry_knows_where_its_text_stands() -> None:
    first, second = parse_intent(BY_HAND.encode())
    assert json.loads(BY_HAND[first.start : first.end]) == first.value
    assert BY_HAND[second.start : second.end] == '{ "name":"video" , "command" :"make" ,"timeout":60}'


def test_an_entry_may_be_anything_and_only_an_object_with_a_text_has_an_id_of_its_own() -> None:
    entries = parse_intent(b'[1, "x", null, {"id": 5}, {"id": "job-1"}, {}]')
    assert [entry.own_id for entry in entries] == [None, None, None, None, "job-1", None]


def test_an_id_that_stands_there_twice_is_read_twice() -> None:
    assert values_of(b'[{"id": "a", "n": 1}, {"id": "a", "n": 2}]') == [
        {"id": "a", "n": 1},
        {"id": "a", "n": 2},
    ]


@patient
@given(LISTS, SPACES, st.booleans())
def test_any_list_is_read_however_it_is_spaced(
    values: list[object], spaces: list[str], readable: bool
) -> None:
    assert values_of(spread(values, spaces, readable=readable)) == values


# What does not parse


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"name": "x"}', r"is not a list: it starts with '{\"name\": \"x\"}', not with \["),
        (b"null", r"is not a list: it starts with 'null', not with \["),
        ("\u00a0".encode(), r"is not a list: it starts with '\\xa0', not with \["),
        (b'[\n  {"a": 1},\n]\n', r"no ',' may stand before '\]', line 2 column 11, at ','$"),
        (b'[\n  // mine\n  {"a": 1}\n]', r"line 2 column 3, at '// mine'$"),
        (b'[{"a": 1} # mine\n]', r"expected ',' or '\]', line 1 column 11, at '# mine'$"),
        (b'[{"a": 1} {"a": 2}]', r"expected ',' or '\]', line 1 column 11, at '{\"a\": 2}\]'$"),
        (b'[\r\n{"a": 1}\r\n', r"expected ',' or '\]', line 3 column 1, at the end of the file$"),
        (b"[", r"line 1 column 2, at the end of the file$"),
        (b"[1,", r"line 1 column 4, at the end of the file$"),
        (b'[{"a": 1}]\n[]', r"goes on after its list ends: line 2 column 1, at '\[\]'$"),
        (b"[{'a': 1}]", r"line 1 column 3, at \"'a': 1}\]\"$"),
        (b'[\n{"a": "x\ny"}]', r"Invalid control character at: line 2 column 9, at the end of the line$"),
        (b"\xef\xbb\xbf[x]", r"line 1 column 2, at 'x\]'$"),
        (b'\xef\xbb\xbf[\n{"a" 1}]', r"line 2 column 6, at '1}\]'$"),
        (b'[{},\n {"a": NaN}]', r"NaN is not JSON, in the entry of line 2 column 2, at '{\"a\": NaN}\]'$"),
        (b"[-Infinity]", r"-Infinity is not JSON, in the entry of line 1 column 2"),
        (b"[1e999]", r"1e999 is too large a number, in the entry of line 1 column 2, at '1e999\]'$"),
        (b"[" + b"9" * 5000 + b"]", r"does not parse: .*in the entry of line 1 column 2, at '99999"),
        (b"[" + b"[" * 100_000, r"nested too deeply, line 1 column 2"),
        (b"[{}," + b"[" * 102 + b"]" * 103, r"nested too deeply, line 1 column 5"),
        (b'["\xe4"]', r"is not UTF-8 text: .* at byte 2, in line 1$"),
        (b'\xef\xbb\xbf["a",\n"\xff"]', r"is not UTF-8 text: invalid start byte at byte 10, in line 2$"),
        ('[{"a": 1}]'.encode("utf-16"), r"is not UTF-8 text: .* at byte 0, in line 1$"),
    ],
)
def test_what_does_not_parse_raises_says_where_and_is_never_written_over(data: bytes, message: str) -> None:
    with pytest.raises(CorruptError, match=rf"^experiments\.json .*{message}"):
        parse_intent(data)
    with pytest.raises(CorruptError, match=message):
        append_entries(data, [{"name": "x"}])
    with pytest.raises(CorruptError, match=message):
        replace_entries(data, lambda _index, _entry: {})


def test_nesting_that_python_reads_at_any_depth_of_calls_is_read() -> None:
    assert len(parse_intent(b"[" * 100 + b"]" * 100)) == 1
    assert len(parse_intent(b"[" + b"[[[]]]," * 200 + b"[]]")) == 201


# Adding


@pytest.mark.parametrize("data", [None, b"", b"[]", b"\n"])
def test_the_first_entry_goes_on_a_line_of_its_own(data: bytes | None) -> None:
    assert append_entries(data, [{"name": "x"}]).decode().lstrip().splitlines() == [
        "[",
        '  {"name": "x"}',
        "]",
    ]


@pytest.mark.parametrize("data", [None, b"", b"\n", b"\xef\xbb\xbf"])
def test_adding_nothing_to_an_empty_file_makes_it_a_list(data: bytes | None) -> None:
    assert append_entries(data, []) == (data or b"") + b"[]\n"


def test_what_stands_there_keeps_its_text_around_an_append() -> None:
    added = append_entries(BY_HAND.encode(), [{"name": "x"}, {"name": "y"}]).decode()
    assert added == BY_HAND.replace("\n]", ',\n  {"name": "x"},\n  {"name": "y"}\n]')


@patient
@given(LISTS, SPACES, LISTS, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_whatever_the_spacing_an_append_adds_and_changes_not_a_byte(
    values: list[object], spaces: list[str], added: list[dict[str, object]], mark: bytes
) -> None:
    data = mark + spread(values, spaces)
    after = append_entries(data, added)  # type: ignore[arg-type]
    assert values_of(after) == values + added
    end = len(data.decode()[: parse_intent(data)[-1].end].encode()) if values else data.index(b"[") + 1
    assert after.startswith(data[:end])
    assert after.endswith(data[end:] if values else data[data.rindex(b"]") :])


@patient
@given(LISTS, SPACES, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_adding_nothing_changes_nothing(values: list[object], spaces: list[str], mark: bytes) -> None:
    data = mark + spread(values, spaces)
    assert append_entries(data, []) == data


def test_a_file_with_carriage_returns_keeps_its_kind_of_line() -> None:
    assert append_entries(b'[\r\n{"a": 1}\r\n]\r\n', [{"b": 2}]) == b'[\r\n{"a": 1},\r\n  {"b": 2}\r\n]\r\n'
    assert append_entries(b"[\r\n]", [{"b": 2}]) == b'[\r\n  {"b": 2}\r\n]'


def test_a_byte_order_mark_stays_where_it_is() -> None:
    assert append_entries(b'\xef\xbb\xbf[{"a": 1}]', [{"b": 2}]) == b'\xef\xbb\xbf[{"a": 1},\n  {"b": 2}]'
    assert append_entries(b"\xef\xbb\xbf", [{"b": 2}]) == b'\xef\xbb\xbf[\n  {"b": 2}\n]\n'


def test_an_entry_whose_id_is_there_is_not_added_again() -> None:
    once = append_entries(b'[{"id": "a"}]', [{"id": "b"}, {"id": "a"}, {"id": "b", "n": 2}])
    assert values_of(once) == [{"id": "a"}, {"id": "b"}]
    assert append_entries(once, [{"id": "a"}, {"id": "b"}]) == once


def test_entries_without_an_id_are_always_added() -> None:
    data = append_entries(b'[{"n": 1}, 5]', [{"n": 1}, {"n": 1}, {"id": None}, {"id": None}])
    assert len(values_of(data)) == 6


def test_text_stays_readable_and_what_utf8_cannot_carry_is_escaped() -> None:
    data = append_entries(None, [{"name": "é 🎧 \ud800 \u2028"}])
    assert "é 🎧 \\ud800 \\u2028" in data.decode()
    assert values_of(data) == [{"name": "é 🎧 \ud800 \u2028"}]


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        (float("nan"), "the number nan, which JSON does not have"),
        ([float("-inf")], "the number -inf, which JSON does not have"),
        (json.loads("[" * 120 + "]" * 120), "lists or objects nested more than 100 deep"),
    ],
)
def test_a_value_that_others_could_not_read_is_not_written(value: object, flaw: str) -> None:
    entry = {"name": "x", "params": {"p": value}}
    message = f"the entry 'x' cannot be written into experiments.json: it has {flaw}"
    with pytest.raises(SpecError, match=message):
        append_entries(b"[]", [entry])  # type: ignore[list-item]
    with pytest.raises(SpecError, match=message):
        replace_entries(b"[1]", lambda _index, _entry: entry)  # type: ignore[arg-type, return-value]


# Changing


def test_a_changed_entry_takes_the_place_of_the_old_one_and_nothing_else_moves() -> None:
    changed = replace_entries(
        BY_HAND.encode(), lambda index, _entry: {"cancel": True} if index == 1 else None
    )
    assert changed.decode() == BY_HAND.replace(
        '{ "name":"video" , "command" :"make" ,"timeout":60}', '{"cancel": true}'
    )


@pytest.mark.parametrize("data", [None, b"", b" [\n]"])
def test_nothing_to_change_changes_nothing(data: bytes | None) -> None:
    assert replace_entries(data, lambda _index, _entry: {}) == (data or b"")


@patient
@given(LISTS, SPACES, st.sets(st.integers(0, 3)), OBJECTS, st.sampled_from(["", "\ufeff"]))
def test_whatever_the_spacing_a_change_changes_only_its_entries(
    values: list[object], spaces: list[str], chosen: set[int], new: dict[str, object], mark: str
) -> None:
    data = mark.encode() + spread(values, spaces)
    after = replace_entries(data, lambda index, _entry: new if index in chosen else None)  # type: ignore[arg-type, return-value]
    assert values_of(after) == [new if index in chosen else value for index, value in enumerate(values)]
    assert _around(after, chosen) == _around(data, chosen)


def _around(data: bytes, chosen: set[int]) -> list[str]:
    """The text of the file without the chosen entries, cut where they stood."""
    text, parts, done = data.decode(), [], 0
    for index, entry in enumerate(parse_intent(data)):
        if index in chosen:
            parts.append(text[done : entry.start])
            done = entry.end
    return [*parts, text[done:]]


def test_a_change_sees_each_entry_with_its_position() -> None:
    seen = []
    replace_entries(b'["a", {"id": "b"}]', lambda index, entry: seen.append((index, entry.value)))
    assert seen == [(0, "a"), (1, {"id": "b"})]
