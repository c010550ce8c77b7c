"""What `put` and `get` are about: one trip of a file or a folder, over as many connections as it takes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PART = ".colab-part"
"""Ends the name of what is not whole yet, here and there; such a name begins with a dot."""

KEPT_S = 7 * 24 * 3600.0
"""How long a part waits for somebody to go on with it; `far/files.py` has the same."""

_NAME_BYTES = 160

HASH_S = 600.0
"""The longest that reading what is there already may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is. `note`: what is in the way, empty if nothing is."""

    name: str
    done_bytes: int
    total_bytes: int
    note: str = ""


Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was brought.

    Attributes:
        path: where it is now.
        sent_bytes: what had to cross; the rest of `size_bytes` was there from an earlier try.
        sha256: of a single file; empty for a folder.
        skipped: what was left out: links to folders, devices, sockets, names that are not UTF-8.
    """

    path: str
    files: int
    size_bytes: int
    sent_bytes: int
    seconds: float
    sha256: str = ""
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a trip: where it is here and there, and what it is where it comes from.

    Attributes:
        instead_of: the hash of the file that it may replace, empty for none; None: whatever is there.
    """

    here: Path
    there: str
    size_bytes: int
    mode: int
    mtime_ns: int
    instead_of: str | None = None


@dataclass(slots=True, kw_only=True)
class Trip:
    """How far one `put` or `get` has got.

    Attributes:
        target: where it goes, once that is known: after a break it is no longer to be asked.
        moved_at: when something crossed last.
    """

    name: str
    watch: Watch
    target: str = ""
    total_bytes: int = 0
    done_bytes: int = 0
    sent_bytes: int = 0
    sha256: str = ""
    began_at: float = field(default_factory=time.monotonic)
    moved_at: float = field(default_factory=time.monotonic)

    def crossed(self, size_bytes: int) -> None:
        """So much more has arrived."""
        self.sent_bytes += size_bytes
        self.moved_at = time.monotonic()
        self.stands(self.done_bytes + size_bytes)

    def stands(self, done_bytes: int, *, note: str = "") -> None:
        """So much of it is where it belongs."""
        self.done_bytes = done_bytes
        total_bytes = self.total_bytes
        self.watch(Progress(name=self.name, done_bytes=done_bytes, total_bytes=total_bytes, note=note))

    def result(self, *, files: int, is_folder: bool, skipped: tuple[str, ...]) -> Moved:
        """What to tell when all of it has arrived."""
        return Moved(
            path=self.target,
            files=files,
            size_bytes=self.total_bytes,
            sent_bytes=self.sent_bytes,
            seconds=time.monotonic() - self.began_at,
            sha256="" if is_folder else self.sha256,
            skipped=skipped,
        )


def part_name(name: str) -> str:
    """What a file or a new folder is called until it is whole.

    Of a long name it has the beginning and a hash: a name may have 255 bytes, four of them for one letter.
    """
    data = os.fsencode(name)
    if len(data) <= _NAME_BYTES:
        return f".{name}{PART}"
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f".{data[:_NAME_BYTES].decode('utf-8', 'ignore')}~{digest}{PART}"


def sweep(folder: Path, *, now: float) -> None:
    """Take away parts of files and of folders in a folder with which nobody has gone on for a week.

    Times of change are those of what they came from: what tells is when they were written here.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(f".*{PART}"):
            if path.is_symlink():
                continue
            written_at = max(one.lstat().st_ctime for one in (path, *path.rglob("*")))
            if now - written_at > KEPT_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def hash_beginning(file: IO[bytes], size_bytes: int) -> Any:
    """The hash of so many first bytes, or of all if there are fewer; the file stands behind them then."""
    hasher, left = hashlib.sha256(), size_bytes
    while left and (piece := file.read(min(left, 1 << 20))):
        hasher.update(piece)
        left -= len(piece)
    return hasher


def is_text(name: str) -> bool:
    """Whether a name crosses as it is: one whose bytes are not UTF-8 would be another name there."""
    return name == name.encode(errors="replace").decode()
