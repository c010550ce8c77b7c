"""Which jobs a person means by an id, the beginning of one, or a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from colab_magics.errors import UsageError
from colab_magics.jobs.plan import Job

SHOWN = 5
"""How many candidates a message names."""


def select_jobs(jobs: Sequence[Job], selectors: Iterable[str]) -> list[Job]:
    """The jobs that the selectors mean, in the order of the queue, each once.

    Raises:
        UsageError: as `select`.
    """
    wanted = {job.job_id for selector in selectors for job in select(jobs, selector)}
    return [job for job in jobs if job.job_id in wanted]


def select(jobs: Sequence[Job], selector: str) -> list[Job]:
    """The one job that `selector` means; several only where it names a grid.

    It is looked for as an id, as a name, as the name or the id of a grid, and as the beginning of an id; the
    first of these that fits exactly one job, or one grid, is it.

    Raises:
        UsageError: it fits several, which the message lists, or none; then the message has the nearest.
    """
    exact = [job for job in jobs if job.job_id == selector]
    if exact:
        return exact
    named = [job for job in jobs if job.name == selector]
    grids: dict[str, list[Job]] = {}
    for job in jobs:
        batch = job.spec.batch if job.spec else None
        if batch and selector in (batch.name, batch.batch_id):
            grids.setdefault(batch.batch_id, []).append(job)
    if len(named) == 1 and not grids:
        return named
    if len(grids) == 1 and not named:
        return next(iter(grids.values()))
    if named or grids:
        candidates = [*named, *(job for grid in grids.values() for job in grid)]
        raise UsageError(f"{selector!r} is the name of several jobs: {_list(candidates)}; give an id")
    begun = [job for job in jobs if selector and job.job_id.startswith(selector)]
    if len(begun) > 1:
        raise UsageError(f"{selector!r} begins several ids: {_list(begun)}; give more of it")
    if not begun:
        raise UsageError(_unknown(jobs, selector))
    return begun


def _unknown(jobs: Sequence[Job], selector: str) -> str:
    if not jobs:
        return f"there is no job {selector!r}: the queue is empty"
    known = {job.job_id: job.job_id for job in jobs} | {job.name: job.job_id for job in jobs}
    near = difflib.get_close_matches(selector, known, n=SHOWN, cutoff=0.4)
    ids = list(dict.fromkeys(known[each] for each in near))
    hint = f"the nearest are {', '.join(ids)}" if ids else f"the latest is {jobs[-1].job_id}"
    return f"there is no job {selector!r}; {hint}"


def _list(jobs: Sequence[Job]) -> str:
    told = ", ".join(f"{job.job_id} ({job.state.state})" for job in jobs[-SHOWN:])
    return told if len(jobs) <= SHOWN else f"{told} and {len(jobs) - SHOWN} older ones"
