from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import harness
import psutil
import pytest

from colab_magics.daemon.endings import Ending, describe_exit, is_kill
from colab_magics.daemon.processes import TOKEN_VARIABLE, Alarm, Watch, end_marked, start, supervise


def watch_for(alarm: Alarm, *, timeout_s: float = 60, stop: threading.Event | None = None) -> Watch:
    return Watch(
        deadline=time.monotonic() + timeout_s,
        alarm=alarm,
        is_stopped=lambda: stop is not None and stop.is_set(),
        tick=lambda child: 3600.0,
        grace_s=lambda: 0.3,
    )


def environment(token: str) -> dict[str, str]:
    return {**os.environ, TOKEN_VARIABLE: token}


@pytest.fixture(params=["pidfd", "polling"])
def wait_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of waiting: macOS and gVisor have no pidfd."""
    if request.param == "polling":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.usefixtures("wait_by")
@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -15)])
def test_the_exit_code_is_told(tmp_path: Path, command: str, code: int) -> None:
    alarm = Alarm()
    with (tmp_path / "log").open("wb") as log:
        child = start(
            ["sh", "-c", command], cwd=tmp_path, environment=environment("t1"), output=log, token="t1"
        )
    end = supervise(child, watch=watch_for(alarm))
    child.close()
    alarm.close()
    assert (end.exit_code, end.ending, end.left_over) == (code, None, 0)


@pytest.mark.usefixtures("wait_by")
def test_an_alarm_ends_the_wait_at_once(tmp_path: Path) -> None:
    alarm, stop = Alarm(), threading.Event()
    with (tmp_path / "log").open("wb") as log:
        child = start(["sleep", "1000"], cwd=tmp_path, environment=environment("t2"), output=log, token="t2")

    def ring() -> None:
        stop.set()
        alarm.ring()

    timer = threading.Timer(0.1, ring)
    timer.start()
    end = supervise(child, watch=watch_for(alarm, stop=stop))
    timer.join()
    child.close()
    alarm.close()
    assert (end.exit_code, end.ending, end.ignored_interrupt) == (-signal.SIGINT, Ending.STOPPED, False)


def test_a_process_that_hides_its_environment_is_found_if_it_was_seen(tmp_path: Path) -> None:
    command = "env -i sh -c 'echo $$ > pid; exec sleep 1000' & sleep 1000"
    with (tmp_path / "log").open("wb") as log:
        child = start(
            ["sh", "-c", command], cwd=tmp_path, environment=environment("t3"), output=log, token="t3"
        )
    pid = int(
        harness.wait_until(lambda: (p := tmp_path / "pid").exists() and p.read_text().strip(), what="it")
    )
    child.remember_descendants()
    os.kill(child.pid, signal.SIGKILL)
    child.end()
    child.close()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_processes_are_found_by_their_token_alone(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        arguments = {"cwd": tmp_path, "output": log}
        mine = start(["sleep", "1000"], environment=environment("outer t4"), token="t4", **arguments)  # type: ignore[arg-type]
        other = start(["sleep", "1000"], environment=environment("t5"), token="t5", **arguments)  # type: ignore[arg-type]
    assert end_marked("t4") >= 1
    assert mine.wait(timeout_s=10) == -signal.SIGKILL
    assert other.poll() is None
    for child in (mine, other):
        child.end()
        child.close()


@pytest.mark.usefixtures("wait_by")
def test_a_process_that_the_kernel_holds_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = start(["sleep", "1000"], cwd=tmp_path, environment=environment("t6"), output=log, token="t6")
    alarm = Alarm()
    with harness.frozen(child.pid):
        watch = replace(watch_for(alarm, timeout_s=0), stuck_s=0.2)
        end = supervise(child, watch=watch)
    assert (end.ending, end.stuck, end.left_over) == (Ending.TIMED_OUT, 1, 0)
    harness.wait_until(lambda: child.process.returncode is not None, what="the process to be reaped")
    child.close()
    alarm.close()


def test_exit_codes_are_said_in_words() -> None:
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "signal 9 (SIGKILL)"
    assert describe_exit(137) == "exit code 137, which means signal 9 (SIGKILL)"
    assert describe_exit(255) == "exit code 255"
    assert is_kill(-9)
    assert is_kill(137)
    assert not is_kill(9)
