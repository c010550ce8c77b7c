"""A visitor steps through a job that runs: the job's real kernel, and a frontend at the visitor's own."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from attempt_harness import make_job
from kernel_client import Debugger
from visitors import assert_worked_to_its_end, last_visitor, visitor, visitor_process, wait_for

from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb

pytestmark = pytest.mark.usefixtures("own_state")

WORKS = """
import os, time
n = 0
while not os.path.exists({mark!r}):
    n += 1
    time.sleep(0.01)
print("ended")
"""

FAILS = "values = [3, 2, 1, 0]\nfor value in values:\n    quotient = 6 / value\n"


def test_a_breakpoint_holds_in_a_cell_that_runs(tmp_path: Path, job_python: Path) -> None:
    mark = tmp_path / "enough"
    cell = WORKS.format(mark=str(mark))
    job = make_job(tmp_path, python=job_python, cell=cell, debuggable=True)
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
    assert_worked_to_its_end(job)


def test_a_held_cell_shows_its_failing_frame_and_fails_when_it_is_let_go(
    tmp_path: Path, job_python: Path
) -> None:
    job = make_job(tmp_path, python=job_python, cell=FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with last_visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            [frame, *_] = debugger.frames(thread)
            assert frame["line"] == 3
            assert debugger.locals(frame)["value"] == "0"
            debugger.body("continue", threadId=thread)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.FAIL


def test_a_cell_is_paused_wherever_it_is(tmp_path: Path, job_python: Path) -> None:
    mark = tmp_path / "enough"
    job = make_job(tmp_path, python=job_python, cell=WORKS.format(mark=str(mark)), debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with visitor(tmp_path, "--pause") as frontend:
            wait_for(job, Phase.PAUSED)
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            assert debugger.frames(thread)
        # A visitor that is ended lets go.
        wait_for(job, Phase.RUNNING)
        mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


def test_what_runs_while_the_job_runs_is_refused_in_one_sentence(tmp_path: Path) -> None:
    mark = tmp_path / "enough"
    job = make_job(tmp_path, cell=WORKS.format(mark=str(mark)), debuggable=True)
    with job.running(), visitor(tmp_path) as frontend:
        done = frontend.done(frontend.execute("n = 0"))
        assert done.reply["status"] == "error"
        assert done.reply["evalue"].startswith("the job runs: set a breakpoint, or pause it")
        mark.touch()


def test_the_second_visitor_looks_on(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell=FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with last_visitor(tmp_path) as first:
            first.run("")
            with visitor(tmp_path, name="second") as second:
                debugger = Debugger(second)
                [thread] = debugger.body("debugInfo")["stoppedThreads"]
                [frame, *_] = debugger.frames(thread)
                assert debugger.locals(frame)["value"] == "0"
                refused = debugger.answer(debugger.ask("continue", {"threadId": thread}))
                assert not refused["success"]
                assert "you look on" in refused["message"]
                second.done(second.execute("value"))
            assert job.attempt.live().phase is Phase.HELD
            Debugger(first).body("continue", threadId=thread)


def test_the_notebook_s_cell_is_found_by_its_content(tmp_path: Path, job_python: Path) -> None:
    """It begins with the magic's line, so its lines are the job's, moved down by one."""
    job = make_job(tmp_path, python=job_python, cell=FAILS, hold_s=600.0, magic="%%colab_queue --hold 10m")
    with job.running():
        wait_for(job, Phase.HELD)
        with last_visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            shown = debugger.body("dumpCell", code=f"%%colab_queue --hold 10m\n{FAILS}")["sourcePath"]
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            [frame, *_] = debugger.frames(thread)
            assert (frame["source"]["path"], frame["line"]) == (shown, 4)
            debugger.body("continue", threadId=thread)


def test_what_a_visitor_evaluated_is_in_the_record(tmp_path: Path, job_python: Path) -> None:
    job = make_job(tmp_path, python=job_python, cell=FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with last_visitor(tmp_path) as frontend:
            frontend.run("value + 1")
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            debugger.body("continue", threadId=thread)
    assert job.outcome is not None
    assert any("evaluated `value + 1`" in note for note in job.outcome.record.notes)


def test_a_visitor_that_is_killed_lets_the_job_go_on_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colab_magics.daemon.debugging.ALONE_S", 0.5)
    mark = tmp_path / "enough"
    cell = WORKS.format(mark=str(mark))
    job = make_job(tmp_path, cell=cell, debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with visitor_process(tmp_path) as (process, frontend), contextlib.closing(frontend):
            frontend.connect()
            debugger = Debugger(frontend)
            source = debugger.body("dumpCell", code=cell)["sourcePath"]
            debugger.body("setBreakpoints", source={"path": source}, breakpoints=[{"line": 6}])
            debugger.stopped("breakpoint")
            wait_for(job, Phase.PAUSED)
            process.kill()
        wait_for(job, Phase.RUNNING)
        mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


@pytest.mark.gpu
def test_a_job_whose_gpu_was_full_is_held_with_its_memory_alive(tmp_path: Path) -> None:
    cell = (
        "import torch\n"
        "kept = torch.ones(1 << 28, device='cuda')\n"
        "def layer(x):\n"
        "    scaled = x * 2\n"
        "    return torch.empty(1 << 45, device=x.device)\n"
        "layer(kept)\n"
    )
    job = make_job(tmp_path, cell=cell, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        assert "OutOfMemoryError" in job.attempt.live().held
        with last_visitor(tmp_path) as frontend:
            [result] = frontend.run("torch.cuda.memory_allocated()").of_type("execute_result")
            assert int(result["data"]["text/plain"]) >= 2 << 30
            [shape] = frontend.run("tuple(scaled.shape)").of_type("execute_result")
            assert shape["data"]["text/plain"] == "(268435456,)"
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            [frame, *_] = debugger.frames(thread)
            assert frame["line"] == 5
            debugger.body("continue", threadId=thread)
    assert job.outcome is not None
    assert job.outcome.record.failure is not None
    assert job.outcome.record.failure.out_of_memory
