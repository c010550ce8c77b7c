"""Bringing a finished job home: outputs to the screen, files to a folder, variables to their names."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colab_magics.display.formats import format_bytes, format_duration
from colab_magics.display.rows import job_row
from colab_magics.display.watching import Heading
from colab_magics.errors import ColabError, CorruptError
from colab_magics.jobs.paths import ARTIFACTS, LOG, NOTEBOOK, OUT
from colab_magics.jobs.plan import Job
from colab_magics.jobs.state import State
from colab_magics.store import grids
from colab_magics.store.base import View
from colab_magics.store.locate import Queue
from colab_magics.store.results import (
    Variables,
    read_log,
    read_outputs,
    read_packed,
    read_record,
    read_variables,
)
from colab_magics.store.results_folder import Landed, Landing, deliver_files, prepare_folder
from colab_magics.store.variables import Kind, is_scalar

MAX_SHOWN = 50
"""Jobs whose outputs one sync shows: more plots than that make a notebook that nobody scrolls through."""

LOG_SHOWN_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came of one job: what is shown of it, the files that were written, and sentences about them."""

    heading: Heading
    outputs: Sequence[Mapping[str, Any]] = ()
    where: str = ""
    files: Sequence[Path] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Assigned:
    """Variables that were set, a sentence about each, and sentences about those that could not be."""

    values: dict[str, Any] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where results go: files `into` a folder, `colab_results` if None; variables into `namespace`."""

    work_tree: Path
    into: Path | None
    namespace: MutableMapping[str, Any] | None
    allow_pickle: bool
    known: dict[str, Variables] = field(default_factory=dict)

    def bring(self, queue: Queue, job: Job) -> Arrival:
        """Write the job's files, and gather what is to be shown of it.

        Raises:
            StoreError: the folder cannot be written.
        """
        if job.state.attempt == 0:
            return Arrival(_heading(job), _explained(queue, job))
        notes: list[str] = []
        folder = self._folder() / job.job_id
        landed = deliver_files(folder, self._files(queue, job), attempt=job.state.attempt)
        notes += [text for each in landed if (text := _told_file(each, self.work_tree))]
        where = _relative(folder, self.work_tree)
        try:
            outputs = _outputs(queue, job)
            record = read_record(queue.store, job.job_id)
            notes += [f"{job.name}: {note}" for note in (record.notes if record else ())]
        except CorruptError as error:
            outputs = []
            notes.append(str(error))
        written = [each.path for each in landed if each.landing in (Landing.WRITTEN, Landing.BESIDE)]
        return Arrival(_heading(job), outputs, f"{where}/{NOTEBOOK}", written, notes)

    def assign(self, queue: Queue, view: View, jobs: Sequence[Job]) -> Assigned:
        """Set the variables that the jobs brought back: a grid's as one mapping for each name.

        A name that the person has used meanwhile is set as well: `--out NAME` asked for it. What nobody asked
        for is not set: the branch with the results may be written by others than their daemon.
        """
        assigned = Assigned()
        grids_done: set[str] = set()
        for job in jobs:
            if self.namespace is None or job.spec is None:
                continue
            batch = job.spec.batch
            if batch is None:
                found = read_variables(
                    queue.store, job.job_id, allow_pickle=self.allow_pickle, only=job.spec.outputs
                )
                assigned.notes.extend(f"{job.name}: {why}" for why in found.refused.values())
                for name, value in found.values.items():
                    told = f"{name}{_shown(value)} from {job.name}"
                    self._set(assigned, name, value, told, source=job.name)
            elif batch.batch_id not in grids_done:
                grids_done.add(batch.batch_id)
                self._assign_grid(assigned, queue, grids.same_grid(view.jobs, job.spec))
        return assigned

    def describe(self, queue: Queue, job: Job) -> list[str]:
        """A line for each variable that came back, for who has no notebook that it could be set in."""
        told = []
        for name, packed in read_packed(queue.store, job.job_id).items():
            shown = f" ({packed.kind}, {format_bytes(len(packed.data))})"
            if packed.kind is Kind.JSON:
                found = read_variables(queue.store, job.job_id, allow_pickle=False, only=[name]).values
                shown = short if (short := _scalar(found.get(name))) else shown
            told.append(f"{name}{shown} from {job.name}")
        return told

    def _assign_grid(self, assigned: Assigned, queue: Queue, jobs: Sequence[Job]) -> None:
        points, refused = grids.read_points(
            queue.store, jobs, allow_pickle=self.allow_pickle, known=self.known
        )
        assigned.notes.extend(refused.values())
        name_of_grid = jobs[0].spec.batch.name if jobs and jobs[0].spec and jobs[0].spec.batch else ""
        for name, values in grids.grid_variables(jobs, points).items():
            missing = "" if values.is_complete else f" of {len(jobs)}"
            told = f"{name}: {len(values)}{missing} values of the grid {name_of_grid}; {name}.frame has all"
            self._set(assigned, name, values, told, source=name_of_grid)

    def _set(self, assigned: Assigned, name: str, value: object, told: str, *, source: str) -> None:
        if _is_taken(name):
            assigned.notes.append(
                f"{source}: {name} was not set, since Python or IPython has that name; --out another name"
            )
        elif self.namespace is not None:
            self.namespace[name] = value
            assigned.values[name] = value
            assigned.told[name] = told

    def _folder(self) -> Path:
        return prepare_folder(self.work_tree) if self.into is None else self.into

    def _files(self, queue: Queue, job: Job) -> dict[str, bytes]:
        """What is written as files: variables only where the person named a folder for them."""
        folders = (ARTIFACTS,) if self.into is None else (ARTIFACTS, OUT)
        names = [
            name
            for name in queue.store.files(job.job_id)
            if name in (LOG, NOTEBOOK) or ("/" in name and name.split("/")[0] in folders)
        ]
        found = {name: queue.store.read(job.job_id, name) for name in names}
        return {name: data for name, data in found.items() if data is not None}


def _heading(job: Job) -> Heading:
    row = job_row(job, {}, is_waiting=False)
    about = [format_duration(row.duration_s), f"on {row.worker}" if row.worker else "", job.job_id]
    return Heading(job.name, job.state.state.value, " · ".join(part for part in about if part))


def _outputs(queue: Queue, job: Job) -> list[dict[str, Any]]:
    """The outputs of a cell; for a command, or a cell that never ran, its log; then why it failed."""
    outputs = read_outputs(queue.store, job.job_id)
    if not outputs:
        log = read_log(queue.store, job.job_id)[-LOG_SHOWN_CHARS:]
        outputs = [{"output_type": "stream", "name": "stdout", "text": log}] if log else []
    if job.state.state is State.SUCCEEDED or any(each.get("output_type") == "error" for each in outputs):
        return outputs
    return [*outputs, *_explained(queue, job)]


def _explained(queue: Queue, job: Job) -> list[dict[str, Any]]:
    """Why a job did not succeed, as an output."""
    if job.state.state is State.SUCCEEDED:
        return []
    try:
        record = read_record(queue.store, job.job_id)
    except ColabError:
        record = None
    failure = record.failure if record else None
    lines = list(failure.traceback) if failure else []
    if lines and lines[-1] in read_log(queue.store, job.job_id):
        lines = []  # a command's traceback was read from there
    return [
        {
            "output_type": "error",
            "ename": failure.type if failure else job.state.state.value,
            "evalue": failure.message if failure else job.state.reason,
            "traceback": lines or [f"{job.state.state.value.replace('_', ' ')}: {job.state.reason}"],
        }
    ]


def _told_file(landed: Landed, work_tree: Path) -> str:
    path = _relative(landed.path, work_tree)
    match landed.landing:
        case Landing.BESIDE:
            return f"you changed {landed.name}: yours stayed, the new one is {path}"
        case Landing.REFUSED:
            return f"{path} was not written: {landed.why}"
        case Landing.WRITTEN | Landing.SAME:
            return ""


def _is_taken(name: str) -> bool:
    """Whether setting `name` would break the notebook: `print`, `get_ipython`, `_`, `__builtins__`."""
    return name.startswith("_") or name == "get_ipython" or hasattr(builtins, name)


def _relative(path: Path, work_tree: Path) -> str:
    return path.relative_to(work_tree).as_posix() if path.is_relative_to(work_tree) else str(path)


def _scalar(value: object) -> str:
    """` = 0.97` for what fits in a line, else empty."""
    return f" = {value!r}" if is_scalar(value) and len(repr(value)) <= 40 else ""


def _shown(value: object) -> str:
    """` = 0.97` for what fits in a line, else its type."""
    if short := _scalar(value):
        return short
    length = getattr(value, "shape", None)
    return f" ({type(value).__name__}{f' {tuple(length)}' if isinstance(length, tuple) else ''})"
