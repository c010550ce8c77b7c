"""A daemon's folder: its name, the lock that makes it the only one of that name, and its attempts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import uuid
from pathlib import Path
from typing import IO

from colab_magics.errors import CorruptError, StoreError, UsageError

LOCK = "lock"
LOOK_S = 0.5
"""How long opening a folder waits for somebody who only looks whether it is open."""


class Home:
    """One daemon's folder on disk, locked while it is open.

    The name in it outlives the process: a daemon that starts again in the folder is the same worker, and
    holding the lock proves that the one before is dead, so that it may take its own jobs over at once.
    Everything else in it is a cache or work in progress; nothing here is truth.
    """

    def __init__(self, folder: Path) -> None:
        """Open and lock the folder, making it where it is missing.

        Raises:
            UsageError: a living daemon has it.
            CorruptError: its identity does not parse.
            StoreError: the disk refuses.
        """
        self.folder = folder.absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / LOCK)
        except OSError as error:
            raise StoreError(
                f"the daemon's folder {folder} cannot be used: {error}; choose another --workdir"
            ) from error
        try:
            self.worker = _identity(self.folder / "identity.json")
            self._open_mark = self.folder / "open"
            self.was_cut_off = self._open_mark.exists()
            """Whether the process before this one ended without a word; the machine itself may have."""
            self._open_mark.touch()
        except BaseException:
            self._lock.close()
            raise

    @property
    def cache(self) -> Path:
        """The clone that jobs are checked out from."""
        return self.folder / "cache.git"

    @property
    def environments(self) -> Path:
        """Where overlay environments are kept."""
        return self.folder / "envs"

    @property
    def attempts(self) -> Path:
        """A folder for each attempt that is prepared or running."""
        return self.folder / "attempts"

    @property
    def spool(self) -> Path:
        """Outcomes that the ledger does not have yet."""
        return self.folder / "spool"

    @property
    def kept(self) -> Path:
        """Files that were too large to push."""
        return self.folder / "kept"

    def close(self) -> None:
        """Let another daemon have the folder."""
        self._open_mark.unlink(missing_ok=True)
        self._lock.close()


def is_alive(folder: Path) -> bool:
    """Whether a daemon has the folder open at this moment."""
    return pid_of(folder) is not None


def pid_of(folder: Path) -> int | None:
    """The process of the daemon that has the folder open, None if none has."""
    try:
        file = (folder / LOCK).open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            said = file.read().strip()
            return int(said) if said.isdigit() else None
    return None


def _lock(path: Path) -> IO[str]:
    """Hold the lock, and say in its file who does. A look by `pid_of` may hold it for a moment."""
    file = path.open("a+")
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                told = f"a daemon already runs in {path.parent}: stop it, or choose another --workdir"
                raise UsageError(told) from error
            time.sleep(0.02)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _identity(path: Path) -> str:
    try:
        worker = json.loads(path.read_text())["worker"]
    except FileNotFoundError:
        host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:32] or "worker"
        worker = f"{host}-{uuid.uuid4().hex[:6]}"
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"worker": worker}) + "\n")
        draft.replace(path)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{path} does not parse: remove the folder {path.parent} to start afresh"
        ) from error
    if not isinstance(worker, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", worker):
        raise CorruptError(f"{path} names no worker: remove the folder {path.parent} to start afresh")
    return worker
