"""What a worker does next, decided from what it can see. Nothing here acts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import Event, JobState, State, Verb, advance


@dataclass(frozen=True, slots=True)
class Job:
    """A job as both branches together show it.

    `spec` is None where the intent does not show the entry, or where it does not describe a job; then
    `rejection` says why. `wanted` is False once a person cancelled the job or removed its entry. A job that
    is wanted, not rejected and without a spec is one whose entry vanished without a person's wish (the
    branch was rewound): nobody knows how it runs, or how often it may.
    """

    job_id: str
    spec: JobSpec | None
    state: JobState
    rejection: str | None = None
    wanted: bool = True

    @property
    def name(self) -> str:
        """What people call it."""
        return self.spec.name if self.spec else self.state.name or self.job_id


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life of a worker: what it looked like, and when it was first seen so.

    `seen_at` is on the observer's own monotonic clock: no decision depends on anybody else's clock.
    """

    fingerprint: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Record:
    """Action: write this event into the ledger."""

    event: Event


@dataclass(frozen=True, slots=True)
class Stop:
    """Action: end the attempt that runs here. `cancelled` tells a person's wish from a lost lease."""

    job_id: str
    attempt: int
    cancelled: bool


Action = Record | Stop


def observe(before: Mapping[str, Sign], fingerprints: Mapping[str, str], *, now: float) -> dict[str, Sign]:
    """The signs of life after a look: one that changed, or is new, was seen now; the others keep their time.

    Args:
        before: the signs after the last look.
        fingerprints: for each worker that holds a job or has a live ref, anything that changes when it
            does something (its live counter, the ledger commit that it wrote last).
        now: seconds on the observer's monotonic clock when the look began.

    An observer that could not look for a while saw nobody's silence: it starts again from no signs (`{}`).
    """
    signs = {}
    for worker, fingerprint in fingerprints.items():
        known = before.get(worker)
        signs[worker] = known if known and known.fingerprint == fingerprint else Sign(fingerprint, now)
    return signs


def plan(
    jobs: Sequence[Job],
    *,
    worker: str,
    holding: Iterable[tuple[str, int]],
    signs: Mapping[str, Sign],
    now: float,
    lease_s: float,
    capacity: int,
    at: float,
) -> list[Action]:
    """What `worker` does about the queue as it stands, in the order in which to do it.

    Args:
        jobs: all jobs, in the order of the queue.
        worker: who decides.
        holding: the (job id, attempt) pairs that this process has in hand, waiting or running. An
            attempt that the ledger gives to `worker` but is not among them belonged to a process of
            the same name that is dead, since two never live at once.
        signs: the last sign of life of every other worker (`observe`).
        now: seconds on the observer's monotonic clock when its last look began. Not when it decides: a
            machine that froze in between would take everybody else for silent.
        lease_s: how long a worker may be silent before its jobs are taken over.
        capacity: how many more jobs to take; 0 while draining.
        at: Unix seconds to stamp the events with.

    Returns:
        Actions whose events, recorded in this order on the ledger that `jobs` shows, are all legal.
    """
    held = dict(holding)
    actions: list[Action] = []
    states: list[JobState] = []
    for job in jobs:
        state = job.state
        found = _about_holder(job, worker=worker, held=held, signs=signs, now=now, lease_s=lease_s, at=at)
        if isinstance(found, Record):
            state = advance(state, found.event)
        settled = _settle_queued(job, state, worker=worker, at=at)
        if settled is not None:
            state = advance(state, settled.event)
        actions += [action for action in (found, settled) if action is not None]
        states.append(state)
    for job, state in zip(jobs, states, strict=True):
        if capacity > 0 and state.state is State.QUEUED and job.spec is not None and job.job_id not in held:
            actions.append(Record(Event(Verb.LEASE, job.job_id, state.attempt + 1, worker, at)))
            capacity -= 1
    known = {job.job_id for job in jobs}
    return actions + [Stop(*each, cancelled=False) for each in held.items() if each[0] not in known]


def batch_size(*, queued: int, workers: int, push_interval_s: float, typical_job_s: float | None) -> int:
    """How many jobs a worker holds at once: enough to be busy until its next push, never more than its share.

    One is right for long jobs. With jobs shorter than the interval between pushes that a hosted remote
    allows, one at a time would leave the GPU idle (QUEUE: 0.65 pushes per job when batched, 6.8 when not).
    """
    if not typical_job_s or push_interval_s <= typical_job_s:
        return 1
    share = math.ceil(queued / max(workers, 1))
    return max(1, min(math.ceil(push_interval_s / typical_job_s), share))


def _about_holder(
    job: Job,
    *,
    worker: str,
    held: Mapping[str, int],
    signs: Mapping[str, Sign],
    now: float,
    lease_s: float,
    at: float,
) -> Action | None:
    state = job.state
    mine = state.state is State.RUNNING and state.worker == worker
    if job.job_id in held and not (mine and held[job.job_id] == state.attempt):
        return Stop(job.job_id, held[job.job_id], cancelled=False)
    if job.job_id in held:
        return None if job.wanted else Stop(job.job_id, state.attempt, cancelled=True)
    if state.state is not State.RUNNING or _is_out_of_sight(job):
        return None
    sign = signs.get(state.worker)
    if mine or (sign is not None and now - sign.seen_at > lease_s):
        return Record(_expiry(job, worker=worker, at=at))
    return None


def _is_out_of_sight(job: Job) -> bool:
    return job.spec is None and job.rejection is None and job.wanted


def _expiry(job: Job, *, worker: str, at: float) -> Event:
    state = job.state
    told = f"the session of {state.worker} died under attempt {state.attempt}"
    if job.spec is None or not job.wanted or state.expirations < job.spec.retries:
        return Event(Verb.EXPIRE, job.job_id, state.attempt, worker, at, told)
    retries = job.spec.retries
    told += f", and all {retries} retries are used" if retries else ", and it may not run twice (retries 0)"
    return Event(Verb.LOSE, job.job_id, state.attempt, worker, at, told)


def _settle_queued(job: Job, state: JobState, *, worker: str, at: float) -> Record | None:
    if state.state is not State.QUEUED:
        return None
    if job.rejection is not None:
        return Record(Event(Verb.REJECT, job.job_id, state.attempt, worker, at, job.rejection))
    if not job.wanted:
        return Record(Event(Verb.CANCEL, job.job_id, state.attempt, worker, at, "cancelled before it ran"))
    return None
