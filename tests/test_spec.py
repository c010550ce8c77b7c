"""One entry of experiments.json is one job: what it may say, and what each mistake is told."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.errors import SpecError
from colab_magics.jobs.intent import append_entries, parse_intent
from colab_magics.jobs.spec import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    KINDS,
    MAX_TIMEOUT_S,
    Batch,
    Input,
    JobSpec,
    check_name,
    content_name,
    derive_id,
    is_cancelled,
    is_job_id,
    parse_entry,
    slug,
    to_entry,
)
from colab_magics.store.variables import Kind

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

SHA = "0123456789abcdef0123456789abcdef01234567"
CELL = "cells/0123456789ab.py"
ENTRY = {"name": "audio", "command": "python train.py", "timeout": 7200}

TEXT = st.text(max_size=12)
HELD = TEXT.filter(lambda text: "\0" not in text)
NAMES = st.text(min_size=1, max_size=200).filter(
    lambda name: name.strip() and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", name)
)
VARIABLES = st.sampled_from(["lr", "x", "λ", "_data", "acc2"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
HEX12 = st.text("0123456789abcdef", min_size=12, max_size=12)


def a_path(folder: str, kinds: list[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda name, kind: f"{folder}/{name}.{kind}", HEX12, st.sampled_from(kinds))


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    cell = draw(st.none() | a_path("cells", ["py"]))
    inputs = draw(st.dictionaries(VARIABLES, a_path("inputs", ["json", "safetensors"]), max_size=2))
    return JobSpec(
        job_id=draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,79}", fullmatch=True)),
        name=draw(NAMES),
        command=None if cell else draw(HELD.filter(str.strip)),
        cell=cell,
        timeout_s=draw(st.floats(0, MAX_TIMEOUT_S, exclude_min=True)),
        code=draw(st.none() | st.just(SHA)),
        params=tuple(draw(st.dictionaries(VARIABLES, JSON_VALUES, max_size=3)).items()),
        inputs=tuple(
            Input(name, path, draw(st.sampled_from(sorted(KINDS)))) for name, path in inputs.items()
        ),
        outputs=tuple(draw(st.lists(VARIABLES, max_size=3))),
        artifacts=tuple(draw(st.lists(TEXT.filter(bool), max_size=2))),
        requirements=draw(st.none() | a_path("inputs", ["txt"])),
        retries=draw(st.integers(0, 100)),
        env=tuple(draw(st.dictionaries(st.sampled_from(["A", "_B9"]), HELD, max_size=2)).items()),
        allow_pickle=draw(st.booleans()),
        queued_at=draw(st.none() | st.floats(0, 1e11)),
        debuggable=draw(st.none() | st.booleans()),
        hold_s=draw(st.just(0.0) | st.floats(0, MAX_TIMEOUT_S, exclude_min=True)),
        batch=draw(st.none() | st.builds(Batch, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple))),
    )


def refusal(**changes: object) -> str:
    with pytest.raises(SpecError) as caught:
        parse_entry({**ENTRY, **changes}, job_id="job-1")
    return str(caught.value)


# What an entry says


@patient
@given(specs())
def test_an_entry_written_for_a_job_is_read_as_that_job(spec: JobSpec) -> None:
    assert parse_entry(to_entry(spec)) == spec


@patient
@given(specs())
def test_a_job_comes_through_the_file_unchanged(spec: JobSpec) -> None:
    (entry,) = parse_intent(append_entries(None, [to_entry(spec)]))
    assert parse_entry(entry.value) == spec


def test_three_keys_are_enough() -> None:
    assert parse_entry(ENTRY, job_id="audio-1") == JobSpec(
        job_id="audio-1", name="audio", command="python train.py", cell=None, timeout_s=7200.0, code=None
    )


def test_two_keys_are_enough_and_get_an_hour() -> None:
    spec = parse_entry({"name": "a", "command": "make"}, job_id="a-1")
    assert (spec.timeout_s, spec.retries) == (DEFAULT_TIMEOUT_S, DEFAULT_RETRIES) == (3600.0, 2)


def test_keys_that_nobody_knows_are_the_persons_own() -> None:
    entry = {**ENTRY, "note": "try again", "batch": "mine"}
    assert parse_entry(entry, job_id="a-1") == parse_entry(ENTRY, job_id="a-1")


def test_an_entry_written_for_a_plain_command_has_the_three_keys_and_the_id() -> None:
    assert to_entry(parse_entry(ENTRY, job_id="a-1")) == {**ENTRY, "id": "a-1"}


def test_a_cell_is_written_with_a_command_that_people_can_read() -> None:
    spec = parse_entry({"name": "a", "cell": CELL}, job_id="a-1")
    assert (spec.cell, spec.command) == (CELL, None)
    assert to_entry(spec)["command"] == f"ipython {CELL}"


def test_a_whole_number_of_seconds_is_written_as_one() -> None:
    assert json.dumps(to_entry(parse_entry({**ENTRY, "timeout": 60.0}, job_id="a-1"))["timeout"]) == "60"
    assert to_entry(parse_entry({**ENTRY, "timeout": 0.5}, job_id="a-1"))["timeout"] == 0.5


def test_an_id_of_its_own_goes_before_the_one_that_is_offered() -> None:
    assert parse_entry({**ENTRY, "id": "mine"}, job_id="offered").job_id == "mine"


@pytest.mark.parametrize("key", ["code", "cell", "params", "in", "out", "artifacts", "requirements", "env"])
def test_null_is_the_same_as_not_said(key: str) -> None:
    assert parse_entry({**ENTRY, key: None}, job_id="a-1") == parse_entry(ENTRY, job_id="a-1")


@pytest.mark.parametrize("cancel", [True, 1, "yes"])
def test_a_job_is_cancelled_by_a_flag_in_its_entry(cancel: object) -> None:
    assert is_cancelled({**ENTRY, "cancel": cancel})


@pytest.mark.parametrize("entry", [ENTRY, {**ENTRY, "cancel": False}, {**ENTRY, "cancel": None}, 5, None])
def test_anything_else_is_not_cancelled(entry: object) -> None:
    assert not is_cancelled(entry)


# What each mistake is told


@pytest.mark.parametrize("entry", [None, 5, "x", [], [ENTRY]])
def test_an_entry_is_an_object(entry: object) -> None:
    with pytest.raises(SpecError, match=r"^an entry is an object \{name, command, timeout\}; found "):
        parse_entry(entry, job_id="a-1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "a job needs a name, a text of one line; found nothing"),
        ({"name": 5}, "a job needs a name, a text of one line; found 5"),
        ({"name": " \n"}, 'a job needs a name, a text of one line; found " \\n"'),
        ({"command": None}, '"command" is the shell command line to run; found nothing'),
        ({"command": "  "}, '"command" is the shell command line to run; found "  "'),
        ({"command": ["make"]}, '"command" is the shell command line to run; found ["make"]'),
        ({"command": "a\0b"}, '"command" has a NUL or half of a character; a command line cannot'),
        ({"command": "a\ud800"}, '"command" has a NUL or half of a character; a command line cannot'),
        ({"id": 7}, '"id" is lower-case letters, digits and dashes, at most 80; found 7'),
        ({"id": "A b"}, '"id" is lower-case letters, digits and dashes, at most 80; found "A b"'),
        ({"id": "../x"}, '"id" is lower-case letters, digits and dashes, at most 80; found "../x"'),
        ({"id": None}, '"id" is lower-case letters, digits and dashes, at most 80; found nothing'),
        ({"timeout": "2h"}, '"timeout" is a number of seconds above 0 and at most 2592000; found "2h"'),
        ({"timeout": 0}, '"timeout" is a number of seconds above 0 and at most 2592000; found 0'),
        ({"timeout": -1.5}, '"timeout" is a number of seconds above 0 and at most 2592000; found -1.5'),
        ({"timeout": True}, '"timeout" is a number of seconds above 0 and at most 2592000; found true'),
        ({"timeout": 2592001}, '"timeout" is a number of seconds above 0 and at most 2592000; found 2592001'),
        (
            {"timeout": float("nan")},
            '"timeout" is a number of seconds above 0 and at most 2592000; found NaN',
        ),
        ({"retries": 1.5}, '"retries" is a whole number from 0 to 100; found 1.5'),
        ({"retries": -1}, '"retries" is a whole number from 0 to 100; found -1'),
        ({"retries": 101}, '"retries" is a whole number from 0 to 100; found 101'),
        ({"retries": True}, '"retries" is a whole number from 0 to 100; found true'),
        ({"code": "main"}, '"code" is the 40 hex digits of a commit; found "main"'),
        ({"code": SHA + "\n"}, f'"code" is the 40 hex digits of a commit; found "{SHA}\\n"'),
        ({"code": 5}, '"code" is the 40 hex digits of a commit; found 5'),
        (
            {"cell": "/etc/passwd"},
            '"cell" is a path like cells/0123456789ab.py beside experiments.json; found "/etc/passwd"',
        ),
        (
            {"cell": "cells/../../x.py"},
            '"cell" is a path like cells/0123456789ab.py beside experiments.json; found "cells/../../x.py"',
        ),
        ({"cell": ""}, '"cell" is a path like cells/0123456789ab.py beside experiments.json; found ""'),
        (
            {"requirements": "requirements.txt"},
            '"requirements" is a path like cells/0123456789ab.py beside experiments.json; '
            'found "requirements.txt"',
        ),
        ({"params": [1]}, '"params" is an object of names and values; found [1]'),
        (
            {"cell": CELL, "params": {"x y": 1}},
            '"params" of a cell names variables; "x y" is not a name that Python allows',
        ),
        (
            {"cell": CELL, "params": {"lambda": 1}},
            '"params" of a cell names variables; "lambda" is not a name that Python allows',
        ),
        ({"in": "df"}, '"in" is an object of names and values; found "df"'),
        ({"in": {"a b": {}}}, '"in" names variables; "a b" is not a name that Python allows'),
        ({"in": {"class": {}}}, '"in" names variables; "class" is not a name that Python allows'),
        ({"in": {"df": "x"}}, '"in" gives each variable a path and a kind; found "x" for df'),
        (
            {"in": {"df": {"path": CELL}}},
            f'"in" gives each variable a path and a kind; found {{"path": "{CELL}"}} for df',
        ),
        (
            {"in": {"df": {"kind": "csv", "path": "inputs/0123456789ab.csv"}}},
            '"in" gives each variable one of the kinds json, numpy, parquet, pickle, safetensors; '
            'found "csv" for df',
        ),
        ({"in": {"df": {"kind": "json"}}}, '"in" gives each variable a path and a kind; df has no path'),
        (
            {"in": {"df": {"kind": "json", "path": "../x"}}},
            '"path" is a path like cells/0123456789ab.py beside experiments.json; found "../x"',
        ),
        ({"out": "acc"}, '"out" is a list of texts; found "acc"'),
        ({"out": [1]}, '"out" is a list of texts; found [1]'),
        ({"out": ["a.b"]}, '"out" names variables; "a.b" is not a name that Python allows'),
        ({"out": ["None"]}, '"out" names variables; "None" is not a name that Python allows'),
        ({"artifacts": [""]}, '"artifacts" is a list of texts; found [""]'),
        ({"artifacts": {"a": 1}}, '"artifacts" is a list of texts; found {"a": 1}'),
        ({"env": ["A=1"]}, '"env" is an object of names and values; found ["A=1"]'),
        ({"env": {"A B": "1"}}, '"env" maps names to texts; found "A B": "1"'),
        ({"env": {"A": 1}}, '"env" maps names to texts; found "A": 1'),
        ({"env": {"A": "\0"}}, '"env" maps names to texts; found "A": "\\u0000"'),
        ({"env": {"A": "\udc80"}}, '"env" maps names to texts; found "A": "\\udc80"'),
        ({"pickle": "yes"}, '"pickle" is true or false; found "yes"'),
        ({"queued_at": "now"}, '"queued_at" is Unix seconds; found "now"'),
        ({"queued_at": True}, '"queued_at" is Unix seconds; found true'),
        ({"queued_at": -1}, '"queued_at" is Unix seconds; found -1'),
        ({"queued_at": float("inf")}, '"queued_at" is Unix seconds; found Infinity'),
        ({"queued_at": 10**400}, '"queued_at" is Unix seconds; found 1' + "0" * 56 + "..."),
    ],
)
def test_each_mistake_names_its_key_what_was_found_and_what_belongs_there(
    changes: dict[str, object], message: str
) -> None:
    assert refusal(**changes) == message


def test_the_kinds_of_inputs_are_those_that_variables_can_have() -> None:
    assert set(Kind) == KINDS


def test_an_entry_without_an_id_and_none_offered_is_told_so() -> None:
    with pytest.raises(SpecError, match=r'^"id" is lower-case letters, .*; found nothing$'):
        parse_entry(ENTRY)


def test_a_long_value_is_shown_by_its_beginning() -> None:
    assert refusal(timeout="x" * 1000).endswith('found "' + "x" * 56 + "...")


@patient
@given(st.dictionaries(st.sampled_from([*ENTRY, "id", "in", "out", "env", "params"]), JSON_VALUES))
def test_whatever_an_entry_says_it_is_a_job_or_told_why_not_in_text_that_can_be_stored(
    entry: dict[str, object],
) -> None:
    try:
        parse_entry(entry, job_id="a-1")
    except SpecError as error:
        str(error).encode()


def test_the_latest_time_that_is_accepted_is_one_that_calendars_have() -> None:
    latest = parse_entry({**ENTRY, "queued_at": 253_402_300_799}, job_id="a-1").queued_at
    assert latest is not None
    assert datetime.fromtimestamp(latest, UTC).year == 9999


# Names


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", "../../etc/passwd", "/", "🎧 audio", "日本", ".git", "-x", "a" * 200, " a ", "\u200d"],
)
def test_a_name_is_any_text_of_one_line(name: str) -> None:
    assert check_name(name) == name
    spec = parse_entry({**ENTRY, "name": name}, job_id=derive_id({**ENTRY, "name": name}, code_id=SHA))
    assert spec.name == name


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"]
)
def test_a_name_has_no_line_break_and_nothing_that_drives_a_terminal(character: str) -> None:
    with pytest.raises(SpecError, match="has a line break or control character; a name is one line"):
        check_name(f"a{character}b")


def test_a_name_has_no_half_characters() -> None:
    with pytest.raises(SpecError, match=r'the name "a\\ud83d" has half of a character; a name is text'):
        check_name("a\ud83d")


def test_a_name_has_an_end() -> None:
    with pytest.raises(SpecError, match=r"the name starting 'a{40}' has 201 characters; 200 is the most"):
        check_name("a" * 201)


@patient
@given(st.text())
def test_whatever_the_name_the_id_made_from_it_can_stand_in_a_path_and_a_ref(name: str) -> None:
    job_id = derive_id({"name": name}, code_id=SHA)
    assert is_job_id(job_id)
    assert is_job_id(slug(name))


@pytest.mark.parametrize(
    ("name", "part"),
    [("../../etc/passwd", "etc-passwd"), ("LR = 0.1", "lr-0-1"), ("🎧", "job"), ("", "job"), ("--", "job")],
)
def test_a_name_becomes_part_of_an_id(name: str, part: str) -> None:
    assert slug(name) == part


def test_a_long_names_part_is_short_and_does_not_end_with_a_dash() -> None:
    assert slug("a" * 47 + " b") == "a" * 47
    assert slug("a" * 100) == "a" * 48


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a/b", "a.lock", "a\n", "a" * 81, "é"])
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_job_id(text)


# Ids


def test_the_id_of_an_entry_never_changes_from_one_version_to_the_next() -> None:
    assert derive_id(ENTRY, code_id=SHA) == "audio-0607e3ec0d"
    assert derive_id({"entry": [1, None, "é"]}, code_id="") == "entry-280ec15fe4"


@patient
@given(st.permutations(list(ENTRY.items())), st.integers(0, 3), st.booleans())
def test_order_and_spacing_of_the_keys_do_not_make_another_job(
    items: list[tuple[str, object]], indent: int, ascii_only: bool
) -> None:
    text = json.dumps(dict(items), indent=indent, ensure_ascii=ascii_only)
    assert derive_id(json.loads(text), code_id=SHA) == derive_id(ENTRY, code_id=SHA)


@pytest.mark.parametrize("more", [{"cancel": True}, {"queued_at": 5}, {"id": "x"}])
def test_what_may_change_later_does_not_make_another_job(more: dict[str, object]) -> None:
    assert derive_id({**ENTRY, **more}, code_id=SHA) == derive_id(ENTRY, code_id=SHA)


@pytest.mark.parametrize(
    "more", [{"rerun": 1}, {"rerun": 2}, {"timeout": 7201}, {"name": "Audio"}, {"x": None}]
)
def test_anything_else_does(more: dict[str, object]) -> None:
    assert derive_id({**ENTRY, **more}, code_id=SHA) != derive_id(ENTRY, code_id=SHA)


def test_other_code_makes_another_job() -> None:
    assert derive_id(ENTRY, code_id="other") != derive_id(ENTRY, code_id=SHA)


def test_an_entry_without_a_name_gets_an_id_to_be_refused_under() -> None:
    assert derive_id({"name": 5}, code_id="").startswith("entry-")


def test_content_is_named_by_twelve_hex_digits() -> None:
    assert content_name(b"") == "e3b0c44298fc"
