"""The queue as rows of the table: what a look at the store says about each job, in a person's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from colab_magics.display.formats import format_duration
from colab_magics.display.tables import JobRow, Progress
from colab_magics.jobs.codec import Live
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import Json
from colab_magics.jobs.state import State
from colab_magics.store.base import View

SILENT_S = 180.0
"""A worker that was not heard of for so long is told of: after this time others take its jobs over."""

WAITING = "waiting"
"""The state, in the table, of a job that no remote has yet."""

STANDING = frozenset({"held", "paused"})
"""What a worker says of a job that runs and stands still, under its debugger."""


def job_rows(view: View, jobs: Sequence[Job] | None = None, *, label: str = "") -> tuple[JobRow, ...]:
    """A row for each job of a look, or for some of them; `label` says where they are kept."""
    waiting = frozenset(view.waiting)
    shown = view.jobs if jobs is None else jobs
    return tuple(job_row(job, view.lives, is_waiting=job.job_id in waiting, label=label) for job in shown)


def silent_workers(view: View, *, now: float) -> dict[str, float | None]:
    """The workers that hold jobs and are silent → seconds since they were heard of; None: their sign is gone.

    By the worker's own clock and this one's: good enough to tell a person, and nothing is decided by it.

    Args:
        view: one look.
        now: Unix seconds.
    """
    holding = {job.state.worker for job in view.jobs if job.state.state is State.RUNNING}
    silent: dict[str, float | None] = {}
    for worker in sorted(holding):
        live = view.lives.get(worker)
        if live is None or now - live.at > SILENT_S:
            silent[worker] = None if live is None else now - live.at
    return silent


def told_silence(worker: str, silent_s: float | None) -> str:
    """What a person is told of a worker that is silent for so long; None: its sign of life is gone."""
    if silent_s is None:
        return f"the worker {worker} has gone: another one takes its jobs over"
    ago = f"{silent_s / 60:.0f} min" if silent_s < 3570 else format_duration(silent_s)
    return f"the worker {worker} was last heard of {ago} ago: another one takes its jobs over"


def job_row(job: Job, lives: Mapping[str, Live], *, is_waiting: bool, label: str = "") -> JobRow:
    """What the table says about one job."""
    state, summary = job.state, dict(job.state.summary)
    live = live_of(job, lives)
    elapsed = live.get("elapsed_s")
    stands = live.get("phase") if live.get("phase") in STANDING else None
    return JobRow(
        job_id=job.job_id,
        name=job.name,
        state=WAITING if is_waiting else str(stands or state.state.value),
        attempt=state.attempt,
        progress=_progress(live.get("progress")),
        duration_s=_number(elapsed if state.state is State.RUNNING else summary.get("duration_s")),
        peak_host_bytes=_whole(summary.get("peak_host_bytes")),
        peak_gpu_bytes=_whole(summary.get("peak_gpu_bytes")),
        worker=state.worker if state.state is not State.QUEUED else "",
        machine=str(summary.get("gpu") or ""),
        params=job.spec.params if job.spec else (),
        reason=_reason(job) or str(live.get("held") or ""),
        queued_at_s=job.spec.queued_at if job.spec else None,
        store=label,
    )


def live_of(job: Job, lives: Mapping[str, Live]) -> Mapping[str, Json]:
    """What the job's worker shows of it at this moment; empty where it does not run."""
    live = lives.get(job.state.worker) if job.state.state is State.RUNNING else None
    return live.jobs.get(job.job_id, {}) if live else {}


def _reason(job: Job) -> str:
    if job.rejection and not job.state.is_final:
        return job.rejection
    if not job.wanted and not job.state.is_final:
        return "asked to stop"
    return "" if job.state.state in (State.SUCCEEDED, State.RUNNING) else job.state.reason


def _progress(told: Json) -> Progress | None:
    if not isinstance(told, dict):
        return None
    return Progress(_number(told.get("done")), _number(told.get("total")), str(told.get("label") or ""))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
