"""A port that leads to another one over a network that can be slow, silent, forgetful, or gone.

with TcpProxy(server.port) as network:
    runtime = Runtime(name="r", url=f"http://127.0.0.1:{network.port}")
    network.delay_s = 0.15       # each way
    network.cut()                # FIN to both ends: the connections of now end, new ones are welcome
    network.abort()              # RST to both ends
    network.hold()               # a hole: nothing passes, new connections included …
    network.release()            # … and then all of it does, as TCP delivers what it holds
    network.swallow()            # whoever carried them forgot the connections: they stay silent for good …
    network.let_go()             # … and those opened from now on are carried again
    network.refuse()             # nobody listens any more; connections that are open live on …
    network.accept()             # … and somebody does again, on the same port
    network.when(b"idle", Way.DOWN, network.swallow)  # just before these bytes pass

Every method has happened when it returns, and may be called by any thread, `when`'s actions included.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

_IN_FLIGHT_BYTES = 8 * 1024 * 1024
"""So much is on its way in one direction, then the sender feels it."""


class Way(enum.StrEnum):
    """A direction."""

    UP = "to the server"
    DOWN = "from the server"


BOTH = (Way.UP, Way.DOWN)


class TcpProxy:
    """A port of the loopback interface that leads to another one, between `with` and its end.

    Attributes:
        delay_s: how long what comes from now on is on its way, each way.
        port: where it listens; the same all its life.
        carried_bytes: how much has been passed on, a number for each way.
    """

    def __init__(self, upstream_port: int, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.port = 0
        self.carried_bytes: Counter[Way] = Counter()
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp proxy")
        self._listener: asyncio.Server | None = None
        self._carriers: set[_Carrier] = set()
        self._held: set[Way] = set()
        self._swallowed: set[Way] = set()
        self._plans: list[_Plan] = []

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._listen)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            self._stop_listening()
            for carrier in [*self._carriers]:
                carrier.abort()
            # Closed sockets are let go in the next turn of the loop, connections in the making at once.
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many there are: carried, held or forgotten, as long as one end has not closed."""
        return len(self._carriers)

    # --- what can happen ---------------------------------------------------------------------------------

    def cut(self) -> None:
        """Close every connection towards both ends, orderly; what was on its way is lost."""
        self._do(lambda: [carrier.cut() for carrier in [*self._carriers]])

    def abort(self) -> None:
        """Reset every connection towards both ends."""
        self._do(lambda: [carrier.abort() for carrier in [*self._carriers]])

    def hold(self, *ways: Way) -> None:
        """Let nothing pass, the end of a connection included, until `release`. Nothing is lost."""
        self._do(lambda: self._held.update(ways or BOTH))

    def release(self) -> None:
        """Deliver what was held, and let everything pass."""

        async def act() -> None:
            self._held.clear()
            for carrier in [*self._carriers]:
                carrier.go_on()

        self._run(act)

    def swallow(self, *ways: Way) -> None:
        """Lose for good what comes on the connections of now, and on those opened until `let_go`.

        Neither end learns of it, nor that the other one closes.
        """

        async def act() -> None:
            self._swallowed.update(ways or BOTH)
            for carrier in self._carriers:
                carrier.forget(ways or BOTH)

        self._run(act)

    def let_go(self) -> None:
        """Carry the connections that are opened from now on."""
        self._do(self._swallowed.clear)

    def refuse(self) -> None:
        """Stop listening: whoever tries to connect is refused at once. Open connections are carried on."""
        self._do(self._stop_listening)

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._run(self._listen)

    def when(self, pattern: bytes, way: Way, action: Callable[[], object]) -> None:
        """Once, when `pattern` arrives on its way, do `action` before it goes on; what is before it does.

        The pattern must come in one piece: something short.
        """
        self._do(lambda: self._plans.append(_Plan(pattern, way, action)))

    # --- inside ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._listener is not None:
            return
        self._listener = await self._loop.create_server(
            lambda: _Carrier(self).client, "127.0.0.1", self.port, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _do(self, act: Callable[[], object]) -> None:
        async def acting() -> None:
            act()

        self._run(acting)

    def _run(self, act: Callable[[], object]) -> None:
        coroutine = act()
        assert asyncio.iscoroutine(coroutine)
        if threading.current_thread() is not self._thread:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)
            return
        # From an action of `when`: everything but `accept` is done without waiting.
        with contextlib.suppress(StopIteration):
            coroutine.send(None)
            raise AssertionError("this cannot be an action")

    def _plan_for(self, data: bytes, way: Way) -> tuple[int, Callable[[], object]] | None:
        for plan in self._plans:
            at = data.find(plan.pattern) if plan.way is way else -1
            if at >= 0:
                self._plans.remove(plan)
                return at, plan.action
        return None


class _Plan:
    def __init__(self, pattern: bytes, way: Way, action: Callable[[], object]) -> None:
        self.pattern, self.way, self.action = pattern, way, action


