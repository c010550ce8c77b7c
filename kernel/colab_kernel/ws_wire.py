"""Messages as a Jupyter Server's websocket carries them: all channels on one socket, in one of two framings.

`Subprotocol.V1` is one binary form for all. The default protocol is older: JSON in a text frame, or, if there
are buffers, a binary form of its own. Both binary forms are an offset table and what it points to.

Parsing refuses whatever it could not hand on whole: bytes between the pieces or behind the last, binary data
in a field of JSON, a channel without a name.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html#wire-protocol
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from colab_kernel.errors import MalformedError, UnframeableError
from colab_kernel.messages import DECODER, Buffer, Channel, Json, Message

_CHANNELS = {channel.value: channel for channel in Channel if channel is not Channel.HB}


class Subprotocol(enum.StrEnum):
    """What the two ends of a websocket agreed on, as its handshake names it; without an answer, the default.

    Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html#websocket-protocol-negotiation
    """

    V1 = "v1.kernel.websocket.jupyter.org"
    DEFAULT = ""


def parse(payload: str | bytes, *, subprotocol: Subprotocol) -> Message:
    """The message in one websocket message.

    Args:
        payload: str from a text frame, bytes from a binary one. The message's buffers are views of it.

    Raises:
        MalformedError: it is no message, or not one that could be handed on whole.
    """
    return _parse_v1(payload) if subprotocol is Subprotocol.V1 else _parse_default(payload)


def serialize(message: Message, *, subprotocol: Subprotocol) -> str | bytes:
    """A message as one websocket message: str for a text frame, bytes for a binary one.

    Header, parent_header, metadata and content go out as the bytes that they are (in the default protocol
    without the white space around them), so that the same message is always the same payload.

    Raises:
        UnframeableError: the default protocol is one JSON text with 32-bit offsets, and a part is not JSON in
            UTF-8, or the buffers are beyond 4 GiB; or, in both, the message is for the heartbeat.
    """
    if message.channel is Channel.HB:
        raise UnframeableError("the heartbeat carries no messages, and no websocket carries the heartbeat")
    return _serialize_v1(message) if subprotocol is Subprotocol.V1 else _serialize_default(message)


# --- both binary forms: how many offsets, the offsets, the pieces -----------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """An offset table: a count, then as many offsets from the start of the payload, each of them one word.

    Attributes:
        order, word: a word in the terms of `struct`; word_bytes: how long it is.
        closed: whether one offset more, the last, says how long the whole is.
        pieces_least: how many pieces the shortest message has.
    """

    order: str
    word: str
    word_bytes: int
    closed: bool
    pieces_least: int

    def join(self, pieces: Sequence[Buffer]) -> bytes:
        count = len(pieces) + self.closed
        begin = self.word_bytes * (1 + count)
        offsets = list(accumulate((len(piece) for piece in pieces), initial=begin))[:count]
        try:
            table = struct.pack(self._words(1 + count), count, *offsets)
        except struct.error as error:
            raise UnframeableError(
                f"a message of {len(pieces)} pieces is too long for this websocket's framing: the last would "
                f"begin {offsets[-1]:,} bytes into it, and an offset has {8 * self.word_bytes} bits"
            ) from error
        return b"".join((table, *pieces))

    def cut(self, payload: bytes) -> list[memoryview]:
        words = len(payload) // self.word_bytes
        count = struct.unpack_from(self._words(1), payload)[0] if words else 0
        if not self.pieces_least + self.closed <= count < words:
            raise MalformedError(
                f"{len(payload):,} bytes came on the websocket that cannot begin with {count} offsets"
            )
        begin = self.word_bytes * (1 + count)
        bounds = list(struct.unpack_from(self._words(count), payload, self.word_bytes))
        if not self.closed:
            bounds.append(len(payload))
        if bounds[0] != begin or bounds[-1] != len(payload) or bounds != sorted(bounds):
            raise MalformedError(
                f"{len(payload):,} bytes came on the websocket whose {count} offsets do not divide them whole"
            )
        view = memoryview(payload)
        return [view[start:stop] for start, stop in pairwise(bounds)]

    def _words(self, count: int) -> str:
        return f"{self.order}{count}{self.word}"


_V1 = _Table(order="<", word="Q", word_bytes=8, closed=True, pieces_least=5)
"""Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html#v1-kernel-websocket-jupyter-org-protocol"""

_LEGACY = _Table(order=">", word="I", word_bytes=4, closed=False, pieces_least=1)
"""Cut short within its last buffer it cannot be told from a whole one: nothing says how long that is.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html#default-websocket-protocol,
and for the order of bytes, on which it is silent,
https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/services/kernels/connection/base.py
(serialize_binary_message), read in 2.21
"""


