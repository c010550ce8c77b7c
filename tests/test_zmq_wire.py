"""Messages as signed frames: against jupyter_client's `Session`, and against whatever else may arrive."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import wire_samples
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.session import Session
from wire_samples import MESSAGE

from colab_kernel.errors import KernelError, MalformedError, SchemeError, SignatureError
from colab_kernel.messages import Buffer, Channel, Message
from colab_kernel.zmq_wire import DELIMITER, Signer, parse, serialize

KEY = b"a0436f6c-1916-498b-8eb9-e81ab9368e84"
SIGNER = Signer.from_key(KEY)
UNSIGNED = Signer.from_key(b"")
IDENTITIES = (b"\x00k\x8bEg", b"second")

KEYS = st.sampled_from([b"", b"k", KEY])
SCHEMES = st.sampled_from(["hmac-sha256", "hmac-md5", "hmac-sha3_512", "hmac-blake2b"])
FRAMES = st.lists(st.binary(max_size=20) | st.just(DELIMITER), max_size=9)


def session(*, key: bytes = KEY, signature_scheme: str = "hmac-sha256") -> Session:
    return Session(key=key, signature_scheme=signature_scheme, digest_history_size=0)


# --- against jupyter_client -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("signature_scheme", ["hmac-sha256", "hmac-sha512", "hmac-md5", "hmac-blake2s"])
def test_jupyter_client_reads_what_we_write(key: bytes, signature_scheme: str) -> None:
    theirs = session(key=key, signature_scheme=signature_scheme)
    signer = Signer.from_key(key, signature_scheme=signature_scheme)
    frames = serialize(MESSAGE, signer=signer, identities=IDENTITIES)
    identities, rest = theirs.feed_identities(list(frames))
    read = theirs.deserialize(rest)
    assert identities == list(IDENTITIES)
    assert (read["msg_id"], read["msg_type"]) == (MESSAGE.msg_id, MESSAGE.msg_type)
    assert read["metadata"] == wire_samples.METADATA
    assert read["content"] == wire_samples.CONTENT
    assert [bytes(buffer) for buffer in read["buffers"]] == list(MESSAGE.buffers)


@pytest.mark.parametrize("key", [KEY, b""])
@pytest.mark.parametrize("channel", wire_samples.CHANNELS)
@pytest.mark.parametrize("signature_scheme", ["hmac-sha256", "hmac-sha512", "hmac-md5", "hmac-blake2s"])
def test_we_read_what_jupyter_client_writes(key: bytes, channel: Channel, signature_scheme: str) -> None:
    theirs = session(key=key, signature_scheme=signature_scheme)
    parent = theirs.msg("execute_request")
    written = theirs.msg("comm_msg", wire_samples.CONTENT, parent=parent, metadata=wire_samples.METADATA)
    frames = [*theirs.serialize(written, ident=list(IDENTITIES)), *map(memoryview, wire_samples.BUFFERS)]
    identities, read = parse(
        frames, channel=channel, signer=Signer.from_key(key, signature_scheme=signature_scheme)
    )
    assert identities == IDENTITIES
    assert read.channel is channel
    assert (read.msg_id, read.msg_type) == (written["msg_id"], "comm_msg")
    assert read.parent_msg_id == parent["msg_id"]
    assert read.parsed_metadata == wire_samples.METADATA
    assert read.parsed_content == wire_samples.CONTENT
    assert read.buffers == wire_samples.BUFFERS


def test_what_jupyter_client_wrote_goes_on_byte_for_byte() -> None:
    theirs = session()
    frames = theirs.serialize(theirs.msg("comm_msg", wire_samples.CONTENT), ident=list(IDENTITIES))
    frames += wire_samples.BUFFERS
    identities, message = parse(frames, channel=Channel.SHELL, signer=SIGNER)
    assert serialize(message, signer=SIGNER, identities=identities) == frames


def test_a_topic_stands_where_identities_do() -> None:
    theirs = session()
    frames = theirs.serialize(theirs.msg("status"), ident=b"kernel.1.status")
    identities, _ = parse(frames, channel=Channel.IOPUB, signer=SIGNER)
    assert identities == (b"kernel.1.status",)


def test_a_message_of_a_hundred_megabytes_is_one_like_any_other() -> None:
    content = b'{"code": "' + b"x" * 100_000_000 + b'"}'
    big = dataclasses.replace(MESSAGE, content=content, buffers=(bytes(10_000_000),))
    frames = serialize(big, signer=SIGNER)
    assert parse(frames, channel=Channel.SHELL, signer=SIGNER) == ((), big)
    assert session().feed_identities(frames)[1][4] is content


# --- signatures -------------------------------------------------------------------------------------------


def test_a_signature_is_the_one_that_the_specification_defines() -> None:
    """Known answer: RFC 4231, test case 2; the parts are signed as if they were one text."""
    signer = Signer.from_key(b"Jefe")
    expected = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signer.sign([b"what do ya ", b"want ", b"for ", b"nothing?"]) == expected


@pytest.mark.parametrize("signature", [b"", b"0", b"f" * 64, b"\xff" * 64, SIGNER.sign([b"{}"] * 4).upper()])
def test_a_wrong_signature_is_refused(signature: bytes) -> None:
    frames = [DELIMITER, signature, b"{}", b"{}", b"{}", b"{}"]
    with pytest.raises(SignatureError):
        parse(frames, channel=Channel.SHELL, signer=SIGNER)


def test_an_empty_signature_under_a_key_is_refused() -> None:
    frames = serialize(MESSAGE, signer=UNSIGNED)
    assert frames[1] == b""
    with pytest.raises(SignatureError, match="without a signature, though the connection file has a key"):
        parse(frames, channel=Channel.SHELL, signer=SIGNER)


@pytest.mark.parametrize("signature", [b"", b"f" * 64])
def test_without_a_key_any_signature_passes(signature: bytes) -> None:
    frames = [DELIMITER, signature, b"{}", b"{}", b"{}", b"{}"]
    _, message = parse(frames, channel=Channel.SHELL, signer=UNSIGNED)
    assert message.header == b"{}"


@pytest.mark.parametrize("part", range(4))
def test_a_signature_covers_each_of_the_four_parts(part: int) -> None:
    frames = serialize(MESSAGE, signer=SIGNER)
    frames[2 + part] = bytes(frames[2 + part]) + b" "
    with pytest.raises(SignatureError, match="not signed with the connection file's key"):
        parse(frames, channel=Channel.SHELL, signer=SIGNER)


def test_a_signature_does_not_cover_buffers() -> None:
    """Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol"""
    frames = [*serialize(MESSAGE, signer=SIGNER)[:6], b"another"]
    _, message = parse(frames, channel=Channel.SHELL, signer=SIGNER)
    assert message.buffers == (b"another",)


def test_a_message_may_come_twice() -> None:
    """Whoever executes refuses the second: jupyter_client's Session, in every kernel, knows the signature."""
    frames = serialize(MESSAGE, signer=SIGNER)
    first = parse(frames, channel=Channel.SHELL, signer=SIGNER)
    assert parse(frames, channel=Channel.SHELL, signer=SIGNER) == first
    kernel = Session(key=KEY)
    kernel.deserialize(list(frames[1:]))
    with pytest.raises(ValueError, match="Duplicate Signature"):
        kernel.deserialize(list(frames[1:]))


