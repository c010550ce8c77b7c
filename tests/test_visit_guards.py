"""What a visitor asks too often, too late or in the middle of something leaves the job as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from attempt_harness import Job, make_job
from kernel_client import Debugger, Frontend
from visitors import last_visitor, visitor, wait_for

from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb

pytestmark = pytest.mark.usefixtures("own_state")

GATE = """
import os, time

def wait_for(name):
    while not os.path.exists(os.path.join({folder!r}, name)):
        time.sleep(0.01)

wait_for("begin")
"""
MIDDLE = 9
GATES = (
    GATE
    + """wait_for("middle")
print("past the middle")
wait_for("end")
"""
)
MILLION = (
    GATE
    + """total = 0
for i in range(1_000_000):
    total += i
print(total)
wait_for("end")
"""
)
BATCHES = (
    GATE
    + """import model
for batch in range(50):
    model.layer(batch)
print("all batches")
wait_for("end")
"""
)
MODEL = "def layer(x):\n    y = x * 2\n    return y\n"


def wait_for_log(job: Job, text: str) -> None:
    harness.wait_until(lambda: text in job.attempt.live().log_tail, what=f"{text!r} in the log")


def set_breakpoint(debugger: Debugger, source: str, line: int, **more: object) -> None:
    [point] = debugger.body("setBreakpoints", source={"path": source}, breakpoints=[{"line": line, **more}])[
        "breakpoints"
    ]
    assert point["verified"]


@contextlib.contextmanager
def stopped_at(
    folder: Path, cell: str, line: int, *, python: Path
) -> Iterator[tuple[Job, Frontend, Debugger, str]]:
    """A job that has just begun its cell and stopped at a line of it; its visitor, and the cell's file.

    When the block ends the visitor leaves, what waits for the end may go on, and the job succeeds.
    """
    cell = cell.format(folder=str(folder))
    job = make_job(folder / "job", cell=cell, python=python, debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with visitor(folder) as frontend:
            debugger = Debugger(frontend)
            source = debugger.body("dumpCell", code=cell)["sourcePath"]
            set_breakpoint(debugger, source, line)
            (folder / "begin").touch()
            yield job, frontend, debugger, source
        (folder / "end").touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


def test_resumes_too_many_leave_the_debugger_able_to_answer(tmp_path: Path, job_python: Path) -> None:
    """A second `continue` would silence the kernel's control channel for good: it is answered before it."""
    with stopped_at(tmp_path, GATES, MIDDLE, python=job_python) as (job, _, debugger, _):
        thread = debugger.stopped("breakpoint")
        for command in ("continue", "continue", "next", "stepIn", "stepOut", "continue"):
            debugger.ask(command, {"threadId": thread})
        wait_for(job, Phase.RUNNING)
        assert debugger.body("continue", threadId=thread) == {"allThreadsContinued": True}
        for command in ("exceptionInfo", "restartFrame", "goto", "readMemory"):
            assert not debugger.answer(debugger.ask(command, {"threadId": thread}))["success"]
        # The kernel counts a thread as running when its debugger's event has come, after the reply.
        harness.wait_until(
            lambda: debugger.body("debugInfo")["stoppedThreads"] == [], what="no thread that stands"
        )
        (tmp_path / "middle").touch()
    assert job.text() == "past the middle\n"


def test_a_debugger_switched_off_in_the_middle_of_a_step_lets_the_job_run_on(
    tmp_path: Path, job_python: Path
) -> None:
    with stopped_at(tmp_path, GATES, MIDDLE, python=job_python) as (job, _, debugger, _):
        debugger.body("next", threadId=debugger.stopped("breakpoint"))
        wait_for(job, Phase.RUNNING)
        debugger.body("disconnect")
        (tmp_path / "middle").touch()  # the step is over, and nobody waits for it
        wait_for_log(job, "past the middle")