# --- v1.kernel.websocket.jupyter.org: channel, header, parent_header, metadata, content, *buffers ---------


def _serialize_v1(message: Message) -> bytes:
    parts = (message.header, message.parent_header, message.metadata, message.content)
    return _V1.join((message.channel.encode(), *parts, *message.buffers))


def _parse_v1(payload: str | bytes) -> Message:
    if isinstance(payload, str):
        raise MalformedError(f"a text frame came on a websocket that speaks {Subprotocol.V1}, which has none")
    name, header, parent_header, metadata, content, *buffers = _V1.cut(payload)
    return Message(
        channel=_channel(str(name, "utf-8", "replace")),
        header=bytes(header),
        parent_header=bytes(parent_header),
        metadata=bytes(metadata),
        content=bytes(content),
        buffers=tuple(buffers),
    )


# --- the default protocol: one JSON object with all of it, then *buffers -----------------------------------

_ABSENT: tuple[Json, bytes] = (None, b"{}")


def _serialize_default(message: Message) -> str | bytes:
    parts = {
        "header": message.header,
        "parent_header": message.parent_header,
        "metadata": message.metadata,
        "content": message.content,
    }
    members = ", ".join(f'"{name}": {_json_text(name, raw)}' for name, raw in parts.items())
    text = f'{{"channel": "{message.channel}", {members}}}'
    return _LEGACY.join((text.encode(), *message.buffers)) if message.buffers else text


def _json_text(part: str, raw: bytes) -> str:
    """`raw` for use inside JSON: whole and valid, or what is in it could end its member and begin another."""
    try:
        text = raw.decode()
        DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise UnframeableError(
            f"the {part} of a message cannot go into the JSON that this websocket's framing asks for: {error}"
        ) from error
    return text.strip(" \t\r\n")


def _parse_default(payload: str | bytes) -> Message:
    """Absent `parent_header` and `metadata` are empty; members that a message has no place for are ignored.

    `channel` is never guessed. The server's own messages have all of them, and in addition `msg_id` and
    `msg_type`, which are copies of the header's.
    Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#compatibility (extra fields)
    """
    text: str
    buffers: Sequence[memoryview]
    if isinstance(payload, str):
        text, buffers = payload, ()
    else:
        head, *buffers = _LEGACY.cut(payload)
        text = str(head, "utf-8", "surrogateescape")
    try:
        members = _split_object(text)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"what came on the websocket is not one JSON object: {error}") from error
    if "header" not in members or "content" not in members:
        raise MalformedError("JSON came on the websocket that has no header or no content, and is no message")
    if members.get("buffers", _ABSENT)[0]:
        raise MalformedError(
            "a message came on the websocket with buffers inside its JSON; this framing has them behind it"
        )
    name = members.get("channel", _ABSENT)[0]
    return Message(
        channel=_channel(name if isinstance(name, str) else ""),
        header=members["header"][1],
        parent_header=members.get("parent_header", _ABSENT)[1],
        metadata=members.get("metadata", _ABSENT)[1],
        content=members["content"][1],
        buffers=tuple(buffers),
    )


_SIGN = re.compile(r"[ \t\r\n]*([{}:,])[ \t\r\n]*")


def _split_object(text: str) -> dict[str, tuple[Json, bytes]]:
    """The members of a JSON object: name → (value, the bytes in which it was written).

    Raises:
        ValueError, RecursionError: not an object, or one with a name in it twice, of which one value would
            be lost.
    """
    members: dict[str, tuple[Json, bytes]] = {}
    sign, at = _sign(text, 0, "{")
    while sign != "}":
        name, at = DECODER.raw_decode(text, at)
        if not isinstance(name, str) or name in members:
            raise ValueError(f"char {at} ends a name that is not text, or is there twice")
        _, start = _sign(text, at, ":")
        value, at = DECODER.raw_decode(text, start)
        members[name] = value, text[start:at].encode("utf-8", "surrogateescape")
        sign, at = _sign(text, at, ",}")
    if at != len(text):
        raise ValueError(f"something follows the object, at char {at}")
    return members


def _sign(text: str, at: int, allowed: str) -> tuple[str, int]:
    """The sign at `at`, white space aside, and where what follows it begins."""
    match = _SIGN.match(text, at)
    if match is None or match[1] not in allowed:
        raise ValueError(f"one of {allowed} was expected at char {at}")
    return match[1], match.end()


def _channel(name: str) -> Channel:
    if name not in _CHANNELS:
        raise MalformedError(
            f"a message came on the websocket for the channel {name[:20]!r}; {', '.join(_CHANNELS)} are there"
        )
    return _CHANNELS[name]