@pytest.mark.parametrize(
    "scheme", ["", "hmac", "hmac-", "sha256", "HMAC-SHA256", "hmac-shake_128", "hmac-new", "hmac-sha256 "]
)
def test_a_scheme_that_is_none_is_refused_with_what_to_do(scheme: str) -> None:
    with pytest.raises(SchemeError, match="start the kernel with one that says 'hmac-sha256'"):
        Signer.from_key(KEY, signature_scheme=scheme)


@pytest.mark.parametrize(
    "digest", sorted(name for name in hashlib.algorithms_guaranteed if "shake" not in name)
)
def test_every_hash_of_hashlib_that_has_a_length_signs(digest: str) -> None:
    signer = Signer.from_key(KEY, signature_scheme=f"hmac-{digest}")
    assert len(signer.sign([b"{}"] * 4)) == 2 * hashlib.new(digest).digest_size


def test_a_signer_in_a_log_does_not_show_its_key() -> None:
    assert KEY.decode() not in repr(SIGNER)


# --- what is no message -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [[], [b""], [b"id", b"<IDS|MSG", b"", b"{}", b"{}", b"{}", b"{}"]])
def test_frames_without_the_delimiter_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(MalformedError, match=r"on control without <IDS\|MSG>"):
        parse(frames, channel=Channel.CONTROL, signer=UNSIGNED)


@pytest.mark.parametrize("count", range(5))
def test_fewer_frames_than_a_message_has_are_refused(count: int) -> None:
    frames = serialize(MESSAGE, signer=SIGNER, identities=IDENTITIES)[: 3 + count]
    with pytest.raises(MalformedError, match=rf"with {count} frames behind <IDS\|MSG>"):
        parse(frames, channel=Channel.SHELL, signer=SIGNER)


def test_what_the_parts_hold_is_not_this_modules_business() -> None:
    frames = [DELIMITER, b"", b"\xff", b"", b"not JSON", b"[1]"]
    _, message = parse(frames, channel=Channel.SHELL, signer=UNSIGNED)
    assert serialize(message, signer=UNSIGNED) == frames


# --- any message, any frames ------------------------------------------------------------------------------


@wire_samples.patient
@given(
    wire_samples.messages(wire_samples.OBJECTS | st.binary()),
    st.lists(st.binary(max_size=9).filter(lambda identity: identity != DELIMITER), max_size=3).map(tuple),
    KEYS,
    SCHEMES,
)
def test_what_is_written_is_read_back(
    message: Message, identities: tuple[bytes, ...], key: bytes, signature_scheme: str
) -> None:
    signer = Signer.from_key(key, signature_scheme=signature_scheme)
    frames = serialize(message, signer=signer, identities=identities)
    assert parse(frames, channel=message.channel, signer=signer) == (identities, message)
    seen: list[Buffer] = [memoryview(frame) for frame in frames]
    assert parse(seen, channel=message.channel, signer=signer) == (identities, message)


@wire_samples.patient
@given(FRAMES, KEYS)
def test_any_frames_are_a_message_or_refused(frames: list[bytes], key: bytes) -> None:
    try:
        _, message = parse(frames, channel=Channel.SHELL, signer=Signer.from_key(key))
    except KernelError:
        return
    wire_samples.read_all(message)


@wire_samples.patient
@given(wire_samples.messages(), st.data())
def test_no_damage_to_what_is_signed_goes_unnoticed(message: Message, data: st.DataObject) -> None:
    frames = serialize(message, signer=SIGNER, identities=IDENTITIES)
    which = data.draw(st.integers(3, 7), label="which frame")
    whole = bytes(frames[which])
    frames[which] = data.draw(wire_samples.damaged(st.just(whole)), label="what became of it")
    if frames[which] != whole:
        with pytest.raises(SignatureError):
            parse(frames, channel=message.channel, signer=SIGNER)
