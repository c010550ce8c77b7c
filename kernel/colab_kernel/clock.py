"""The time as the proxy kernel counts it: Unix seconds that never jump."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_unix_clock() -> Callable[[], float]:
    """A clock that begins at the wall clock's time and then goes on by the monotonic clock."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
