"""Messages of the Debug Adapter Protocol in a stream of bytes, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.visit.dap_framing import MAX_BODY_BYTES, Parser, serialize

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)
MESSAGES = st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES), max_size=4)


@given(MESSAGES, st.integers(1, 40))
def test_what_was_framed_is_read_in_pieces_of_any_size(messages: list[dict[str, object]], size: int) -> None:
    stream = b"".join(serialize(message) for message in messages)
    parser = Parser()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [message for piece in pieces for message in parser.feed(piece)] == messages


def test_a_length_is_of_bytes_and_headers_are_of_any_case() -> None:
    body = '{"a": "é"}'.encode()
    stream = b"Content-Type: x\r\ncontent-LENGTH:  %d\r\n\r\n%s" % (len(body), body)
    assert list(Parser().feed(stream)) == [{"a": "é"}]


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"Content-Length: 2\r\n\r\n[]",
        b"Content-Length: 2\r\n\r\nno",
        b"x" * 5000,
    ],
)
def test_what_is_none_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError):
        list(Parser().feed(stream))
