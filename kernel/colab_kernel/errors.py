"""Every error that the proxy kernel raises on purpose, one tree.

KernelError
├── SchemeError         the connection file's fault: no signature can be made as it asks; nothing can start
├── UnframeableError    our side's fault: a message cannot be written in this framing; none of it was sent
├── MalformedError      the peer's fault: what arrived is no message; drop it, say so, go on with the channel
│   └── SignatureError  nor was it signed by somebody who knows the connection file's key
├── RegistryError       the session registry's fault: it cannot be read, or has no such runtime
├── KernelspecError     (install) a kernelspec that cannot be written or removed, since it is somebody else's
├── UsageError          (__main__) what was typed means nothing
└── RemoteError         the runtime's fault: it answers, but there is no kernel to be had there
    ├── UnreachableError    nobody answers: worth another try later
    ├── AccessError         it answers, but lets nobody in with this token: worth a look for a newer one
    └── KernelGoneError     the server is there, the kernel is not: nothing to go on with
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


class RegistryError(KernelError):
    """The session registry cannot be used as it is; it was left as it was."""


class RemoteError(KernelError):
    """A runtime answers otherwise than it should. The sentence says what was tried, what came, what to do."""


class UnreachableError(RemoteError):
    """Nobody answers at a runtime's address.

    Attributes:
        refused: the machine is there and says at once that nobody listens; otherwise there was silence.
    """

    def __init__(self, sentence: str, *, refused: bool = False) -> None:
        super().__init__(sentence)
        self.refused = refused


class AccessError(RemoteError):
    """A runtime answers, and refuses the token that it was shown."""


class KernelGoneError(RemoteError):
    """A runtime answers, and knows no kernel of that id."""
