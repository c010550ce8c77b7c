"""What all frontends hear, at the pace of the slowest: a frontend that stops reading costs bounded memory.

- `XPUB_NODROP` makes a full queue an error and not a loss, for all subscribers together. The queue counts
  messages (SNDHWM), whatever their size, so big ones are counted here in bytes.
- Measured with a subscriber stopped by SIGSTOP: with SNDHWM=100 it took 149 messages of 60 kB until the error
  came, with 10 it took 59. What is beyond the queue is in the sockets' own buffers and in the peer (about
  3.5 MB); our memory grew by the queue. When the subscriber went on, all of them arrived; when it was killed,
  sending worked again 5 ms later. POLLOUT was signalled all the time, so a sender can only try again.
- A subscriber that missed one message, because its queue was full, gets none until it has read half of the
  queue, and holds nobody up meanwhile. So one lossy message lets the others go on, without loss for them: in
  the measurement 5,000 more, all of which arrived.

Source: measured 2026-11-24 with libzmq 4.3.5; https://libzmq.readthedocs.io/en/latest/zmq_setsockopt.html;
https://github.com/zeromq/libzmq/blob/v4.3.5/src/xpub.cpp (xsend), dist.cpp (check_hwm, write)
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence

import zmq

from colab_kernel.messages import Buffer

_log = logging.getLogger(__name__)

QUEUED_MESSAGES = 100
"""For each subscriber. More gains nothing: a hundred come within milliseconds, and whoever reads takes them
within milliseconds."""

QUEUED_BYTES = 64 * 1024 * 1024
"""Of big messages; the one that goes beyond is the last, so that one of any size gets through."""

BIG_BYTES = 64 * 1024
"""From here on a message is not copied, and counts in bytes.

Source: https://pyzmq.readthedocs.io/en/latest/api/zmq.html (COPY_THRESHOLD)
"""

STALLED_S = 30.0
"""How long one of several subscribers may hold up the others."""

_PACE_S = 0.05


_LAST = int(zmq.NOBLOCK)
_NOT_LAST = int(zmq.NOBLOCK | zmq.SNDMORE)


def send_small(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """Send one message, copied, without waiting; all of it or, with zmq.Again, nothing.

    `send_multipart` adds flags of an enum anew for every frame: 8 µs for seven frames, here 3 (2026-11).
    """
    for frame in frames[:-1]:
        socket.send(frame, _NOT_LAST)
    socket.send(frames[-1], _LAST)


class Publisher:
    """Sends on an XPUB socket without waiting, and counts who listens.

    Attributes:
        subscribers: how many subscriptions there are, as far as `take_subscriptions` or `send` has read.
    """

    def __init__(self, socket: zmq.Socket[bytes], *, stalled_s: float = STALLED_S) -> None:
        """Take a socket over before it is bound; its options are set here."""
        socket.sndhwm = QUEUED_MESSAGES
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._socket = socket
        self._stalled_s = stalled_s
        self._full_since: float | None = None
        self._big: deque[tuple[zmq.MessageTracker, int]] = deque()  # those that libzmq still holds
        self._big_bytes = 0
        self._new_subscriptions = 0
        self.subscribers = 0

    def take_subscriptions(self) -> int:
        """How many have subscribed since this was asked last."""
        self._read_subscriptions()
        new, self._new_subscriptions = self._new_subscriptions, 0
        return new

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send one message to all, or to nobody.

        Returns:
            False: somebody's queue is full, try again in a few milliseconds. If one of several subscribers
            has been in the way for `stalled_s`, the message goes past it, which loses messages from here on.
        """
        now = time.monotonic()
        has_room = self._queued_bytes() < QUEUED_BYTES
        is_overdue = self._is_overdue(now)
        if (has_room or is_overdue) and self._try(frames):
            # Beyond QUEUED_BYTES, so that the stalled queue fills while the others keep up with the pace.
            self._full_since = None if has_room else now - self._stalled_s + _PACE_S
            return True
        if is_overdue:
            self._send_past_the_stalled(frames)
        elif self._full_since is None:
            self._full_since = now
        return is_overdue

    def _is_overdue(self, now: float) -> bool:
        if self._full_since is None or now - self._full_since < self._stalled_s:
            return False
        self._read_subscriptions()
        return self.subscribers > 1

    def _send_past_the_stalled(self, frames: Sequence[Buffer]) -> None:
        _log.warning(
            "one of %d frontends has not read iopub for %g s and held up the others: it loses messages now",
            self.subscribers,
            self._stalled_s,
        )
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        self._try(frames)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._full_since = None
        self._big.clear()  # what waits for that one is written off, or it would hold up the others again
        self._big_bytes = 0

    def _try(self, frames: Sequence[Buffer]) -> bool:
        size_bytes = sum(map(len, frames))
        try:
            if size_bytes < BIG_BYTES:
                send_small(self._socket, frames)
                return True
            # A queue is in order: when libzmq is done with the last frame, it is done with all.
            last = zmq.Frame(frames[-1], track=True, copy=False)
            tracker = self._socket.send_multipart([*frames[:-1], last], zmq.NOBLOCK, copy=False, track=True)
        except zmq.Again:
            return False
        assert tracker is not None
        self._big.append((tracker, size_bytes))
        self._big_bytes += size_bytes
        return True

    def _queued_bytes(self) -> int:
        while self._big and self._big[0][0].done:
            self._big_bytes -= self._big.popleft()[1]
        return self._big_bytes

    def _read_subscriptions(self) -> None:
        """Count subscriptions: a frame is 1 and a topic, or 0 and a topic when that one or its peer is gone.

        Source: https://libzmq.readthedocs.io/en/latest/zmq_socket.html (ZMQ_XPUB)
        """
        while True:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            match frame[:1]:
                case b"\x01":
                    self.subscribers += 1
                    self._new_subscriptions += 1
                case b"\x00":
                    self.subscribers -= 1
