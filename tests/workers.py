"""A worker without a daemon: it takes a job from a store and records what the test says came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from colab_magics.jobs.codec import Live
from colab_magics.jobs.paths import LOG, NOTEBOOK, OUT, RECORD, job_file
from colab_magics.jobs.plan import Job
from colab_magics.jobs.record import Failure, Record, to_json
from colab_magics.jobs.spec import Json
from colab_magics.jobs.state import Event, Verb
from colab_magics.store.base import Recorded, Store
from colab_magics.store.variables import pack


class Worker:
    """Takes jobs from `store` and ends them as a test wishes. Its clock is a counter."""

    def __init__(self, store: Store, name: str = "worker-1") -> None:
        self._store, self.name, self._at = store, name, 1_700_000_000.0
        self._counter = 0

    def job(self, job_id: str) -> Job:
        """The job as the remote has it now."""
        return next(job for job in self._store.refresh().jobs if job.job_id == job_id)

    def lease(self, job_id: str) -> int:
        """Take a job; returns the attempt."""
        attempt = self.job(job_id).state.attempt + 1
        self._record(Event(Verb.LEASE, job_id, attempt, self.name, self._tick()))
        return attempt

    def succeed(
        self,
        job_id: str,
        *,
        outputs: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, object] | None = None,
        files: Mapping[str, bytes] | None = None,
        log: str = "",
        notes: Sequence[str] = (),
        allow_pickle: bool = False,
    ) -> None:
        """Take a job and end it well."""
        attempt = self.lease(job_id)
        record = Record(job_id, job_id, attempt, self.name, "succeeded", notes=tuple(notes))
        left = {NOTEBOOK: _notebook(outputs), LOG: log.encode(), RECORD: to_json(record), **(files or {})}
        for name, value in (variables or {}).items():
            packed = pack(name, value, allow_pickle=allow_pickle, max_bytes=10_000_000)
            left[f"{OUT}/{name}{packed.suffix}"] = packed.data
        event = Event(Verb.SUCCEED, job_id, attempt, self.name, self._tick())
        self._record(event, left, {"duration_s": 1.5, "peak_host_bytes": 12_000_000})

    def end(self, job_id: str) -> None:
        """End well a job that was leased."""
        attempt = self.job(job_id).state.attempt
        record = Record(job_id, job_id, attempt, self.name, "succeeded")
        event = Event(Verb.SUCCEED, job_id, attempt, self.name, self._tick())
        self._record(event, {RECORD: to_json(record)})

    def fail(self, job_id: str, *, error: Exception, log: str = "") -> None:
        """Take a job and end it with an exception."""
        attempt = self.lease(job_id)
        lines = (f"Traceback of {type(error).__name__}", f"{type(error).__name__}: {error}")
        failure = Failure(type(error).__name__, str(error), lines)
        record = Record(job_id, job_id, attempt, self.name, "failed", failure=failure)
        reason = f"{type(error).__name__}: {error}"
        event = Event(Verb.FAIL, job_id, attempt, self.name, self._tick(), reason)
        self._record(event, {LOG: log.encode(), RECORD: to_json(record)}, {"duration_s": 0.5})

    def show(self, jobs: Mapping[str, Mapping[str, Json]], *, at: float) -> None:
        """Publish a sign of life."""
        self._counter += 1
        self._store.publish(Live(self.name, self._counter, at, 1.0, jobs=jobs))

    def _tick(self) -> float:
        self._at += 1
        return self._at

    def _record(
        self,
        event: Event,
        files: Mapping[str, bytes] | None = None,
        summary: Mapping[str, str | int | float | None] | None = None,
    ) -> None:
        view = self._store.refresh()
        done = self._store.record(
            view,
            [event],
            summaries={event.job_id: summary} if summary else {},
            files={job_file(event.job_id, name): data for name, data in (files or {}).items()},
        )
        assert done is Recorded.LANDED


def text_output(text: str) -> dict[str, Any]:
    """What `print` leaves in a notebook."""
    return {"output_type": "stream", "name": "stdout", "text": text}


def _notebook(outputs: Sequence[Mapping[str, Any]]) -> bytes:
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": list(outputs)}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}).encode()
