"""Messages as a websocket's: against Jupyter Server's own functions, and against whatever else may arrive."""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
from typing import Any

import pytest
import wire_samples
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.jsonutil import json_default
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from wire_samples import MESSAGE

from colab_kernel.errors import KernelError, MalformedError, UnframeableError
from colab_kernel.messages import Channel, Message
from colab_kernel.ws_wire import Subprotocol, parse, serialize

V1, DEFAULT = Subprotocol.V1, Subprotocol.DEFAULT
SUBPROTOCOLS = st.sampled_from(Subprotocol)

PLAIN = dataclasses.replace(MESSAGE, buffers=())
EMPTY = Message(channel=Channel.SHELL, header=b"{}", parent_header=b"{}", metadata=b"{}", content=b"{}")


def parts(message: Message) -> list[bytes]:
    return [message.header, message.parent_header, message.metadata, message.content]


def from_kernel(*, buffers: tuple[bytes, ...] = wire_samples.BUFFERS) -> tuple[list[bytes], dict[str, Any]]:
    """What a kernel sends, as a server has it: the frames from the header on, and the same deserialized."""
    session = Session(key=b"k")
    parent = session.msg("execute_request")
    message = session.msg("comm_msg", wire_samples.CONTENT, parent=parent, metadata=wire_samples.METADATA)
    frames = [*session.serialize(message), *buffers]
    return frames[2:], session.deserialize(frames[1:])


def is_what_the_kernel_sent(message: Message, sent: dict[str, Any]) -> bool:
    return (
        message.msg_id == sent["msg_id"]
        and message.parent_msg_id == sent["parent_header"]["msg_id"]
        and message.parsed_metadata == sent["metadata"]
        and message.parsed_content == sent["content"]
        and message.buffers == tuple(sent["buffers"])
    )


# --- against Jupyter Server, v1 ---------------------------------------------------------------------------


@pytest.mark.parametrize("message", [MESSAGE, PLAIN, EMPTY])
@pytest.mark.parametrize("channel", wire_samples.CHANNELS)
def test_jupyter_server_reads_our_v1(message: Message, channel: Channel) -> None:
    message = dataclasses.replace(message, channel=channel)
    payload = serialize(message, subprotocol=V1)
    assert deserialize_msg_from_ws_v1(payload) == (channel, [*parts(message), *message.buffers])


@pytest.mark.parametrize("message", [MESSAGE, PLAIN, EMPTY])
@pytest.mark.parametrize("channel", wire_samples.CHANNELS)
def test_our_v1_is_jupyter_servers_byte_for_byte(message: Message, channel: Channel) -> None:
    message = dataclasses.replace(message, channel=channel)
    theirs = serialize_msg_to_ws_v1([*parts(message), *message.buffers], channel)
    assert serialize(message, subprotocol=V1) == theirs
    assert parse(theirs, subprotocol=V1) == message


def test_we_read_what_jupyter_server_says_itself_in_v1() -> None:
    """Its notices are packed by another way through the same function (`write_stderr`)."""
    session = Session(key=b"k")
    notice = session.msg("stream", {"name": "stderr", "text": "IOPub message rate exceeded.\n"}, parent={})
    read = parse(serialize_msg_to_ws_v1(notice, "iopub", session.pack), subprotocol=V1)
    assert read.channel is Channel.IOPUB
    assert read.msg_type == "stream"
    assert read.parent_msg_id is None
    assert read.parsed_content == notice["content"]


# --- against Jupyter Server, the default protocol ---------------------------------------------------------


def test_jupyter_server_reads_our_text() -> None:
    payload = serialize(PLAIN, subprotocol=DEFAULT)
    assert isinstance(payload, str)
    read = json.loads(payload)
    assert read == {
        "channel": "shell",
        "header": wire_samples.HEADER,
        "parent_header": wire_samples.PARENT_HEADER,
        "metadata": wire_samples.METADATA,
        "content": wire_samples.CONTENT,
    }
    frames = Session(key=b"k").serialize(read)
    assert json.loads(frames[-1]) == wire_samples.CONTENT


