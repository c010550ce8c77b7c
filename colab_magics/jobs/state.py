"""The state of a job: the table of what may follow what, and the fold of events over it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from colab_magics.errors import TransitionError


class State(enum.StrEnum):
    """Where a job stands. A job that the ledger does not mention is queued."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


class Verb(enum.StrEnum):
    """What can happen to a job."""

    LEASE = "lease"
    SUCCEED = "succeed"
    FAIL = "fail"
    TIME_OUT = "time_out"
    CANCEL = "cancel"
    RELEASE = "release"
    EXPIRE = "expire"
    LOSE = "lose"
    REJECT = "reject"


TRANSITIONS: Mapping[State, Mapping[Verb, State]] = {
    State.QUEUED: {
        Verb.LEASE: State.RUNNING,  # a worker takes the job: attempt + 1
        Verb.CANCEL: State.CANCELLED,  # a person took it back before anybody ran it
        Verb.REJECT: State.FAILED,  # its entry does not describe a job
    },
    State.RUNNING: {
        Verb.SUCCEED: State.SUCCEEDED,
        Verb.FAIL: State.FAILED,
        Verb.TIME_OUT: State.TIMED_OUT,
        Verb.CANCEL: State.CANCELLED,  # the holder stopped it because a person asked
        Verb.RELEASE: State.QUEUED,  # the holder gives it back unfinished
        Verb.EXPIRE: State.QUEUED,  # the holder was not heard of for a lease's time
        Verb.LOSE: State.LOST,  # as EXPIRE, with no retries left
    },
    State.SUCCEEDED: {},
    State.FAILED: {},
    State.TIMED_OUT: {},
    State.CANCELLED: {},
    State.LOST: {},
}

FINAL = frozenset(state for state, verbs in TRANSITIONS.items() if not verbs)
FENCED = frozenset({Verb.SUCCEED, Verb.FAIL, Verb.TIME_OUT, Verb.CANCEL, Verb.RELEASE})
"""Verbs that only the holder may say of a running attempt, whose number is the fencing token."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one job. `at` is Unix seconds UTC, for people: nothing is decided by it."""

    verb: Verb
    job_id: str
    attempt: int
    worker: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JobState:
    """What the ledger knows of a job, in the size that a table of ten thousand can afford.

    `attempt` is the number of the latest attempt, 0 before the first. `expirations` counts attempts that
    ended by their session's death. `summary` is what the latest attempt reported (duration_s,
    peak_host_bytes, …); a store keeps it, no transition reads it.
    """

    job_id: str
    name: str = ""
    state: State = State.QUEUED
    attempt: int = 0
    worker: str = ""
    expirations: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    summary: tuple[tuple[str, str | int | float | None], ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the job any more."""
        return self.state in FINAL


def advance(before: JobState, event: Event) -> JobState:
    """The state after `event`.

    Raises:
        TransitionError: the table has no such step, or another than the holder of the current attempt
            spoke for it. `before` is as it was.
    """
    after = TRANSITIONS[before.state].get(event.verb)
    if after is None or event.job_id != before.job_id:
        raise TransitionError(f"{event.verb} is not possible for {event.job_id}, which is {before.state}")
    if event.verb is Verb.LEASE and event.attempt != before.attempt + 1:
        raise TransitionError(
            f"{event.job_id} is at attempt {before.attempt}, it cannot be leased as {event.attempt}"
        )
    if event.verb is not Verb.LEASE and event.attempt != before.attempt:
        raise TransitionError(
            f"{event.job_id} is at attempt {before.attempt}, {event.verb} names {event.attempt}"
        )
    if before.state is State.RUNNING and event.verb in FENCED and event.worker != before.worker:
        raise TransitionError(
            f"{event.job_id} is held by {before.worker}, {event.worker} cannot {event.verb} it"
        )
    if event.verb is Verb.LEASE:
        return replace(
            before,
            state=after,
            attempt=event.attempt,
            worker=event.worker,
            started_at=event.at,
            ended_at=None,
            reason="",
        )
    died = event.verb in (Verb.EXPIRE, Verb.LOSE)
    return replace(
        before,
        state=after,
        expirations=before.expirations + died,
        ended_at=event.at if after in FINAL else None,
        reason=event.reason,
    )
