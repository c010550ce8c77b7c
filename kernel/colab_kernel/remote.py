"""One websocket to a remote kernel, for a loop that may not wait.

The handshake and the frames are those of `websockets`' sans-I/O protocol: 2 µs a message (2026-11, 17.4).

Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State

from colab_kernel import ws_wire
from colab_kernel.errors import MalformedError, UnframeableError
from colab_kernel.messages import Message
from colab_kernel.opening import OPEN_S, kernel_path, open_websocket
from colab_kernel.runtime import Access, Runtime
from colab_kernel.ws_wire import Subprotocol

_log = logging.getLogger(__name__)

RECEIVE_BYTES = 256 * 1024
"""What one `receive` takes: some hundred small messages, then it is the other sockets' turn."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Asked for after every read where it exists (Linux); elsewhere a pong goes out, which has the same effect.
tornado leaves Nagle's algorithm on and so holds a reply back until what went before it is acknowledged: by
default after 40 ms (measured 2026-10: 44 ms a request without, 3 with, 6 by pongs).

Source: https://man7.org/linux/man-pages/man7/tcp.7.html (TCP_QUICKACK: "not permanent")
"""

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Link:
    """A websocket to one kernel. Only `open` and `finish` block.

    Attributes:
        subprotocol: how messages are framed, as the server chose.
        closed: a sentence that says why the link ended, once it has.
        heard: whether anything came since `take_heard`, pongs included.
        has_more: whether there is more to `receive` of which a poll for reading would not tell.
        unsent_bytes: how much waits to be sent; `wants_write`: whether any does.
        dropped: how many messages came that could not be parsed.
    """

    def __init__(
        self, sock: socket.socket, protocol: ClientProtocol, *, early: Sequence[Frame], max_message_bytes: int
    ) -> None:
        """Take over a socket, and the frames that came with the answer to the handshake; see `open`."""
        self.subprotocol = Subprotocol(protocol.subprotocol or "")
        self.closed: str | None = None
        self.heard = True
        self.has_more = True
        self.unsent_bytes = 0
        self.wants_write = False
        self.dropped = 0
        self._socket = sock
        self._protocol = protocol
        self._frames = list(early)
        self._fragments: list[bytes] = []
        self._is_text = False
        self._max_message_bytes = max_message_bytes
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._unsent: deque[memoryview] = deque()
        self._send_error: OSError | None = None
        sock.setblocking(False)

    @classmethod
    def open(
        cls, runtime: Runtime, access: Access, *, kernel_id: str, session_id: str, timeout_s: float = OPEN_S
    ) -> Link:
        """Open a websocket to a kernel of that runtime; blocks.

        Args:
            session_id: the same for every link to the same kernel: under it the server keeps what comes while
                there is none.

        Raises:
            RemoteError: there is none to be had, or one of its kin: see `refusals`.
        """
        opened = open_websocket(
            runtime,
            access,
            path=kernel_path(kernel_id),
            kernel_id=kernel_id,
            session_id=session_id,
            timeout_s=timeout_s,
        )
        return cls(
            opened.socket,
            opened.protocol,
            early=opened.early,
            max_message_bytes=runtime.max_message_bytes,
        )

    def fileno(self) -> int:
        """For a poller: reading always, writing while `wants_write`."""
        return self._socket.fileno()

    # --- from the kernel ---------------------------------------------------------------------------------

    def receive(self, *, limit_bytes: int = RECEIVE_BYTES) -> list[Message]:
        """What has come, as far as `limit_bytes` go; nothing if nothing has. Pings are answered.

        What is not a message is dropped with a line in the log. Look at `closed` afterwards.
        """
        self._read(limit_bytes)
        frames, self._frames = [*self._frames, *_frames(self._protocol.events_received())], []
        messages = [message for frame in frames if (message := self._message(frame)) is not None]
        if messages and _QUICKACK is None and self._protocol.state is State.OPEN:
            self._protocol.send_pong(b"")
        self._take_writes()
        self.flush()
        self._note_close()
        return messages

    def take_heard(self) -> bool:
        """Whether anything came since this was last asked."""
        heard, self.heard = self.heard, False
        return heard

    def _read(self, limit_bytes: int) -> None:
        self.has_more = False
        left, is_tls = limit_bytes, isinstance(self._socket, ssl.SSLSocket)
        while left > 0 and self.closed is None:
            try:
                count = self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
            except _NOT_NOW:
                error = self._send_error
                self.closed = None if error is None else _broken(error)
                return
            except OSError as error:
                self.closed = _broken(error)
                return
            if count == 0:
                self._protocol.receive_eof()
                return
            self.heard = True
            if _QUICKACK is not None:
                with contextlib.suppress(OSError):  # reset meanwhile: the next read says so
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            self._protocol.receive_data(cast(bytes, self._buffer[:count]))  # it copies
            if not is_tls:
                return  # of the rest a poller knows
            left -= count
        # Decrypted already, it is nothing that a poller could see.
        self.has_more = left <= 0

    def _message(self, frame: Frame) -> Message | None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        data = cast(bytes, frame.data)  # a bytearray in some releases, which nobody else holds
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if self._fragments or not frame.fin:
            self._fragments.append(data)
            if not frame.fin:
                return None
            data, self._fragments = b"".join(self._fragments), []
        try:
            payload = str(data, "utf-8") if self._is_text else data
            return ws_wire.parse(payload, subprotocol=self.subprotocol)
        except MalformedError as error:
            _log.warning("dropped what came from the runtime: %s", error)
        except UnicodeDecodeError:
            _log.warning("dropped what came from the runtime: a text frame that is not UTF-8")
        self.dropped += 1
        return None

    # --- to the kernel -----------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message; `flush` sends it. On a link that has ended it goes nowhere.

        Raises:
            UnframeableError: it cannot be framed, or is longer than the server takes, which would close the
                websocket (1009). Nothing was queued.
        """
        payload = ws_wire.serialize(message, subprotocol=self.subprotocol)
        data = payload.encode() if isinstance(payload, str) else payload
        if len(data) > self._max_message_bytes:
            most = f"{self._max_message_bytes:,} bytes"
            raise UnframeableError(f"a message of {len(data):,} bytes is longer than the {most} it may have")
        if self.closed is not None or self._protocol.state is not State.OPEN:
            return
        if isinstance(payload, str):
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        self._take_writes()

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.closed is None and self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._take_writes()
            self.flush()

    def flush(self) -> None:
        """Send of what is queued as much as the socket takes now."""
        while self._unsent and self.closed is None:
            chunk = self._unsent[0]
            try:
                count = self._socket.send(chunk)
            except _NOT_NOW:
                break
            except OSError as error:
                # The server may have said why before it hung up: what it said is still to be read.
                self._send_error, self.has_more = error, True
                self._unsent.clear()
                self.unsent_bytes = 0
                break
            self.unsent_bytes -= count
            if count < len(chunk):
                self._unsent[0] = chunk[count:]
            else:
                self._unsent.popleft()
        self.wants_write = bool(self._unsent)

    def _take_writes(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # an empty one stands for the end, which is `close`'s
                self._unsent.append(memoryview(data))
                self.unsent_bytes += len(data)
        self.wants_write = bool(self._unsent)

    # --- its end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Say goodbye if the socket takes it at once, and let go of the socket."""
        self._say_goodbye()
        self.flush()
        if self.closed is None:
            self.closed = "the link was closed here"
        self._unsent.clear()
        self.unsent_bytes, self.wants_write, self.has_more = 0, False, False
        self._socket.close()

    def finish(self, *, timeout_s: float) -> list[Message]:
        """Say goodbye, wait for the server's, and close; blocks. Returns what came before that."""
        deadline = time.monotonic() + timeout_s
        self._say_goodbye()
        messages = self.receive()
        while self.closed is None and (left := deadline - time.monotonic()) > 0:
            if not self.has_more:
                select.select([self._socket], [self._socket] if self.wants_write else [], [], left)
            messages += self.receive()
        self.close()
        return messages

    def _say_goodbye(self) -> None:
        if self.closed is None and self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._take_writes()

    def _note_close(self) -> None:
        close, error = self._protocol.close_rcvd, self._protocol.parser_exc
        if self.closed is not None:
            return
        if close is not None and close.code == 1009:
            self.closed = "the server closed the websocket: a message was longer than it takes (1009)"
        elif close is not None:
            self.closed = f"the server closed the websocket ({f'{close.code} {close.reason}'.strip()})"
        elif isinstance(error, EOFError):
            self.closed = "the connection ended without a goodbye"
        elif error is not None:
            self.closed = f"what came is no websocket any more: {error}"


def _broken(error: OSError) -> str:
    return f"the connection broke: {error.strerror or type(error).__name__}"


def _frames(events: Sequence[Request | Response | Frame]) -> list[Frame]:
    return [event for event in events if isinstance(event, Frame)]
