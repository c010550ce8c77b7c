"""A token in a file that another program writes: read each time anew, and written anew where it has ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colab_kernel import private_files
from colab_kernel.runtime import TokenSource

MOST_BYTES = 1024 * 1024  # more is no token

MARGIN_S = 300.0
"""How long before its end a token is renewed.

Source: google-colab-cli 0.7.5, colab_cli/common.py (TOKEN_REFRESH_MARGIN), read 2026-11
"""

AGAIN_S = 15.0
"""How soon after one try the command is run again, by whomever: one that fails would fail at each request."""

REFRESH_S = 60.0
WRITING_S = 1.0
"""How long a file may not parse: its writer may empty it first, as google-colab-cli does."""


def text_in(path: Path, *, key: tuple[str, ...]) -> str:
    """A file's whole text, or one text in its JSON.

    Raises:
        OSError, RecursionError, ValueError: there is none; the sentence has nothing of the file in it.
    """
    found = _found_in(path, key=key)
    if not isinstance(found, str):
        raise ValueError(f"its JSON has something else than a text at {'.'.join(key)}")
    return found


def is_due(source: TokenSource, *, now: float) -> bool:
    """Whether the token in a file is near its end, so that `renew` should be called. Unknown is not near."""
    if source.file is None or not source.expires:
        return False
    try:
        return ends_at(source) - now <= MARGIN_S
    except (OSError, RecursionError, ValueError):
        return False


def ends_at(source: TokenSource) -> float:
    """When the token in a file ends, Unix seconds.

    Raises:
        OSError, RecursionError, ValueError: the file does not say.
    """
    assert source.file is not None
    ends = datetime.fromisoformat(text_in(Path(source.file).expanduser(), key=source.expires))
    return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)).timestamp()


def has_ended(source: TokenSource, *, now: float) -> bool:
    """Whether the token in a file is past its end. Unknown is not past."""
    try:
        return ends_at(source) <= now
    except (OSError, RecursionError, ValueError):
        return False


def renew(source: TokenSource, *, folder: Path, needed: Callable[[], bool] = lambda: True) -> None:
    """Have the source's command write its file anew; blocks until it has. One process at a time runs it.

    Whether that brought another token shows when it is read.

    Args:
        folder: where the processes of this user agree whose turn it is.
        needed: asked when it is our turn: another one may have done it meanwhile.
    """
    if not source.refresh:
        return
    words = json.dumps([source.file, source.key, source.refresh])
    lock = folder / f"colab-token-{hashlib.sha256(words.encode()).hexdigest()[:16]}.lock"
    tried = lock.with_suffix(".tried")
    try:
        private_files.make_folder_of(lock)
        with private_files.locked(lock):
            if needed() and time.time() - _changed_at(tried) > AGAIN_S:
                tried.touch(mode=0o600)
                _run(source.refresh)
                tried.touch()
    except OSError:  # TimeoutError too: another process has been at it for long
        return


def _found_in(path: Path, *, key: tuple[str, ...]) -> Any:
    deadline = time.monotonic() + WRITING_S
    while True:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
        if not key:
            return data.decode()
        try:
            found: Any = json.loads(data)
            break
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    for at, step in enumerate(key, start=1):
        if not isinstance(found, dict) or step not in found:
            raise ValueError(f"its JSON has no {'.'.join(key[:at])}")
        found = found[step]
    return found


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")


def _run(command: tuple[str, ...]) -> None:
    """Run a command that can ask nobody and is heard by nobody: what it says could have a secret in it."""
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=Path.home(),
            timeout=REFRESH_S,
            check=False,
            start_new_session=True,  # an interrupt of the kernel is none of it
        )
    except subprocess.TimeoutExpired:
        return
