"""Whether the next job may begin beside one that is held at its failure. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Free:
    """What of this machine's memory nobody uses: shares of all of it, from 0 to 1.

    `gpu` is that of the fullest GPU that jobs see; None where they see none.
    """

    host: float
    gpu: float | None


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory has to be free for the next job to begin beside a held one, as shares.

    Nobody knows what the next job will need, and it must not fail for what another one keeps. The jobs of a
    queue are mostly alike: where at least as much of the GPU is free as is taken, which is half of it, the
    like of what is held there fits once more. The machine's own memory is seldom what a job is made for, and
    the system takes its part of it; below a quarter of it the next job would soon be one that is killed.
    """

    host: float = 0.25
    gpu: float = 0.5

    def lack(self, free: Free) -> str:
        """Why the next job has to wait, as the end of a sentence; empty if there is room for it."""
        if free.gpu is not None and free.gpu < self.gpu:
            return f"{free.gpu:.0%} of the GPU's memory is free, and {self.gpu:.0%} must be"
        if free.host < self.host:
            return f"{free.host:.0%} of the machine's memory is free, and {self.host:.0%} must be"
        return ""
