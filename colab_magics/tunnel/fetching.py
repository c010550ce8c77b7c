"""Files from there to here: small ones many at a time, a large one in pieces that go on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from colab_kernel import private_files
from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.pieces import Pace, Request, stream
from colab_magics.tunnel.straight import Straight
from colab_magics.tunnel.trips import HASH_S, File, Trip, hash_beginning, part_name


def fetch_small(hand: Hand, files: Sequence[File], trip: Trip) -> None:
    """Each in one message.

    Raises:
        TunnelError: one did not arrive.
        OSError: it cannot be written here; nothing of that one stays.
    """
    requests = (Request(key=one, verb="give_whole", content={"path": one.there}) for one in files)
    for request, answer in stream(hand, requests):
        one, data = request.key, answer.buffers[0]
        trip.sha256 = hashlib.sha256(data).hexdigest()
        if trip.sha256 != answer.content["sha256"]:
            raise TunnelError(f"{one.there} did not arrive as it was sent: get it again")
        try:
            _part(one).write_bytes(data)
            _name(one)
        except OSError:
            _part(one).unlink(missing_ok=True)
            raise
        trip.crossed(one.size_bytes)


def fetch_large(hand: Hand, one: File, trip: Trip, pace: Pace, straight: Straight) -> None:
    """In pieces, behind what is here from an earlier try.

    Raises:
        TunnelError: it did not arrive; what did is kept here, hidden.
        OSError: it cannot be written here; nothing of it stays.
    """
    transfer, before = uuid.uuid4().hex, trip.done_bytes
    with _open_part(one) as file:
        here = os.fstat(file.fileno()).st_size
        begun = hand.ask("depart", path=one.there, transfer=transfer, upto=here, timeout_s=HASH_S).content
        hasher, offset = hash_beginning(file, begun["upto"]), begun["upto"]
        if hasher.hexdigest() != begun["sha256"]:
            begun = hand.ask("depart", path=one.there, transfer=transfer, upto=0).content
            hasher, offset = hashlib.sha256(), 0
        _check_part(one, file)
        file.seek(offset)
        file.truncate()
        trip.stands(before + offset)

        def keep(piece: memoryview) -> None:
            hasher.update(piece)
            size = len(piece)
            try:
                while piece:
                    piece = piece[file.write(piece) :]
            except OSError:
                _part(one).unlink()
                raise
            trip.crossed(size)

        for piece in _straight(hand, straight, transfer, path=one.there, offset=offset, size=begun["size"]):
            offset += len(piece)
            keep(piece)

        def requests() -> Iterator[Request[None]]:
            position = offset
            while position < begun["size"]:
                size = min(pace.size_bytes, begun["size"] - position)
                content = {"transfer": transfer, "offset": position, "size": size}
                yield Request(key=None, verb="give", content=content)
                position += size

        for _, answer in stream(hand, requests(), pace=pace):
            keep(memoryview(answer.buffers[0]))
    ended = hand.ask("departed", transfer=transfer, timeout_s=HASH_S).content
    trip.sha256 = hasher.hexdigest()
    if ended["sha256"] != trip.sha256:
        _part(one).unlink()
        raise TunnelError(f"{one.there} did not arrive as it was sent: get it again")
    _name(replace(one, mtime_ns=begun["mtime_ns"]))


def _straight(
    hand: Hand, straight: Straight, transfer: str, *, path: str, offset: int, size: int
) -> Iterator[memoryview]:
    """What comes past the kernel, which hashes it meanwhile."""
    if offset == size or not straight.works:
        return
    hand.load("straight")
    hand.begin("look_through", transfer=transfer)
    pace = straight.pace()
    while offset < size and straight.works:
        began_at = time.monotonic()
        for piece in straight.get(path, offset=offset, size=min(pace.size_bytes, size - offset)):
            offset += len(piece)
            yield piece
        pace.took(time.monotonic() - began_at)


def _open_part(one: File) -> IO[bytes]:
    """The part, for this process alone: its hash would say nothing of it if two wrote to it."""
    file = os.fdopen(os.open(_part(one), os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
    if private_files.try_lock(file.fileno()):
        return file
    file.close()
    raise _shared(one)


def _check_part(one: File, file: IO[bytes]) -> None:
    """See that what is open is the part still: whoever had it before may have given it its name meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(_part(one).stat(), os.fstat(file.fileno())):
            return
    raise _shared(one)


def _shared(one: File) -> TunnelError:
    return TunnelError(f"{one.here} is being fetched by somebody else: wait for them, or end them")


def _part(one: File) -> Path:
    return one.here.with_name(part_name(one.here.name))


def _name(one: File) -> None:
    """It is whole: give it its mode, its time and its name."""
    part = _part(one)
    part.chmod(one.mode)
    os.utime(part, ns=(one.mtime_ns, one.mtime_ns))
    part.replace(os.path.realpath(one.here))
