"""A job's log: written to disk by the job itself, read here in pieces, shortened to head and tail at the end.

The file is read through a descriptor that stays open, so a job that deletes its folders still has a log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_CHUNK = 1 << 20
_HEAD_SHARE = 4
"""One part in four of a shortened log is its head: the error is at the end."""


class Log:
    """One attempt's log. One thread writes through `append`, processes through `fileno`; anybody reads."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._fd: int | None = os.open(path, flags, 0o600)
        self._head = b""
        self._dropped_bytes = 0

    def fileno(self) -> int:
        if self._fd is None:
            raise ValueError("the log is closed")
        return self._fd

    def append(self, data: bytes) -> None:
        """Write at the end, behind whatever a process wrote in between."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fileno(), view) :]

    def size_bytes(self) -> int:
        """How much was written in all, dropped parts included."""
        return self._dropped_bytes + self._on_disk_bytes()

    def limit_disk(self, limit_bytes: int, *, head_bytes: int) -> None:
        """Drop what is on the disk but for the beginning, once it is more than `limit_bytes`.

        Whoever writes appends, and so goes on at the file's new end. Some bytes that are written in the very
        moment are dropped too.
        """
        size = self._on_disk_bytes()
        if size <= limit_bytes:
            return
        if not self._dropped_bytes:
            self._head = self.read(0, head_bytes)
        os.ftruncate(self.fileno(), 0)
        self._dropped_bytes += size

    def _on_disk_bytes(self) -> int:
        return os.fstat(self.fileno()).st_size

    def read(self, start: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` from `start`; fewer at the end."""
        parts = []
        while size_bytes > 0 and (part := os.pread(self.fileno(), min(size_bytes, _CHUNK), start)):
            parts.append(part)
            start, size_bytes = start + len(part), size_bytes - len(part)
        return b"".join(parts)

    def end(self, limit_bytes: int) -> bytes:
        """The last bytes as they were written."""
        size = self._on_disk_bytes()
        return self.read(max(0, size - limit_bytes), limit_bytes)

    def tail(self, limit_bytes: int, *, mask: Callable[[bytes], bytes], margin_bytes: int = 0) -> str:
        """The last lines as a terminal shows them, masked, at most `limit_bytes`, from a line's start."""
        size = self._on_disk_bytes()
        # Redrawn bars take many times what they show.
        start = max(0, size - 4 * limit_bytes - margin_bytes)
        shown = settle(mask(self.read(start, size - start)))
        if start == 0 and len(shown) <= limit_bytes:
            return shown.decode("utf-8", "replace")
        return _from_line_start(shown[margin_bytes if start else 0 :][-limit_bytes:]).decode(
            "utf-8", "replace"
        )

    def shortened(self, limit_bytes: int, *, mask: Callable[[bytes], bytes], margin_bytes: int = 0) -> bytes:
        """The whole log as a terminal would show it, or its head and tail with a line on what is left out."""
        head_limit = limit_bytes // _HEAD_SHARE
        tail_limit = limit_bytes - head_limit
        head, tail, total = bytearray(settle(self._head)), bytearray(), self._dropped_bytes
        for piece in self._settled():
            total += len(piece)
            if not self._dropped_bytes and len(head) < limit_bytes + margin_bytes:
                head += piece
            tail += piece
            if len(tail) > 4 * limit_bytes + _CHUNK:
                del tail[: -(tail_limit + margin_bytes)]
        if total <= limit_bytes:
            return mask(bytes(head))
        # Masked before it is cut: a secret across the cut would show its half.
        first = _to_line_end(mask(bytes(head))[:head_limit])
        cut = mask(bytes(tail))
        last = _from_line_start(cut[max(margin_bytes, len(cut) - tail_limit) :])
        left_out = total - len(first) - len(last)
        said = f"\n… {left_out:,} of {total:,} bytes are left out here …\n\n"
        return first + said.encode() + last

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _settled(self) -> Iterator[bytes]:
        start, rest = 0, b""
        while data := self.read(start, _CHUNK):
            start += len(data)
            whole = rest + data
            cut = whole.rfind(b"\n") + 1
            yield settle(whole[:cut])
            # A line is kept until its end is here, since what comes may redraw it; an endless one is not.
            rest = _settle_line(whole[cut:])
            if len(rest) > _CHUNK >> 2:
                yield rest
                rest = b""
        if rest:
            yield settle(rest)


def settle(data: bytes) -> bytes:
    """Output with the lines that a carriage return redrew as they ended up."""
    if b"\r" not in data:
        return data
    return b"\n".join(_settle_line(line) for line in data.split(b"\n"))


def _settle_line(line: bytes) -> bytes:
    body = line.rstrip(b"\r")
    return body[body.rfind(b"\r") + 1 :] + line[len(body) :][:1]


def _from_line_start(data: bytes) -> bytes:
    cut = data.find(b"\n", 0, len(data) // 2) + 1
    while cut == 0 and data and data[0] & 0xC0 == 0x80:  # the middle of a character
        data = data[1:]
    return data[cut:]


def _to_line_end(data: bytes) -> bytes:
    cut = data.rfind(b"\n", len(data) // 2)
    return data[: cut + 1] if cut >= 0 else data
