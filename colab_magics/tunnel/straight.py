"""Pieces of files by plain HTTP, past the kernel, at the servers that we start: `private_server.py` has them.

Through a websocket, ZMQ and a kernel a piece is copied a dozen times: get took 5 times as long (2026-11).
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urlsplit

from colab_kernel import opening
from colab_kernel.errors import KernelError
from colab_kernel.messages import Buffer
from colab_kernel.runtime import Runtime
from colab_magics.tunnel.pieces import Pace
from colab_magics.tunnel.servers import server_of

PATH = "/colab/bytes"
MOST_BYTES = 32 * 1024 * 1024
ANSWER_S = 30.0
_READ_BYTES = 1024 * 1024
_FAILURES = (OSError, http.client.HTTPException, KernelError)


class Straight:
    """One HTTP connection for pieces. What fails once is not tried again: the hand brings the rest."""

    def __init__(self, runtime: Runtime) -> None:
        """Nothing is asked yet."""
        self._runtime = runtime
        self._server = server_of(runtime)
        self._connection = opening.http_connection(runtime, timeout_s=ANSWER_S)
        self._works: bool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def pace(self) -> Pace:
        """How large the pieces of one file are to be."""
        return Pace(most_bytes=MOST_BYTES)

    @property
    def works(self) -> bool:
        """Whether the server is one that has this way. The first look asks it."""
        if self._works is None:
            self._works = False
            with contextlib.suppress(*_FAILURES):
                response = self._ask("GET")
                response.read()
                self._works = response.status == 204 and response.getheader("X-Colab-Bytes") == "1"
        return self._works

    def get(self, path: str, *, offset: int, size: int) -> Iterator[memoryview]:
        """What is in a file there, as it comes; less if it failed. A view holds until the next."""
        buffer = memoryview(bytearray(min(size, _READ_BYTES)))
        try:
            response = self._ask("GET", path=path, offset=offset, size=size)
            is_it = response.status == 200 and response.length == size
            while is_it and (count := response.readinto(buffer)):
                yield buffer[:count]
            self._works = is_it
        except _FAILURES:
            self._fail()

    def put(self, part: str, *, offset: int, size: int, data: Iterable[Buffer]) -> bool:
        """Write `size` bytes into a part that is there; whether they were. `data` may raise OSError."""
        try:
            response = self._ask("PUT", data=data, size=size, path=part, offset=offset)
            response.read()
            self._works = response.status == 204
        except _FAILURES:
            self._fail()
        return bool(self._works)

    def _fail(self) -> None:
        self._works = False
        self._connection.close()

    def _ask(
        self, method: str, *, data: Iterable[Buffer] | None = None, **query: str | int
    ) -> http.client.HTTPResponse:
        access = self._server.access()
        url = f"{urlsplit(self._runtime.url).path}{PATH}?{urlencode({**query, **access.query})}"
        length = {} if data is None else {"Content-Length": str(query["size"])}
        self._connection.request(method, url, body=data, headers={**access.headers, **length})
        return self._connection.getresponse()
