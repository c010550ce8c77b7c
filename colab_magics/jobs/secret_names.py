"""Which names of environment variables say that the value is a secret."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"TOKEN(?!I[ZS])|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL|PRIVATE", re.IGNORECASE
)


def sounds_secret(name: str) -> bool:
    """Whether the name of a variable says that its value is a secret: `HF_TOKEN`, not `TOKENIZERS`."""
    return _NAME.search(name) is not None
