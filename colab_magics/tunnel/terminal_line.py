"""One websocket to a terminal of a Jupyter Server: JSON arrays out, JSON arrays in. Only `open` blocks.

Source: https://github.com/jupyter/terminado/blob/main/terminado/websocket.py (`stdin`, `set_size`; `setup`,
`stdout`, `disconnect`)
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Self, cast
from urllib.parse import quote

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from colab_kernel import opening
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime

OPEN_S = 15.0
_READ_BYTES = 256 * 1024
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""As in `colab_kernel.remote`: a plain server, which has Nagle on, else holds an echo back for 40 ms."""


class TerminalLine:
    """The line. `is_over`: it has ended; `heard`: something came since that was last set to False."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol, early: Sequence[Frame]) -> None:
        """Take over a socket and the frames that came with the answer to the handshake; see `open`."""
        self.is_over = False
        self.heard = True
        self._socket = sock
        self._protocol = protocol
        self._early = list(early)
        self._fragments = b""
        self._unsent = b""
        sock.setblocking(False)

    @classmethod
    def open(cls, runtime: Runtime, server: Server, name: str) -> Self:
        """Connect to the terminal of that name.

        Raises:
            UnreachableError: nobody answers.
            RemoteError: the server answers, and has no such terminal or lets nobody in.
        """
        path = f"/terminals/websocket/{quote(name, safe='')}"
        opened = opening.open_websocket(runtime, server.access(), path=path, timeout_s=OPEN_S)
        return cls(opened.socket, opened.protocol, opened.early)

    def fileno(self) -> int:
        """For a poller: reading always, writing while `wants_write`."""
        return self._socket.fileno()

    @property
    def has_early(self) -> bool:
        """Whether there is something to receive of which no poller tells."""
        return bool(self._early)

    @property
    def wants_write(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._unsent)

    def send(self, *message: Any) -> None:
        """Say something: `send("stdin", "ls\\r")`."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(json.dumps(message).encode())
            self.flush()

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self.flush()

    def flush(self) -> None:
        """Send what the socket takes now."""
        self._unsent += b"".join(self._protocol.data_to_send())
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except _NOT_NOW:
            pass
        except OSError:
            self.is_over = True

    def receive(self) -> list[list[Any]]:
        """What has come; look at `is_over` afterwards."""
        while not self.is_over:
            try:
                data = self._socket.recv(_READ_BYTES)
            except _NOT_NOW:
                break
            except OSError:
                self.is_over = True
                break
            self.heard = True
            if not data:
                self._protocol.receive_eof()
                self.is_over = True
                break
            if _QUICKACK is not None:
                with contextlib.suppress(OSError):
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            self._protocol.receive_data(data)
            if len(data) < _READ_BYTES and not isinstance(self._socket, ssl.SSLSocket):
                break
        events = [each for each in self._protocol.events_received() if isinstance(each, Frame)]
        frames, self._early = [*self._early, *events], []
        self.flush()  # pongs
        if self._protocol.state is not State.OPEN:
            self.is_over = True
        return [message for frame in frames if (message := self._message(frame)) is not None]

    def _message(self, frame: Frame) -> list[Any] | None:
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return None
        self._fragments += cast(bytes, frame.data)
        if not frame.fin:
            return None
        data, self._fragments = self._fragments, b""
        try:
            message = json.loads(data)
        except ValueError:
            return None
        return message if isinstance(message, list) and message else None

    def close(self) -> None:
        """Say goodbye, if the socket takes it at once."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self.flush()
        self.is_over = True
        self._socket.close()
