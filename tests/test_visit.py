"""A visitor steps through a job that runs: the job's real kernel, and a frontend at the visitor's own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from attempt_harness import Job, make_job
from jupyter_client.connect import write_connection_file
from kernel_client import Debugger, Frontend

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb

WORKS = """
import os, time
n = 0
while not os.path.exists({mark!r}):
    n += 1
    time.sleep(0.01)
print("ended")
"""

FAILS = "values = [3, 2, 1, 0]\nfor value in values:\n    quotient = 6 / value\n"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def wait_for(job: Job, phase: Phase) -> None:
    harness.wait_until(lambda: job.attempt.live().phase is phase, what=f"the phase {phase}")


def door_path() -> Path:
    return harness.wait_until(lambda: next(iter(doors.folder().glob("*.json")), None), what="the door")


@contextlib.contextmanager
def visitor(folder: Path, *more: str, name: str = "visit") -> Iterator[Frontend]:
    """A frontend at a visitor's kernel."""
    path, _ = write_connection_file(str(folder / f"{name}.json"))
    command = [sys.executable, "-m", "colab_magics.visit", "-f", path, "--door", str(door_path()), *more]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            with Frontend(json.loads(Path(path).read_text())) as frontend:
                yield frontend
        finally:
            process.terminate()


def test_a_breakpoint_holds_in_a_cell_that_runs(tmp_path: Path) -> None:
    mark = tmp_path / "enough"
    cell = WORKS.format(mark=str(mark))
    job = make_job(tmp_path, cell=cell, debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            source = debugger.body("dumpCell", code=cell)["sourcePath"]
            debugger.body("setBreakpoints", source={"path": source}, breakpoints=[{"line": 6}])
            thread = debugger.stopped("breakpoint")
            wait_for(job, Phase.PAUSED)
            [frame, *_] = debugger.frames(thread)
            assert frame["line"] == 6
            assert int(debugger.locals(frame)["n"]) > 0
            assert frontend.run("n > 0").of_type("execute_result")[0]["data"]["text/plain"] == "True"
            debugger.body("disconnect")
            wait_for(job, Phase.RUNNING)
            mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED
    assert job.text() == "ended\n"


def test_a_held_cell_shows_its_failing_frame_and_fails_when_it_is_let_go(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell=FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            [frame, *_] = debugger.frames(thread)
            assert frame["line"] == 3
            assert debugger.locals(frame)["value"] == "0"
            debugger.body("continue", threadId=thread)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.FAIL
