"""A loopback port here that leads to one there, through the hand: no other port, no other way in.

Any number of connections share the hand. Of each, neither side holds more than `WINDOW_BYTES` that were not
passed on, so a slow reader holds back its own writer and nobody else. What is told is paced, since a plain
Jupyter Server drops messages beyond 1,000 a second. See `far/forward.py` for the other half.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from colab_kernel.messages import Buffer
from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.loopback_ports import accept_ours, listen
from colab_magics.tunnel.plan import Say

PIECE_BYTES = 256 * 1024
WINDOW_BYTES = 4 * PIECE_BYTES
TELLS_A_SECOND = 400
LOOK_S = 0.5
"""How often it is seen that the link has gone."""
ASK_S = 2.0
"""How often it is seen that a forward is not wanted any more."""

_RESET = struct.pack("ii", 1, 0)


class Carrier:
    """Connections that go through one hand. `take` gets what the other half says; see `Hand`'s `on_event`."""

    def __init__(self) -> None:
        """It carries nothing before it has a hand; see `open_carrier`."""
        self._hand: Hand | None = None
        self._numbers = itertools.count(1)
        self._connections: dict[int, _Connection] = {}
        self._pace = threading.Lock()
        self._next_at = 0.0

    def begin(self, hand: Hand) -> None:
        """Carry through that hand. TunnelError: as `Hand.run`."""
        hand.load("forward")
        self._hand = hand

    @property
    def is_over(self) -> bool:
        """Whether another one is needed."""
        return self._hand is None or self._hand.is_over

    @property
    def is_busy(self) -> bool:
        """Whether it carries any connection."""
        return bool(self._connections)

    def connect(self, accepted: socket.socket, *, port: int) -> None:
        """Have an accepted connection go on to a port there; it is closed at the end."""
        number = next(self._numbers)
        connection = _Connection(self, number, accepted)
        self._connections[number] = connection
        self.tell("forward_open", number, port=port, window=WINDOW_BYTES)
        connection.start()

    def tell(self, verb: str, number: int, *, buffers: Sequence[Buffer] = (), **content: Any) -> None:
        """Say something to the other half, at a pace that it can be heard at."""
        with self._pace:
            now = time.monotonic()
            self._next_at = max(self._next_at + 1 / TELLS_A_SECOND, now - 1)
            ahead_s = self._next_at - now
        if ahead_s > 0:
            time.sleep(ahead_s)
        assert self._hand is not None
        self._hand.begin(verb, buffers=buffers, connection=number, **content)

    def take(self, content: Mapping[str, Any], buffers: Sequence[Buffer]) -> None:
        """What the other half says of a connection; what is of none is ignored."""
        connection = self._connections.get(content.get("connection", 0))
        if connection is None:
            return
        match content.get("forward"):
            case "data":
                connection.arrived.put(bytes(buffers[0]))
            case "end":
                connection.arrived.put(b"")
            case "gone":
                connection.arrived.put(None)
            case "passed":
                connection.passed(content["count"])

    def forget(self, number: int) -> None:
        """A connection has ended here: it shall there as well."""
        self._connections.pop(number, None)
        if not self.is_over:
            self.tell("forward_close", number)

    def close(self) -> None:
        """End every connection, and the hand with them. It is no error if the machine is gone."""
        for connection in list(self._connections.values()):
            connection.arrived.put(None)
        if self._hand is not None:
            self._hand.close()


