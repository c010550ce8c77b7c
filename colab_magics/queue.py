"""The verb `queue`: a cell, or a command, with everything it needs, becomes jobs in one push."""

from __future__ import annotations

import ast
import difflib
import secrets
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from colab_magics.display.formats import format_bytes, format_count
from colab_magics.display.rows import job_row, job_rows
from colab_magics.display.tables import JobTable
from colab_magics.errors import SnapshotError, SpecError, VariableError
from colab_magics.handles import JobHandle, as_queued
from colab_magics.job_set import JobSet
from colab_magics.jobs.request import Request, Sent, configurations, default_name, job_specs
from colab_magics.jobs.spec import MAX_CELL_BYTES, Input, JobSpec, check_name, content_name
from colab_magics.settings import Settings
from colab_magics.store.base import Submission, View
from colab_magics.store.git import Repository
from colab_magics.store.locate import Queue
from colab_magics.store.own import note_own
from colab_magics.store.snapshot import Snapshot, count_changed_files, take_snapshot
from colab_magics.store.variables import Kind, pack


@dataclass(frozen=True, slots=True)
class Prepared:
    """Jobs that could be queued now: specifications, the files that go along, and what to say of them."""

    specs: tuple[JobSpec, ...]
    blobs: Mapping[str, bytes]
    snapshot: Snapshot
    notes: tuple[str, ...]


def prepare(
    repository: Repository,
    request: Request,
    *,
    cell: str | None,
    namespace: Mapping[str, object],
    settings: Settings,
    remote: str,
    folder: Path,
) -> Prepared:
    """Everything that queueing needs short of the push. Nothing that is wrong with the request gets past it.

    Args:
        repository: the person's, with a work tree.
        request: what they asked for.
        cell: the cell as it stands, None for a command.
        namespace: where the variables to be sent are.
        settings: the limits.
        remote: the remote that the snapshot is for, by name.
        folder: where relative paths start.

    Raises:
        UsageError: the request cannot be queued as it is; each reason is a sentence of its own.
    """
    source = check_source(cell, request.command)
    name = request.name or default_name(source, is_command=cell is None)
    named = replace(request, name=check_name(name))
    count = len(configurations(named))
    blobs: dict[str, bytes] = {}
    notes: list[str] = []
    path = _keep(blobs, "cells", source.encode(), ".py") if cell is not None else None
    inputs = tuple(_send(blobs, notes, each, namespace, named, settings) for each in named.inputs)
    requirements = _read_requirements(blobs, folder, named.requirements)
    if (
        request.command
        and count > 1
        and not any(f"{{{name}}}" in request.command for name, _ in request.axes)
    ):
        notes.append(
            f"no axis of the grid is in the command: {{{request.axes[0][0]}}} would stand for its value"
        )
    snapshot = take_snapshot(repository, remote=remote, max_file_bytes=settings.max_file_bytes)
    notes += [f"not in the code that runs: {each}" for each in snapshot.left_out]
    specs = job_specs(
        named,
        Sent(code=snapshot.commit, cell=path, inputs=inputs, requirements=requirements),
        suffixes=[secrets.token_hex(5) for _ in range(count)],
        batch_id=secrets.token_hex(5),
        queued_at=round(time.time(), 3),
    )
    return Prepared(specs, blobs, snapshot, tuple(notes))


def submit(queue: Queue, prepared: Prepared) -> JobHandle | JobSet:
    """Queue the jobs, in one push. Without a network they wait, and what is returned says so.

    Raises:
        RefusedError: the remote said no; nothing is queued.
    """
    note_own(queue.folder, (spec.job_id for spec in prepared.specs))
    receipt = queue.store.submit(Submission(prepared.specs, blobs=prepared.blobs))
    notes = prepared.notes
    if not receipt.pushed:
        notes += (f"waits on this machine: {receipt.reason}",)
    is_grid = prepared.specs[0].batch is not None
    handles = [
        JobHandle(queue, as_queued(spec), notes=() if is_grid else notes, is_waiting=not receipt.pushed)
        for spec in prepared.specs
    ]
    return JobSet(queue, handles, notes=notes) if is_grid else handles[0]


