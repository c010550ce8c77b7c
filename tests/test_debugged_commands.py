"""A command that starts a Python script can be stepped into, and is otherwise as it was. Real processes."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import psutil
import pytest
from attempt_harness import Job, make_job
from jupyter_client.connect import write_connection_file
from kernel_client import Debugger
from kernel_environments import Stack, python_of
from visitors import door_path, look, visitor, visitor_process, wait_for

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Limits, Phase, Stop
from colab_magics.jobs.state import Verb

STACKS = [Stack.NEWEST, Stack.COLAB]

WORKS = """
import os, sys
from steps import step

def work(mark):
    n = 0
    while not os.path.exists(mark):
        n = step(n)
    return n

work(sys.argv[1])
print("ended")
"""
STEPS = """
import time

def step(n):
    more = n + 1
    time.sleep(0.01)
    return more
"""
WORKS_FILES = {"train.py": WORKS, "steps.py": STEPS}

FAILS = """
from layers import layer

def train():
    for batch in range(40, 50):
        layer(batch)

print("begun")
train()
"""
LAYERS = """
def layer(batch):
    scale = batch - 43
    return 1 / scale
"""
FAILS_FILES = {"train.py": FAILS, "layers.py": LAYERS}

TELLS = """
import __main__, json, os, sys
from helper import NAME
print(json.dumps(sys.argv), __name__, NAME)
print(os.path.relpath(__file__), os.path.isabs(__file__), [os.path.relpath(each) for each in sys.path[:1]])
print(sys.modules["__main__"] is __main__, __main__.TELLER if "TELLER" in dir(__main__) else "none")
print(sys.orig_argv[1:], __spec__ and __spec__.name, __package__)
print(sorted(name for name in os.environ if not name.startswith("COLAB_")))
print(sys.excepthook is sys.__excepthook__, os.getcwd() == os.environ["PWD"])
print("to stderr", file=sys.stderr)
"""
HELPER = "NAME = 'helped'\n"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def end_both_ways(
    folder: Path, *, files: Mapping[str, str], command: str, stack: Stack = Stack.NEWEST, **more: Any
) -> tuple[Job, Job]:
    """Run a command without a debugger and with one; what they came to must be the same."""
    python = python_of(stack)
    plain = make_job(folder / "plain", command=command, files=files, python=python, **more)
    ready = make_job(
        folder / "ready", command=command, files=files, python=python, debuggable=True, hold_s=0.0, **more
    )
    for job in (plain, ready):
        job.run()
    assert result_of(plain, folder / "plain") == result_of(ready, folder / "ready")
    return plain, ready


def result_of(job: Job, folder: Path) -> Any:
    """All that an attempt came to, without what differs by its place and time."""
    assert job.outcome is not None
    record = job.outcome.record
    failure = record.failure
    told: tuple[Any, ...] = ()
    if failure is not None:
        trace = [each.replace(str(folder), "") for each in failure.traceback]
        told = (failure.type, failure.message, failure.file, failure.line, failure.function, trace)
    text = job.text().replace(str(folder), "")
    return job.outcome.verb, job.outcome.reason.replace(str(folder), ""), record.exit_code, told, text


def run_forever(folder: Path, **more: Any) -> tuple[Job, Path]:
    """A job that works until the file is there."""
    mark = folder / "enough"
    more = {"debuggable": True, **more}
    return make_job(folder, command=f"python train.py {mark}", files=WORKS_FILES, **more), mark


# --- nothing else is changed -----------------------------------------------------------------------------


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("command", ["python -u src/tells.py 'a b' --x=1", "python -O -m src.tells -m c"])
def test_a_script_finds_and_leaves_what_it_does_without(tmp_path: Path, stack: Stack, command: str) -> None:
    files = {"src/tells.py": TELLS, "src/helper.py": HELPER, "helper.py": HELPER}
    plain, _ = end_both_ways(tmp_path, files=files, command=command, stack=stack)
    assert plain.outcome is not None
    assert plain.outcome.verb is Verb.SUCCEED, plain.text()


@pytest.mark.parametrize("stack", STACKS)
def test_a_script_that_fails_fails_in_the_same_words(tmp_path: Path, stack: Stack) -> None:
    plain, _ = end_both_ways(tmp_path, files=FAILS_FILES, command="python train.py", stack=stack)
    assert plain.outcome is not None
    assert plain.outcome.reason == "ZeroDivisionError: division by zero (layers.py:4)"


ENDS = {
    "an exit code": "import sys\nsys.exit(3)\n",
    "a sentence": "import sys\nsys.exit('no data')\n",
    "no python": "print('begun'\n",
    "an error on an error": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['x']\n",
    "a group": "raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])\n",
    "a hook": "import sys\nsys.excepthook = lambda *e: print('mine', e[0], e[2].tb_lineno)\n\n1 / 0\n",
    "a thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\n",
    "a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    "an interrupt": "raise KeyboardInterrupt\n",
    "at exit": "import atexit\natexit.register(print, 'last')\nprint('first')\n",
    "another program": "import os\nprint('one', flush=True)\nos.execlp('echo', 'echo', 'two')\n",
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_script_ends_it_ends_so_with_a_debugger(tmp_path: Path, end: str) -> None:
    end_both_ways(tmp_path, files={"ends.py": ENDS[end]}, command="python ends.py")


def test_a_script_that_is_not_there_is_missed_in_the_same_words(tmp_path: Path) -> None:
    plain, _ = end_both_ways(tmp_path, files={}, command="python none.py")
    assert "can't open file" in plain.text()


WORKERS = """
import multiprocessing, os, subprocess, sys

