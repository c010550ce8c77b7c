"""Messages as the frames of ZeroMQ, signed: what stands between a frontend and a kernel on one machine.

    [*identities, b"<IDS|MSG>", signature, header, parent_header, metadata, content, *buffers]

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from colab_kernel.errors import MalformedError, SchemeError, SignatureError
from colab_kernel.messages import Buffer, Channel, Message

DELIMITER = b"<IDS|MSG>"
DEFAULT_SCHEME = "hmac-sha256"

_PARTS = 4
"""header, parent_header, metadata, content: always there, and all that a signature covers."""

_DIGESTS = frozenset(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_"))
"""What may follow `hmac-`. A shake has no length of its own, so none of its digests is meant by the name."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the key of a connection file, and tells what was signed with it. Make it by `from_key`."""

    _keyed: hmac.HMAC | None = field(repr=False)

    @classmethod
    def from_key(cls, key: bytes, *, signature_scheme: str = DEFAULT_SCHEME) -> Signer:
        """The signer of a connection file.

        Args:
            key: its `key` in UTF-8. Empty: nothing is signed, and nothing is checked.
            signature_scheme: `hmac-` and the name of a hash in Python's hashlib.

        Raises:
            SchemeError: another scheme.

        Source: https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
        """
        prefix, _, digest = signature_scheme.partition("-")
        if prefix != "hmac" or digest not in _DIGESTS:
            raise SchemeError(
                f"the connection file asks for signatures by {signature_scheme!r}, which are unknown here; "
                f"start the kernel with one that says {DEFAULT_SCHEME!r}, as Jupyter's own clients write it"
            )
        return cls(hmac.new(key, digestmod=digest) if key else None)

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """The signature of header, parent_header, metadata, content in this order; empty without a key."""
        if self._keyed is None:
            return b""
        digest = self._keyed.copy()
        digest.update(b"".join(parts))
        return digest.hexdigest().encode()

    def check(self, signature: bytes, *, parts: Sequence[bytes]) -> None:
        """Raise SignatureError unless `signature` is that of `parts`.

        An empty signature is what a peer without authentication sends: it passes only if there is no key.
        A signature that was here before passes: whoever executes keeps the history (jupyter_client's
        `Session` does, on both ends), and a request that is sent again must arrive as it was.
        Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/session.py
        (Session.deserialize), read in 8.10
        """
        if self._keyed is None:
            return
        if not signature:
            raise SignatureError("a message came without a signature, though the connection file has a key")
        if not hmac.compare_digest(signature, self.sign(parts)):
            raise SignatureError("a message came that was not signed with the connection file's key")


def parse(frames: Sequence[Buffer], *, channel: Channel, signer: Signer) -> tuple[tuple[bytes, ...], Message]:
    """The identities and the message in the frames of one multipart message.

    Args:
        frames: as received; what is a memoryview is copied, except for buffers, which are kept as they are.
        channel: the socket's.

    Returns:
        The identities are the routing prefix: whom to answer. On iopub it is the topic.

    Raises:
        SignatureError: not signed with the key. Nothing of it was looked at.
        MalformedError: no delimiter, or less than a message behind it.
    """
    if DELIMITER not in frames:
        raise MalformedError(
            f"{len(frames)} frames came on {channel} without {DELIMITER.decode()} among them"
        )
    delimiter_at = frames.index(DELIMITER)
    signed, buffers = frames[delimiter_at + 1 :][: 1 + _PARTS], frames[delimiter_at + 2 + _PARTS :]
    if len(signed) < 1 + _PARTS:
        raise MalformedError(
            f"a message came on {channel} with {len(signed)} frames behind {DELIMITER.decode()}; "
            "a signature, header, parent_header, metadata and content are the least"
        )
    signature, *parts = (bytes(frame) for frame in signed)
    signer.check(signature, parts=parts)
    header, parent_header, metadata, content = parts
    return tuple(bytes(frame) for frame in frames[:delimiter_at]), Message(
        channel=channel,
        header=header,
        parent_header=parent_header,
        metadata=metadata,
        content=content,
        buffers=tuple(buffers),
    )


def serialize(message: Message, *, signer: Signer, identities: Sequence[bytes] = ()) -> list[Buffer]:
    """The frames of a message, signed, for the peer that `identities` names (on iopub: with that topic)."""
    parts = [message.header, message.parent_header, message.metadata, message.content]
    return [*identities, DELIMITER, signer.sign(parts), *parts, *message.buffers]
