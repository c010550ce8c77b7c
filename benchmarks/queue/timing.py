"""Actions timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median


def take_turns(
    actions: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 1,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time every action once a round, in an order that rotates; return seconds by name, in rounds.

    Args:
        actions: what is timed.
        rounds: how many timings of each are kept.
        warm_up: rounds before them whose timings are not.
        before: called before each round, untimed.
    """
    names = list(actions)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        before()
        first = number % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            actions[name]()
            took_s = time.perf_counter() - begun
            if number >= warm_up:
                taken[name].append(took_s)
    return taken


def ratio(ours: list[float], peer: list[float]) -> float:
    """The median of the rounds' ratios: each is of two neighbours in time."""
    return median(mine / other for mine, other in zip(ours, peer, strict=True))
