"""The variables of a grid's jobs, gathered from a store into one mapping for each variable."""

from __future__ import annotations

import json
from collections.abc import Sequence

from colab_magics.grid_values import GridValues, Point
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec
from colab_magics.store.base import Store
from colab_magics.store.results import Variables, read_variables
from colab_magics.store.variables import is_scalar


def same_grid(jobs: Sequence[Job], spec: JobSpec) -> list[Job]:
    """The jobs that were queued as one grid with `spec`, in the grid's order."""
    batch_id = spec.batch.batch_id if spec.batch else None
    return [job for job in jobs if job.spec and job.spec.batch and job.spec.batch.batch_id == batch_id]


def read_points(
    store: Store, jobs: Sequence[Job], *, allow_pickle: bool, known: dict[str, Variables] | None = None
) -> tuple[list[Point], dict[str, str]]:
    """The configurations of a grid that have ended, and why some of their variables cannot be opened.

    `known` keeps what was read, by job, for a next time.
    """
    known = {} if known is None else known
    points: dict[str, Point] = {}
    refused: dict[str, str] = {}
    for job in jobs:
        if job.spec is None or job.spec.batch is None or not job.state.is_final:
            continue
        if job.job_id not in known:
            known[job.job_id] = read_variables(
                store, job.job_id, allow_pickle=allow_pickle, only=job.spec.outputs
            )
        found = known[job.job_id]
        refused |= {f"{name} of {job.name}": why for name, why in found.refused.items()}
        params = dict(job.spec.params)
        axes = tuple((axis, params.get(axis)) for axis in job.spec.batch.axes)
        # A job that was queued again takes the place of the one that failed: it comes later.
        points[configuration(job.spec)] = Point(
            axes=axes,
            state=job.state.state.value,
            scalars=tuple((name, value) for name, value in found.values.items() if is_scalar(value)),
            values=found.values,
        )
    return list(points.values()), refused


def grid_variables(jobs: Sequence[Job], points: Sequence[Point]) -> dict[str, GridValues]:
    """For each variable that the grid brings back, its values; also where none is there yet."""
    wanted = dict.fromkeys(name for job in jobs if job.spec for name in job.spec.outputs)
    found = dict.fromkeys(name for point in points for name in point.values)
    expected = len({configuration(job.spec) for job in jobs if job.spec})
    return {name: GridValues(name, points, expected=expected) for name in {**wanted, **found}}


def configuration(spec: JobSpec) -> str:
    """What tells a grid's jobs apart: two of them with the same are one and the same run twice."""
    return json.dumps(spec.params, sort_keys=True)
