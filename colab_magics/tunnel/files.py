"""Files and folders from here to a session's machine and back: resumable, checked by hash, whole or not at all.

They go through the hand, in binary pieces. The Contents API could give a file only whole, as base64 or text,
and reaches only what lies below the server's root.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/contents.html
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.pieces import LEAST_BYTES, Pace, Request, stream

PART = ".colab-part"
SMALL_BYTES = LEAST_BYTES
"""Up to so much a file goes in one message, many files one behind another."""

AGAIN_S = 45.0
"""For so long a line that broke is opened again without having got further."""

HASH_S = 600.0
"""The longest that reading what is there already may take."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is. `note`: what is in the way, empty if nothing is."""

    name: str
    done_bytes: int
    total_bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was brought.

    Attributes:
        path: where it is now.
        sent_bytes: what had to cross; the rest of `size_bytes` was there from an earlier try.
        sha256: of a single file; empty for a folder.
        skipped: what was left out: links to folders, devices, sockets.
    """

    path: str
    files: int
    size_bytes: int
    sent_bytes: int
    seconds: float
    sha256: str = ""
    skipped: tuple[str, ...] = ()


Watch = Callable[[Progress], None]


@dataclass(slots=True, kw_only=True)
class _Trip:
    """What one `put` or `get` has done so far, over all its connections."""

    name: str
    watch: Watch
    total_bytes: int = 0
    done_bytes: int = 0
    sent_bytes: int = 0
    sha256: str = ""
    whole: set[str] = field(default_factory=set)
    began_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)

    def crossed(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes
        self.moved_at = time.monotonic()
        self.stands(self.done_bytes + size_bytes)

    def stands(self, done_bytes: int, *, note: str = "") -> None:
        self.done_bytes = done_bytes
        self.watch(Progress(name=self.name, done_bytes=done_bytes, total_bytes=self.total_bytes, note=note))

    def result(self, path: str, *, files: int, skipped: tuple[str, ...]) -> Moved:
        return Moved(
            path=path,
            files=files,
            size_bytes=self.total_bytes,
            sent_bytes=self.sent_bytes,
            seconds=time.monotonic() - self.began_at,
            sha256=self.sha256,
            skipped=skipped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of a trip: where it is here and there, and what it is where it comes from."""

    here: Path
    there: str
    size_bytes: int
    mode: int
    mtime_ns: int
    instead_of: str | None = None


def put(runtime: Runtime, local: Path, remote: str, *, watch: Watch, instead_of: str | None = None) -> Moved:
    """Bring a file or a folder to a session's machine.

    Args:
        remote: a path there; one that is a folder, or ends with a slash, gets it inside.
        instead_of: the hash of the file that it may replace, empty for none; None: whatever is there.

    Raises:
        UsageError: it is not there, or cannot go there.
        TunnelError: it did not arrive; the same again goes on where it stopped.
    """
    if not local.exists():
        raise UsageError(f"there is no {local} here")
    trip = _Trip(name=local.name, watch=watch)

    def work(hand: Hand) -> Moved:
        found = hand.ask("look_at", path=remote, base=runtime.remote_root).content
        is_into = found["kind"] == "folder" or remote.endswith("/")
        target = PurePosixPath(found["path"])
        target = target / local.resolve().name if is_into else target
        files, folders, skipped = _survey(local, target)
        if local.is_dir() and found["kind"] == "file":
            raise UsageError(f"{target} is a file there, and {local} is a folder")
        trip.total_bytes = sum(one.size_bytes for one in files)
        trip.stands(sum(one.size_bytes for one in files if one.there in trip.whole))
        if folders:
            hand.ask("make_folders", paths=folders)
        files = [replace(one, instead_of=instead_of) for one in files if one.there not in trip.whole]
        _put_small(hand, [one for one in files if one.size_bytes <= SMALL_BYTES], trip)
        for one in files:
            if one.size_bytes > SMALL_BYTES:
                _put_large(hand, one, trip, Pace(max_message_bytes=runtime.max_message_bytes))
        return trip.result(str(target), files=len(trip.whole), skipped=skipped)

    return _through(runtime, work, trip)


