"""A message is the bytes that arrived, and reads them where somebody looks."""

from __future__ import annotations

import dataclasses

import pytest
import wire_samples
from hypothesis import given
from hypothesis import strategies as st
from wire_samples import MESSAGE

from colab_kernel.errors import MalformedError
from colab_kernel.messages import Channel, Message

VIEWS = {
    "header": wire_samples.HEADER,
    "parent_header": wire_samples.PARENT_HEADER,
    "metadata": wire_samples.METADATA,
    "content": wire_samples.CONTENT,
}


@pytest.mark.parametrize(("part", "value"), VIEWS.items())
def test_each_part_can_be_read_as_an_object(part: str, value: object) -> None:
    assert getattr(MESSAGE, f"parsed_{part}") == value


def test_a_message_tells_its_type_its_id_and_its_parents() -> None:
    assert MESSAGE.msg_type == "comm_msg"
    assert MESSAGE.msg_id == "7f2c-1"
    assert MESSAGE.parent_msg_id == "0ab1-9"


@pytest.mark.parametrize("parent", [b"{}", b" { } ", b"null"])
def test_a_message_that_nobody_caused_has_no_parent(parent: bytes) -> None:
    message = dataclasses.replace(MESSAGE, parent_header=parent)
    assert message.parent_msg_id is None
    assert message.parsed_parent_header == {}
    assert message.parent_header is parent


def test_a_part_is_parsed_once() -> None:
    message = dataclasses.replace(MESSAGE)
    assert message.parsed_content is message.parsed_content


def test_a_message_made_from_another_does_not_remember_what_that_one_read() -> None:
    assert MESSAGE.msg_type == "comm_msg"
    other = dataclasses.replace(MESSAGE, header=b'{"msg_type": "status"}')
    assert other.msg_type == "status"


def test_what_was_read_of_a_message_makes_no_difference_between_two() -> None:
    read, unread = dataclasses.replace(MESSAGE), dataclasses.replace(MESSAGE)
    assert read.parsed_content
    assert read == unread
    assert hash(read) == hash(unread)


def test_a_byte_makes_a_difference_between_two_messages() -> None:
    assert dataclasses.replace(MESSAGE, content=MESSAGE.content + b" ") != MESSAGE
    assert dataclasses.replace(MESSAGE, buffers=()) != MESSAGE
    assert dataclasses.replace(MESSAGE, buffers=tuple(map(memoryview, MESSAGE.buffers))) == MESSAGE


def test_a_message_in_a_log_shows_neither_code_nor_data() -> None:
    message = dataclasses.replace(MESSAGE, content=b'{"code": "secret"}', buffers=(b"secret",))
    assert "comm_msg" in repr(message)
    assert "secret" not in repr(message)


def test_bytes_that_are_not_utf_8_are_read_as_jupyters_own_clients_read_them() -> None:
    message = dataclasses.replace(MESSAGE, content=b'{"text": "caf\xe9"}')
    assert message.parsed_content == {"text": "caf\ufffd"}
    assert message.content == b'{"text": "caf\xe9"}'


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "does not parse"),
        (b"{", "does not parse"),
        (b"{} {}", "does not parse"),
        (b'{"x": NaN}', "NaN is not JSON"),
        (b'{"x": -Infinity}', "-Infinity is not JSON"),
        (b"[" * 100_000, "does not parse"),
        (b'{"x": ' + b"9" * 5000 + b"}", "does not parse"),
        (b"\xff\xfe{\x00}\x00", "does not parse"),
        (b"[]", "not an object"),
        (b'"text"', "not an object"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_part_that_is_no_object_is_refused_when_it_is_read(raw: bytes, why: str) -> None:
    message = dataclasses.replace(MESSAGE, content=raw)
    with pytest.raises(MalformedError, match=f"the content of a message on shell.*{why}"):
        _ = message.parsed_content
    assert message.msg_type == "comm_msg"


@pytest.mark.parametrize("header", [b"{}", b"null", b'{"msg_id": 5, "msg_type": ["status"]}'])
def test_a_header_without_an_id_or_a_type_is_refused(header: bytes) -> None:
    message = dataclasses.replace(MESSAGE, header=header)
    with pytest.raises(MalformedError, match="header of a message on shell has no msg_id"):
        _ = message.msg_id
    with pytest.raises(MalformedError, match="header of a message on shell has no msg_type"):
        _ = message.msg_type


def test_a_parent_without_an_id_is_refused() -> None:
    message = dataclasses.replace(MESSAGE, parent_header=b'{"msg_type": "execute_request"}')
    with pytest.raises(MalformedError, match="parent_header of a message on shell has no msg_id"):
        _ = message.parent_msg_id


def test_the_channels_are_called_as_in_the_specification() -> None:
    assert [str(channel) for channel in Channel] == ["shell", "iopub", "stdin", "control", "hb"]


@wire_samples.patient
@given(wire_samples.messages(wire_samples.damaged(wire_samples.OBJECTS) | st.binary()))
def test_reading_any_bytes_raises_no_foreign_error(message: Message) -> None:
    wire_samples.read_all(message)