def dry_run(repository: Repository, queue_address: str, prepared: Prepared) -> JobTable:
    """What `submit` would queue, to be looked at."""
    rows = tuple(
        replace(job_row(as_queued(spec), {}, is_waiting=False), state="dry run") for spec in prepared.specs
    )
    sizes = [f"{path} {format_bytes(len(data))}" for path, data in prepared.blobs.items()]
    changed = format_count(count_changed_files(repository, prepared.snapshot), "changed file")
    notes = [f"code: commit {prepared.snapshot.commit[:10]}, {changed}", *prepared.notes]
    if sizes:
        notes.insert(1, f"sent along: {', '.join(sizes)}")
    return JobTable(
        rows,
        title=f"Would queue {format_count(len(rows), 'job')} to {queue_address}",
        notes=tuple(notes),
        footer="Nothing was sent: run it again without --dry-run.",
    )


def table(looks: Sequence[tuple[Queue, View]], *, notes: Sequence[str] = ()) -> JobTable:
    """All jobs of some queues as one table."""
    several = len(looks) > 1
    rows = [row for queue, view in looks for row in job_rows(view, label=queue.label if several else "")]
    said = [view.note for _, view in looks if view.note]
    return JobTable(tuple(rows), notes=(*said, *notes))


def check_source(cell: str | None, command: str | None) -> str:
    """What is to run, if it can.

    Raises:
        SpecError: nothing, both a cell and a command, too much, or not Python as IPython reads it.
    """
    if cell is not None and command is not None:
        raise SpecError("a job runs either a cell or --command, not both; queue them one after the other")
    if cell is None:
        if command is None or not command.strip():
            raise SpecError("there is nothing to run: --command is empty")
        return command
    if not cell.strip():
        raise SpecError("the cell is empty: there is nothing to queue")
    size_bytes = len(cell.encode("utf-8", errors="replace"))
    if size_bytes > MAX_CELL_BYTES:
        raise SpecError(
            f"the cell has {format_bytes(size_bytes)}, {format_bytes(MAX_CELL_BYTES)} is the most; keep data "
            f"in a file or send it with --in"
        )
    _check_syntax(cell)
    return cell


def _check_syntax(cell: str) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        cell.encode()
        code = TransformerManager().transform_cell(cell)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A cell may await at its top level, as in a notebook.
            compile(code, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        lines = cell.splitlines()
        line = error.lineno or 0
        shown = f": {lines[line - 1].strip()[:80]!r}" if 0 < line <= len(lines) else ""
        raise SpecError(
            f"line {line} of the cell is not Python{shown} ({error.msg}); nothing was queued"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SpecError(f"the cell cannot be read as Python ({error}); nothing was queued") from error


def _send(
    blobs: dict[str, bytes],
    notes: list[str],
    name: str,
    namespace: Mapping[str, object],
    request: Request,
    settings: Settings,
) -> Input:
    if name not in namespace:
        near = difflib.get_close_matches(name, [each for each in namespace if not each.startswith("_")], n=1)
        hint = f"did you mean {near[0]}?" if near else "assign it before you queue"
        raise VariableError(f"--in {name}: there is no variable {name!r} here; {hint}")
    packed = pack(
        name,
        namespace[name],
        allow_pickle=request.allow_pickle,
        max_bytes=settings.max_variable_bytes,
    )
    if packed.kind is Kind.PICKLE:
        notes.append(
            f"{name} goes as a pickle, which can run any code when it is opened: trust the other machine"
        )
    path = _keep(blobs, "inputs", packed.data, packed.suffix)
    return Input(name=name, path=path, kind=str(packed.kind))


def _read_requirements(blobs: dict[str, bytes], folder: Path, name: str | None) -> str | None:
    if name is None:
        return None
    path = folder / Path(name).expanduser()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"--requirements {name} cannot be read: {error.strerror} ({path})") from error
    if len(data) > MAX_CELL_BYTES:
        raise SnapshotError(
            f"--requirements {name} has {format_bytes(len(data))}: that is no list of packages"
        )
    return _keep(blobs, "inputs", data, ".txt")


def _keep(blobs: dict[str, bytes], folder: str, data: bytes, suffix: str) -> str:
    path = f"{folder}/{content_name(data)}{suffix}"
    blobs[path] = data
    return path
