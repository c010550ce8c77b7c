"""How things stand for the relay, and what it asks the loop around it to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.StrEnum):
    """How things stand with the remote kernel."""

    CONNECTING = "connecting"  # nothing came yet: requests wait
    OPEN = "open"
    BROKEN = "broken"  # it was open, and will be: requests wait, and those on their way will go again
    UNREACHABLE = "unreachable"  # there is none: requests fail, and the next cell tries again
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Connect:
    """Try again to get a remote kernel."""


@dataclass(frozen=True, slots=True)
class InterruptKernel:
    """Interrupt the remote kernel, past its control channel, and report by `interrupted`."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """A frontend ends this process. The remote kernel goes with it."""


@dataclass(frozen=True, slots=True)
class KernelDied:
    """There is nothing left to relay to: end this process with an error; the frontend starts another."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message went nowhere; the sentence is for the log."""

    sentence: str


Event = Connect | InterruptKernel | Shutdown | KernelDied | Dropped
