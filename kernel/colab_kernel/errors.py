"""Every error that the proxy kernel raises on purpose, one tree.

KernelError
├── SchemeError         the connection file's fault: no signature can be made as it asks; nothing can start
├── UnframeableError    our side's fault: a message cannot be written in this framing; none of it was sent
└── MalformedError      the peer's fault: what arrived is no message; drop it, say so, go on with the channel
    └── SignatureError  nor was it signed by somebody who knows the connection file's key
"""

from __future__ import annotations


class KernelError(Exception):
    """Base of all errors of the proxy kernel. `str(error)` is one sentence, without a message's content."""


class SchemeError(KernelError):
    """A connection file asks for signatures of a kind that cannot be made here."""


class UnframeableError(KernelError):
    """A message cannot be written in the framing asked for. Others can, before and after it."""


class MalformedError(KernelError):
    """What arrived is not a message."""


class SignatureError(MalformedError):
    """What arrived was not signed with the key of the connection file."""
