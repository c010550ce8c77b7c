"""Git over HTTP on loopback, and a wire that counts what passes. None where nginx is not installed."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.queue.stage import ROOT


@contextmanager
def http_server(folder: Path) -> Iterator[Any]:
    """The server of the tests (tests/git_http.py); None with what is missing printed where it cannot run."""
    sys.path.append(str(ROOT / "tests"))
    try:
        import git_http
    except ImportError as error:
        print(f"not over HTTP: {error}", file=sys.stderr)
        yield None
        return
    finally:
        sys.path.remove(str(ROOT / "tests"))
    missing = git_http.what_is_missing()
    if missing:
        print(f"not over HTTP: {missing}", file=sys.stderr)
        yield None
        return
    with git_http.GitHttpServer(folder) as server:
        yield server


class Wire:
    """A TCP proxy in front of an HTTP server that counts the bytes of each request and of its answer.

    With `round_trip_s` it is a long wire: half of that for what goes up and what comes down, and two whole
    ones for a new connection, as TCP and TLS take.
    """

    def __init__(self, url: str, *, round_trip_s: float = 0.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        self._round_trip_s = round_trip_s
        self._lock = threading.Lock()
        self.exchanges: list[list[int]] = []
        self._is_up = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def reset(self) -> None:
        """Count from nothing: `exchanges` has [bytes up, bytes down] of each request, one after another."""
        with self._lock:
            self.exchanges, self._is_up = [], False

    def _count(self, size_bytes: int, *, is_up: bool) -> None:
        with self._lock:
            if is_up and not self._is_up:
                self.exchanges.append([0, 0])
            self._is_up = is_up
            self.exchanges[-1][0 if is_up else 1] += size_bytes

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for source, target, is_up in ((near, far, True), (far, near, False)):
                    arguments = {"source": source, "target": target, "is_up": is_up}
                    threading.Thread(target=self._copy, kwargs=arguments, daemon=True).start()

    def _copy(self, *, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        time.sleep(2 * self._round_trip_s if is_up else 0.0)
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self._round_trip_s / 2)
                # Counted before it goes on: the reader may be done as soon as it has it.
                self._count(len(data), is_up=is_up)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
