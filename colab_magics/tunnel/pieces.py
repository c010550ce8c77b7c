"""Verbs asked of a hand one behind another, a few at a time, so that the line is never idle nor flooded.

A Jupyter Server may drop what a kernel says (`iopub_msg_rate_limit` and its kin): an answer that was lost is
asked for again. That is why every verb that goes this way may be asked twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from colab_kernel.messages import Buffer
from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Answer, Hand

FIRST_BYTES = 256 * 1024
LEAST_BYTES = 64 * 1024
MOST_BYTES = 2 * 1024 * 1024
IN_FLIGHT = 4
"""With 2 MiB each: 40 MB/s at 200 ms there and back."""

QUICK_S, SLOW_S = 0.5, 2.0
"""A piece that took less is followed by larger ones, one that took more by smaller ones: at 1 Mbit/s too,
what is on its way has arrived before the line counts as silent (`hand.SILENT_S`)."""

LOOK_S = 0.5
GIVE_UP_S = 60.0

K = TypeVar("K")


def message_pace(max_message_bytes: int) -> Pace:
    """For pieces in messages, of which a server takes so many bytes."""
    return Pace(most_bytes=min(MOST_BYTES, max_message_bytes // 2))


class Pace:
    """How large the next piece is to be."""

    def __init__(self, *, most_bytes: int) -> None:
        """Begins small: nothing is known of the line yet."""
        self._most = most_bytes
        self.size_bytes = min(FIRST_BYTES, self._most)

    def took(self, seconds: float) -> None:
        """A piece came back after so long."""
        if seconds < QUICK_S:
            self.size_bytes = min(2 * self.size_bytes, self._most)
        elif seconds > SLOW_S:
            self.size_bytes = max(self.size_bytes // 2, LEAST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[K]):
    """One call of a verb.

    Attributes:
        key: the caller's own, to know its answer by.
    """

    key: K
    verb: str
    content: Mapping[str, Any]
    buffers: Sequence[Buffer] = ()
    asked_at: float = field(default_factory=time.monotonic)


def stream(
    hand: Hand, requests: Iterable[Request[K]], *, pace: Pace | None = None
) -> Iterator[tuple[Request[K], Answer]]:
    """Ask one after another and give each with its answer, in order; `IN_FLIGHT` are on their way at a time.

    Raises:
        TunnelError: a verb failed, the line broke, or nothing came for a minute.
    """
    waiting: deque[tuple[Request[K], Future[Answer]]] = deque()
    source = iter(requests)
    while True:
        while len(waiting) < IN_FLIGHT and (request := next(source, None)) is not None:
            waiting.append((request, _begin(hand, request)))
        if not waiting:
            return
        answer = _oldest(hand, waiting)
        request, _ = waiting.popleft()
        if pace is not None:
            pace.took(time.monotonic() - request.asked_at)
        yield request, answer


def _begin(hand: Hand, request: Request[Any]) -> Future[Answer]:
    return hand.begin(request.verb, buffers=request.buffers, **request.content)


def _oldest(hand: Hand, waiting: deque[tuple[Request[Any], Future[Answer]]]) -> Answer:
    """The answer that is due next. Answers come in order: what a later one overtook was lost."""
    request, expected = waiting[0]
    later = [future for _, future in waiting if future is not expected]
    deadline = time.monotonic() + GIVE_UP_S
    while not expected.done():
        if any(one.done() for one in later) and not expected.done():
            expected, later = _begin(hand, request), []
        try:
            return expected.result(LOOK_S)
        except FutureTimeoutError:
            later.append(hand.begin("here"))
        if time.monotonic() > deadline:
            raise TunnelError(f"the machine did not answer in {GIVE_UP_S:g} s")
    return expected.result()
