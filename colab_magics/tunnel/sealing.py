"""Sealing what goes through Git: only who made the key can open it. The library is imported when needed.

A sealed box is anonymous: it says nothing of who sealed it. That whoever can push may answer is the trust of
the whole queue.

Source: https://pynacl.readthedocs.io/en/latest/public/#nacl.public.SealedBox
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Self

from colab_magics.errors import TunnelError


class Key:
    """A pair of keys for one ask. The secret one is in this process's memory, and nowhere else."""

    def __init__(self, secret: Any) -> None:
        """See `new`."""
        self._secret = secret

    @classmethod
    def new(cls) -> Self:
        """A fresh one."""
        from nacl.public import PrivateKey

        return cls(PrivateKey.generate())

    @property
    def public(self) -> str:
        """What others seal to, base64."""
        return base64.b64encode(bytes(self._secret.public_key)).decode()

    def open(self, sealed: str) -> dict[str, Any]:
        """What was sealed to this key. TunnelError: it was not, or somebody changed it."""
        from nacl.exceptions import CryptoError
        from nacl.public import SealedBox

        try:
            content = json.loads(SealedBox(self._secret).decrypt(base64.b64decode(sealed, validate=True)))
        except (CryptoError, binascii.Error, ValueError) as error:
            raise TunnelError("the answer is not sealed to the key that was made for it") from error
        if not isinstance(content, dict):
            raise TunnelError("the answer holds something else than an answer")
        return content


def seal(content: Mapping[str, Any], *, to: str) -> str:
    """Content as JSON that only the owner of the public key `to` (base64) can open; base64.

    Raises:
        ValueError: it is no such key.
    """
    from nacl.exceptions import CryptoError
    from nacl.public import PublicKey, SealedBox

    try:
        box = SealedBox(PublicKey(base64.b64decode(to, validate=True)))
        return base64.b64encode(box.encrypt(json.dumps(content).encode())).decode()
    except (CryptoError, TypeError, binascii.Error) as error:
        raise ValueError(f"{to[:64]!r} is no public key") from error
