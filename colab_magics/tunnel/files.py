"""Files and folders to a session's machine and back: resumable, checked by hash, whole or not at all.

A server of ours takes and gives their bytes itself (`straight`); at any other they go through the hand, in
binary pieces. Either way the hand checks them. The Contents API could give a file only whole, as base64 or
text, and reaches only what lies below the server's root.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/contents.html
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from colab_kernel.runtime import Runtime
from colab_magics.errors import FullDiskError, TunnelError, UsageError
from colab_magics.tunnel.fetching import fetch_large, fetch_small
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.pieces import LEAST_BYTES, message_pace
from colab_magics.tunnel.sending import send_large, send_small
from colab_magics.tunnel.straight import Straight
from colab_magics.tunnel.trips import HASH_S, PART, File, Moved, Trip, Watch, is_text, part_name, sweep

SMALL_BYTES = LEAST_BYTES
"""Up to so much a file goes in one message, many files one behind another."""

AGAIN_S = 45.0
"""For so long a line that broke is opened again without having got further."""

Known = Mapping[str, Sequence[int]]
"""Files below a folder: path → size and time of change."""


def put(runtime: Runtime, local: Path, remote: str, *, watch: Watch, instead_of: str | None = None) -> Moved:
    """Bring a file or a folder to a session's machine.

    Of a folder, a file that is there already with the same size and time of change is not sent again.

    Args:
        remote: a path there; one that is a folder, or ends with a slash, gets it inside.
        instead_of: the hash of the file that it may replace, empty for none; None: whatever is there.

    Raises:
        UsageError: it is not here.
        FullDiskError: it has no room there; no half file stays, and nothing of a new folder.
        TunnelError: it did not arrive; the same again goes on where it stopped.
    """
    if not local.exists():
        raise UsageError(f"there is no {local} here")
    is_folder = local.is_dir()
    named = local.absolute() if local.name not in ("", "..") else local.resolve()
    trip = Trip(name=named.name, watch=watch)

    def work(hand: Hand) -> Moved:
        asked: dict[str, Any] = {"path": trip.target or remote, "exact": bool(trip.target)}
        asked |= {"base": runtime.remote_root, "name": trip.name, "is_folder": is_folder}
        found = hand.ask("landing", timeout_s=HASH_S, **asked).content
        trip.target = found["target"]
        files, folders, skipped = _survey(local, PurePosixPath(found["root"]), instead_of=instead_of)
        missing = _missing(
            files, trip, {f"{found['root']}/{path}": is_ for path, is_ in found["known"].items()}
        )
        try:
            if folders:
                hand.ask("make_folders", paths=folders)
            send_small(hand, [one for one in missing if one.size_bytes <= SMALL_BYTES], trip)
            pace = message_pace(runtime.max_message_bytes)
            with Straight(runtime) as straight:
                for one in missing:
                    if one.size_bytes > SMALL_BYTES:
                        send_large(hand, one, trip, pace, straight)
            if found["root"] != trip.target:
                hand.ask("landed", root=found["root"], target=trip.target)
        except FullDiskError as error:
            is_new = found["root"] != trip.target
            if is_new:
                hand.ask("withdraw", root=found["root"])
            raise FullDiskError(
                f"the disk there is full: {trip.target} was not put; {_what_stays(is_new or not is_folder)} "
                f"({error})"
            ) from error
        return trip.result(files=len(files), is_folder=is_folder, skipped=skipped)

    return _through(runtime, work, trip)


def get(runtime: Runtime, remote: str, local: Path, *, watch: Watch, into: bool = False) -> Moved:
    """Bring a file or a folder home.

    Of a folder, a file that is here already with the same size and time of change is not fetched again.

    Args:
        local: where to; one that is a folder gets it inside.
        into: whether it is meant as a folder even if there is none yet.

    Raises:
        TunnelError: it is not there, or did not arrive; the same again goes on where it stopped. If the disk
            here is full no half file stays, and nothing of a new folder.
    """
    trip = Trip(name=PurePosixPath(remote).name, watch=watch)

    def work(hand: Hand) -> Moved:
        found = hand.ask("survey", path=remote, base=runtime.remote_root, timeout_s=HASH_S).content
        source, is_folder = PurePosixPath(found["path"]), found["is_folder"]
        trip.name = source.name
        if not trip.target:
            trip.target = str(local / source.name if into or local.is_dir() else local)
        root = target = Path(trip.target)
        if is_folder and not target.is_dir():
            root = target.with_name(part_name(target.name))
        files = [_arriving(source, root, *each) for each in found["files"]]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent, now=time.time())
            for below in found["folders"] if is_folder else []:
                _below(root, below).mkdir(parents=True, exist_ok=True)
            here = {one.there: _size_and_time(one.here) for one in files} if is_folder else {}
            missing = _missing(files, trip, here)
            fetch_small(hand, [one for one in missing if one.size_bytes <= SMALL_BYTES], trip)
            pace = message_pace(runtime.max_message_bytes)
            with Straight(runtime) as straight:
                for one in missing:
                    if one.size_bytes > SMALL_BYTES:
                        fetch_large(hand, one, trip, pace, straight)
            if root != target:
                root.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if root != target:
                shutil.rmtree(root, ignore_errors=True)
            rest = _what_stays(root != target or not is_folder)
            raise TunnelError(f"the disk here is full: {target} was not fetched; {rest}") from error
        return trip.result(files=len(files), is_folder=is_folder, skipped=tuple(found["skipped"]))

    return _through(runtime, work, trip)


def list_folder(runtime: Runtime, path: str) -> Mapping[str, Any]:
    """What is at a path there, as `far/files.py` says it. TunnelError: nothing is."""
    with Hand.open(runtime) as hand:
        hand.load("files")
        return hand.ask("listing", path=path, base=runtime.remote_root).content


def _through(runtime: Runtime, work: Callable[[Hand], Moved], trip: Trip) -> Moved:
    """Do it, again over a new connection where one breaks, as long as that gets further."""
    while True:
        is_broken = True
        try:
            with Hand.open(runtime) as hand:
                hand.load("files", "departures")
                try:
                    return work(hand)
                finally:
                    is_broken = not hand.is_open
        except OSError as error:
            raise TunnelError(f"{error.filename or trip.name}: {error.strerror or error}") from error
        except TunnelError as error:
            if not is_broken:
                raise
            if not trip.total_bytes or time.monotonic() - trip.moved_at > AGAIN_S:
                again = f"the same line goes on with {trip.name} where it stopped"
                raise TunnelError(f"{error}; {again}") from error
        trip.stands(trip.done_bytes, note="the connection was lost; trying again")
        time.sleep(1)


def _what_stays(nothing: object) -> str:
    return "nothing of it stays" if nothing else "of it stays what had arrived whole"


def _missing(files: Sequence[File], trip: Trip, known: Known) -> list[File]:
    """Those that still have to cross; the trip knows then how far it is."""
    missing = [one for one in files if list(known.get(one.there, ())) != [one.size_bytes, one.mtime_ns]]
    trip.total_bytes = sum(one.size_bytes for one in files)
    trip.stands(trip.total_bytes - sum(one.size_bytes for one in missing))
    return missing


def _survey(
    local: Path, root: PurePosixPath, *, instead_of: str | None
) -> tuple[list[File], list[str], tuple[str, ...]]:
    """The files to bring, the folders that they need, and what is left out."""
    if not local.is_dir():
        found = local.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{local} is neither a file nor a folder")
        return [_departing(local, root, found, instead_of=instead_of)], [], ()
    files, folders, skipped = [], [], []
    for folder, inside, names in os.walk(local):
        there = root / PurePosixPath(Path(folder).relative_to(local).as_posix())
        folders.append(str(there))
        left = [name for name in inside if Path(folder, name).is_symlink() or not is_text(name)]
        skipped += [str(Path(folder, name)) for name in left]
        inside[:] = [name for name in inside if name not in left]
        for name in sorted(names):
            path = Path(folder, name)
            try:
                found = path.stat()
            except OSError:
                skipped.append(str(path))  # a link to nothing
                continue
            if stat.S_ISREG(found.st_mode) and not name.endswith(PART) and is_text(name):
                files.append(_departing(path, there / name, found))
            else:
                skipped.append(str(path))
    return files, folders, tuple(skipped)


def _departing(
    path: Path, there: PurePosixPath, found: os.stat_result, *, instead_of: str | None = None
) -> File:
    return File(
        here=path,
        there=str(there),
        size_bytes=found.st_size,
        mode=stat.S_IMODE(found.st_mode),
        mtime_ns=found.st_mtime_ns,
        instead_of=instead_of,
    )


def _arriving(source: PurePosixPath, root: Path, relative: str, size: int, mode: int, mtime_ns: int) -> File:
    return File(
        here=_below(root, relative),
        there=str(source / relative),
        size_bytes=size,
        mode=mode & 0o777,
        mtime_ns=mtime_ns,
    )


def _below(root: Path, relative: str) -> Path:
    """A path that the machine named, which must not lead out of the folder that was asked for."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise TunnelError(f"the machine offered {relative!r}, which is not below what was asked for")
    return root / relative


def _size_and_time(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns
