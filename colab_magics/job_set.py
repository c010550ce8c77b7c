"""What queueing a grid returns: its jobs, to be asked, waited for, cancelled and read together."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from colab_magics.display.handles import LogView
from colab_magics.display.rows import job_rows
from colab_magics.display.tables import JobTable
from colab_magics.errors import UsageError
from colab_magics.grid_values import points_frame
from colab_magics.handles import JobHandle, Outputs, has_failed, next_step, requeue, told_wish, wait_for
from colab_magics.store import grids
from colab_magics.store.locate import Queue


class JobSet(Sequence[JobHandle]):
    """The jobs of a grid, in its order."""

    def __init__(self, queue: Queue, handles: Sequence[JobHandle], *, notes: Sequence[str] = ()) -> None:
        """`notes` are said below the table."""
        self._queue, self._handles, self._notes = queue, tuple(handles), tuple(notes)

    def __getitem__(self, index: Any) -> Any:
        return self._handles[index]

    def __len__(self) -> int:
        return len(self._handles)

    @property
    def state(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return dict(Counter(handle.state for handle in self._handles))

    @property
    def is_done(self) -> bool:
        """Whether nothing can happen to any of them any more."""
        return all(handle.is_done for handle in self._handles)

    def refresh(self) -> JobSet:
        """Look at the remote, once for all; returns itself."""
        self._queue.store.flush()
        view = self._queue.store.refresh()
        jobs = {job.job_id: job for job in view.jobs}
        self._handles = tuple(
            JobHandle(
                self._queue,
                jobs.get(handle.job_id, handle._job),
                notes=handle._notes,
                is_waiting=handle.job_id in view.waiting,
            )
            for handle in self._handles
        )
        return self

    def wait(
        self,
        timeout_s: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> JobSet:
        """Block until all are done; returns itself. Raises as `JobHandle.wait`."""
        what = f"{len(self)} jobs"
        wait_for(self.refresh, lambda: self.is_done, what, timeout_s, clock=clock, sleep=sleep)
        return self

    def cancel(self) -> JobSet:
        """Ask for those that are not done to end; returns itself."""
        wanted = [handle for handle in self._handles if not handle.is_done]
        if wanted:
            receipt = self._queue.store.cancel([handle.job_id for handle in wanted])
            self._notes = (told_wish("to stop", receipt),)
        return self

    def retry(self) -> JobSet:
        """Queue those that did not succeed once more; returns the new ones.

        Raises:
            UsageError: none of them failed.
        """
        failed = [handle._job for handle in self._handles if has_failed(handle._job)]
        if not failed:
            raise UsageError("none of these jobs failed: there is nothing to run again")
        return JobSet(self._queue, requeue(self._queue, failed))

    def logs(self) -> dict[str, LogView]:
        """What each has printed, by id."""
        return {handle.job_id: handle.logs() for handle in self._handles}

    def result(self, *, allow_pickle: bool = False) -> dict[str, Any]:
        """The variables of those that are done: for each name, a mapping from parameters to values."""
        jobs = [handle._job for handle in self._handles]
        points, _ = grids.read_points(self._queue.store, jobs, allow_pickle=allow_pickle)
        return dict(grids.grid_variables(jobs, points))

    @property
    def outputs(self) -> dict[str, Outputs]:
        """The outputs of each cell, by id."""
        return {handle.job_id: handle.outputs for handle in self._handles}

    @property
    def frame(self) -> Any:
        """A pandas frame: a row for each job that is done, its parameters × its scalars."""
        jobs = [handle._job for handle in self._handles]
        return points_frame(grids.read_points(self._queue.store, jobs, allow_pickle=False)[0])

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._table()._repr_mimebundle_(include, exclude)

    def _table(self) -> JobTable:
        view = self._queue.store.view()
        rows = [
            replace(row, state=handle.state)
            for handle, row in zip(
                self._handles, job_rows(view, [handle._job for handle in self._handles]), strict=True
            )
        ]
        # What is done says nothing of what the others need.
        open_one = next((handle for handle in self._handles if not handle.is_done), None)
        step = next_step(open_one.state, is_wanted=True, job_id=open_one.job_id) if open_one else ""
        return JobTable(tuple(rows), notes=self._notes, footer=step)
