"""A process in a session of its own, and the end of everything that it started.

A process that leaves its group, its session and its parent still carries the environment that it was started
with: this attempt's private token in it is how it is found, as Jenkins does with BUILD_ID. Never by name.
Source: https://wiki.jenkins.io/display/JENKINS/ProcessTreeKiller (2026)
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from colab_magics.daemon.endings import End, Ending

TOKEN_VARIABLE = "COLAB_ATTEMPT_TOKEN"  # noqa: S105 - a name
STUCK_S = 30.0
"""How long a process that SIGKILL does not end is waited for: the kernel holds it (state D), as it does where
a disk or a driver does not answer."""

_POLL_S = 0.02
_SWEEP_S = 5.0


class Alarm:
    """Wakes a wait from another thread; its file descriptor can stand in any poll."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings already
            os.write(self._write, b"!")

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self._read, 4096)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@dataclass(frozen=True, slots=True)
class Watch:
    """What may end a process from outside, and what happens regularly while it runs.

    `deadline` is on `time.monotonic`; `is_stopped` says whether somebody asked for its end, and `alarm` rings
    when its answer changes; `tick` is called with the process and returns the seconds until it wants to be
    called again; `grace_s` is asked when the end begins. `stuck_s` bounds the wait for
    what SIGKILL does not end. `stood_s` says for how long the deadline has stood still.
    """

    deadline: float
    alarm: Alarm
    is_stopped: Callable[[], bool]
    tick: Callable[[Child], float]
    grace_s: Callable[[], float]
    stuck_s: float = STUCK_S
    stood_s: Callable[[], float] = lambda: 0.0

    def ending(self) -> Ending | None:
        """Whether the process has to end now, and why."""
        if self.is_stopped():
            return Ending.STOPPED
        return Ending.TIMED_OUT if self.left_s() <= 0 else None

    def ending_of(self, code: int | None) -> Ending | None:
        """Why a process ended by itself: one that was killed while its end was asked for was stopped."""
        return Ending.STOPPED if code == -signal.SIGKILL and self.is_stopped() else None

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until somebody rings."""
        if select.select([self.alarm.fileno()], [], [], min(seconds, self.left_s()))[0]:
            self.alarm.clear()

    def left_s(self) -> float:
        return max(0.0, self.deadline + self.stood_s() - time.monotonic())


class Notice:
    """The end that is asked of a process which is talked with meanwhile.

    Attributes:
        ending: why it has to end; None as long as it has not.
        is_ignored: whether its grace was over and it still ran.
    """

    def __init__(self, watch: Watch) -> None:
        """Nothing was asked yet."""
        self.ending: Ending | None = None
        self.is_ignored = False
        self._watch = watch
        self._kill_at: float | None = None

    def is_given(self) -> bool:
        """Look whether it has to end; whether that is new. Its grace begins then."""
        if self.ending is not None or (ending := self._watch.ending()) is None:
            return False
        self.ending, self._kill_at = ending, time.monotonic() + self._watch.grace_s()
        return True

    def is_over(self) -> bool:
        """Whether its grace is over: it is waited for no longer."""
        self.is_ignored = self._kill_at is not None and time.monotonic() >= self._kill_at
        return self.is_ignored

    def left_s(self) -> float:
        """How long until it has to end, or its grace is over."""
        return self._watch.left_s() if self._kill_at is None else self._kill_at - time.monotonic()


@dataclass(slots=True)
class Child:
    """A running process. `close` gives back what it holds here; it does not end the process."""

    process: subprocess.Popen[bytes]
    token: str
    exit_fd: int | None
    seen: dict[int, float] = field(default_factory=dict)
    peak_rss_bytes: int | None = None
    is_over: bool = False
    stuck: int = 0
    """How many of its processes still run after `end`, which SIGKILL did not end."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal, None while it runs."""
        if self.process.returncode is None:
            try:
                pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            except ChildProcessError:
                return self.process.poll()
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.peak_rss_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self.process.returncode

    def wait(self, *, timeout_s: float, alarm: Alarm | None = None) -> int | None:
        """Wait until it ends, `timeout_s` have passed or `alarm` rings; the exit code or None."""
        deadline = time.monotonic() + timeout_s
        waiter = select.poll()
        for fd in (self.exit_fd, alarm.fileno() if alarm else None):
            if fd is not None:
                waiter.register(fd, select.POLLIN)
        while (code := self.poll()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            step_s = left_s if self.exit_fd is not None else min(left_s, _POLL_S)
            rung = [fd for fd, _ in waiter.poll(max(1, int(min(step_s, 3600.0) * 1000)))]
            if alarm is not None and alarm.fileno() in rung:
                alarm.clear()
                return self.poll()
        return code

    def interrupt(self) -> None:
        """SIGINT to its whole group, as Ctrl-C in a terminal does."""
        _signal_group(self.pid, signal.SIGINT)

    def remember_descendants(self) -> list[psutil.Process]:
        """The processes that descend from it now; they are ended with it even if they hide later."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error, OSError):
            root = psutil.Process(self.pid)
            found = [root, *root.children(recursive=True)]
        for process in found:
            with contextlib.suppress(psutil.Error, OSError):
                self.seen[process.pid] = process.create_time()
        return found

    def end(self, *, stuck_s: float = STUCK_S) -> int:
        """Kill what is left of its group, and whatever it started that hides elsewhere.

        What the kernel holds is waited for, but not longer than `stuck_s`; then `stuck` counts it.

        Returns:
            how many processes other than itself had to be killed; 0 when it was called before.
        """
        if self.is_over:
            return 0
        self.is_over = True
        self.remember_descendants()
        _signal_group(self.pid, signal.SIGKILL)
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError, OSError):
                os.kill(self.pid, signal.SIGKILL)
        killed = end_marked(self.token, seen=self.seen, but=self.pid)
        if self.wait(timeout_s=stuck_s) is None:
            self.stuck = 1
            reap_later(self.process)
        living = _belonging(self.token, self.seen) if killed else []
        others = [pid for pid in living if pid not in (self.pid, os.getpid())]
        self.stuck += len(others)
        return max(0, killed - len(others))

    def close(self) -> None:
        if self.exit_fd is not None:
            os.close(self.exit_fd)
            self.exit_fd = None


def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | int,
    token: str,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a process in its own session, stdin empty, stdout and stderr into `output`.

    Args:
        token: the attempt's; it is in `environment` too.
        pass_fds: descriptors that it inherits.

    Raises:
        OSError: the program or `cwd` is not there, or may not be used.
    """
    process = subprocess.Popen(
        [os.fspath(part) for part in argv],
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    return Child(process=process, token=token, exit_fd=_open_exit_fd(process.pid))


def supervise(child: Child, *, watch: Watch) -> End:
    """Wait for a process to end; end it when its time is up or somebody asks. Nothing of it remains."""
    ending: Ending | None = None
    ignored = False
    while child.poll() is None:
        next_tick_s = watch.tick(child)
        ending = watch.ending()
        if ending is not None:
            child.interrupt()
            ignored = _outlives(child, grace_s=watch.grace_s())
            break
        child.wait(timeout_s=min(next_tick_s, watch.left_s()), alarm=watch.alarm)
    return conclude(child, watch=watch, ending=ending, ignored=ignored)


def conclude(child: Child, *, watch: Watch, ending: Ending | None, ignored: bool) -> End:
    """End a process and all that it started; say how that was.

    Args:
        ending: why it was asked to end, None if nobody did.
        ignored: whether it outlived its grace.
    """
    left_over = child.end(stuck_s=watch.stuck_s)
    code = child.poll()
    ending = ending or watch.ending_of(code)
    return End(-signal.SIGKILL if code is None else code, ending, ignored, left_over, child.stuck)


def _outlives(child: Child, *, grace_s: float) -> bool:
    return child.wait(timeout_s=grace_s) is None


def end_marked(token: str, *, seen: Mapping[int, float] | None = None, but: int = 0) -> int:
    """Kill every process that carries the token in its environment, until there is none; return how many.

    Args:
        token: the private word of one attempt.
        seen: pid → creation time of processes known to belong to it, whatever their environment says.
        but: a pid that is not counted or killed here.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _SWEEP_S
    while time.monotonic() < deadline:
        found = [pid for pid in _belonging(token, seen or {}) if pid not in (but, os.getpid())]
        if not found:
            break
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(found)
        time.sleep(_POLL_S / 4)
    return len(killed)


def reap_later(process: subprocess.Popen[bytes]) -> None:
    """Take the exit code of a process that does not end now, whenever that is; nobody waits for it."""
    threading.Thread(target=process.wait, name="colab-stuck", daemon=True).start()


def _open_exit_fd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there are none (macOS, gVisor)."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The child leads its own session, so its pid names its group for as long as anybody is in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _belonging(token: str, seen: Mapping[int, float]) -> list[int]:
    """Living processes of the attempt."""
    found = []
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            known = pid in seen and process.create_time() == seen[pid]
            if (known or token in process.environ().get(TOKEN_VARIABLE, "")) and _lives(process):
                found.append(pid)
        except (psutil.Error, OSError):
            continue
    return found


def _lives(process: psutil.Process) -> bool:
    return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
