"""A job under its debugger: made ready before it runs, so that it can be stepped into later.

A kernel that is busy and was not made ready never answers `initialize`. One that was takes breakpoints while
its cell runs, and with `userUnhandled` stops where an exception leaves the person's own code, every frame
and what it holds alive. So it is with a script and `uncaught`: that stops where an exception is about to end
it. From Python 3.13 on it costs next to nothing, below it more, or a multiple: see
docs/explanation/performance.md.

Source: tried on ipykernel 6.17.1 and 7.4, Python 3.11 and 3.13, 2026-11;
https://microsoft.github.io/debug-adapter-protocol/specification
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from colab_kernel import dap_messages
from colab_magics.daemon.kernel import Kernel, Message
from colab_magics.daemon.stops import Stand, Stops
from colab_magics.jobs.spec import JobSpec
from colab_magics.visit.places import error_name, is_cell

ANSWER_S = 10.0
FREE_SINCE = (3, 13)
"""The Python from which on it costs a loop next to nothing: debugpy stands on sys.monitoring (PEP 669) there.
On 3.12 it does so too, and on one machine a loop that calls functions took half as long again."""

FRAMES = 20

ALONE_S = 60.0
"""How long a paused cell waits for a visitor who is gone."""

_NO_DESCRIPTION = "exception: no description"
"""What pydevd says of an exception without a message. Source: pydevd_comm.py, debugpy 1.8.15"""

CELL_FAILS, SCRIPT_FAILS = "userUnhandled", "uncaught"
"""The exception filters that stop a cell and a script at their failures."""

Take = Callable[[str, Message], None]


def is_debuggable(spec: JobSpec) -> bool:
    """Whether a job is made ready: as its owner says, else if it is to be held; a cell also where it is free.

    A command never is by itself: it is started another way then, and may be anything.
    """
    if spec.debuggable is not None:
        return spec.debuggable
    return spec.hold_s > 0 or (spec.cell is not None and sys.version_info[:2] >= FREE_SINCE)


class JobDebugger:
    """The debugger of one job, as its daemon uses it; visitors talk to the same one beside it.

    Args:
        failure: the filter that stops it at its failure.
        receive: yields what the kernel says next, as `Kernel.receive`; the caller's own messages included.
        take: is given what came meanwhile and was not for here.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        hold_s: float,
        receive: Callable[..., Any],
        take: Take,
        failure: str = CELL_FAILS,
    ) -> None:
        self.stops = Stops(hold_s=hold_s)
        self.capabilities: Mapping[str, Any] = {}
        """What the debugger can do, once it is ready: the body of its reply to `initialize`."""
        self._kernel = kernel
        self._filters = [failure] if hold_s > 0 else []
        self._receive = receive
        self._take = take
        self._numbers = itertools.count(1)
        self._alone_since: float | None = None

    def make_ready(self, source: str | None, *, within_s: float = ANSWER_S) -> str:
        """Attach; return what is wrong, empty if nothing is.

        Args:
            source: the cell's; None: it is a script.
            within_s: how long its first answer may take.
        """
        client = {
            "clientID": "colab-magics",
            "adapterID": "",
            "pathFormat": "path",
            "linesStartAt1": True,
            "columnsStartAt1": True,
            "supportsVariableType": True,
        }
        cell = [] if source is None else [("dumpCell", {"code": source})]
        steps: list[tuple[str, Mapping[str, Any]]] = [
            ("initialize", client),
            ("attach", {"justMyCode": True}),
            *cell,
            ("setExceptionBreakpoints", {"filters": self._filters}),
            ("configurationDone", {}),
        ]
        for command, arguments in steps:
            reply = self.ask(command, arguments, within_s=within_s if command == "initialize" else ANSWER_S)
            if reply is None or not reply.get("success", False):
                return str((reply or {}).get("message") or f"its debugger did not come up ({command})")
            if command == "initialize":
                self.capabilities = reply.get("body") or {}
        return ""

    def ask(
        self, command: str, arguments: Mapping[str, Any], *, within_s: float = ANSWER_S
    ) -> Mapping[str, Any] | None:
        """One request to the debugger and its reply; None if none came."""
        msg_id = self._send(command, arguments)
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            found = None
            for channel, message in self._receive(self._kernel, timeout_s=min(left_s, 0.5)):
                ours = message["parent_header"].get("msg_id") == msg_id
                if channel == "control" and ours and message["header"]["msg_type"] == "debug_reply":
                    found = message["content"]
                else:
                    self._take(channel, message)
            if found is not None:
                return dict(found)
        return None

    def hold_nothing(self) -> None:
        """Have the job stop at no failure any more, and go on if it stands, without waiting for an answer."""
        self._send("setExceptionBreakpoints", {"filters": []})
        self.let_go()

    def let_go(self) -> None:
        """Have the job go on, without waiting for the answer.

        Once for each stop: a second `continue` would silence control (colab_kernel.debugger_stops).
        """
        if self.stops.thread is not None:
            self._send("continue", {"threadId": self.stops.thread})
            self.stops.go(now=time.monotonic())

    def look_after(self, *, is_visited: Callable[[], bool]) -> None:
        """Have a job go on whose visitor has been gone for a minute; one that is held stays held."""
        now = time.monotonic()
        if self.stops.stand is not Stand.PAUSED or is_visited():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > ALONE_S:
            self._alone_since = None
            told = (self.ask("debugInfo", {}) or {}).get("body") or {}
            for each in told.get("breakpoints") or []:
                self.ask("setBreakpoints", {"source": {"path": each["source"]}, "breakpoints": []})
            self.let_go()

    def describe(self) -> str:
        """Where a held job stands: its error and the lines that led there; empty if that cannot be had."""
        if self.stops.stand is not Stand.HELD:
            return ""
        thread = {"threadId": self.stops.thread}
        error = self.ask("exceptionInfo", thread)
        stack = self.ask("stackTrace", {**thread, "startFrame": 0, "levels": FRAMES})
        told = (error or {}).get("body") or {}
        lines = [
            f"  {_function(frame)}, line {frame['line']} of {_file(frame)}"
            for frame in reversed(((stack or {}).get("body") or {}).get("stackFrames") or [])
        ]
        name = error_name(told.get("exceptionId")) or "an exception"
        description = str(told.get("description") or "").removeprefix(_NO_DESCRIPTION)
        said = f"{name}: {description}".rstrip(": ")
        return "\n".join([*lines, said])

    def _send(self, command: str, arguments: Mapping[str, Any]) -> str:
        content = dap_messages.request(command, arguments, seq=next(self._numbers))
        return self._kernel.send("debug_request", content, channel="control")


def _function(frame: Mapping[str, Any]) -> str:
    name = str(frame["name"]).partition(" (")[0]
    return "<module>" if name.startswith("<cell line") else name  # IPython 7's name for it


def _file(frame: Mapping[str, Any]) -> str:
    path = str((frame.get("source") or {}).get("path") or "?")
    return "the cell" if is_cell(path) else path.rpartition("/")[2]
