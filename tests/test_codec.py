"""The ledger's bytes: what is written is read back, and what is not ours is never guessed at."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.errors import CorruptError
from colab_magics.jobs import paths
from colab_magics.jobs.codec import (
    Live,
    parse_events,
    parse_live,
    parse_state,
    serialize_events,
    serialize_live,
    serialize_state,
)
from colab_magics.jobs.state import Event, JobState, State, Verb

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

# Text as programs print it: any line break, any control character, halves of characters. Two halves
# that fit together are one character in JSON, so only one kind of them is in here.
TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\n\r\x85\u2028\x1b\0"), max_size=20
).map(lambda text: "".join(char for char in text if not "\udc00" <= char <= "\udfff"))
IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.floats(0, 253_402_300_799)
COUNTS = st.integers(0, 10**12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
STATES = st.builds(
    JobState,
    job_id=IDS,
    name=TEXT,
    state=st.sampled_from(State),
    attempt=COUNTS,
    worker=TEXT,
    expirations=COUNTS,
    started_at=st.none() | TIMES,
    ended_at=st.none() | TIMES,
    reason=TEXT,
    summary=st.dictionaries(TEXT, st.none() | TEXT | st.integers() | NUMBERS, max_size=3).map(
        lambda told: tuple(told.items())
    ),
)
EVENTS = st.builds(
    Event, verb=st.sampled_from(Verb), job_id=IDS, attempt=COUNTS, worker=TEXT, at=NUMBERS, reason=TEXT
)
LIVES = st.builds(
    Live,
    worker=TEXT,
    counter=COUNTS,
    at=NUMBERS,
    poll_s=NUMBERS,
    stopping=st.booleans(),
    machine=st.dictionaries(TEXT, JSON_VALUES, max_size=3),
    jobs=st.dictionaries(IDS, st.dictionaries(TEXT, JSON_VALUES, max_size=3), max_size=3),
)

STATE = JobState(
    "audio-1",
    name="audio",
    state=State.FAILED,
    attempt=2,
    worker="anna",
    expirations=1,
    started_at=100.5,
    ended_at=200.0,
    reason="exit code 1",
    summary=(("duration_s", 99.5), ("gpu", None)),
)
EVENT = Event(Verb.FAIL, "audio-1", 2, "anna", 200.0, "exit code 1")


# States


@patient
@given(STATES)
def test_a_state_is_one_line_that_is_read_back(state: JobState) -> None:
    data = serialize_state(state)
    assert parse_state(data) == state
    assert len(data.decode().splitlines()) == 1


def test_a_state_is_small_and_people_can_read_it() -> None:
    assert serialize_state(STATE).decode() == (
        '{"format": 1, "id": "audio-1", "name": "audio", "state": "failed", "attempt": 2, "worker": "anna", '
        '"expirations": 1, "started_at": 100.5, "ended_at": 200.0, "reason": "exit code 1", '
        '"summary": {"duration_s": 99.5, "gpu": null}}\n'
    )
    assert serialize_state(JobState("a")).decode() == (
        '{"format": 1, "id": "a", "name": "", "state": "queued", "attempt": 0}\n'
    )


def test_the_beginning_of_time_is_a_time() -> None:
    state = replace(STATE, started_at=0.0, ended_at=0.0)
    assert parse_state(serialize_state(state)) == state


def changed(data: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(data), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2: written by another version; upgrade colab-magics"),
        ({"format": "1"}, "format '1': written by another version; upgrade colab-magics"),
        ({"state": "paused"}, "'paused' is not a valid State"),
        ({"state": None}, "None is not a valid State"),
        ({"attempt": "2"}, "'2' is not a count"),
        ({"attempt": 1.5}, "1.5 is not a count"),
        ({"attempt": True}, "True is not a count"),
        ({"attempt": -1}, "-1 is not a count"),
        ({"attempt": float("inf")}, "inf is not a count"),
        ({"expirations": None}, "None is not a count"),
        ({"started_at": "now"}, "'now' is not a number"),
        ({"started_at": float("nan")}, "nan is not a number"),
        ({"ended_at": True}, "True is not a number"),
        ({"ended_at": -1}, "-1 is not a time in Unix seconds"),
        ({"ended_at": 1e18}, "1e+18 is not a time in Unix seconds"),
        ({"ended_at": 10**400}, "int too large to convert to float"),
        ({"summary": {"a": [1]}}, "a of a summary is [1], not one value"),
        ({"summary": [1]}, "'list' object has no attribute 'items'"),
    ],
)
def test_a_state_that_this_version_does_not_know_is_never_guessed_at(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(CorruptError) as caught:
        parse_state(changed(serialize_state(STATE), **changes))
    assert str(caught.value).startswith(f"a job's state in the ledger does not parse: {message} in b'{{")


@pytest.mark.parametrize("key", ["format", "id", "name", "state", "attempt"])
def test_a_state_without_one_of_its_keys_is_corrupt(key: str) -> None:
    told = json.loads(serialize_state(STATE))
    del told[key]
    with pytest.raises(CorruptError, match=f"does not parse: {key} is missing in"):
        parse_state(json.dumps(told).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"1", b"{", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_something_else_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError, match="a job's state in the ledger does not parse: "):
        parse_state(data)
    with pytest.raises(CorruptError, match="a worker's live file does not parse: "):
        parse_live(data)


# Events


@patient
@given(st.lists(EVENTS, max_size=5))
def test_events_are_read_back_from_the_message_whatever_their_text(events: list[Event]) -> None:
    message = serialize_events(events)
    assert parse_events(message.encode().decode()) == events
    assert "\0" not in message  # a commit's message cannot hold one


def test_a_message_has_a_subject_for_people_and_a_line_for_each_event() -> None:
    assert serialize_events([EVENT, Event(Verb.LEASE, "video-1", 1, "anna", 201.0)]) == (
        "fail audio-1; lease video-1 [skip ci]\n\n"
        '{"event": "fail", "job": "audio-1", "attempt": 2, "worker": "anna", "at": 200.0, '
        '"reason": "exit code 1"}\n'
        '{"event": "lease", "job": "video-1", "attempt": 1, "worker": "anna", "at": 201.0}\n'
    )


def test_a_subject_names_three_and_counts_the_others() -> None:
    events = [replace(EVENT, job_id=f"job-{number}") for number in range(10)]
    assert serialize_events(events).startswith("fail job-0; fail job-1; fail job-2 and 7 more [skip ci]\n\n")


def test_a_commit_without_events_says_so() -> None:
    assert serialize_events([]).startswith("files, no events [skip ci]\n")
    assert parse_events(serialize_events([])) == []


@pytest.mark.parametrize(
    "reason", ['\n{"event": "lease"}', "a\u2028b\x85c", "\ud800", "é 🎧", "\x1b[31m", "\0"]
)
def test_a_reason_is_one_line_of_the_message(reason: str) -> None:
    message = serialize_events([replace(EVENT, reason=reason)])
    assert len(message.splitlines()) == 3
    assert [event.reason for event in parse_events(message)] == [reason]


@pytest.mark.parametrize("message", ["", "Merge branch x", "fail audio-1 [skip ci]\n\nby hand {\n"])
def test_a_commit_that_records_nothing_has_no_events(message: str) -> None:
    assert parse_events(message) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"event": "explode", "job": "a", "attempt": 1, "worker": "w", "at": 1}',
            "'explode' is not a valid Verb",
        ),
        ('{"event": "fail", "job": "a", "attempt": 1, "worker": "w"}', "at is missing"),
        ('{"event": "fail", "job": "a", "attempt": Infinity, "worker": "w", "at": 1}', "inf is not a count"),
        ('{"event": "fail", "job": "a", "attempt": 1, "worker": "w", "at": NaN}', "nan is not a number"),
        ('{"event"', "Expecting ':' delimiter: line 1 column 9 (char 8)"),
        ('{"event": ' + "[" * 100_000, ""),
    ],
    ids=lambda value: value[:60],
)
def test_a_line_that_starts_like_an_event_and_is_none_is_corrupt(line: str, message: str) -> None:
    with pytest.raises(CorruptError) as caught:
        parse_events(f"subject\n\n{line}\n")
    assert str(caught.value).startswith(f"an event in the ledger does not parse: {message}")


# Signs of life


@patient
@given(LIVES)
def test_a_sign_of_life_is_one_line_that_is_read_back(live: Live) -> None:
    data = serialize_live(live)
    assert parse_live(data) == live
    assert len(data.decode().splitlines()) == 1


def test_numbers_that_are_none_are_dropped_from_what_a_worker_says() -> None:
    said = {
        "progress": {"done": float("nan"), "total": 10**400, "label": "a"},
        "elapsed_s": float("-inf"),
        "x": [1.5],
    }
    live = parse_live(
        changed(serialize_live(Live("anna", 1, 2.0, 3.0)), jobs={"a": said}, machine={"gpu": 1e999})
    )
    assert live.jobs == {
        "a": {"progress": {"done": None, "total": None, "label": "a"}, "elapsed_s": None, "x": [1.5]}
    }
    assert live.machine == {"gpu": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2: written by another version; upgrade colab-magics"),
        ({"counter": float("inf")}, "inf is not a count"),
        ({"at": "now"}, "'now' is not a number"),
        ({"poll_s": None}, "None is not a number"),
        ({"jobs": [1]}, "'list' object has no attribute 'items'"),
        ({"jobs": {"a": 1}}, "'int' object is not iterable"),
    ],
)
def test_a_sign_of_life_of_another_kind_is_corrupt(changes: dict[str, object], message: str) -> None:
    data = serialize_live(Live("anna", 1, 2.0, 3.0))
    with pytest.raises(CorruptError) as caught:
        parse_live(changed(data, **changes))
    assert str(caught.value).startswith(f"a worker's live file does not parse: {message} in b'")


# Where it all stands


def test_every_name_in_the_repository_is_made_in_one_place() -> None:
    assert paths.job_folder("audio-1") == "jobs/13/audio-1"
    assert paths.job_file("audio-1", paths.LOG) == "jobs/13/audio-1/log.txt"
    assert paths.attempt_file("audio-1", 2, paths.LOG) == "jobs/13/audio-1/attempts/2/log.txt"
    assert paths.superseded_file("audio-1", 2, paths.LOG) == "jobs/13/audio-1/superseded/2/log.txt"
    assert paths.environment_file("0123456789ab") == "env/0123456789ab.txt"
    assert paths.code_ref("0123456789abcdef" * 2 + "01234567") == "refs/colab/code/0123456789abcdef"
    assert paths.live_ref("anna") == "refs/colab/live/anna"
    assert paths.checkpoint_ref("audio-1") == "refs/colab/checkpoint/audio-1"


def test_ten_thousand_jobs_stay_under_what_a_hosting_site_shows_of_a_folder() -> None:
    shards = [paths.job_folder(f"job-{number}").split("/")[1] for number in range(10_000)]
    assert max(map(shards.count, set(shards))) < 100
