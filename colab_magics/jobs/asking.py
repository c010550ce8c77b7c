"""What goes through Git when a person asks a worker for a session: the ask, and the sealed answer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colab_magics.errors import CorruptError
from colab_magics.jobs.json_text import serialize_line

FORMAT = 1
LIFE_S = 600.0
"""How long an ask, and its answer, count. A person waits less; the rest is for clocks that differ."""

_ID = re.compile(r"[0-9a-f]{32}")
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A person's wish for a session with a worker's machine.

    Attributes:
        ask_id: 32 hex digits, new for each ask; part of the refs.
        worker: who is asked; nobody else answers.
        key: the public key that the answer is sealed to, base64; the other half never leaves the asker.
        at, expires_at: Unix seconds; after the second nobody answers, and whoever sees it deletes it.
    """

    ask_id: str
    worker: str
    key: str
    at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker answered. `sealed` is base64, and only the asker can read it."""

    ask_id: str
    worker: str
    sealed: str
    expires_at: float


def is_ask_id(text: str) -> bool:
    """Whether it is one, and so may be part of a ref."""
    return _ID.fullmatch(text) is not None


def serialize_ask(ask: Ask) -> bytes:
    """`ask.json`."""
    told = {"id": ask.ask_id, "worker": ask.worker, "key": ask.key, "at": ask.at}
    return _serialize({**told, "expires_at": ask.expires_at})


def parse_ask(data: bytes) -> Ask:
    """The ask that `serialize_ask` wrote. CorruptError: not that."""
    told = _parse(data)
    try:
        return Ask(
            ask_id=_id(told["id"]),
            worker=str(told["worker"]),
            key=str(told["key"]),
            at=_seconds(told["at"]),
            expires_at=_seconds(told["expires_at"]),
        )
    except _BROKEN as error:
        raise CorruptError(f"an ask for a session does not parse: {error!r}") from error


def serialize_answer(answer: Answer) -> bytes:
    """`answer.json`."""
    told = {"id": answer.ask_id, "worker": answer.worker, "sealed": answer.sealed}
    return _serialize({**told, "expires_at": answer.expires_at})


def parse_answer(data: bytes) -> Answer:
    """The answer that `serialize_answer` wrote. CorruptError: not that."""
    told = _parse(data)
    try:
        return Answer(
            ask_id=_id(told["id"]),
            worker=str(told["worker"]),
            sealed=str(told["sealed"]),
            expires_at=_seconds(told["expires_at"]),
        )
    except _BROKEN as error:
        raise CorruptError(f"an answer to an ask for a session does not parse: {error!r}") from error


def _serialize(told: Mapping[str, object]) -> bytes:
    return f"{serialize_line({'format': FORMAT, **told})}\n".encode()


def _parse(data: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(data)
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}: written by another version; upgrade colab-magics")
    except _BROKEN as error:
        raise CorruptError(f"what was asked or answered does not parse: {error!r}") from error
    else:
        return told  # type: ignore[no-any-return]


def _id(value: object) -> str:
    if not isinstance(value, str) or not is_ask_id(value):
        raise ValueError(f"{value!r} is no id of an ask")
    return value


def _seconds(value: object) -> float:
    number = float(value) if isinstance(value, (int, float)) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no time")
    return number
