"""Where the debugger's requests come in: some pass, some are answered here, some wait for their time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from colab_kernel.debugger import Answer, DebugGuard, Hold
from colab_kernel.frontend_outbox import FrontendOutbox
from colab_kernel.messages import JsonObject
from colab_kernel.relay_events import Phase
from colab_kernel.requests import Request


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
        elif (
            phase is Phase.CONNECTING
            or (self._held and not asks_for_info)
            or not self._passes(request, shell_busy=shell_busy(), now=now)
        ):
            self._held.append(request)

    def release(self, *, shell_busy: Callable[[], bool], now: float) -> None:
        """Let through what waited and need not wait any more."""
        while self._held and self._passes(self._held[0], shell_busy=shell_busy(), now=now):
            self._held.popleft()

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
            message = replace(request.message, content=decision.content)
            request = Request.of(message, identities=request.identities, now=now)
        self._forward(request, now=now)
        return True
