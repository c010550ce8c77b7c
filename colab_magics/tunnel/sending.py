"""Files from here to there: small ones many at a time, a large one in pieces that go on where it stopped."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import IO, Any

from colab_magics.errors import FullDiskError, TunnelError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.pieces import Pace, Request, stream
from colab_magics.tunnel.straight import Straight
from colab_magics.tunnel.trips import HASH_S, File, Trip, hash_beginning

_READ_BYTES = 1024 * 1024


def send_small(hand: Hand, files: Sequence[File], trip: Trip) -> None:
    """Each in one message. TunnelError: one did not arrive."""

    def requests() -> Iterator[Request[tuple[File, str]]]:
        for one in files:
            data = one.here.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            content = {"transfer": uuid.uuid4().hex, "path": one.there, **_ending(one, sha256, len(data))}
            yield Request(key=(one, sha256), verb="take_whole", content=content, buffers=[data])

    for request, _ in stream(hand, requests()):
        one, trip.sha256 = request.key
        trip.crossed(one.size_bytes)


def send_large(hand: Hand, one: File, trip: Trip, pace: Pace, straight: Straight) -> None:
    """In pieces, behind what is there from an earlier try.

    Raises:
        FullDiskError: it has no room there; nothing of it stays.
        TunnelError: it did not arrive; what did is kept there, hidden.
    """
    transfer, before = uuid.uuid4().hex, trip.done_bytes
    with one.here.open("rb", buffering=0) as file:
        begun = hand.ask("arrive", path=one.there, transfer=transfer, restart=False, timeout_s=HASH_S).content
        hasher, offset = hash_beginning(file, begun["size"]), begun["size"]
        if hasher.hexdigest() != begun["sha256"]:
            begun = hand.ask("arrive", path=one.there, transfer=transfer, restart=True).content
            hasher, offset = hashlib.sha256(), 0
        left_bytes = one.size_bytes - offset
        if left_bytes > begun["free_bytes"]:
            hand.ask("give_up", transfer=transfer)
            free = f"{begun['free_bytes']:,} are free"
            raise FullDiskError(f"{one.here} needs {left_bytes:,} bytes more, and {free}")
        trip.stands(before + offset)
        file.seek(offset)
        sent = _straight(
            hand, file, straight, transfer=transfer, part=begun["part"], hasher=hasher, offset=offset,
            size_bytes=one.size_bytes,
        )  # fmt: skip
        for size, so_far in sent:
            hasher, offset = so_far, offset + size
            trip.crossed(size)

        def requests() -> Iterator[Request[int]]:
            position = offset
            file.seek(position)
            while piece := file.read(min(pace.size_bytes, one.size_bytes - position)):
                hasher.update(piece)
                content = {"transfer": transfer, "offset": position}
                yield Request(key=len(piece), verb="take", content=content, buffers=[piece])
                position += len(piece)

        for request, _ in stream(hand, requests(), pace=pace):
            trip.crossed(request.key)
        found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) != (one.size_bytes, one.mtime_ns):
        raise TunnelError(f"{one.here} was changed while it was put: put it again")
    trip.sha256 = hasher.hexdigest()
    hand.ask("arrived", transfer=transfer, **_ending(one, trip.sha256, one.size_bytes), timeout_s=HASH_S)


def _straight(
    hand: Hand,
    file: IO[bytes],
    straight: Straight,
    *,
    transfer: str,
    part: str,
    hasher: Any,
    offset: int,
    size_bytes: int,
) -> Iterator[tuple[int, Any]]:
    """Send what can be sent past the kernel, which hashes it meanwhile.

    Gives the size of each piece that is there now, and the hash of all until its end.
    """
    pace = straight.pace()

    def read(size: int) -> Iterator[bytes]:
        while size:
            data = file.read(min(_READ_BYTES, size))
            if not data:
                raise OSError("it became shorter")
            hasher.update(data)
            size -= len(data)
            yield data

    while offset < size_bytes and straight.works:
        hasher, began_at = hasher.copy(), time.monotonic()
        size = min(pace.size_bytes, size_bytes - offset)
        if not straight.put(part, offset=offset, size=size, data=read(size)):
            return
        pace.took(time.monotonic() - began_at)
        offset += size
        hand.load("straight")
        hand.begin("catch_up", transfer=transfer, upto=offset)
        yield size, hasher


def _ending(one: File, sha256: str, size_bytes: int) -> dict[str, Any]:
    """What a file is to be once it is whole."""
    return {
        "sha256": sha256,
        "size": size_bytes,
        "mode": one.mode,
        "mtime_ns": one.mtime_ns,
        "instead_of": one.instead_of,
    }
