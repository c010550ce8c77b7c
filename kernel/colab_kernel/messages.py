"""A message as it passes through: its parts are the bytes that arrived, read only where somebody looks.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#general-message-format
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from colab_kernel.errors import MalformedError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
JsonObject = Mapping[str, Json]
Buffer = bytes | memoryview
"""Binary data beside the JSON; a memoryview has one dimension, of bytes (format `B`)."""


class Channel(enum.StrEnum):
    """The five channels between a frontend and a kernel. `hb` carries bare bytes, never a message.

    Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#introduction
    """

    SHELL = "shell"
    IOPUB = "iopub"
    STDIN = "stdin"
    CONTROL = "control"
    HB = "hb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; two are equal if they are byte for byte.

    Attributes:
        channel: where it came from, and so where it goes.
        header, parent_header, metadata, content: each one JSON object, as the bytes in which it arrived.
            They are not checked on arrival; a `parsed_…` checks, once, the part that it reads.
        buffers: any number, of any size, zero included.
    """

    channel: Channel
    header: bytes
    parent_header: bytes
    metadata: bytes = field(repr=False)
    content: bytes = field(repr=False)  # a person's code and data: not for logs
    buffers: tuple[Buffer, ...] = field(default=(), repr=False)
    _parsed: dict[str, JsonObject] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def parsed_header(self) -> JsonObject:
        """`header` as an object. Raises MalformedError, as all of these."""
        return self._object("header", self.header)

    @property
    def parsed_parent_header(self) -> JsonObject:
        """`parent_header` as an object, empty if the message has no parent."""
        return self._object("parent_header", self.parent_header)

    @property
    def parsed_metadata(self) -> JsonObject:
        """`metadata` as an object."""
        return self._object("metadata", self.metadata)

    @property
    def parsed_content(self) -> JsonObject:
        """`content` as an object."""
        return self._object("content", self.content)

    @property
    def msg_id(self) -> str:
        """What replies to this message carry as their `parent_msg_id`."""
        return self._text("header", self.parsed_header, "msg_id")

    @property
    def msg_type(self) -> str:
        """`execute_request`, `status`, …, or a type that nobody here has heard of."""
        return self._text("header", self.parsed_header, "msg_type")

    @property
    def parent_msg_id(self) -> str | None:
        """The id of the message that caused this one; None if none did."""
        parent = self.parsed_parent_header
        return self._text("parent_header", parent, "msg_id") if parent else None

    @property
    def size_bytes(self) -> int:
        """The length of its parts and buffers together."""
        parts = len(self.header) + len(self.parent_header) + len(self.metadata) + len(self.content)
        return parts + sum(len(buffer) for buffer in self.buffers)

    def _object(self, part: str, raw: bytes) -> JsonObject:
        if part not in self._parsed:
            self._parsed[part] = _parse_object(raw, what=f"the {part} of a message on {self.channel}")
        return self._parsed[part]

    def _text(self, part: str, fields: JsonObject, name: str) -> str:
        value = fields.get(name)
        if not isinstance(value, str):
            raise MalformedError(f"the {part} of a message on {self.channel} has no {name} that is text")
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""Strict, other than Python's default: a frontend in JavaScript has no NaN and no Infinity in its JSON.

Source: https://www.rfc-editor.org/rfc/rfc8259#section-6; VS Code gives up a channel at one message that does
not decode, by https://app.unpkg.com/@nteract/messaging@7.0.20/files/lib/wire-protocol.js
"""


def _parse_object(raw: bytes, *, what: str) -> JsonObject:
    """The object that `raw` holds; `null` counts as an empty one.

    A byte that is not UTF-8 is read as U+FFFD: kernels in Python send such bytes where text was a file name
    or a program's output, and their peers read them so.
    Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/session.py (json_packer,
    json_unpacker), read in 8.10
    """
    try:
        value: Json = DECODER.decode(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{what} does not parse as JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is JSON, but not an object")
    return value