def test_jupyter_server_reads_our_legacy_binary() -> None:
    payload = serialize(MESSAGE, subprotocol=DEFAULT)
    assert isinstance(payload, bytes)
    read = deserialize_binary_message(payload)
    assert read["channel"] == "shell"
    assert read["header"]["of tomorrow"] == wire_samples.HEADER["of tomorrow"]
    assert read["parent_header"]["msg_id"] == MESSAGE.parent_msg_id
    assert read["metadata"] == wire_samples.METADATA
    assert read["content"] == wire_samples.CONTENT
    assert read["buffers"] == list(MESSAGE.buffers)


@pytest.mark.parametrize("channel", wire_samples.CHANNELS)
def test_we_read_jupyter_servers_text(channel: Channel) -> None:
    _, sent = from_kernel(buffers=())
    read = parse(json.dumps(sent | {"channel": channel}, default=json_default), subprotocol=DEFAULT)
    assert read.channel is channel
    assert is_what_the_kernel_sent(read, sent)


@pytest.mark.parametrize("channel", wire_samples.CHANNELS)
def test_we_read_jupyter_servers_legacy_binary(channel: Channel) -> None:
    _, sent = from_kernel()
    read = parse(serialize_binary_message(sent | {"channel": channel}), subprotocol=DEFAULT)
    assert read.channel is channel
    assert is_what_the_kernel_sent(read, sent)


def test_we_read_what_a_kernel_sent_through_v1_byte_for_byte() -> None:
    frames, sent = from_kernel()
    read = parse(serialize_msg_to_ws_v1(frames, "iopub"), subprotocol=V1)
    assert [*parts(read), *read.buffers] == frames
    assert is_what_the_kernel_sent(read, sent)


@pytest.mark.parametrize("subprotocol", Subprotocol)
def test_a_message_of_a_hundred_megabytes_is_one_like_any_other(subprotocol: Subprotocol) -> None:
    text = b'{"text": "' + "é".encode() * 20_000_000 + b'"}'
    big = dataclasses.replace(EMPTY, content=text, buffers=(bytes(60_000_000), b"", b"end"))
    payload = serialize(big, subprotocol=subprotocol)
    assert parse(payload, subprotocol=subprotocol) == big
    read = deserialize_msg_from_ws_v1(payload)[1][-3:] if subprotocol is V1 else None
    assert (read or deserialize_binary_message(payload)["buffers"]) == list(big.buffers)


# --- what passes unchanged --------------------------------------------------------------------------------


def test_the_default_protocol_leaves_json_as_it_was_written() -> None:
    odd = dataclasses.replace(
        PLAIN,
        header=b'{"msg_id" :\t"1",\n "n": 1.00E+2, "n": 1e400}',
        content='{"a": "\\u00e9\\ud800é\u2028", "b": 12345678901234567890123}'.encode(),
    )
    assert parse(serialize(odd, subprotocol=DEFAULT), subprotocol=DEFAULT) == odd


def test_the_default_protocol_drops_white_space_around_a_part_and_nothing_else() -> None:
    spaced = dataclasses.replace(EMPTY, content=b' \r\n\t{"a" : 1}\n ')
    read = parse(serialize(spaced, subprotocol=DEFAULT), subprotocol=DEFAULT)
    assert read == dataclasses.replace(EMPTY, content=b'{"a" : 1}')


def test_v1_leaves_bytes_as_they_are_that_are_not_even_json() -> None:
    odd = dataclasses.replace(MESSAGE, header=b"\xff", parent_header=b"", metadata=b"null", content=b"{{{")
    assert parse(serialize(odd, subprotocol=V1), subprotocol=V1) == odd


def test_bytes_that_are_not_utf_8_come_through_the_legacy_binary_form() -> None:
    """The server reads strictly; what it writes is ASCII. Between the two, nothing is lost on the way in."""
    text = b'{"channel": "iopub", "header": {}, "content": {"text": "caf\xe9"}}'
    payload = struct.pack(">II", 1, 8) + text
    assert parse(payload, subprotocol=DEFAULT).content == b'{"text": "caf\xe9"}'


def test_buffers_are_views_of_what_arrived() -> None:
    payload = serialize(MESSAGE, subprotocol=V1)
    assert all(buffer.obj is payload for buffer in parse(payload, subprotocol=V1).buffers)


