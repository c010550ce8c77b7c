"""Messages to send through the proxy kernel's codecs: one that is plain, and any that there can be."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from colab_kernel.errors import KernelError
from colab_kernel.messages import Channel, Message

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

CHANNELS = [channel for channel in Channel if channel is not Channel.HB]

HEADER = {
    "msg_id": "7f2c-1",
    "msg_type": "comm_msg",
    "session": "7f2c",
    "username": "anna",
    "date": "2026-01-02T03:04:05.678900Z",
    "version": "5.4",
    "subshell_id": None,
    "of tomorrow": [1, {"a": 1e300}],
}
PARENT_HEADER = HEADER | {"msg_id": "0ab1-9", "msg_type": "execute_request"}
METADATA = {"cellId": "vscode-notebook-cell:/ü.ipynb#W0", "tags": []}
CONTENT = {"comm_id": "c", "data": {"text": 'Grüße, 世界 🎈 \u2028 \x00 "\\', "n": -0.5, "deep": [[[{}]]]}}
BUFFERS = (b"\x00\xff<IDS|MSG>", b"", bytes(range(256)))


def dumps(value: object) -> bytes:
    """JSON with the white space and the escapes that Python's json would not have written."""
    return json.dumps(value, ensure_ascii=False, separators=(" ,\t", "\n:")).encode()


MESSAGE = Message(
    channel=Channel.SHELL,
    header=dumps(HEADER),
    parent_header=dumps(PARENT_HEADER),
    metadata=dumps(METADATA),
    content=dumps(CONTENT),
    buffers=BUFFERS,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(),
    st.dictionaries(st.text(), JSON_VALUES, max_size=4),
    st.booleans(),
    st.none() | st.integers(0, 2),
)
BUFFER_LISTS = st.lists(st.binary(max_size=40) | st.binary().map(memoryview), max_size=4).map(tuple)


def messages(parts: st.SearchStrategy[bytes] = OBJECTS) -> st.SearchStrategy[Message]:
    """Messages of any channel and buffers, whose four parts are `parts`."""
    return st.builds(
        Message,
        channel=st.sampled_from(CHANNELS),
        header=parts,
        parent_header=parts,
        metadata=parts,
        content=parts,
        buffers=BUFFER_LISTS,
    )


@st.composite
def damaged(draw: st.DrawFn, wholes: st.SearchStrategy[bytes]) -> bytes:
    """What is left of `wholes` after something was cut, put in, or written over."""
    whole = draw(wholes)
    start, stop = sorted(draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
    return whole[:start] + draw(st.binary(max_size=12)) + whole[stop:]


def read_all(message: Message) -> None:
    """Look at every part as a relay might; what is not JSON there is the codecs' error, and no other."""
    for name in ("parsed_header", "parsed_parent_header", "parsed_metadata", "parsed_content"):
        try:
            getattr(message, name)
            _ = message.msg_id, message.msg_type, message.parent_msg_id
        except KernelError:
            pass