def double(n):
    return 2 * n

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(double, range(5)))
    print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
    if os.fork() == 0:
        print("child", double(21), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("stack", STACKS)
def test_processes_that_a_script_starts_are_left_alone(tmp_path: Path, stack: Stack) -> None:
    end_both_ways(
        tmp_path, files={"work.py": WORKERS}, command="python -Wignore work.py", stack=stack, timeout_s=60
    )


INTERRUPTED = """
import sys, time
open(sys.argv[1], "w").close()
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("saved")
    {end}
"""


@pytest.mark.parametrize("end", ["raise", "sys.exit(5)"])
def test_a_cancelled_script_is_interrupted_as_without(tmp_path: Path, end: str) -> None:
    results = []
    for name, more in (("plain", {}), ("held", {"hold_s": 600.0})):
        folder = tmp_path / name
        mark = tmp_path / f"{name}-begun"
        files = {"work.py": INTERRUPTED.format(end=end)}
        job = make_job(
            folder, command=f"python work.py {mark}", files=files, limits=Limits(grace_s=30.0), **more
        )
        with job.running():
            harness.wait_until(mark.exists, what="its begin")
            job.attempt.stop(Stop.CANCEL)
        results.append(result_of(job, folder))
    assert results[0] == results[1]
    assert results[0][0] is Verb.CANCEL
    assert "saved" in results[0][-1]


def test_a_script_has_its_timeout(tmp_path: Path) -> None:
    job = make_job(
        tmp_path,
        command=f"python train.py {tmp_path / 'never'}",
        files=WORKS_FILES,
        debuggable=True,
        timeout_s=4,
    )
    assert job.run().verb is Verb.TIME_OUT


# --- who is stepped into, and who is not -----------------------------------------------------------------


def test_a_command_is_not_stepped_into_unless_it_is_asked_for(tmp_path: Path) -> None:
    job, mark = run_forever(tmp_path, debuggable=None)
    with job.running():
        wait_for(job, Phase.RUNNING)
        mark.touch()
    assert not list((tmp_path / "scratch" / "kernel").iterdir())


def test_what_is_no_script_runs_all_the_same_and_its_log_says_why(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="echo one && echo two", hold_s=60.0)
    assert job.run().verb is Verb.SUCCEED
    said, *rest = job.text().splitlines()
    assert said.startswith("colab-magics: nobody can step into this job: a command can be stepped into only")
    assert rest == ["one", "two"]


def test_without_debugpy_it_runs_all_the_same_and_its_log_says_why(tmp_path: Path) -> None:
    files = {"debugpy.py": "raise ImportError('not here')\n", "work.py": "print('worked')\n"}
    job = make_job(
        tmp_path,
        command="python work.py",
        files=files,
        hold_s=60.0,
        env=(("PYTHONPATH", str(tmp_path / "code")),),
    )
    assert job.run().verb is Verb.SUCCEED
    assert sorted(job.text().splitlines()) == [
        "colab-magics: nobody can step into this job: not here",
        "worked",
    ]


def test_a_script_runs_on_when_what_stands_before_its_debugger_is_killed(tmp_path: Path) -> None:
    job, mark = run_forever(tmp_path)
    with job.running(), visitor_process(tmp_path, "--pause") as (_, frontend), contextlib.closing(frontend):
        frontend.connect()
        wait_for(job, Phase.PAUSED)
        [process] = processes("script_kernel", str(tmp_path))
        process.kill()
        harness.wait_until(
            lambda: "the process before its debugger died" in job.attempt.live().log_tail, what="it"
        )
        mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


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
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED
    assert job.text() == "ended\n"
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


def processes(word: str, folder: str) -> list[psutil.Process]:
    """This user's processes that have a word in their command lines, and were started for a test's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if word in line and "python" in line and folder in line:
                found.append(process)
    return found