def test_the_same_message_is_always_the_same_payload() -> None:
    """A request that is sent again is recognised by its bytes."""
    for subprotocol in Subprotocol:
        payload = serialize(MESSAGE, subprotocol=subprotocol)
        assert serialize(parse(payload, subprotocol=subprotocol), subprotocol=subprotocol) == payload


# --- tolerance of the default protocol --------------------------------------------------------------------


def test_parent_header_and_metadata_may_be_absent() -> None:
    read = parse('{"channel": "shell", "header": {}, "content": {}}', subprotocol=DEFAULT)
    assert read == EMPTY


@pytest.mark.parametrize("buffers", ["[]", "null"])
def test_buffers_may_be_there_and_empty(buffers: str) -> None:
    text = f'{{"channel": "shell", "header": {{}}, "content": {{}}, "buffers": {buffers}}}'
    assert parse(text, subprotocol=DEFAULT) == EMPTY


def test_members_that_a_message_has_no_place_for_are_ignored() -> None:
    text = ' {"msg_id": "1", "x": [{}], "header": {}, "channel": "shell", "content": {} , "y": NULL}\n'
    assert parse(text.replace("NULL", "null"), subprotocol=DEFAULT) == EMPTY


def test_the_binary_form_may_come_without_buffers() -> None:
    text = serialize(PLAIN, subprotocol=DEFAULT)
    assert isinstance(text, str)
    payload = struct.pack(">II", 1, 8) + text.encode()
    assert parse(payload, subprotocol=DEFAULT) == PLAIN


# --- what is refused on the way in ------------------------------------------------------------------------

WHOLE = {"channel": "shell", "header": {}, "parent_header": {}, "metadata": {}, "content": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "one of { was expected at char 0"),
        ("[]", "one of { was expected at char 0"),
        ("{}", "not one JSON object"),
        ("{", "not one JSON object"),
        ('{"header" {}}', "one of : was expected"),
        ('{"header": {}; "content": {}}', "one of ,} was expected"),
        ('{"header": {}', "one of ,} was expected"),
        ('{"header": {}, "content": {}} x', "something follows the object"),
        ('{1: {}, "content": {}}', "a name that is not text"),
        ('{[]: {}, "content": {}}', "a name that is not text"),
        ('{"header": {}, "content": {}, "header": {}}', "there twice"),
        ('{"header": {}, "content": {"x": NaN}}', "NaN is not JSON"),
        ('{"header": {}, "content": ' + "[" * 100_000, "not one JSON object"),
        ('{"header": {}, "content": {"x": "\ud800"}}', "not one JSON object"),
        (json.dumps(WHOLE | {"buffers": ["AAECAw=="]}), "buffers inside its JSON"),
        (json.dumps({key: WHOLE[key] for key in WHOLE if key != "header"}), "no header or no content"),
        (json.dumps({key: WHOLE[key] for key in WHOLE if key != "content"}), "no header or no content"),
        (json.dumps({key: WHOLE[key] for key in WHOLE if key != "channel"}), "for the channel ''"),
        (json.dumps(WHOLE | {"channel": None}), "for the channel ''"),
        (json.dumps(WHOLE | {"channel": ["shell"]}), "for the channel ''"),
        (
            json.dumps(WHOLE | {"channel": "Shell"}),
            "for the channel 'Shell'; shell, iopub, stdin, control are",
        ),
        (json.dumps(WHOLE | {"channel": "hb"}), "for the channel 'hb'"),
    ],
    ids=lambda value: value[:40],
)
def test_text_that_is_no_message_is_refused(text: str, why: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(text, subprotocol=DEFAULT)
    assert why in str(caught.value)


@pytest.mark.parametrize("name", [b"", b"hb", b"SHELL", b"shell\0", b"\xff", b"x" * 1000])
def test_a_channel_that_there_is_not_is_refused(name: bytes) -> None:
    payload = serialize_msg_to_ws_v1(parts(PLAIN), name.decode("latin-1"))
    with pytest.raises(MalformedError, match="shell, iopub, stdin, control are there") as caught:
        parse(payload, subprotocol=V1)
    assert len(str(caught.value)) < 200


def test_jupyter_server_would_not_know_that_channel_either() -> None:
    channel, _ = deserialize_msg_from_ws_v1(serialize_msg_to_ws_v1(parts(PLAIN), "tunnel"))
    assert channel == "tunnel"
    assert channel not in wire_samples.CHANNELS


def test_text_is_refused_where_the_subprotocol_has_none() -> None:
    with pytest.raises(MalformedError, match="text frame"):
        parse(serialize(PLAIN, subprotocol=DEFAULT), subprotocol=V1)


def v1_table(*offsets: int, count: int | None = None) -> bytes:
    count = len(offsets) if count is None else count
    return struct.pack(f"<{1 + len(offsets)}Q", count, *offsets) + b"shell{}{}{}{}"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x06",
        bytes(8),
        v1_table(56, 61, 63, 65, 67, 68),  # the last byte would be lost
        v1_table(56, 61, 63, 65, 67, 70),  # one is missing
        v1_table(57, 61, 63, 65, 67, 69),  # one would be lost before the channel
        v1_table(55, 61, 63, 65, 67, 69),
        v1_table(56, 63, 61, 65, 67, 69),  # backwards
        v1_table(48, 53, 55, 57, 61),  # a message without content
        v1_table(56, 61, 63, 65, 67, 69, count=5),
        v1_table(56, 61, 63, 65, 67, 69, count=2**64 - 1),
        v1_table(56, 61, 63, 65, 67, 2**64 - 1),
    ],
)
def test_v1_that_is_not_divided_from_end_to_end_is_refused(payload: bytes) -> None:
    whole = v1_table(56, 61, 63, 65, 67, 69)
    assert parse(whole, subprotocol=V1) == EMPTY
    with pytest.raises(MalformedError, match="bytes came on the websocket"):
        parse(payload, subprotocol=V1)


