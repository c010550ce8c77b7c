"""What workers showed of their attempts, kept for the day when one of them dies and can say no more.

A worker's sign of life is overwritten by the next, also by that of a process which starts again under the
same name. So it is remembered from look to look, and whoever takes the job over writes down what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from colab_magics.daemon.notebook import build_notebook, parameters_source
from colab_magics.jobs.codec import Live
from colab_magics.jobs.paths import LOG, NOTEBOOK
from colab_magics.jobs.plan import Job
from colab_magics.jobs.record import Failure, Record
from colab_magics.jobs.spec import Json
from colab_magics.jobs.state import TRANSITIONS, Event, State
from colab_magics.store.base import View

_NOTEBOOK_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """One sign of life of an attempt: the worker's machine, when it was, and what it showed."""

    machine: Mapping[str, Json]
    at: float
    shown: Mapping[str, Json]


class Witness:
    """Remembers the last sighting of each running attempt."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], Sighting] = {}

    def look(self, view: View) -> None:
        """Take in a look at the queue; what is known of attempts that ended is forgotten."""
        seen = {}
        for job in view.jobs:
            if job.state.state is not State.RUNNING:
                continue
            key = job.job_id, job.state.attempt
            sighting = _sighting(view.lives.get(job.state.worker), job) or self._seen.get(key)
            if sighting is not None:
                seen[key] = sighting
        self._seen = seen

    def tell(self, job: Job, event: Event, *, source: str) -> tuple[Record, dict[str, bytes]]:
        """What is known of an attempt whose session died: its record, and its files by their names.

        Args:
            job: as it was while the attempt ran.
            event: the one that ends the attempt.
            source: the text of the job's cell, empty for a command.
        """
        seen = self._seen.get((job.job_id, event.attempt)) or Sighting({}, 0.0, {})
        shown, started_at = seen.shown, _number(seen.shown.get("started_at"))
        record = Record(
            job_id=job.job_id,
            name=job.name,
            attempt=event.attempt,
            worker=job.state.worker,
            state=TRANSITIONS[State.RUNNING][event.verb].value,
            failure=Failure("SessionDied", event.reason),
            started_at=started_at or job.state.started_at or 0.0,
            ended_at=seen.at or event.at,
            duration_s=_number(shown.get("elapsed_s")),
            machine=seen.machine,
            code=(job.spec.code if job.spec else None) or "",
            notes=(event.reason, *_notes(seen)),
        )
        files = {}
        tail = shown.get("log_tail")
        if isinstance(tail, str) and tail:
            files[LOG] = tail.encode("utf-8", "replace")
        notebook = _notebook(job, event.attempt, seen, source=source)
        if notebook is not None:
            files[NOTEBOOK] = notebook
        return record, files


def _sighting(live: Live | None, job: Job) -> Sighting | None:
    shown = live.jobs.get(job.job_id) if live else None
    if live is None or shown is None or shown.get("attempt", job.state.attempt) != job.state.attempt:
        return None
    return Sighting(live.machine, live.at, shown)


def _notes(seen: Sighting) -> list[str]:
    if not seen.shown:
        return ["nothing was seen of it"]
    phase, progress = seen.shown.get("phase"), seen.shown.get("progress")
    told = [f"this is what was seen of it last{_when(seen.at)}, when it was {phase}"]
    if isinstance(progress, dict):
        done, total = _number(progress.get("done")), _number(progress.get("total"))
        of = f" of {total:g}" if total else ""
        told.append(f"it had done {done:g}{of} {progress.get('label') or ''}".strip())
    if seen.shown.get("log_tail"):
        told.append("of its log the end is here, as it was then")
    return told


def _notebook(job: Job, attempt: int, seen: Sighting, *, source: str) -> bytes | None:
    """The outputs that were seen, as a notebook; None for none, or for what cannot be one."""
    outputs: Any = seen.shown.get("outputs")
    try:
        if not outputs or job.spec is None:
            return None
        return build_notebook(
            source,
            parameters=parameters_source(job.spec.params),
            outputs=outputs,
            execution_count=None,
            widgets=None,
            python_version=str(seen.machine.get("python", "")),
            about={"job": job.job_id, "name": job.name, "attempt": attempt, "complete": False},
            limit_bytes=_NOTEBOOK_BYTES,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _when(at: float) -> str:
    try:
        return f", at {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
