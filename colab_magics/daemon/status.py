"""What a daemon shows of itself after each look. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from colab_magics.daemon.assignment import Live, Phase
from colab_magics.store.base import View


@dataclass(frozen=True, slots=True)
class Status:
    """The queue as a daemon sees it, and one line about what it does."""

    worker: str
    view: View
    holding: frozenset[tuple[str, int]]
    doing: str
    stopping: bool = False


def describe(live: Mapping[tuple[str, int], Live | None], *, lack: str) -> str:
    """What a daemon does, in one line.

    Args:
        live: what it has in hand and is not over, as `Hands.live` tells it.
        lack: why nothing begins beside what is held; empty if it may.
    """
    held = [key[0] for key, shown in live.items() if shown is not None and shown.phase is Phase.HELD]
    others = [key[0] for key in live if key[0] not in held]
    parts = [f"running {', '.join(others)}"] if others and not lack else []
    parts += [f"holding {', '.join(held)} at its failure"] if held else []
    parts += [waiting_sentence(lack)] if lack else []
    return "; ".join(parts) or "waiting for jobs"


def waiting_sentence(lack: str) -> str:
    """That the jobs which are not begun wait for room, and why."""
    return f"other jobs wait for room: {lack}"
