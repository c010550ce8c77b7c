"""Interrupts under way: who waits for an answer, and the debugger's farewell that goes before."""

from __future__ import annotations

from colab_kernel.frontend_outbox import FrontendOutbox
from colab_kernel.made_messages import error_content
from colab_kernel.messages import JsonObject
from colab_kernel.requests import Request

FAREWELL_S = 2.0
"""How long the debugger's farewell may take before a paused kernel is interrupted without it.

From Python 3.12 on a paused cell notices an interrupt only when the debugger has let go.
Source: measured on ipykernel 6.17.1 and 7.3 under Python 3.11 to 3.13, 2026-11
"""


class Interrupts:
    """The interrupts that are not answered yet.

    Args:
        front: where the answers go.
    """

    def __init__(self, front: FrontendOutbox) -> None:
        self._front = front
        self._waiting: list[Request] = []
        self._farewell_by: float | None = None

    def add(self, request: Request | None, *, now: float) -> None:
        """Somebody interrupts; `request` is what to answer, None for a signal."""
        if request is not None:
            self._front.busy(request, now=now)
            self._waiting.append(request)

    def begin_farewell(self, *, now: float) -> bool:
        """Whether the debugger is to be told to let go; False if it was told already."""
        is_first = self._farewell_by is None
        if is_first:
            self._farewell_by = now + FAREWELL_S
        return is_first

    def end_farewell(self) -> bool:
        """The debugger has let go, or will not: whether an interrupt was waiting for that."""
        was_waiting, self._farewell_by = self._farewell_by is not None, None
        return was_waiting

    def is_overdue(self, *, now: float) -> bool:
        """Whether the farewell has taken too long."""
        return self._farewell_by is not None and now > self._farewell_by

    def finish(self, error: str | None, *, now: float) -> None:
        """Answer all: the kernel was interrupted, or `error` says why not."""
        content: JsonObject = {"status": "ok"} if error is None else error_content(error)
        waiting, self._waiting = self._waiting, []
        self._farewell_by = None
        for request in waiting:
            self._front.reply(request, content, now=now)
            self._front.idle(request, now=now)
