"""Where the debugger's requests come in: some pass, some are answered here, some wait for their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from colab_kernel.debugger import Answer, DebugGuard, Hold
from colab_kernel.frontend_outbox import FrontendOutbox
from colab_kernel.made_messages import dump
from colab_kernel.messages import JsonObject, Message
from colab_kernel.relay_events import Phase
from colab_kernel.requests import Request

DOUBT_S = 1.0
"""How long a debugger's state may be in doubt before it is asked, and how often it is asked while it is."""


class Forward(Protocol):
    def __call__(self, request: Request, *, now: float) -> None: ...


class Ask(Protocol):
    def __call__(self, content: JsonObject, *, now: float) -> None: ...


class DebugGate:
    """Keeps debug_requests in their order. Only `debugInfo` goes past those that wait: frontends hang on it.

    Args:
        guard: decides.
        front: where answers from here go.
        forward: sends a request on to the remote kernel.
        ask: sends a request of our own to the remote debugger.
    """

    def __init__(self, guard: DebugGuard, *, front: FrontendOutbox, forward: Forward, ask: Ask) -> None:
        self._guard = guard
        self._front = front
        self._forward = forward
        self._ask = ask
        self._held: deque[Request] = deque()
        self._in_doubt_since: float | None = None

    @property
    def held(self) -> int:
        """How many requests wait here."""
        return len(self._held)

    def receive(self, request: Request, *, phase: Phase, shell_busy: Callable[[], bool], now: float) -> None:
        """A debug_request of a frontend."""
        asks_for_info = request.command == "debugInfo"
        if phase is Phase.UNREACHABLE and asks_for_info:
            content = self._guard.debug_info_without_kernel(request.message.parsed_content)
            self._front.answer(request, content, now=now)
            return
        must_wait = phase is Phase.CONNECTING or (bool(self._held) and not asks_for_info)
        if must_wait or not self._passes(request, shell_busy=shell_busy(), now=now):
            self._held.append(request)

    def note_cell(self, message: Message) -> None:
        """A cell is about to be run: its breakpoints may be named after it.

        Source: KernelExecuteRequest.metadata.cellId, https://github.com/microsoft/vscode-jupyter
        """
        if message.msg_type == "execute_request":
            cell_id, code = message.parsed_metadata.get("cellId"), message.parsed_content.get("code")
            if isinstance(cell_id, str) and isinstance(code, str):
                self._guard.cell_executed(cell_id=cell_id, code=code)

    def release(self, *, shell_busy: Callable[[], bool], now: float) -> None:
        """Let through what waited and need not wait any more."""
        while self._held and self._passes(self._held[0], shell_busy=shell_busy(), now=now):
            self._held.popleft()

    def tick(self, *, events_are_dropped: bool, now: float) -> None:
        """Ask the debugger how it stands, where what was heard of it does not add up for a while."""
        if not self._guard.is_in_doubt and not (events_are_dropped and self._guard.is_active):
            self._in_doubt_since = None
        elif self._in_doubt_since is None:
            self._in_doubt_since = now
        elif now - self._in_doubt_since >= DOUBT_S:
            self._in_doubt_since = now
            self._ask(self._guard.own_debug_info(seq=0), now=now)

    def take_held(self) -> list[Request]:
        """All that waits, which will not be let through."""
        held = list(self._held)
        self._held.clear()
        return held

    def _passes(self, request: Request, *, shell_busy: bool, now: float) -> bool:
        content = request.message.parsed_content
        if request.command == "attach" and self._guard.needs_debug_info:
            self._ask(self._guard.own_debug_info(seq=0), now=now)
            return False
        decision = self._guard.request(content, shell_busy=shell_busy)
        if isinstance(decision, Hold):
            return False
        if isinstance(decision, Answer):
            self._front.answer(request, decision.content, now=now)
            return True
        if decision.content is not None:
            message = replace(request.message, content=dump(decision.content))
            request = Request.of(message, identities=request.identities, now=now)
        self._forward(request, now=now)
        return True
