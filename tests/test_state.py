"""The state table, whole; who may say what; and the picture of it in the documentation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.errors import TransitionError
from colab_magics.jobs.diagram import state_diagram
from colab_magics.jobs.state import FENCED, FINAL, TRANSITIONS, Event, JobState, State, Verb, advance

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

# What follows a verb (column) in a state (row); a dot is an error.
TABLE = """
           lease    succeed    fail    time_out   cancel     release  expire   lose  reject
queued     running  .          .       .          cancelled  .        .        .     failed
running    .        succeeded  failed  timed_out  cancelled  queued   queued   lost  .
succeeded  .        .          .       .          .          .        .        .     .
failed     .        .          .       .          .          .        .        .     .
timed_out  .        .          .       .          .          .        .        .     .
cancelled  .        .          .       .          .          .        .        .     .
lost       .        .          .       .          .          .        .        .     .
"""

_HEAD, *_ROWS = [line.split() for line in TABLE.strip().splitlines()]
CASES = [
    (State(row[0]), Verb(verb), None if after == "." else State(after))
    for row in _ROWS
    for verb, after in zip(_HEAD, row[1:], strict=True)
]
ALLOWED = [(state, verb, after) for state, verb, after in CASES if after is not None]
FORBIDDEN = [(state, verb) for state, verb, after in CASES if after is None]

STATES_PAGE = Path(__file__).parent.parent / "docs" / "reference" / "states.md"


def a_job(state: State, *, attempt: int = 1, worker: str = "anna", expirations: int = 0) -> JobState:
    return JobState(
        "job-1",
        name="job",
        state=state,
        attempt=attempt,
        worker=worker,
        expirations=expirations,
        started_at=100.0,
        summary=(("duration_s", 1.5),),
    )


def event_for(before: JobState, verb: Verb, *, worker: str = "anna", reason: str = "") -> Event:
    attempt = before.attempt + (verb is Verb.LEASE)
    return Event(verb, before.job_id, attempt, worker, 200.0, reason)


def test_the_table_of_this_file_has_every_state_and_every_verb() -> None:
    assert {(state, verb) for state, verb, _ in CASES} == set(itertools.product(State, Verb))
    assert {state: dict(verbs) for state, verbs in TRANSITIONS.items()} == {
        state: {verb: after for row, verb, after in ALLOWED if row is state} for state in State
    }


@pytest.mark.parametrize(("state", "verb", "after"), ALLOWED)
def test_an_allowed_verb_leads_to_the_state_that_the_table_names(
    state: State, verb: Verb, after: State
) -> None:
    before = a_job(state)
    assert advance(before, event_for(before, verb)).state is after


@pytest.mark.parametrize(("state", "verb"), FORBIDDEN)
def test_any_other_verb_raises_and_says_what_met_what(state: State, verb: Verb) -> None:
    before = a_job(state)
    with pytest.raises(TransitionError, match=f"^{verb} is not possible for job-1, which is {state}$"):
        advance(before, event_for(before, verb))


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_state_says_so_and_allows_nothing(state: State) -> None:
    assert a_job(state).is_final
    assert not TRANSITIONS[state]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_every_other_state_is_never_taken_for_final(state: State) -> None:
    assert not a_job(state).is_final


def test_a_job_that_nobody_mentions_is_queued_and_has_had_no_attempt() -> None:
    assert JobState("job-1").state is State.QUEUED
    assert JobState("job-1").attempt == 0


def test_a_lease_counts_the_attempt_and_names_its_holder() -> None:
    before = replace(a_job(State.QUEUED, attempt=2, expirations=1), reason="bert died")
    after = advance(before, event_for(before, Verb.LEASE, worker="carl"))
    assert (after.attempt, after.worker, after.started_at, after.ended_at, after.reason) == (
        3,
        "carl",
        200.0,
        None,
        "",
    )
    assert after.expirations == 1
    assert after.summary == before.summary


@pytest.mark.parametrize("attempt", [0, 2, 4])
def test_a_lease_is_only_for_the_next_attempt(attempt: int) -> None:
    before = a_job(State.QUEUED, attempt=2)
    with pytest.raises(TransitionError, match=f"job-1 is at attempt 2, it cannot be leased as {attempt}"):
        advance(before, Event(Verb.LEASE, "job-1", attempt, "anna", 200.0))


@pytest.mark.parametrize("verb", list(TRANSITIONS[State.RUNNING]))
@pytest.mark.parametrize("attempt", [1, 3])
def test_nothing_is_said_about_a_running_job_under_another_attempts_number(verb: Verb, attempt: int) -> None:
    before = a_job(State.RUNNING, attempt=2)
    with pytest.raises(TransitionError, match=f"job-1 is at attempt 2, {verb} names {attempt}"):
        advance(before, Event(verb, "job-1", attempt, "anna", 200.0))


def test_what_a_holder_must_say_itself() -> None:
    assert {Verb.SUCCEED, Verb.FAIL, Verb.TIME_OUT, Verb.RELEASE, Verb.CANCEL} == FENCED


@pytest.mark.parametrize("verb", sorted(FENCED))
def test_only_the_holder_ends_a_running_attempt(verb: Verb) -> None:
    before = a_job(State.RUNNING)
    with pytest.raises(TransitionError, match=f"job-1 is held by anna, bert cannot {verb} it"):
        advance(before, event_for(before, verb, worker="bert"))


@pytest.mark.parametrize("verb", [Verb.EXPIRE, Verb.LOSE])
@pytest.mark.parametrize("worker", ["anna", "bert"])
def test_anybody_may_say_that_a_session_died_even_its_successor_of_the_same_name(
    verb: Verb, worker: str
) -> None:
    before = a_job(State.RUNNING, expirations=1)
    after = advance(before, event_for(before, verb, worker=worker, reason="no sign of life"))
    assert (after.expirations, after.worker, after.reason) == (2, "anna", "no sign of life")


@pytest.mark.parametrize("verb", [Verb.CANCEL, Verb.REJECT])
def test_anybody_may_settle_a_queued_job_whoever_held_it_before(verb: Verb) -> None:
    before = a_job(State.QUEUED, worker="anna")
    assert advance(before, event_for(before, verb, worker="bert")).is_final


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb not in (Verb.EXPIRE, Verb.LOSE)])
def test_only_a_dead_session_counts_as_an_expiration(verb: Verb) -> None:
    before = a_job(State.QUEUED if verb in TRANSITIONS[State.QUEUED] else State.RUNNING, expirations=1)
    assert advance(before, event_for(before, verb)).expirations == 1


@pytest.mark.parametrize(("state", "verb", "after"), ALLOWED)
def test_an_end_is_stamped_and_only_an_end(state: State, verb: Verb, after: State) -> None:
    before = a_job(state)
    assert advance(before, event_for(before, verb)).ended_at == (200.0 if after in FINAL else None)


def test_an_event_of_another_job_is_refused() -> None:
    with pytest.raises(TransitionError, match="lease is not possible for job-2, which is queued"):
        advance(JobState("job-1"), Event(Verb.LEASE, "job-2", 1, "anna", 200.0))


def test_a_legal_history_folds_into_what_it_tells() -> None:
    history = [
        Event(Verb.LEASE, "job-1", 1, "anna", 1.0),
        Event(Verb.EXPIRE, "job-1", 1, "bert", 2.0, "the session of anna died"),
        Event(Verb.LEASE, "job-1", 2, "bert", 3.0),
        Event(Verb.RELEASE, "job-1", 2, "bert", 4.0, "bert stops"),
        Event(Verb.LEASE, "job-1", 3, "anna", 5.0),
        Event(Verb.SUCCEED, "job-1", 3, "anna", 6.0),
    ]
    assert reduce(advance, history, JobState("job-1")) == JobState(
        "job-1",
        state=State.SUCCEEDED,
        attempt=3,
        worker="anna",
        expirations=1,
        started_at=5.0,
        ended_at=6.0,
    )


@patient
@given(
    st.lists(
        st.builds(
            Event,
            verb=st.sampled_from(Verb),
            job_id=st.just("job-1"),
            attempt=st.integers(0, 4),
            worker=st.sampled_from(["anna", "bert"]),
            at=st.just(1.0),
        ),
        max_size=30,
    )
)
def test_whatever_is_said_attempts_only_grow_and_an_end_is_the_end(events: list[Event]) -> None:
    state, ended = JobState("job-1"), None
    for event in events:
        try:
            after = advance(state, event)
        except TransitionError:
            continue
        assert ended is None
        assert after.attempt == state.attempt + (event.verb is Verb.LEASE)
        assert after.expirations <= after.attempt
        state, ended = after, after if after.is_final else None


def test_the_documentation_shows_the_diagram_that_the_table_draws() -> None:
    shown = STATES_PAGE.read_text(encoding="utf-8").split("```mermaid\n")[1].split("```")[0]
    assert shown == state_diagram()


def test_the_diagram_has_an_arrow_for_every_step_and_for_no_other() -> None:
    drawn = set()
    for line in state_diagram().splitlines()[1:]:
        ends, _, verbs = line.strip().partition(": ")
        source, target = ends.split(" --> ")
        drawn |= {(source, verb, target) for verb in verbs.split(", ")}
    steps = {(str(state), str(verb), str(after)) for state, verb, after in ALLOWED}
    assert drawn == steps | {("[*]", "", "queued")} | {(str(state), "", "[*]") for state in FINAL}
