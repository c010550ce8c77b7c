"""Whether a job's cell stands still under its debugger, since when, and for how long it may. No I/O.

Source: https://microsoft.github.io/debug-adapter-protocol/specification#Events_Stopped
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any


class Stand(enum.Enum):
    """How a cell is."""

    RUNS = enum.auto()
    PAUSED = enum.auto()  # a visitor's breakpoint, step or pause
    HELD = enum.auto()  # at its failure


class Stops:
    """Folds the debugger's events. Times are of one monotonic clock.

    Args:
        hold_s: how long the cell may stand still in all before it goes on by itself, its deadline standing
            still as long.
    """

    def __init__(self, *, hold_s: float) -> None:
        self.stand = Stand.RUNS
        self.thread: int | None = None
        """The thread that stopped; what a request about the stop has to name."""
        self._hold_s = hold_s
        self._since = 0.0
        self._before_s = 0.0

    def event(self, content: Mapping[str, Any], *, now: float) -> bool:
        """Take one event of the debugger; return whether the cell stopped or went on by it."""
        before = self.stand
        body = content.get("body")
        body = body if isinstance(body, Mapping) else {}
        match content.get("event"):
            case "stopped":
                is_failure = body.get("reason") == "exception"
                self._stop(Stand.HELD if is_failure else Stand.PAUSED, body.get("threadId"), now=now)
            case "continued" | "terminated":
                self.go(now=now)
        return self.stand is not before

    def go(self, *, now: float) -> None:
        """The cell goes on."""
        if self.stand is not Stand.RUNS:
            self._before_s += now - self._since
            self.stand, self.thread = Stand.RUNS, None

    def stood_s(self, *, now: float) -> float:
        """How long the deadline stood still."""
        standing_s = now - self._since if self.stand is not Stand.RUNS else 0.0
        return min(self._before_s + standing_s, self._hold_s)

    def left_s(self, *, now: float) -> float:
        """How much longer it may stand still."""
        return self._hold_s - self.stood_s(now=now)

    def is_overdue(self, *, now: float) -> bool:
        """Whether it is held and its time is over. A pause has a visitor, whose going away ends it."""
        return self.stand is Stand.HELD and self.left_s(now=now) <= 0

    def _stop(self, stand: Stand, thread: object, *, now: float) -> None:
        if self.stand is Stand.RUNS:
            self._since = now
        self.stand = stand
        self.thread = thread if isinstance(thread, int) else None
