"""Files that are their owner's alone: read with distrust, replaced at once, changed by one at a time."""

from __future__ import annotations

import os
import shlex
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_TIMEOUT_S = 10.0


def read(path: Path, *, most_bytes: int) -> bytes | None:
    """What is in a file of ours alone; None if there is none.

    Raises:
        OSError, ValueError: it is not such a file, or cannot be read; the sentence says what to do.
    """
    _need(not path.is_symlink(), "it is a symbolic link, which may lead anywhere")
    # Never follow a link, nor wait for a pipe's end.
    never = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | never)) as file:
            facts = os.fstat(file.fileno())
            _need(stat.S_ISREG(facts.st_mode), "it is no regular file")
            if sys.platform != "win32":
                _need(facts.st_uid == os.geteuid(), "it belongs to another user")
                mode = stat.S_IMODE(facts.st_mode)
                end = f"`chmod 600 {shlex.quote(str(path))}` ends that"
                _need(not mode & 0o077, f"others have access to it (mode {mode:03o}); {end}")
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        return None
    _need(len(data) <= most_bytes, f"it is longer than {most_bytes:,} bytes")
    return data


def make_folder_of(path: Path) -> None:
    """Have the file's folder, for its owner alone if it is new."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of another, at once; only its owner may read it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)  # with mode 0600
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one, of all processes, until the block ends. The operating system lets go of what dies.

    Raises:
        TimeoutError: another process has it for too long.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held {path} for {LOCK_TIMEOUT_S:g} s: end it")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Be the only one with this open file, until it is closed; False: another process is."""
    with suppress(BlockingIOError, PermissionError):  # the second is what Windows says
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _need(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