def get(runtime: Runtime, remote: str, local: Path, *, watch: Watch, into: bool = False) -> Moved:
    """Bring a file or a folder home.

    Args:
        local: where to; one that is a folder gets it inside.
        into: whether it is meant as a folder even if there is none yet.

    Raises:
        TunnelError: it is not there, or did not arrive; the same again goes on where it stopped.
    """
    trip = _Trip(name=PurePosixPath(remote).name, watch=watch)

    def work(hand: Hand) -> Moved:
        found = hand.ask("survey", path=remote, base=runtime.remote_root, timeout_s=HASH_S).content
        source = PurePosixPath(found["path"])
        trip.name = source.name
        target = local / source.name if into or (local.is_dir() and not trip.whole) else local
        for below in found["folders"]:
            _below(target, below).mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        files = [_arriving(source, target, *each) for each in found["files"]]
        trip.total_bytes = sum(one.size_bytes for one in files)
        trip.stands(sum(one.size_bytes for one in files if one.there in trip.whole))
        files = [one for one in files if one.there not in trip.whole]
        _get_small(hand, [one for one in files if one.size_bytes <= SMALL_BYTES], trip)
        for one in files:
            if one.size_bytes > SMALL_BYTES:
                _get_large(hand, one, trip, Pace(max_message_bytes=runtime.max_message_bytes))
        return trip.result(str(target), files=len(trip.whole), skipped=tuple(found["skipped"]))

    return _through(runtime, work, trip)


def list_folder(runtime: Runtime, path: str) -> Mapping[str, Any]:
    """What is at a path there, as `far/files.py` says it. TunnelError: nothing is."""
    with Hand.open(runtime) as hand:
        hand.load("files")
        return hand.ask("listing", path=path, base=runtime.remote_root).content


def _through(runtime: Runtime, work: Callable[[Hand], T], trip: _Trip) -> T:
    """Do it, again over a new connection where one breaks, as long as that gets further."""
    while True:
        hand: Hand | None = None
        try:
            with Hand.open(runtime) as hand:
                hand.load("files")
                return work(hand)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TunnelError(f"the disk here is full: {trip.name} was not fetched") from error
            raise TunnelError(f"{error.filename or trip.name}: {error.strerror or error}") from error
        except TunnelError as error:
            if hand is not None and hand.is_open:
                raise
            if time.monotonic() - trip.moved_at > AGAIN_S or trip.total_bytes == 0:
                raise TunnelError(
                    f"{error}. The same line goes on with {trip.name} where it stopped"
                ) from error
        trip.stands(trip.done_bytes, note="the connection was lost; trying again")
        time.sleep(1)


# --- from here to there ------------------------------------------------------------------------------------


def _survey(local: Path, target: PurePosixPath) -> tuple[list[_File], list[str], tuple[str, ...]]:
    """The files to bring, the folders that they need, and what is left out."""
    if not local.is_dir():
        return [_departing(local, target, local.stat())], [], ()
    files, folders, skipped = [], [], []
    for folder, inside, names in os.walk(local):
        there = target / PurePosixPath(Path(folder).relative_to(local).as_posix())
        folders.append(str(there))
        skipped += [str(Path(folder, name)) for name in inside if Path(folder, name).is_symlink()]
        for name in sorted(names):
            path = Path(folder, name)
            try:
                found = path.stat()
            except OSError:
                skipped.append(str(path))  # a link to nothing
                continue
            if stat.S_ISREG(found.st_mode) and not name.endswith(PART):
                files.append(_departing(path, there / name, found))
            else:
                skipped.append(str(path))
    return files, folders, tuple(skipped)


def _departing(path: Path, there: PurePosixPath, found: os.stat_result) -> _File:
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is neither a file nor a folder")
    return _File(
        here=path,
        there=str(there),
        size_bytes=found.st_size,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
    )


def _put_small(hand: Hand, files: list[_File], trip: _Trip) -> None:
    def requests() -> Iterator[Request[tuple[_File, str]]]:
        for one in files:
            data = one.here.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            content = {"transfer": uuid.uuid4().hex, "path": one.there, **_ending(one, sha256, len(data))}
            yield Request(key=(one, sha256), verb="take_whole", content=content, buffers=[data])

    for request, _ in stream(hand, requests()):
        one, trip.sha256 = request.key
        trip.whole.add(one.there)
        trip.crossed(one.size_bytes)


