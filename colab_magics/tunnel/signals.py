"""Signals at a bad moment: between a process's start and the note that it runs, it would be lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def signals_later(*numbers: int) -> Iterator[None]:
    """Have these signals wait until the block ends; then they do what they would have done.

    Python runs handlers in the main thread; in any other there is nothing to hold back.

    Source: https://docs.python.org/3/library/signal.html#signals-and-threads
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
