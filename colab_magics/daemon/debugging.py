"""A job's kernel under its debugger: made ready before the cell runs, so that it can be stepped into later.

A kernel that is busy and was not made ready never answers `initialize`. One that was takes breakpoints while
its cell runs, and with `userUnhandled` stops where an exception leaves the person's own code, every frame
and what it holds alive. From Python 3.13 on it costs next to nothing, below it more, or a multiple: see
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

from colab_magics.daemon.kernel import Kernel, Message
from colab_magics.daemon.stops import Stand, Stops
from colab_magics.jobs.spec import JobSpec

ANSWER_S = 10.0
FREE_SINCE = (3, 13)
"""The Python from which on it costs a loop next to nothing: debugpy stands on sys.monitoring (PEP 669) there.
On 3.12 it does so too, and a loop that calls functions still takes half as long again."""

FRAMES = 20

ALONE_S = 60.0
"""How long a paused cell waits for a visitor who is gone."""

_NO_DESCRIPTION = "exception: no description"
"""What pydevd says of an exception without a message. Source: pydevd_comm.py, debugpy 1.8.15"""

Take = Callable[[str, Message], None]


def is_debuggable(spec: JobSpec) -> bool:
    """Whether a cell is made ready: as its owner says, else where it is free or it is to be held."""
    if spec.debuggable is not None:
        return spec.debuggable
    return spec.hold_s > 0 or sys.version_info[:2] >= FREE_SINCE


class JobDebugger:
    """The debugger of one cell, as its daemon uses it; visitors talk to the same one beside it.

    Args:
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
    ) -> None:
        self.stops = Stops(hold_s=hold_s)
        self.capabilities: Mapping[str, Any] = {}
        """What the debugger can do, once it is ready: the body of its reply to `initialize`."""
        self._kernel = kernel
        self._holds = hold_s > 0
        self._receive = receive
        self._take = take
        self._numbers = itertools.count(1)
        self._alone_since: float | None = None

    def make_ready(self, source: str) -> str:
        """Attach; return what is wrong, empty if nothing is."""
        client = {
            "clientID": "colab-magics",
            "adapterID": "",
            "pathFormat": "path",
            "linesStartAt1": True,
            "columnsStartAt1": True,
            "supportsVariableType": True,
        }
        filters = {"filters": ["userUnhandled"] if self._holds else []}
        steps: list[tuple[str, Mapping[str, Any]]] = [
            ("initialize", client),
            ("attach", {"justMyCode": True}),
            ("dumpCell", {"code": source}),
            ("setExceptionBreakpoints", filters),
            ("configurationDone", {}),
        ]
        for command, arguments in steps:
            reply = self.ask(command, arguments)
            if reply is None or not reply.get("success", False):
                return f"its kernel's debugger did not come up ({command})"
            if command == "initialize":
                self.capabilities = reply.get("body") or {}
        return ""

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """One request to the debugger and its reply; None if none came."""
        content = {
            "type": "request",
            "seq": next(self._numbers),
            "command": command,
            "arguments": dict(arguments),
        }
        msg_id = self._kernel.send("debug_request", content, channel="control")
        deadline = time.monotonic() + ANSWER_S
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

    def let_go(self) -> None:
        """Have the cell go on, without waiting for the answer.

        Once for each stop: a second `continue` would silence control (colab_kernel.debugger_stops).
        """
        if self.stops.thread is not None:
            content = {
                "type": "request",
                "seq": next(self._numbers),
                "command": "continue",
                "arguments": {"threadId": self.stops.thread},
            }
            self._kernel.send("debug_request", content, channel="control")
            self.stops.go(now=time.monotonic())

    def look_after(self, *, is_visited: Callable[[], bool]) -> None:
        """Have a cell go on whose visitor has been gone for a minute; one that is held stays held."""
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
        """Where a held cell stands: its error and the lines that led there; empty if that cannot be had."""
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
        # pydevd notes behind the name in which frame it really stopped.
        name = str(told.get("exceptionId") or "an exception").partition("(note:")[0].strip()
        description = str(told.get("description") or "").removeprefix(_NO_DESCRIPTION)
        said = f"{name}: {description}".rstrip(": ")
        return "\n".join([*lines, said])


def _function(frame: Mapping[str, Any]) -> str:
    name = str(frame["name"]).partition(" (")[0]
    return "<module>" if name.startswith("<cell line") else name  # IPython 7's name for it


def _file(frame: Mapping[str, Any]) -> str:
    path = str((frame.get("source") or {}).get("path") or "?")
    return "the cell" if "ipykernel_" in path else path.rpartition("/")[2]
