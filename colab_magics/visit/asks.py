"""A frontend's request at a kernel that we present, and who is to be answered."""

from __future__ import annotations

from dataclasses import dataclass

from colab_kernel.messages import Message

Identities = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `now` is when it came, in Unix seconds: what is made in answer to it has that time."""

    message: Message
    identities: Identities
    now: float
