"""How fast a daemon goes: its intervals, and the push budget that its threads share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from colab_magics.jobs.budget import RESERVED, Budget, shared_interval


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """How a daemon behaves. Durations are seconds.

    `push_interval_s` is what the remote allows all daemons together, per push; 0 for no limit. `live_s` is
    the shortest time between two signs of life, `heartbeat_s` the longest.
    `upkeep_s` is the time between two looks at whether the clone has grown.
    `idle_stop_s` ends a daemon that had nothing to do for so long; None never does. `once` ends it as
    soon as nothing is queued.
    """

    poll_s: float = 5.0
    lease_s: float = 180.0
    live_s: float = 1.0
    heartbeat_s: float = 30.0
    push_interval_s: float = 10.0
    idle_stop_s: float | None = None
    once: bool = False
    upkeep_s: float = 60.0


class Pushes:
    """The push budget of one daemon, shared by its threads."""

    def __init__(self, interval_s: float, *, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._interval_s = interval_s
        self._budget = Budget(interval_s, since=clock())

    def share(self, workers: int) -> None:
        """Keep to this worker's part of what the remote allows all of them."""
        with self._lock:
            interval_s = shared_interval(self._interval_s, workers=workers)
            self._budget = replace(self._budget.at(self._clock()), interval_s=interval_s)

    def wait_s(self, *, urgent: bool) -> float:
        """Seconds until a push is allowed; what is not urgent leaves room for what is."""
        with self._lock:
            return self._budget.wait_s(now=self._clock(), reserve=0.0 if urgent else RESERVED)

    def spent(self) -> None:
        """A push was made."""
        with self._lock:
            self._budget = self._budget.spend(now=self._clock())
