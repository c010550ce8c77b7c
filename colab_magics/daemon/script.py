"""A command that starts a Python script, run so that it can be stepped into."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon import script_start
from colab_magics.daemon.assignment import Assignment, Limits, Phase
from colab_magics.daemon.command import shell
from colab_magics.daemon.debugging import SCRIPT_FAILS, JobDebugger, is_debuggable
from colab_magics.daemon.doors import Door, door_of
from colab_magics.daemon.endings import End
from colab_magics.daemon.kernel import Kernel, Message, NoAnswer
from colab_magics.daemon.log import Log
from colab_magics.daemon.processes import Child, Notice, Watch, conclude, start, supervise
from colab_magics.daemon.standing import Standing
from colab_magics.daemon.telemetry import MemoryMeter
from colab_magics.daemon.workspace import Workspace
from colab_magics.jobs.script_line import WANTED, ScriptLine, read_script_line

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class ScriptJob:
    """A script to be run under its debugger. `folder` is where its connection file and sockets are to be."""

    line: ScriptLine
    checkout: Path
    folder: Path
    hold_s: float
    start_s: float
    door: Door


def script_job_of(
    assignment: Assignment, workspace: Workspace, limits: Limits, *, log: Log
) -> ScriptJob | None:
    """The script of an attempt; None where nobody wants to step into it, or it is none: its log says so."""
    spec = assignment.spec
    if spec.command is None or not is_debuggable(spec):
        return None
    door = door_of(assignment, workspace)
    line = read_script_line(spec.command)
    if line is None:
        Standing(door=door, log=log).refuse(WANTED)
        return None
    return ScriptJob(
        line=line,
        checkout=assignment.checkout,
        folder=workspace.kernel,
        hold_s=spec.hold_s,
        start_s=limits.kernel_start_s,
        door=door,
    )


class _Over(Exception):
    """The script has ended, or was given its time to and did not."""


class _Lost(Exception):
    """Nobody can step into the script any more; it runs on."""


class ScriptRun:
    """One run of a script from start to end, in the calling thread. It is as without a debugger.

    What the script says goes straight to the log's file, as every command's does.
    """

    def __init__(
        self,
        job: ScriptJob,
        *,
        log: Log,
        watch: Watch,
        meter: MemoryMeter,
        entered: Callable[[Phase, str, float], None],
    ) -> None:
        self._job, self._log = job, log
        self._watch, self._meter, self._entered = watch, meter, entered
        self._standing = Standing(door=job.door, log=log)
        self._phase = Phase.RUNNING
        self._notice = Notice(watch)

    def stood_s(self) -> float:
        """For how long the script has stood still under its debugger; any thread may ask."""
        return self._standing.stood_s()

    def run(self, *, environment: Mapping[str, str], own_environment: Mapping[str, str], token: str) -> End:
        """Run the script to its end, and end all that it started.

        Args:
            environment: the job's.
            own_environment: of the process that stands before the debugger: without the job's `token`, since
                it is no part of the job.

        Raises:
            OSError: there is no shell, or no checkout.
        """
        job = self._job
        with contextlib.ExitStack() as closing:
            listener = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
            port, number = listener.getsockname()[1], listener.fileno()
            kernel = Kernel(
                (sys.executable, "-m", "colab_magics.daemon.script_kernel", "--listener", str(number)),
                cwd=job.folder,
                environment=own_environment,
                folder=job.folder,
                token=secrets.token_hex(16),
                pass_fds=(number,),
            )
            closing.callback(kernel.close)
            listener.close()
            child = start(
                [shell(), "-c", self._command(port)],
                cwd=job.checkout,
                environment=environment,
                output=self._log.fileno(),
                token=token,
            )
            closing.callback(child.close)
            closing.callback(child.end)
            end = self._attend(kernel, child)
            self._meter.finish(child)
            return end

    def _command(self, port: int) -> str:
        line = self._job.line
        ours = (script_start.__file__, str(port), self._job.door.look)
        return shlex.join((line.python, *line.options, *ours, *line.target, *line.arguments))

    def _attend(self, kernel: Kernel, child: Child) -> End:
        def messages(kernel: Kernel, *, timeout_s: float) -> list[tuple[str, Message]]:
            return self._messages(kernel, child, timeout_s=timeout_s)

        debugger = JobDebugger(
            kernel, hold_s=self._job.hold_s, receive=messages, take=self._take, failure=SCRIPT_FAILS
        )
        self._enter(Phase.RUNNING, "", 0.0)
        self._standing.debugger = debugger  # it may fail, and be held, as soon as it is let go
        try:
            kernel.knock(lambda wait_s: messages(kernel, timeout_s=wait_s), within_s=self._job.start_s)
            problem = debugger.make_ready(None, within_s=self._job.start_s)
            if problem:
                raise _Lost(problem)
            with self._standing.door():
                while True:
                    for channel, message in messages(kernel, timeout_s=_LOOK_S):
                        self._take(channel, message)
                    is_ending = self._notice.ending is not None
                    self._standing.follow(self._phase, is_ending=is_ending, enter=self._enter)
        except _Over:
            notice = self._notice
            return conclude(child, watch=self._watch, ending=notice.ending, ignored=notice.is_ignored)
        except (_Lost, NoAnswer) as error:
            self._standing.debugger = None
            self._standing.refuse(str(error))
            kernel.close()  # and with it its end of the line, at which the script may wait
            with self._standing.door():
                return supervise(child, watch=self._watch)

    def _messages(self, kernel: Kernel, child: Child, *, timeout_s: float) -> list[tuple[str, Message]]:
        """What the debugger says next.

        Raises:
            _Over: the script is.
            _Lost: there is nobody any more who could say anything.
        """
        watch = self._watch
        next_tick_s = watch.tick(child)
        if child.poll() is not None:
            raise _Over
        if self._notice.is_given():
            if self._standing.debugger is not None:
                self._standing.debugger.hold_nothing()
            child.interrupt()
        if self._notice.is_over():
            raise _Over
        if kernel.child.poll() is not None:
            raise _Lost("the process before its debugger died")
        wait_s = max(0.0, min(timeout_s, next_tick_s, self._notice.left_s()))
        return list(kernel.receive(timeout_s=wait_s, alarm=watch.alarm, child=child))

    def _take(self, channel: str, message: Message) -> None:
        debugger = self._standing.debugger
        if message["header"]["msg_type"] == "debug_event" and debugger is not None:
            debugger.stops.event(message["content"], now=time.monotonic())

    def _enter(self, phase: Phase, held: str, left_s: float) -> None:
        self._phase = phase
        self._entered(phase, held, left_s)