TEXT = json.dumps(WHOLE).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        struct.pack(">I", 0) + TEXT,
        struct.pack(">II", 1, 7) + TEXT,
        struct.pack(">II", 1, 9) + TEXT,
        struct.pack(">III", 2, 12, 11) + TEXT,
        struct.pack(">III", 2, 12, 13 + len(TEXT)) + TEXT,
        struct.pack(">II", 2**32 - 1, 8) + TEXT,
        struct.pack("<II", 1, 8) + TEXT,
    ],
)
def test_legacy_binary_that_is_not_divided_from_end_to_end_is_refused(payload: bytes) -> None:
    assert parse(struct.pack(">III", 2, 12, 12 + len(TEXT)) + TEXT + b"b", subprotocol=DEFAULT).buffers
    with pytest.raises(MalformedError, match="bytes came on the websocket"):
        parse(payload, subprotocol=DEFAULT)


def test_buffers_inside_the_json_of_the_binary_form_are_refused() -> None:
    text = json.dumps(WHOLE | {"buffers": ["AA=="]}).encode()
    payload = struct.pack(">III", 2, 12, 12 + len(text)) + text + b"b"
    with pytest.raises(MalformedError, match="buffers inside its JSON"):
        parse(payload, subprotocol=DEFAULT)


# --- what is refused on the way out -----------------------------------------------------------------------


@pytest.mark.parametrize("buffers", [(), (b"x",)])
@pytest.mark.parametrize("part", ["header", "parent_header", "metadata", "content"])
@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{}, "channel": "control"', b'{"a": NaN}', b'{"a": "\xe9"}', b"[" * 100_000]
)
def test_what_is_not_json_does_not_go_into_json(raw: bytes, part: str, buffers: tuple[bytes, ...]) -> None:
    message = dataclasses.replace(EMPTY, buffers=buffers, **{part: raw})
    with pytest.raises(UnframeableError, match=f"the {part} of a message cannot go into the JSON"):
        serialize(message, subprotocol=DEFAULT)


def test_the_default_protocol_ends_at_four_gibibytes() -> None:
    with mmap.mmap(-1, 2**32) as memory, memoryview(memory) as view:  # address space only: nothing is touched
        message = dataclasses.replace(EMPTY, buffers=(view, b""))
        with pytest.raises(UnframeableError, match="an offset has 32 bits"):
            serialize(message, subprotocol=DEFAULT)


