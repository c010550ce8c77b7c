"""Secrets never leave: every form of them is replaced by as many asterisks in whatever is pushed or shown."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from colab_magics.jobs.json_text import serialize_indented
from colab_magics.jobs.secret_names import sounds_secret

MIN_LENGTH = 8
"""A shorter value (`false`, `1234`) would be found in texts that have nothing to do with it."""

_MIN_LINE_LENGTH = 16


class Masker:
    """Replaces secrets by asterisks of the same length, so that sizes and offsets stay what they were."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= MIN_LENGTH for form in _forms(secret)}
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None
        self.longest_bytes = len(ordered[0]) if ordered else 0

    def mask(self, data: bytes) -> bytes:
        """`data` with the secrets in it masked; the same object where there are none."""
        return self._pattern.sub(_stars, data) if self._pattern else data

    def mask_text(self, text: str) -> str:
        """The same for text. Text that no UTF-8 holds (lone surrogates) survives."""
        data = text.encode("utf-8", "surrogatepass")
        masked = self.mask(data)
        return text if masked is data else masked.decode("utf-8", "surrogatepass")

    def mask_values(self, value: Any) -> Any:
        """The same for the texts in a JSON value; numbers stay, and so do the names of keys."""
        match value:
            case str():
                return self.mask_text(value)
            case list() | tuple():
                return [self.mask_values(each) for each in value]
            case dict():
                return {key: self.mask_values(each) for key, each in value.items()}
            case _:
                return value

    def mask_all(self, value: Any) -> Any:
        """The same for everything in a JSON value: a number or a key with a secret in it becomes a text."""
        match value:
            case list() | tuple():
                return [self.mask_all(each) for each in value]
            case dict():
                return {self.mask_text(str(key)): self.mask_all(each) for key, each in value.items()}
            case int() | float():
                told = repr(value)
                return value if (masked := self.mask_text(told)) == told else masked
            case _:
                return self.mask_values(value)

    def mask_json(self, data: bytes) -> bytes:
        """JSON, masked, that is JSON still: digits that are a secret may stand in a number or an escape."""
        masked = self.mask(data)
        if masked is data:
            return data
        try:
            value = self.mask_all(json.loads(data))
        except (ValueError, RecursionError):
            return masked
        return f"{serialize_indented(value)}\n".encode()


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say that they are secret.

    The path of a file that exists is not one: masking `/content` wherever it stands would hide no secret.
    """
    values = (value.strip() for name, value in environment.items() if sounds_secret(name))
    return [value for value in values if len(value) >= MIN_LENGTH and not _is_path(value)]


def _stars(match: re.Match[bytes]) -> bytes:
    return b"*" * len(match[0])


def _is_path(value: str) -> bool:
    try:
        return os.sep in value and Path(value).exists()
    except (OSError, ValueError):
        return False


def _forms(secret: str) -> set[bytes]:
    """The bytes by which a secret may show: plain, quoted for JSON, Python, URLs; base64 at any offset."""
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
    texts |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    texts |= {line.strip() for line in secret.splitlines() if len(line.strip()) >= _MIN_LINE_LENGTH}
    texts |= {json.dumps(text)[1:-1] for text in set(texts)}  # JSON in JSON: a notebook in a log line
    raw = secret.encode("utf-8", "surrogatepass")
    forms = {text.encode("utf-8", "surrogatepass") for text in texts}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms |= {_inner(encode(b"\0" * offset + raw), offset=offset, size=len(raw)) for offset in range(3)}
    return {form for form in forms if len(form) >= MIN_LENGTH}


def _inner(encoded: bytes, *, offset: int, size: int) -> bytes:
    """The characters of a base64 text that stand for the secret's bits alone, whatever surrounds it."""
    first = -(-offset * 8 // 6)
    last = (offset + size) * 8 // 6
    return encoded[first:last]
