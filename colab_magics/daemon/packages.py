"""The packages of an interpreter (`pip freeze`), listed while the job runs, kept while nothing changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from colab_magics.daemon.processes import STUCK_S, reap_later

_PATIENCE_S = 30.0
_LISTING = """
import sys
print("# Python", sys.version.replace("\\n", " "))
sys.stdout.flush()
try:
    import runpy
    sys.argv = ["pip", "freeze", "--disable-pip-version-check"]
    import pip
except ImportError:
    from importlib.metadata import distributions
    print("\\n".join(sorted({f"{d.metadata['Name']}=={d.version}" for d in distributions()}, key=str.lower)))
else:
    runpy.run_module("pip", run_name="__main__")
"""


class PackageList:
    """The packages of one interpreter. `start` returns at once, `finish` waits, `close` ends what runs."""

    def __init__(self, python: Path, *, cache: Path, environment: Mapping[str, str]) -> None:
        self._python, self._environment = python, environment
        self._path = cache / f"{_state_of(python)}.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to make the list, unless it is known."""
        if self._path.is_file():
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._draft().open("wb") as draft:
                self._process = subprocess.Popen(
                    ["nice", os.fspath(self._python), "-c", _LISTING],
                    env=dict(self._environment),
                    stdin=subprocess.DEVNULL,
                    stdout=draft,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def finish(self) -> bytes | None:
        """The list, or None where it could not be made."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                if self._process.wait(_PATIENCE_S) == 0:
                    self._draft().replace(self._path)
            self.close()
        with contextlib.suppress(OSError):
            return self._path.read_bytes()
        return None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            try:
                self._process.wait(STUCK_S)
            except subprocess.TimeoutExpired:
                reap_later(self._process)
            self._process = None
        with contextlib.suppress(OSError):
            self._draft().unlink(missing_ok=True)

    def _draft(self) -> Path:
        return self._path.with_suffix(f".{os.getpid()}.{id(self)}")


def digest_of(text: bytes) -> str:
    """The 12 hex digits that name the list in the ledger."""
    return hashlib.sha256(text).hexdigest()[:12]


def _state_of(python: Path) -> str:
    """A name that changes when a package is installed or removed: pip touches the folder."""
    prefix = python.parent.parent
    patterns = (
        "lib/python3*/site-packages",
        "lib/python3*/dist-packages",
        "local/lib/python3*/dist-packages",
    )
    folders = sorted(folder for pattern in patterns for folder in prefix.glob(pattern))
    told = [os.fspath(python)]
    for folder in folders:
        with contextlib.suppress(OSError):
            told.append(f"{folder} {folder.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:16]
