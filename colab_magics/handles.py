"""What queueing returns: a job, or the jobs of a grid, to be asked, waited for, cancelled and read."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from colab_magics.display.handles import JobCard, LogView
from colab_magics.display.hints import in_ipython, typed
from colab_magics.display.outputs import publish, to_publish, to_text
from colab_magics.display.rows import WAITING, live_of
from colab_magics.errors import JobFailedError, UsageError
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec, slug
from colab_magics.jobs.state import JobState, State
from colab_magics.store.base import Receipt, Submission
from colab_magics.store.locate import Queue
from colab_magics.store.own import note_own
from colab_magics.store.results import read_log, read_outputs, read_record, read_variables

POLL_S = 1.0
MAX_POLL_S = 10.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of a job's cell, in nbformat's form; displayed, they look as if the cell had run here."""

    job_id: str
    outputs: tuple[dict[str, Any], ...]

    def _ipython_display_(self) -> None:
        publish(to_publish(self.outputs))

    def __str__(self) -> str:
        return to_text(self.outputs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


class JobHandle:
    """One job. What it tells is as of the last look; `refresh()` looks again."""

    def __init__(
        self, queue: Queue, job: Job, *, notes: Sequence[str] = (), is_waiting: bool = False
    ) -> None:
        """Nothing is fetched.

        Args:
            queue: where the job is.
            job: the job, as of now.
            notes: what to say of it below its name.
            is_waiting: whether no remote has it yet.
        """
        self._queue, self._job, self._notes, self._is_waiting = queue, job, tuple(notes), is_waiting

    @property
    def job_id(self) -> str:
        """Its id."""
        return self._job.job_id

    @property
    def name(self) -> str:
        """What it is called."""
        return self._job.name

    @property
    def state(self) -> str:
        """`waiting` (on this machine, for a network), or a state of jobs/state.py."""
        return WAITING if self._is_waiting else self._job.state.state.value

    @property
    def commit(self) -> str:
        """The commit of its code; empty where that is not known."""
        return (self._job.spec.code or "") if self._job.spec else ""

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters."""
        return dict(self._job.spec.params) if self._job.spec else {}

    @property
    def is_done(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self._job.state.is_final

    def refresh(self) -> JobHandle:
        """Look at the remote, and push what waits for it; returns itself.

        Raises:
            StoreError: the remote cannot be reached, or refuses.
        """
        if self._is_waiting:
            self._queue.store.flush()
        view = self._queue.store.refresh()
        self._is_waiting = self.job_id in view.waiting
        self._job = next((job for job in view.jobs if job.job_id == self.job_id), self._job)
        return self

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> JobHandle:
        """Block until it is done; returns itself.

        Raises:
            TimeoutError: it was not in `timeout_s` seconds; it runs on.
            StoreError: the remote cannot be reached, or refuses.
        """
        wait_for(self.refresh, lambda: self.is_done, self.job_id, timeout_s, clock=clock, sleep=sleep)
        return self

    def cancel(self) -> JobHandle:
        """Ask for it to end; returns itself. One that is done stays as it is."""
        if not self.is_done:
            receipt = self._queue.store.cancel([self.job_id])
            self._notes = (told_wish("to stop", receipt),)
            self._job = replace(self._job, wanted=False)
        return self

    def retry(self) -> JobHandle:
        """Queue the same job once more, with the same code and inputs; returns the new one.

        Raises:
            UsageError: it is not done, or its entry is gone.
        """
        return requeue(self._queue, [self._job])[0]

    def logs(self) -> LogView:
        """What it has printed: all of it once it is done, the end of it while it runs."""
        tail = live_of(self._job, self._queue.store.view().lives).get("log_tail")
        text = str(tail) if tail is not None else read_log(self._queue.store, self.job_id)
        return LogView(job_id=self.job_id, text=text, is_done=self.is_done)

    def result(self, *, allow_pickle: bool = False) -> dict[str, object]:
        """The variables that it brought back, by name.

        Raises:
            UsageError: it is not done.
            JobFailedError: it did not succeed; the message has the traceback.
            VariableError: a variable cannot be opened here.
        """
        if not self.is_done:
            raise UsageError(f"{self.job_id} is {self.state}: wait() for it first")
        if self._job.state.state is not State.SUCCEEDED:
            raise JobFailedError(told_failure(self._queue, self._job))
        return read_variables(self._queue.store, self.job_id, allow_pickle=allow_pickle).or_raise()

    @property
    def outputs(self) -> Outputs:
        """The outputs of its cell, which display themselves."""
        return Outputs(self.job_id, tuple(read_outputs(self._queue.store, self.job_id)))

    def __repr__(self) -> str:
        return str(self._card())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._card()._repr_mimebundle_(include, exclude)

    def _card(self) -> JobCard:
        reason = self._job.state.reason if self.is_done and self.state != State.SUCCEEDED else ""
        return JobCard(
            name=self.name,
            job_id=self.job_id,
            state=self.state,
            commit=self.commit,
            notes=(*self._notes, *([reason] if reason else [])),
            next_step=next_step(self.state, is_wanted=self._job.wanted, job_id=self.job_id),
        )


def has_failed(job: Job) -> bool:
    """Whether a retry is what one would want for it."""
    return job.state.state in (State.FAILED, State.TIMED_OUT, State.LOST)


def requeue(queue: Queue, jobs: Sequence[Job]) -> list[JobHandle]:
    """Queue jobs once more as new ones, with the same code, inputs and parameters, in one push.

    Raises:
        UsageError: one is not done, or what it was is not known any more.
    """
    specs: list[JobSpec] = []
    for job in jobs:
        if not job.state.is_final:
            raise UsageError(f"{job.job_id} is {job.state.state}: cancel it before you queue it again")
        if job.spec is None:
            raise UsageError(
                f"{job.job_id} cannot be run again: its entry is not in experiments.json any more"
            )
        job_id = f"{slug(job.spec.name)}-{secrets.token_hex(5)}"
        specs.append(replace(job.spec, job_id=job_id, queued_at=time.time(), retry_of=job.job_id))
    blobs = {path: queue.store.read_input(path) for spec in specs for path in _paths(spec)}
    known = {path: data for path, data in blobs.items() if data is not None}
    note_own(queue.folder, (spec.job_id for spec in specs))
    receipt = queue.store.submit(Submission(tuple(specs), blobs=known))
    notes = () if receipt.pushed else (told_wish("to be queued", receipt),)
    return [JobHandle(queue, as_queued(spec), notes=notes, is_waiting=not receipt.pushed) for spec in specs]


def as_queued(spec: JobSpec) -> Job:
    """The job that a specification is, before anybody looked at it."""
    return Job(spec.job_id, spec, JobState(spec.job_id, name=spec.name))


def told_failure(queue: Queue, job: Job) -> str:
    """Why a job did not succeed: a sentence, and the traceback where there is one."""
    record = read_record(queue.store, job.job_id)
    reason = job.state.reason or "no reason is known"
    head = f"{job.name} ({job.job_id}) {job.state.state.value.replace('_', ' ')}: {reason}"
    if record is None or record.failure is None or not record.failure.traceback:
        return head
    return "\n".join([head, *record.failure.traceback])


def _paths(spec: JobSpec) -> list[str]:
    named = [spec.cell, spec.requirements, *(each.path for each in spec.inputs)]
    return [path for path in named if path]


def wait_for(
    look: Callable[[], object],
    is_done: Callable[[], bool],
    what: str,
    timeout_s: float | None,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    deadline = None if timeout_s is None else clock() + timeout_s
    pause = POLL_S
    while not is_done():
        look()
        if is_done():
            return
        left = pause if deadline is None else min(pause, deadline - clock())
        if left <= 0:
            raise TimeoutError(f"{what} did not finish in {timeout_s:g} s; it goes on without you")
        sleep(left)
        pause = min(pause * 1.2, MAX_POLL_S)


def told_wish(wish: str, receipt: Receipt) -> str:
    if receipt.pushed:
        return f"asked {wish}"
    return f"asked {wish}, which waits on this machine for the next command: {receipt.reason}"


def next_step(state: str, *, is_wanted: bool, job_id: str) -> str:
    if not is_wanted:
        return ""
    match state:
        case "waiting":
            return f"{typed('sync')} sends it as soon as the remote can be reached"
        case "queued" | "running":
            return f"{typed('sync')} brings its results; --watch shows how it goes"
        case "succeeded":
            return f"{typed('sync')} brings its results"
        case _ if in_ipython():
            return ".logs() shows what it printed, .retry() queues it again"
        case _:
            queue = typed("queue")
            return f"{queue} logs {job_id} shows what it printed, {queue} retry {job_id} queues it again"
