"""The checkpoint folder of a running job, copied when it is whole."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from colab_magics.daemon.gather import copy_masked, is_safe

QUIET_S = 1.0
"""A file that was written to within this time may be half of what it will be."""

_Print = dict[str, tuple[int, int, int]]


class Checkpoints:
    """Notices when the folder changed, and copies it so that all files are of one moment."""

    def __init__(self, folder: Path, *, copies: Path) -> None:
        self._folder, self._copies = folder, copies
        self._last: _Print = {}
        self._number = 0
        self._refused_bytes = 0
        """The most that the folder had when it was over the limit; 0 where it never was."""

    def notes(self, *, limit_bytes: int) -> tuple[str, ...]:
        """What the record should say of checkpoints that were over the limit."""
        if not self._refused_bytes:
            return ()
        size, limit = f"{self._refused_bytes / 1e6:.3g} MB", f"{limit_bytes / 1e6:g} MB"
        return (f"checkpoints were not stored: {size} is over the limit of {limit} for all files of one",)

    def changed(
        self, *, limit_bytes: int, mask: Callable[[bytes], bytes], settled: bool
    ) -> dict[str, Path] | None:
        """All files (relative path → copy), if they differ from those returned before; else None.

        One with a secret in its name is left out.

        Args:
            limit_bytes: of all files together; over it there is no checkpoint.
            settled: whether nothing can write any more, so that a fresh file is a whole one.
        """
        before = _fingerprint(self._folder)
        if not before or before == self._last:
            return None
        size_bytes = sum(size for size, _, _ in before.values())
        if size_bytes > limit_bytes:
            self._refused_bytes = max(self._refused_bytes, size_bytes)
            return None
        newest_ns = max(changed_ns for _, changed_ns, _ in before.values())
        if not settled and time.time_ns() - newest_ns < QUIET_S * 1e9:
            return None
        self._number += 1
        target = self._copies / str(self._number)
        try:
            names = [name for name in before if mask(name.encode()) == name.encode()]
            for name in names:
                copy_masked(self._folder / name, target / name, mask=mask)
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            return None
        if _fingerprint(self._folder) != before:
            shutil.rmtree(target, ignore_errors=True)
            return None
        shutil.rmtree(self._copies / str(self._number - 1), ignore_errors=True)
        self._last = before
        return {name: target / name for name in names}


def _fingerprint(folder: Path) -> _Print:
    """Size, time and inode of each regular file; links and what cannot stand in Git are passed over."""
    found: _Print = {}
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not Path(here, name).is_symlink())
        for file in sorted(files):
            path = Path(here, file)
            name = path.relative_to(folder).as_posix()
            try:
                known = path.lstat()
                name.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(known.st_mode) and is_safe(name):
                found[name] = (known.st_size, known.st_mtime_ns, known.st_ino)
    return found
