"""A command that starts a Python script under a debugger is otherwise as it was. Real processes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import harness
import pytest
from attempt_harness import Job, make_job
from kernel_environments import Stack, python_of
from script_jobs import FAILS_FILES, STACKS, WORKS_FILES, processes, result_of, run_forever
from visitors import visitor_process, wait_for

from colab_magics.daemon.assignment import Limits, Phase, Stop
from colab_magics.jobs.state import Verb

pytestmark = pytest.mark.usefixtures("own_state")

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