def test_breakpoints_that_are_changed_in_the_middle_of_a_step_change_at_its_end(
    tmp_path: Path, job_python: Path
) -> None:
    """From Python 3.13 on debugpy would raise an AssertionError in the cell."""
    with stopped_at(tmp_path, GATES, MIDDLE, python=job_python) as (_, frontend, debugger, source):
        thread = debugger.stopped("breakpoint")
        debugger.body("next", threadId=thread)
        points = {"source": {"path": source}, "breakpoints": [{"line": MIDDLE + 2}]}
        changed = debugger.ask("setBreakpoints", points)
        debugger.body("debugInfo")
        assert not frontend.is_replied(changed)
        (tmp_path / "middle").touch()
        debugger.stopped("step")
        assert debugger.success(changed)["breakpoints"][0]["verified"]
        debugger.body("continue", threadId=thread)
        thread = debugger.stopped("breakpoint")
        assert debugger.frames(thread)[0]["line"] == MIDDLE + 2
        debugger.body("disconnect")


def test_a_breakpoint_in_a_loop_of_a_million_is_hit_often_and_taken_away_while_it_runs(
    tmp_path: Path, job_python: Path
) -> None:
    with stopped_at(tmp_path, MILLION, 11, python=job_python) as (job, _, debugger, source):
        for i in range(20):
            thread = debugger.stopped("breakpoint")
            [frame, *_] = debugger.frames(thread)
            assert debugger.locals(frame)["i"] == str(i)
            debugger.body("continue", threadId=thread)
        debugger.body("setBreakpoints", source={"path": source}, breakpoints=[])
        debugger.body("disconnect")
        wait_for_log(job, "499999500000")


def test_breakpoints_have_conditions_in_the_cell_and_in_the_project_s_modules(
    tmp_path: Path, job_python: Path
) -> None:
    mine = tmp_path / "mine"
    cell = BATCHES.format(folder=str(tmp_path))
    harness.write(mine / "model.py", MODEL)
    job = make_job(tmp_path / "job", cell=cell, python=job_python, debuggable=True, files={"model.py": MODEL})
    with job.running():
        wait_for(job, Phase.RUNNING)
        with visitor(tmp_path, "--map", f"{mine}/={job.checkout}/") as frontend:
            debugger = Debugger(frontend)
            source = debugger.body("dumpCell", code=cell)["sourcePath"]
            set_breakpoint(debugger, source, 11, condition="batch == 43")
            set_breakpoint(debugger, str(mine / "model.py"), 3, condition="y == 14")
            (tmp_path / "begin").touch()
            for path, line, name, value in (
                (str(mine / "model.py"), 3, "x", "7"),
                (source, 11, "batch", "43"),
            ):
                thread = debugger.stopped("breakpoint")
                [frame, *_] = debugger.frames(thread)
                assert (frame["source"]["path"], frame["line"]) == (path, line)
                assert debugger.locals(frame)[name] == value
                debugger.body("continue", threadId=thread)
            wait_for_log(job, "all batches")
        (tmp_path / "end").touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


@pytest.mark.parametrize(("hold_s", "verb"), [(0.0, Verb.TIME_OUT), (600.0, Verb.SUCCEED)])
def test_the_deadline_of_a_paused_job_stands_still_as_long_as_hold_allows(
    tmp_path: Path, hold_s: float, verb: Verb
) -> None:
    (tmp_path / "end").touch()
    cell = GATES.format(folder=str(tmp_path))
    job = make_job(tmp_path / "job", cell=cell, debuggable=True, hold_s=hold_s, timeout_s=10)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with last_visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            set_breakpoint(debugger, debugger.body("dumpCell", code=cell)["sourcePath"], MIDDLE)
            (tmp_path / "begin").touch()
            debugger.stopped("breakpoint")
            wait_for(job, Phase.PAUSED)
            harness.wait_until(
                lambda: job.attempt.live().elapsed_s > 12 or job.outcome is not None, what="the deadline"
            )
            (tmp_path / "middle").touch()
            if hold_s:
                assert job.attempt.live().phase is Phase.PAUSED
                debugger.body("disconnect")
    assert job.outcome is not None
    assert job.outcome.verb is verb
