"""A port here at which an editor's debugger finds a job that runs there: F5 in VS Code attaches to it.

Each connection is a visitor of its own, through the session and its authentication: the second one looks on.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.loopback_ports import accept_ours, listen
from colab_magics.tunnel.plan import Say
from colab_magics.visit import dap_framing
from colab_magics.visit.editor import Editor

LOOK_S = 0.5
"""How often it is seen that the port is not wanted any more, or that the machine is gone."""

ANSWER_S = 30.0
"""How long a visitor's kernel may take to its first answer: that of a job that is over never answers."""

_PIECE_BYTES = 65536


class EditorPort:
    """Listens from `begin` until it is closed, the job is over, or `is_wanted` says no.

    Attributes:
        port: the one here, on 127.0.0.1 only.
    """

    def __init__(
        self,
        visit: Runtime,
        *,
        port: int = 0,
        say: Say = lambda sentence: None,
        is_wanted: Callable[[], bool] = lambda: True,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the port; nobody is let in before `begin`.

        Args:
            visit: the session, its kernel being the visitor's to the job.
            port: 0 for a free one.
            say: where it is told that an editor could not be let in.
            is_wanted: asked now and then; it closes itself when the answer is no.
            at_end: called once when it has closed.

        Raises:
            UsageError: the port is taken.
        """
        self._visit, self._say, self._is_wanted, self._at_end = visit, say, is_wanted, at_end
        self._listener = listen(port)
        self.port = int(self._listener.getsockname()[1])
        self._is_closed = threading.Event()
        self._guests: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve, name=f"colab editor :{self.port}", daemon=True)

    def begin(self) -> None:
        """Let editors in."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and have every visitor leave. A second time is no error."""
        self._is_closed.set()
        if self._thread.ident is None:
            self._listener.close()
        else:
            self._thread.join()

    def wait(self) -> None:
        """Block until it is closed, or the person interrupts."""
        while not self._is_closed.wait(3600):
            pass

    def _serve(self) -> None:
        try:
            while not self._is_closed.is_set() and self._is_wanted():
                if select.select([self._listener], [], [], LOOK_S)[0]:
                    self._accept()
        finally:
            self._is_closed.set()
            self._listener.close()
            for guest in self._guests:
                guest.join()
            self._at_end()

    def _accept(self) -> None:
        accepted = accept_ours(self._listener, say=self._say)
        if accepted is None:
            return
        guest = threading.Thread(target=self._attend, args=(accepted,), name="colab editor", daemon=True)
        self._guests = [each for each in self._guests if each.is_alive()] + [guest]
        guest.start()

    def _attend(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                if _Guest(accepted, self._visit, is_closed=self._is_closed).run():
                    self._is_closed.set()
            except TunnelError as error:
                self._say(f"the job could not be visited: {error}")
            except (OSError, ValueError):
                return  # the editor is gone, or is none


class _Guest:
    """One editor, and the visitor's kernel that it has."""

    def __init__(self, accepted: socket.socket, visit: Runtime, *, is_closed: threading.Event) -> None:
        self._socket, self._visit, self._is_closed = accepted, visit, is_closed
        self._editor = Editor(is_here=lambda path: Path(path).is_file())
        self._said: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        self._is_answered = False

    def run(self) -> bool:
        """Until the editor leaves, or nobody wants it any more, or the job is over: whether that is it.

        Raises:
            TunnelError: the job's machine is gone, or the job does not answer.
            OSError: the editor is gone.
            ValueError: it does not speak DAP.
        """
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._reader, self._writer, Hand.open(self._visit, on_debug=self._take, bare=True) as hand:
            parser, begun = dap_framing.Parser(), time.monotonic()
            while not self._editor.is_over:
                ready = select.select([self._socket, self._reader], [], [], LOOK_S)[0]
                if self._socket in ready:
                    data = self._socket.recv(_PIECE_BYTES)
                    if not data:
                        return False
                    for message in parser.feed(data):
                        self._editor.receive_editor(message)
                if self._reader in ready:
                    self._reader.recv(4096)
                    self._hear()
                if hand.is_over or self._is_closed.is_set():
                    self._editor.end()
                elif not self._is_answered and time.monotonic() - begun > ANSWER_S:
                    raise TunnelError("it does not answer: is it over?")
                self._send(hand)
        return self._editor.job_is_over

    def _take(self, kind: str, content: Mapping[str, Any]) -> None:
        """In the hand's thread."""
        self._said.put((kind, dict(content)))
        self._writer.send(b"!")

    def _hear(self) -> None:
        self._is_answered = True
        while not self._said.empty():
            kind, content = self._said.get()
            if kind == "debug_reply":
                self._editor.receive_reply(content)
            else:
                self._editor.receive_event(content)

    def _send(self, hand: Hand) -> None:
        due = self._editor.take_due()
        for content in due.to_kernel:
            hand.debug(content)
        if due.to_editor:
            self._socket.sendall(b"".join(dap_framing.serialize(each) for each in due.to_editor))
