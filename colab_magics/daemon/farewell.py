"""The end of a daemon, whatever the person who waits for it presses."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""How long somebody who interrupts the end waits for it all the same; then it goes on without them."""


def end_all(steps: Sequence[Callable[[], None]], *, hurry: Callable[[], None]) -> None:
    """Take the last steps, all of them. They have a thread of their own, which no interrupt reaches.

    Args:
        steps: in their order; one that fails keeps none of the others.
        hurry: called for each interrupt.

    Raises:
        KeyboardInterrupt: there was one. The steps are taken, or will be: the thread goes on.
    """
    thread = threading.Thread(target=_take, args=(steps,), name="colab-end", daemon=True)
    thread.start()
    until: float | None = None
    while thread.is_alive() and (until is None or time.monotonic() < until):
        try:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        except KeyboardInterrupt:
            until = until or time.monotonic() + PATIENCE_S
            hurry()
    if until is not None:
        raise KeyboardInterrupt


def _take(steps: Sequence[Callable[[], None]]) -> None:
    for step in steps:
        try:
            step()
        except Exception:  # a bug of ours must not keep what comes after
            logger.exception("a step of the daemon's end failed")
