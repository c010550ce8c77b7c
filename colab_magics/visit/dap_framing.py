"""How messages of the Debug Adapter Protocol lie in a stream of bytes. No I/O.

Source: https://microsoft.github.io/debug-adapter-protocol/overview#base-protocol
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MAX_HEADER_BYTES = 4096
MAX_BODY_BYTES = 64 * 1024 * 1024

_END = b"\r\n\r\n"


def serialize(message: Mapping[str, Any]) -> bytes:
    """One message, framed."""
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


class Parser:
    """Takes bytes as they come, in pieces of any size, and gives the messages in them."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Take bytes; yield each message that is whole now.

        Raises:
            ValueError: that is no message of this protocol. Nothing that comes after it can be understood.
        """
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> dict[str, Any] | None:
        end = self._buffer.find(_END, 0, MAX_HEADER_BYTES + len(_END))
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise ValueError(f"a header of more than {MAX_HEADER_BYTES} bytes")
            return None
        size = _length(bytes(self._buffer[:end]))
        begin = end + len(_END)
        if len(self._buffer) < begin + size:
            return None
        body = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size]
        message = json.loads(body)
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message


def _length(header: bytes) -> int:
    for line in header.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and name.strip().lower() == b"content-length" and value.strip().isdigit():
            size = int(value)
            if size > MAX_BODY_BYTES:
                raise ValueError(f"a message of more than {MAX_BODY_BYTES} bytes")
            return size
    raise ValueError("a header without Content-Length")
