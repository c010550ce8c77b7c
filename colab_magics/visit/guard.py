"""How a visited job stands, and which of a frontend's requests may reach its debugger. No I/O.

A second resume for one stop silences the kernel's control channel, for the daemon too, and so does a request
that debugpy never answers (colab_kernel.debugger_stops, colab_kernel.debugger): neither may pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colab_kernel.debugger import JUMPS, NEEDS_CAPABILITY, NOTHING_IS_STOPPED
from colab_kernel.debugger_stops import Stops


class Guard:
    """Folds the debugger's events and replies.

    Args:
        capabilities: what the job's debugger said of itself when the daemon began its session.
    """

    def __init__(self, capabilities: Mapping[str, Any]) -> None:
        self.main: int | None = None
        """The cell's thread, once it is known: all threads stop with it."""
        self.is_known = False
        """Whether the debugger has said how the job stands."""
        self.is_held = False
        """Whether the last stop was at a failure, or may have been."""
        self._capabilities = capabilities
        self._stops = Stops()

    @property
    def is_stopped(self) -> bool:
        """Whether the job stands still, as far as is known."""
        return self._stops.is_open

    @property
    def thread(self) -> int | None:
        """The thread that a request about the stop has to name."""
        threads = self._stops.threads
        return self.main if self.main in threads else next(iter(threads), None)

    @property
    def version(self) -> int:
        """Changes with each event and each resume: what was asked before is stale."""
        return self._stops.version

    def event(self, event: Mapping[str, Any]) -> None:
        """Take note of a debug_event's content."""
        body = event.get("body")
        body = body if isinstance(body, Mapping) else {}
        thread, number = body.get("threadId"), _number(event)
        match event.get("event"):
            case "stopped" if isinstance(thread, int):
                self._stops.stopped(thread, all_threads=body.get("allThreadsStopped") is True, number=number)
                self.is_held = body.get("reason") == "exception"
            case "continued" if isinstance(thread, int):
                everywhere = body.get("allThreadsContinued") is not False
                self._stops.continued(thread, all_threads=everywhere, number=number)
            case "terminated":
                self._stops.clear()

    def informed(self, body: Mapping[str, Any], *, version: int) -> None:
        """Take note of the body of a reply to `debugInfo`, which was asked at this `version`."""
        if version == self.version and isinstance(body.get("stoppedThreads"), list):
            self._stops.seen(body["stoppedThreads"])
        if not self.is_known:
            # Nobody tells why it stands: a visitor that goes without a word must not end what is held.
            self.is_known, self.is_held = True, self.is_held or self.is_stopped

    def refusal(self, command: str) -> str:
        """Why a request must not reach the debugger; empty if it may."""
        needed = NEEDS_CAPABILITY.get(command)
        if needed is not None and self._capabilities.get(needed) is not True:
            return f"the job's debugger does not know {command}"
        if (command in JUMPS or command == "exceptionInfo") and not self.is_stopped:
            return NOTHING_IS_STOPPED
        return ""

    def resume(self, arguments: Mapping[str, Any], *, everywhere: bool) -> int | None:
        """Let a resume through if there is a stop for it: its ticket. None: it must not pass.

        Args:
            everywhere: whether it is for all threads, unless the arguments say otherwise.
        """
        thread = arguments.get("threadId")
        is_for_all = everywhere and arguments.get("singleThread") is not True
        return self._stops.resume(thread if isinstance(thread, int) and not is_for_all else None)

    def went_on(self, ticket: int, reply: Mapping[str, Any]) -> None:
        """Take note of the reply to a resume."""
        if reply.get("success") is True:
            self._stops.accept(ticket, number=_number(reply))
        else:
            self._stops.refuse(ticket)


def _number(content: Mapping[str, Any]) -> int:
    """debugpy's, which counts its replies and events as it sends them."""
    seq = content.get("seq")
    return seq if isinstance(seq, int) else 0
