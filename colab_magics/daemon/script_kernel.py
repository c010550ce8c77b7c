"""`python -m colab_magics.daemon.script_kernel --listener FD -f FILE`: a script's debugger, met as a kernel.

The daemon starts it beside a command that can be stepped into. The listener is a port on loopback that the
daemon has bound. One connection of this user is taken, the script's, and then nothing listens any more:
whoever wants to step into the script has to have the key in the connection file, which is the owner's alone.
It ends with the daemon; the script then runs on without a debugger.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import zmq

from colab_kernel.connection_file import ConnectionFile
from colab_kernel.frontend import Frontend
from colab_kernel.messages import Channel, Message
from colab_magics.daemon.script_session import ScriptSession
from colab_magics.tunnel.loopback_peers import is_ours

LOOK_MS = 1000
FULL_MS = 10
AT_ONCE = 50
PIECE_BYTES = 65536
MAX_SOURCE_BYTES = 10_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run until the daemon ends it, or is gone."""
    parser = argparse.ArgumentParser(prog="python -m colab_magics.daemon.script_kernel")
    parser.add_argument("-f", dest="connection_file", type=Path, required=True)
    parser.add_argument("--listener", type=int, required=True, help="a listening socket's descriptor")
    arguments = parser.parse_args(argv)
    connection = ConnectionFile.read(arguments.connection_file)
    _Loop(socket.socket(fileno=arguments.listener), connection).run()
    return 0


class _Loop:
    """One thread, all sockets."""

    def __init__(self, listener: socket.socket, connection: ConnectionFile) -> None:
        self._session = ScriptSession(session=uuid.uuid4().hex, read_source=_read_source)
        self._frontend = Frontend.bind(connection)
        self._listener = listener
        self._line: socket.socket | None = None
        self._to_frontend: deque[tuple[Message, tuple[bytes, ...]]] = deque()
        self._to_debugger = bytearray()

    def run(self) -> None:
        """Run until whoever has started this is gone."""
        daemon = os.getppid()
        while os.getppid() == daemon:
            ready = dict(self._poller().poll(FULL_MS if self._to_frontend else LOOK_MS))
            self._frontend.take_subscriptions()
            for channel in (Channel.CONTROL, Channel.SHELL):
                for identities, message in self._frontend.receive(channel, limit=AT_ONCE):
                    self._session.receive_frontend(message, identities=identities, now=time.time())
            if self._line is None and self._listener.fileno() in ready:
                self._meet()
            elif self._line is not None and ready.get(self._line.fileno(), 0) & ~zmq.POLLOUT:
                self._hear(self._line)
            self._send()

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        for each in self._frontend.sockets().values():
            poller.register(each, zmq.POLLIN)
        if self._line is not None:
            poller.register(self._line.fileno(), zmq.POLLIN | (zmq.POLLOUT if self._to_debugger else 0))
        elif self._listener.fileno() >= 0:
            poller.register(self._listener.fileno(), zmq.POLLIN)
        return poller

    def _meet(self) -> None:
        """Take the script's connection. Anybody else's is closed."""
        line, _ = self._listener.accept()
        if is_ours(line):
            self._listener.close()
            line.setblocking(False)
            self._line = line
        else:
            line.close()

    def _hear(self, line: socket.socket) -> None:
        try:
            data = line.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._session.receive_debugger(data, now=time.time())
        self._leave_if_gone()

    def _send(self) -> None:
        due = self._session.take_due()
        self._to_frontend += due.to_frontend
        self._to_debugger += due.to_debugger
        while self._to_frontend:
            message, identities = self._to_frontend[0]
            if not self._frontend.send(message, identities=identities):
                break
            self._to_frontend.popleft()
        if self._line is not None and self._to_debugger:
            try:
                del self._to_debugger[: self._line.send(self._to_debugger)]
            except BlockingIOError:
                return
            except OSError:
                self._session.receive_debugger(b"", now=time.time())
                self._leave_if_gone()

    def _leave_if_gone(self) -> None:
        if self._session.is_gone and self._line is not None:
            self._line.close()
            self._line = None
            self._to_debugger.clear()


def _read_source(path: str) -> str | None:
    try:
        if not Path(path).is_file():
            return None
        with Path(path).open("rb") as file:
            return file.read(MAX_SOURCE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