class _Connection:
    """One accepted connection: a thread for each direction.

    Attributes:
        arrived: what came for it: bytes; empty ones when there will be no more; None when it is gone.
    """

    def __init__(self, carrier: Carrier, number: int, accepted: socket.socket) -> None:
        self.arrived: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._carrier = carrier
        self._number = number
        self._socket = accepted
        self._changed = threading.Condition()
        self._unpassed = 0
        self._is_over = False
        self._open_halves = 2
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for work in (self._read, self._write):
            threading.Thread(target=work, name=f"colab forward {self._number}", daemon=True).start()

    def passed(self, count: int) -> None:
        with self._changed:
            self._unpassed -= count
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            while piece := self._socket.recv(PIECE_BYTES):
                with self._changed:
                    self._changed.wait_for(lambda: self._unpassed < WINDOW_BYTES or self._is_over)
                    if self._is_over:
                        return
                    self._unpassed += len(piece)
                self._carrier.tell("forward_data", self._number, buffers=[piece])
        except OSError:
            self._end(reset=True)
            return
        self._carrier.tell("forward_data", self._number)
        self._end_half()

    def _write(self) -> None:
        untold = 0
        try:
            while True:
                try:
                    piece = self.arrived.get(timeout=LOOK_S)
                except queue.Empty:
                    if self._is_over:
                        return
                    if not self._carrier.is_over:
                        continue
                    piece = None
                if piece is None:
                    self._end(reset=True)
                    return
                if not piece:
                    break
                self._socket.sendall(piece)
                untold += len(piece)
                if untold >= WINDOW_BYTES // 4:
                    self._carrier.tell("forward_passed", self._number, count=untold)
                    untold = 0
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(reset=True)
            return
        self._end_half()
        self._await_loss()

    def _await_loss(self) -> None:
        """The machine may still go away while only this side has something to say."""
        while not self._is_over:
            try:
                gone = self.arrived.get(timeout=LOOK_S) is None
            except queue.Empty:
                gone = self._carrier.is_over
            if gone:
                self._end(reset=True)

    def _end_half(self) -> None:
        with self._changed:
            self._open_halves -= 1
            if self._open_halves:
                return
        self._end(reset=False)

    def _end(self, *, reset: bool) -> None:
        with self._changed:
            if self._is_over:
                return
            self._is_over = True
            self._changed.notify_all()
        try:
            if reset:  # not the usual end: a program must not take it for one
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass
        self._socket.close()
        self._carrier.forget(self._number)


def open_carrier(runtime: Runtime) -> Carrier:
    """A carrier with a hand of its own. TunnelError: there is none to be had."""
    carrier = Carrier()
    hand = Hand.open(runtime, on_event=carrier.take)
    try:
        carrier.begin(hand)
    except BaseException:
        hand.close()
        raise
    return carrier


class Forward:
    """A port here that leads to one there until it is closed.

    Attributes:
        port: the one here, on 127.0.0.1 only.
        there: the one there.
    """

    def __init__(
        self,
        get_carrier: Callable[[], Carrier],
        *,
        there: int,
        port: int = 0,
        say: Say = lambda sentence: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Listen, and reach the machine.

        Args:
            get_carrier: makes a carrier; asked again when the one it made is over and somebody connects.
            port: 0 for a free one.
            say: where it is told that a connection could not be carried.
            is_wanted: asked now and then; it closes itself when the answer is no.

        Raises:
            UsageError: the port is taken.
            TunnelError: the machine cannot be reached.
        """
        self.there = there
        self._get_carrier, self._say, self._is_wanted = get_carrier, say, is_wanted
        self._listener = listen(port)
        self.port = int(self._listener.getsockname()[1])
        self._is_closed = threading.Event()
        try:
            self._carrier = get_carrier()
        except BaseException:
            self._listener.close()
            raise
        self._thread = threading.Thread(target=self._serve, name=f"colab forward :{self.port}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed.is_set() else f"127.0.0.1:{self.port} → port {self.there} there"
        return f"<forward {state}>"

    def close(self) -> None:
        """Stop listening, and end every connection. A second time is no error."""
        self._is_closed.set()
        self._thread.join()

    def wait(self) -> None:
        """Block until it is closed, or the person interrupts."""
        while not self._is_closed.wait(3600):
            pass

    def _serve(self) -> None:
        try:
            self._accept()
        finally:
            self._listener.close()
            self._carrier.close()
            self._is_closed.set()

    def _accept(self) -> None:
        asked_at = time.monotonic()
        while not self._is_closed.is_set():
            if time.monotonic() - asked_at > ASK_S:
                asked_at = time.monotonic()
                if not self._is_wanted():
                    return
            if not select.select([self._listener], [], [], LOOK_S)[0]:
                continue
            accepted = accept_ours(self._listener, say=self._say)
            if accepted is not None:
                with contextlib.suppress(OSError):
                    self._connect(accepted)

    def _connect(self, accepted: socket.socket) -> None:
        try:
            if self._carrier.is_over:
                lost, self._carrier = self._carrier, self._get_carrier()
                lost.close()
            self._carrier.connect(accepted, port=self.there)
        except TunnelError as error:
            accepted.close()
            self._say(str(error))
