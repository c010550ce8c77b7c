"""A command that starts a Python script is stepped into: while it runs, at its failure. Real processes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import harness
import psutil
import pytest
from attempt_harness import make_job
from jupyter_client.connect import write_connection_file
from kernel_client import Debugger
from kernel_environments import Stack, python_of
from script_jobs import FAILS_FILES, STACKS, processes, result_of, run_forever
from visitors import assert_worked_to_its_end, door_path, look, visitor, visitor_process, wait_for

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase, Stop
from colab_magics.jobs.state import Verb

pytestmark = pytest.mark.usefixtures("own_state")

# --- while it runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
def test_breakpoints_hold_in_a_script_that_runs_and_in_its_modules(tmp_path: Path, stack: Stack) -> None:
    job, mark = run_forever(tmp_path, python=python_of(stack))
    with job.running(), visitor(tmp_path, "--map", f"/here/={job.checkout}/") as frontend:
        debugger = Debugger(frontend)
        steps = {"path": "/here/steps.py"}
        debugger.body("setBreakpoints", source=steps, breakpoints=[{"line": 6, "condition": "n > 3"}])
        thread = debugger.stopped("breakpoint")
        wait_for(job, Phase.PAUSED)
        frames = debugger.frames(thread)
        assert [(each["name"], each["source"]["path"]) for each in frames] == [
            ("step", "/here/steps.py"),
            ("work", "/here/train.py"),
            ("<module>", "/here/train.py"),
        ]
        n = int(debugger.locals(frames[0])["n"])
        assert n > 3
        assert frontend.run("more - n").of_type("execute_result")[0]["data"]["text/plain"] == "1"
        assert "def step" in debugger.body("source", source=steps)["content"]
        debugger.body("stepOut", threadId=thread)
        thread = debugger.stopped("step")
        assert debugger.frames(thread)[0]["name"] == "work"
        frontend.run("mark = mark")
        debugger.body("disconnect")
        wait_for(job, Phase.RUNNING)
        mark.touch()
    assert_worked_to_its_end(job)
    assert any("evaluated `more - n`" in note for note in job.outcome.record.notes)


def test_a_script_is_paused_wherever_it_is_and_goes_on_when_the_visitor_leaves(tmp_path: Path) -> None:
    job, mark = run_forever(tmp_path)
    with job.running():
        with visitor(tmp_path, "--pause") as frontend:
            wait_for(job, Phase.PAUSED)
            [thread] = Debugger(frontend).body("debugInfo")["stoppedThreads"]
            assert Debugger(frontend).frames(thread)[-1]["name"] == "<module>"
        wait_for(job, Phase.RUNNING)
        mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


def test_a_breakpoint_in_what_workers_run_holds_none_of_them(tmp_path: Path) -> None:
    script = (
        "import multiprocessing, sys, time, os\n"
        "def double(n):\n"
        "    return 2 * n\n"
        "while not os.path.exists(sys.argv[1]):\n"
        "    time.sleep(0.01)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(double, range(5)))\n"
    )
    mark = tmp_path / "go"
    job = make_job(
        tmp_path,
        command=f"python -Wignore work.py {mark}",
        files={"work.py": script},
        debuggable=True,
        timeout_s=30,
    )
    with job.running(), visitor_process(tmp_path) as (_, frontend), contextlib.closing(frontend):
        frontend.connect()
        source = {"path": str(job.checkout / "work.py")}
        Debugger(frontend).body("setBreakpoints", source=source, breakpoints=[{"line": 3}])
        mark.touch()
        harness.wait_until(lambda: job.outcome is not None, what="the job's end")
    assert job.text() == "[0, 2, 4, 6, 8]\n"


@pytest.mark.parametrize("stack", STACKS)
def test_a_look_shows_where_a_script_is_and_changes_nothing(tmp_path: Path, stack: Stack) -> None:
    job, mark = run_forever(tmp_path, python=python_of(stack))
    with job.running():
        door = doors.read_door(door_path())
        told = harness.wait_until(lambda: "step, line" in (text := look(Path(door.look))) and text, what="it")
        assert told.startswith("the script:\n  <module>, line ")
        assert "script_start" not in told
        assert "thread" not in told
        assert job.attempt.live().phase is Phase.RUNNING
        mark.touch()


# --- at its failure --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
def test_a_script_that_fails_is_held_with_its_variables_and_fails_when_it_is_let_go(
    tmp_path: Path, stack: Stack
) -> None:
    files, python = FAILS_FILES, python_of(stack)
    plain = make_job(tmp_path / "plain", command="python train.py", files=files, python=python)
    plain.run()
    job = make_job(tmp_path / "held", command="python train.py", files=files, python=python, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        live = job.attempt.live()
        assert live.held == "ZeroDivisionError: division by zero"
        assert live.held_until is not None
        told = look(Path(doors.read_door(door_path()).look))
        assert re.findall(r"^  (\S+), line (\d+)", told, re.MULTILINE) == [
            ("<module>", "9"),
            ("train", "6"),
            ("layer", "4"),
        ]
        assert "      scale = 0\n" in told
        with visitor(tmp_path) as frontend:
            debugger = Debugger(frontend)
            [thread] = debugger.body("debugInfo")["stoppedThreads"]
            frames = debugger.frames(thread)
            assert [each["name"] for each in frames] == ["layer", "train", "<module>"]
            shown = debugger.locals(frames[0])
            assert (shown["batch"], shown["scale"]) == ("43", "0")
            told = debugger.body("exceptionInfo", threadId=thread)
            assert told["description"] == "division by zero"
            with visitor(tmp_path, name="second") as second:
                onlooker = Debugger(second)
                assert not onlooker.answer(onlooker.ask("continue", {"threadId": thread}))["success"]
            debugger.body("continue", threadId=thread)
    held = (
        "colab-magics: held at its failure\n"
        "  <module>, line 9 of train.py\n"
        "  train, line 6 of train.py\n"
        "  layer, line 4 of layers.py\n"
        "ZeroDivisionError: division by zero\n"
    )
    assert held in job.text()
    job_result, plain_result = result_of(job, tmp_path / "held"), result_of(plain, tmp_path / "plain")
    assert job_result[:-1] == plain_result[:-1]
    assert job_result[-1].replace(held, "") == plain_result[-1]


def test_a_module_that_fails_is_held(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="python -m train", files=FAILS_FILES, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        assert job.attempt.live().held == "ZeroDivisionError: division by zero"
        job.attempt.stop(Stop.CANCEL)


def test_an_error_that_somebody_handles_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import json\n"
        "def default(value):\n    raise TypeError('no')\n"
        "try:\n    json.dumps({1: object()}, default=default)\nexcept TypeError:\n    print('caught')\n"
    )
    job = make_job(tmp_path, command="python work.py", files={"work.py": script}, hold_s=600.0)
    assert job.run().verb is Verb.SUCCEED
    assert job.text() == "caught\n"


def test_a_held_script_fails_by_itself_after_its_time_for_which_its_deadline_stands_still(
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path, command="python train.py", files=FAILS_FILES, hold_s=8.0, timeout_s=7)
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.record.duration_s > 8


@pytest.mark.parametrize("why", [Stop.CANCEL, Stop.RELEASE])
def test_a_held_script_ends_when_it_is_asked_to_and_leaves_nothing(tmp_path: Path, why: Stop) -> None:
    job = make_job(tmp_path, command="python train.py", files=FAILS_FILES, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        assert processes("script_kernel", str(tmp_path))
        job.attempt.stop(why)
    assert not processes("script_kernel", str(tmp_path))
    assert not processes("train.py", str(tmp_path))
    assert not list(doors.folder().iterdir())
    left = [each.name for each in (tmp_path / "scratch" / "kernel").iterdir()]
    assert sorted(left) == ["connection.json", "said.txt"]


# --- who gets in -----------------------------------------------------------------------------------------


def test_nothing_listens_on_any_port_while_a_script_runs(tmp_path: Path) -> None:
    job, mark = run_forever(tmp_path)
    with job.running():
        door_path()
        wait_for(job, Phase.RUNNING)
        mine = [*processes("script_kernel", str(tmp_path)), *processes("train.py", str(tmp_path))]
        assert len(mine) == 2
        for process in mine:
            lines = process.net_connections("inet")
            assert [line for line in lines if line.status == psutil.CONN_LISTEN] == []
            assert {line.laddr.ip for line in lines} <= {"127.0.0.1"}
        words = [word for process in mine for word in process.cmdline()]
        key = (tmp_path / "scratch/kernel/connection.json").read_text()
        assert not [word for word in words if len(word) > 30 and word in key]
        mark.touch()


STRANGER = """
import os, socket, sys
os.setuid(65534)
line = socket.socket()
line.connect(("127.0.0.1", int(sys.argv[1])))
print(line.recv(1))
"""


def test_the_port_takes_one_connection_and_nobody_elses(tmp_path: Path) -> None:
    path, _ = write_connection_file(str(tmp_path / "kernel.json"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # it is nobody's by now
        command = [sys.executable, "-m", "colab_magics.daemon.script_kernel", "--listener", str(number)]
        process = subprocess.Popen([*command, "-f", path], pass_fds=(number,))
    try:
        if os.geteuid() == 0:  # only root can be somebody else
            assert harness.run(["python3", "-c", STRANGER, str(port)]).stdout == "b''\n"
        with socket.create_connection(("127.0.0.1", port)) as script:
            harness.wait_until(lambda: refuses(port), what="the port's end")
            script.setblocking(False)
            with pytest.raises(BlockingIOError):
                script.recv(1)  # it is open
    finally:
        process.kill()
        process.wait()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