def _put_large(hand: Hand, one: _File, trip: _Trip, pace: Pace) -> None:
    transfer, before = uuid.uuid4().hex, trip.done_bytes
    with one.here.open("rb", buffering=0) as file:
        begun = hand.ask("arrive", path=one.there, transfer=transfer, restart=False, timeout_s=HASH_S).content
        hasher = _hash_beginning(file, begun["size"])
        offset = begun["size"]
        if hasher.hexdigest() != begun["sha256"]:
            begun = hand.ask("arrive", path=one.there, transfer=transfer, restart=True).content
            hasher, offset = hashlib.sha256(), 0
        if one.size_bytes - offset > begun["free_bytes"]:
            raise TunnelError(
                f"{one.there}: {one.size_bytes - offset:,} bytes are to go there, and its disk has "
                f"{begun['free_bytes']:,} free"
            )
        trip.stands(before + offset)

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
    trip.whole.add(one.there)


def _ending(one: _File, sha256: str, size_bytes: int) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "size": size_bytes,
        "mode": one.mode,
        "mtime_ns": one.mtime_ns,
        "instead_of": one.instead_of,
    }


# --- from there to here ------------------------------------------------------------------------------------


def _arriving(
    source: PurePosixPath, target: Path, relative: str, size: int, mode: int, mtime_ns: int
) -> _File:
    return _File(
        here=_below(target, relative),
        there=str(source / relative),
        size_bytes=size,
        mode=mode & 0o777,
        mtime_ns=mtime_ns,
    )


def _below(target: Path, relative: str) -> Path:
    """A path that the machine named, which must not lead out of the folder that was asked for."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise TunnelError(f"the machine offered {relative!r}, which is not below what was asked for")
    return target / relative


def _get_small(hand: Hand, files: list[_File], trip: _Trip) -> None:
    requests = (Request(key=one, verb="give_whole", content={"path": one.there}) for one in files)
    for request, answer in stream(hand, requests):
        one, data = request.key, answer.buffers[0]
        trip.sha256 = hashlib.sha256(data).hexdigest()
        if trip.sha256 != answer.content["sha256"]:
            raise TunnelError(f"{one.there} did not arrive as it was sent: get it again")
        with _part(one).open("wb") as file:
            file.write(data)
        _name(one)
        trip.whole.add(one.there)
        trip.crossed(one.size_bytes)


def _get_large(hand: Hand, one: _File, trip: _Trip, pace: Pace) -> None:
    transfer, before = uuid.uuid4().hex, trip.done_bytes
    with open(os.open(_part(one), os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
        there = os.fstat(file.fileno()).st_size
        begun = hand.ask("depart", path=one.there, transfer=transfer, upto=there, timeout_s=HASH_S).content
        offset = begun["upto"]
        hasher = _hash_beginning(file, offset)
        if there > begun["size"] or hasher.hexdigest() != begun["sha256"]:
            hasher, offset = hashlib.sha256(), 0
            begun = hand.ask("depart", path=one.there, transfer=transfer, upto=0).content
        file.seek(offset)
        file.truncate()
        trip.stands(before + offset)

        def requests() -> Iterator[Request[int]]:
            position = offset
            while position < begun["size"]:
                size = min(pace.size_bytes, begun["size"] - position)
                content = {"transfer": transfer, "offset": position, "size": size}
                yield Request(key=size, verb="give", content=content)
                position += size

        try:
            for request, answer in stream(hand, requests(), pace=pace):
                piece = memoryview(answer.buffers[0])
                hasher.update(piece)
                while piece:
                    piece = piece[file.write(piece) :]
                trip.crossed(request.key)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                _part(one).unlink()
            raise
    ended = hand.ask("departed", transfer=transfer).content
    trip.sha256 = hasher.hexdigest()
    if ended["sha256"] != trip.sha256:
        _part(one).unlink()
        raise TunnelError(f"{one.there} did not arrive as it was sent: get it again")
    _name(replace(one, mtime_ns=begun["mtime_ns"]))
    trip.whole.add(one.there)


def _part(one: _File) -> Path:
    return one.here.with_name(f".{one.here.name[:200]}{PART}")


def _name(one: _File) -> None:
    """It is whole: give it its mode, its time and its name."""
    part = _part(one)
    part.chmod(one.mode)
    os.utime(part, ns=(one.mtime_ns, one.mtime_ns))
    part.replace(os.path.realpath(one.here))


def _hash_beginning(file: IO[bytes], size_bytes: int) -> Any:
    """The hash of so many first bytes, or of all if there are fewer."""
    hasher, left = hashlib.sha256(), size_bytes
    while left and (piece := file.read(min(left, 1 << 20))):
        hasher.update(piece)
        left -= len(piece)
    return hasher
