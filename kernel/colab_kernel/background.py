"""Blocking calls beside the loop: each in a thread of its own, its outcome handed back to the loop."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Runs functions in threads, and wakes a loop that polls `fileno()` when an outcome is there.

    The threads do not keep the process alive: what hangs in the network is left behind at the end.
    """

    def __init__(self) -> None:
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable when there are outcomes."""
        return self._reader.fileno()

    def start(self, work: Callable[[], T], then: Callable[[T | Exception], None]) -> threading.Thread:
        """Run `work` in a thread; `then` is called in the loop with what it returned, or raised."""

        def run() -> None:
            outcome: T | Exception
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            self._done.put(lambda: then(outcome))
            self.wake()

        thread = threading.Thread(target=run, name=getattr(work, "__name__", "work"), daemon=True)
        thread.start()
        return thread

    def wake(self) -> None:
        """Make `fileno()` readable; may be called from a signal handler and from any thread."""
        try:
            self._writer.send(b"!")
        except OSError:  # full: it is readable already; closed: nobody waits
            pass

    def run_outcomes(self) -> None:
        """Call `then` of everything that is done."""
        try:
            while self._reader.recv(4096):
                pass
        except OSError:
            pass
        for outcome in self._outcomes():
            outcome()

    def _outcomes(self) -> Iterator[Callable[[], None]]:
        while True:
            try:
                yield self._done.get_nowait()
            except queue.Empty:
                return
