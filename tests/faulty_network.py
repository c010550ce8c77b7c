"""A bad network in front of an HTTP server: it loses requests and answers, and delivers some of them late."""

from __future__ import annotations

import contextlib
import enum
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Self

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})
_ANSWER_S = 120.0
PLANNED_PAUSE_S = 1.0
"""How late a request is whose lateness was planned."""

PUSH = "/git-receive-pack"
"""How the path of the request ends that carries a push."""


class Fault(enum.StrEnum):
    """What can happen to one request."""

    LOST_REQUEST = "the connection breaks before the request arrives"
    LOST_ANSWER = "the server acts, and the connection breaks before its answer"
    LATE = "the connection breaks, and the request arrives some seconds later"
    SLOW = "request and answer take their time"


class FaultyNetwork:
    """A port of the loopback interface that leads to another one, badly, between `with` and its end.

    The faults are drawn from one seeded generator: the same seed gives the same faults in the same order, not
    the same run, since nobody decides which process asks first. Without `faults` everything goes through.
    """

    def __init__(
        self, upstream_port: int, *, seed: int = 0, faults: Mapping[Fault, float] = MappingProxyType({})
    ) -> None:
        """Open the port.

        Args:
            upstream_port: where the server listens.
            seed: of the faults.
            faults: the share of requests that each kind of fault befalls, together at most 1.
        """
        self.faults = dict(faults)
        self.happened: Counter[Fault] = Counter()
        self._planned: list[tuple[str, Fault]] = []
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._late: list[threading.Thread] = []
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                network._carry(self, upstream_port)

            def do_POST(self) -> None:
                network._carry(self, upstream_port)

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for thread in self._late:
            thread.join()

    def plan(self, fault: Fault, path_end: str) -> None:
        """Have a fault befall the next request whose path ends so, whatever the shares are."""
        with self._lock:
            self._planned.append((path_end, fault))

    def _draw(self, path: str) -> tuple[Fault | None, float]:
        with self._lock:
            for path_end, fault in self._planned:
                if path.endswith(path_end):
                    self._planned.remove((path_end, fault))
                    self.happened[fault] += 1
                    return fault, PLANNED_PAUSE_S
            point, pause_s = self._random.random(), self._random.uniform(0.2, 3.0)
            for fault, share in self.faults.items():
                point -= share
                if point < 0:
                    self.happened[fault] += 1
                    return fault, pause_s
            return None, 0.0

    def _carry(self, client: BaseHTTPRequestHandler, port: int) -> None:
        body = _read_body(client)
        fault, pause_s = self._draw(client.path)
        if fault in (Fault.LOST_REQUEST, Fault.LATE):
            _hang_up(client)
        if fault is Fault.LOST_REQUEST:
            return
        if fault is Fault.LATE:
            late = threading.Thread(target=_deliver_late, args=(client, body, port, pause_s))
            self._late.append(late)
            late.start()
            return
        if fault is Fault.SLOW:
            time.sleep(pause_s / 2)
        try:
            status, headers, answer = _ask(client, body, port)
        except (OSError, http.client.HTTPException):
            _hang_up(client)
            return
        if fault is Fault.LOST_ANSWER:
            _hang_up(client)
            return
        with contextlib.suppress(OSError):
            client.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    client.send_header(name, value)
            client.send_header("Content-Length", str(len(answer)))
            client.end_headers()
            client.wfile.write(answer)


def _read_body(client: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in client.headers.get("Transfer-Encoding", ""):
        return client.rfile.read(int(client.headers.get("Content-Length", 0)))
    parts = []
    while size := int(client.rfile.readline().split(b";")[0], 16):
        parts.append(client.rfile.read(size))
        client.rfile.readline()
    client.rfile.readline()
    return b"".join(parts)


def _ask(client: BaseHTTPRequestHandler, body: bytes, port: int) -> tuple[int, list[tuple[str, str]], bytes]:
    server = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        headers = {name: value for name, value in client.headers.items() if name.lower() not in _HOP_BY_HOP}
        server.request(client.command, client.path, body=body or None, headers=headers)
        answer = server.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        server.close()


def _deliver_late(client: BaseHTTPRequestHandler, body: bytes, port: int, pause_s: float) -> None:
    time.sleep(pause_s)
    with contextlib.suppress(OSError, http.client.HTTPException):
        _ask(client, body, port)


def _hang_up(client: BaseHTTPRequestHandler) -> None:
    client.close_connection = True
    with contextlib.suppress(OSError):
        client.connection.shutdown(2)