class _Carrier:
    """One connection through the proxy: a socket at each end, and what is on its way between them."""

    def __init__(self, network: TcpProxy) -> None:
        self.network = network
        self.client, self.server = _End(self, Way.UP), _End(self, Way.DOWN)
        self.lost = set(network._swallowed)
        self._cut, self._aborted = False, False
        network._carriers.add(self)

    def other(self, end: _End) -> _End:
        return self.server if end is self.client else self.client

    def opened(self, end: _End) -> None:
        # The end towards the server may come to be when the connection has met its fate already.
        if self._aborted:
            end.reset()
        elif self._cut:
            end.finish()
        elif end is self.client:
            task = self.network._loop.create_task(self._dial())
            self._dialling = task
        else:
            self.go_on()

    async def _dial(self) -> None:
        try:
            await self.network._loop.create_connection(
                lambda: self.server, "127.0.0.1", self.network._upstream_port
            )
        except OSError:
            self.abort()

    def go_on(self) -> None:
        self.client.pass_on()
        self.server.pass_on()

    def forget(self, ways: tuple[Way, ...]) -> None:
        self.lost.update(ways)
        self.go_on()

    def cut(self) -> None:
        # What arrives from now on is read and dropped: a socket closed with unread data would reset.
        self._cut = True
        self.lost.update(BOTH)
        for end in (self.client, self.server):
            end.on_the_way.clear()
            end.finish()
            end.resume()

    def abort(self) -> None:
        self._aborted = True
        for end in (self.client, self.server):
            end.reset()
        self.network._carriers.discard(self)

    def closed(self, end: _End) -> None:
        """One end is gone. The other learns of it behind what is on its way, if it learns of anything."""
        if self.other(end).gone:
            self.network._carriers.discard(self)


class _End(asyncio.Protocol):
    """One socket of a connection, and what came from it: chunks, each with the time when it is due."""

    def __init__(self, carrier: _Carrier, way: Way) -> None:
        self._carrier, self._way = carrier, way
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._timer: asyncio.TimerHandle | None = None
        self._size = 0
        self._ended, self._finished = False, False
        self.gone = False
        self.on_the_way: deque[tuple[float, bytes | _Ending]] = deque()

    # asyncio.Protocol: what the socket does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._carrier.opened(self)

    def data_received(self, data: bytes) -> None:
        network = self._carrier.network
        planned = network._plan_for(data, self._way)
        if planned is not None:
            at, action = planned
            if at:
                self._put(data[:at])
            action()
            data = data[at:]
        self._put(data)

    def eof_received(self) -> bool:
        self._ended = True
        self._put(_Ending.FIN)
        self._close_if_done()
        return True  # the other direction stays open

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        if error is not None:
            self._put(_Ending.RST)
        self._carrier.closed(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._carrier.other(self).pass_on()

    # what the network does with it

    def pass_on(self) -> None:
        """Deliver to the other end what is due, as far as it may and can be delivered."""
        carrier, network = self._carrier, self._carrier.network
        sink = carrier.other(self)
        while self.on_the_way and self._timer is None:
            lost = self._way in carrier.lost
            if not lost and (self._way in network._held or sink._transport is None or not sink._writable):
                return
            due, what = self.on_the_way[0]
            wait_s = due - network._loop.time()
            if wait_s > 0 and not lost:
                self._timer = network._loop.call_later(wait_s, self._timed)
                return
            self.on_the_way.popleft()
            if isinstance(what, bytes):
                self._size -= len(what)
            if not lost:
                self._deliver(what, sink)
        if self._size < _IN_FLIGHT_BYTES:
            self.resume()

    def finish(self) -> None:
        if self._transport is not None and not self.gone and self._transport.can_write_eof():
            self._finished = True
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
            self._close_if_done()

    def reset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self.gone:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def resume(self) -> None:
        if self._transport is not None and not self.gone and not self._ended:
            self._transport.resume_reading()

    def _close_if_done(self) -> None:
        if self._ended and self._finished and self._transport is not None:
            self._transport.close()

    def _put(self, what: bytes | _Ending) -> None:
        network = self._carrier.network
        self.on_the_way.append((network._loop.time() + network.delay_s, what))
        if isinstance(what, bytes):
            self._size += len(what)
        self.pass_on()
        reading = self._transport is not None and not self.gone and not self._ended
        if reading and self._size >= _IN_FLIGHT_BYTES:
            self._transport.pause_reading()

    def _timed(self) -> None:
        self._timer = None
        self.pass_on()

    def _deliver(self, what: bytes | _Ending, sink: _End) -> None:
        transport = sink._transport
        if transport is None or sink.gone:
            return
        match what:
            case _Ending.FIN:
                sink.finish()
            case _Ending.RST:
                sink.reset()
            case data:
                self._carrier.network.carried_bytes[self._way] += len(data)
                transport.write(data)

    @property
    def _socket(self) -> socket.socket:
        assert self._transport is not None
        return cast(socket.socket, self._transport.get_extra_info("socket"))


class _Ending(enum.Enum):
    FIN = enum.auto()
    RST = enum.auto()
