"""One attempt, arranged in a folder, for the tests of what runs jobs."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colab_magics.daemon.assignment import Assignment, Limits, Outcome, Stop
from colab_magics.daemon.attempt import Attempt
from colab_magics.jobs.spec import JobSpec, Json

LIMITS = Limits(grace_s=1.0)


@dataclass
class Job:
    """An attempt and where it lies; `text`, `notebook` and `outputs` read what it left."""

    attempt: Attempt
    checkout: Path
    scratch: Path
    outcome: Outcome | None = None

    def run(self) -> Outcome:
        self.outcome = self.attempt.run()
        return self.outcome

    @contextmanager
    def running(self) -> Iterator[Job]:
        """Run in a thread; the outcome is there when the block is left."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        except BaseException:
            self.attempt.stop(Stop.CANCEL)  # or a test that failed would wait for the job's end
            raise
        finally:
            thread.join(120)
            assert not thread.is_alive()

    def text(self, name: str = "log.txt") -> str:
        assert self.outcome is not None
        return self.outcome.files[name].read_text(encoding="utf-8", errors="replace")

    @property
    def notebook(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("run.ipynb"))
        return found

    @property
    def outputs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.notebook["cells"][-1]["outputs"]
        return found


def job_environment(**more: str) -> dict[str, str]:
    """What a job starts from: this process's variables, but not pytest's, which ipykernel heeds."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | more


def make_job(
    folder: Path,
    *,
    command: str | None = None,
    cell: str | None = None,
    files: Mapping[str, str] | None = None,
    timeout_s: float = 120,
    params: Mapping[str, Json] | None = None,
    limits: Limits = LIMITS,
    environment: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    inputs: Mapping[str, tuple[str, Path]] | None = None,
    requirements: bytes | None = None,
    python: Path | None = None,
    **spec: Any,
) -> Job:
    """Arrange an attempt of a job with `files` in its checkout."""
    checkout, scratch = folder / "code", folder / "scratch"
    checkout.mkdir(parents=True)
    for name, text in (files or {}).items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    job = JobSpec(
        job_id="train-1",
        name="train",
        command=command,
        cell=None if cell is None else "cells/0123456789ab.py",
        timeout_s=timeout_s,
        code="c0de" * 10,
        params=tuple((params or {}).items()),
        **spec,
    )
    assignment = Assignment(
        spec=job,
        attempt=1,
        worker="worker-1",
        checkout=checkout,
        scratch=scratch,
        python=Path(sys.executable) if python is None else python,
        cell_source=cell,
        inputs=inputs or {},
        requirements=requirements,
    )
    attempt = Attempt(
        assignment,
        limits=limits,
        environment=job_environment() if environment is None else environment,
        secrets=secrets,
        envs_dir=Path(os.environ["HOME"]) / "envs",  # the session's own
    )
    return Job(attempt, checkout, scratch)
