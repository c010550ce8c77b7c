"""How often a worker may push: hosting sites allow few pushes, and everybody shares them."""

from __future__ import annotations

from dataclasses import dataclass, replace

HOSTED_INTERVAL_S = 10.0
"""GitHub recommends at most 6 pushes a minute for a repository.
Source: https://docs.github.com/en/repositories/creating-and-managing-repositories/repository-limits"""

BURST = 3.0
"""Pushes that may follow each other at once after a quiet time: a finish should not wait for a heartbeat."""

RESERVED = 2.0
"""Pushes of the burst that signs of life leave for results."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket: `interval_s` is seconds per push (0: no limit), `tokens` what was left at `since`."""

    interval_s: float
    tokens: float = BURST
    since: float = 0.0

    def at(self, now: float) -> Budget:
        """The bucket at a later time on the same clock."""
        if self.interval_s <= 0:
            return replace(self, tokens=BURST, since=now)
        gained = max(now - self.since, 0.0) / self.interval_s
        return replace(self, tokens=min(self.tokens + gained, BURST), since=now)

    def wait_s(self, *, now: float, reserve: float = 0.0) -> float:
        """How many seconds until a push is allowed that leaves `reserve` tokens for others."""
        return max(0.0, (1.0 + reserve - self.at(now).tokens) * self.interval_s)

    def spend(self, *, now: float) -> Budget:
        """The bucket after a push. It may go into debt: what must be pushed is pushed."""
        filled = self.at(now)
        return replace(filled, tokens=filled.tokens - 1.0)


def shared_interval(interval_s: float, *, workers: int) -> float:
    """Each of several workers' part of what one repository allows."""
    return interval_s * max(workers, 1)