@pytest.mark.parametrize("subprotocol", Subprotocol)
def test_nothing_is_sent_for_the_heartbeat(subprotocol: Subprotocol) -> None:
    with pytest.raises(UnframeableError, match="heartbeat"):
        serialize(dataclasses.replace(EMPTY, channel=Channel.HB), subprotocol=subprotocol)


# --- any message, any payload -----------------------------------------------------------------------------


@wire_samples.patient
@given(wire_samples.messages(), SUBPROTOCOLS)
def test_what_is_written_is_read_back(message: Message, subprotocol: Subprotocol) -> None:
    assert parse(serialize(message, subprotocol=subprotocol), subprotocol=subprotocol) == message


@wire_samples.patient
@given(wire_samples.messages(st.binary()))
def test_v1_carries_any_bytes(message: Message) -> None:
    payload = serialize(message, subprotocol=V1)
    assert parse(payload, subprotocol=V1) == message
    assert deserialize_msg_from_ws_v1(payload) == (message.channel, [*parts(message), *message.buffers])


@wire_samples.patient
@given(wire_samples.messages())
def test_jupyter_server_reads_any_message_of_the_default_protocol(message: Message) -> None:
    payload = serialize(message, subprotocol=DEFAULT)
    if isinstance(payload, bytes):
        offsets = struct.unpack_from(f">{1 + len(message.buffers)}I", payload, 4)
        read = json.loads(payload[offsets[0] : offsets[1]])
        assert deserialize_binary_message(payload)["buffers"] == list(message.buffers)
    else:
        read = json.loads(payload)
    assert read.pop("channel") == message.channel
    assert list(read.values()) == [json.loads(part) for part in parts(message)]


V1_PAYLOADS = wire_samples.messages().map(lambda message: serialize(message, subprotocol=V1))
LEGACY_PAYLOADS = (
    wire_samples.messages()
    .map(lambda message: serialize(message, subprotocol=DEFAULT))
    .map(lambda payload: payload if isinstance(payload, bytes) else payload.encode())
)


@wire_samples.patient
@given(wire_samples.damaged(V1_PAYLOADS) | st.binary())
def test_damaged_v1_is_refused_or_read_without_loss(payload: bytes) -> None:
    try:
        message = parse(payload, subprotocol=V1)
    except KernelError:
        return
    wire_samples.read_all(message)
    assert serialize(message, subprotocol=V1) == payload


@wire_samples.patient
@given(V1_PAYLOADS, st.data())
def test_v1_that_was_cut_short_is_always_noticed(payload: bytes, data: st.DataObject) -> None:
    short = payload[: data.draw(st.integers(0, len(payload) - 1))]
    with pytest.raises(MalformedError):
        parse(short, subprotocol=V1)


@wire_samples.patient
@given(wire_samples.damaged(LEGACY_PAYLOADS) | st.binary())
def test_damaged_bytes_of_the_default_protocol_raise_no_foreign_error(payload: bytes) -> None:
    for form in (payload, payload.decode("utf-8", "replace"), payload.decode("utf-8", "surrogateescape")):
        try:
            wire_samples.read_all(parse(form, subprotocol=DEFAULT))
        except KernelError:
            pass


@wire_samples.patient
@given(st.text(st.characters(exclude_categories=())) | st.text('{}[]:," \\u0"ab1-'))
def test_any_text_is_a_message_or_refused(text: str) -> None:
    for subprotocol in Subprotocol:
        try:
            wire_samples.read_all(parse(text, subprotocol=subprotocol))
        except KernelError:
            pass


@wire_samples.patient
@given(wire_samples.messages(wire_samples.damaged(wire_samples.OBJECTS)), SUBPROTOCOLS)
def test_any_message_is_written_or_refused(message: Message, subprotocol: Subprotocol) -> None:
    try:
        payload = serialize(message, subprotocol=subprotocol)
    except KernelError:
        return
    read = parse(payload, subprotocol=subprotocol)
    if subprotocol is V1:
        assert read == message
    else:
        assert [*parts(read), *read.buffers] == [
            *(part.strip(b" \t\r\n") for part in parts(message)),
            *message.buffers,
        ]
