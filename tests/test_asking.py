"""Asks for a session and their answers, as bytes and sealed; and what `--expose` may say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.daemon.answers import note_on_sharing
from colab_magics.daemon.exposure import Exposure, parse_exposure
from colab_magics.errors import CorruptError, TunnelError, UsageError
from colab_magics.jobs.asking import (
    Answer,
    Ask,
    parse_answer,
    parse_ask,
    serialize_answer,
    serialize_ask,
)
from colab_magics.tunnel import sealing

ASK = Ask(ask_id="0f" * 16, worker="vm-0f915a", key="a2V5", at=1.0, expires_at=601.5)
ANSWER = Answer(ask_id="0f" * 16, worker="vm-0f915a", sealed="c2VhbGVk", expires_at=601.5)


def test_what_is_written_is_what_is_read() -> None:
    assert parse_ask(serialize_ask(ASK)) == ASK
    assert parse_answer(serialize_answer(ANSWER)) == ANSWER


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"id": "../../heads/main"},
        {"id": None},
        {"expires_at": "soon"},
        {"expires_at": float("inf")},
        {"worker": ...},
    ],
)
def test_what_is_none_is_refused(change: dict[str, Any]) -> None:
    for data, parse in ((serialize_ask(ASK), parse_ask), (serialize_answer(ANSWER), parse_answer)):
        told = {**json.loads(data), **change}
        left = {key: value for key, value in told.items() if value is not ...}
        with pytest.raises(CorruptError):
            parse(json.dumps(left).encode())


@given(st.binary(max_size=64))
def test_any_bytes_are_an_ask_or_refused(data: bytes) -> None:
    for parse in (parse_ask, parse_answer):
        with pytest.raises(CorruptError):
            parse(data)


def test_only_the_key_that_was_made_for_it_opens_what_is_sealed() -> None:
    key, other = sealing.Key.new(), sealing.Key.new()
    sealed = sealing.seal({"token": "a secret"}, to=key.public)
    assert b"a secret" not in base64.b64decode(sealed)
    assert key.open(sealed) == {"token": "a secret"}
    with pytest.raises(TunnelError, match="not sealed to the key"):
        other.open(sealed)


def test_what_was_changed_on_the_way_is_refused() -> None:
    key = sealing.Key.new()
    data = bytearray(base64.b64decode(sealing.seal({"token": "a secret"}, to=key.public)))
    data[-1] ^= 1
    for changed in (base64.b64encode(data).decode(), "!", ""):
        with pytest.raises(TunnelError, match="not sealed to the key"):
            key.open(changed)


@pytest.mark.parametrize("key", ["", "!", base64.b64encode(b"short").decode()])
def test_nothing_is_sealed_to_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match="no public key"):
        sealing.seal({}, to=key)


@pytest.mark.parametrize(
    ("text", "port", "exposure"),
    [
        ("loopback", None, Exposure(kind="loopback")),
        ("loopback", 8899, Exposure(kind="loopback", port=8899)),
        ("url:https://gpu.org/lab/", 8899, Exposure(kind="url", url="https://gpu.org/lab", port=8899)),
        ("ssh:me@relay.example.org", None, Exposure(kind="ssh", relay="me@relay.example.org")),
        ("ssh:relay:2222", None, Exposure(kind="ssh", relay="relay", relay_port=2222)),
        ("colab", None, Exposure(kind="colab")),
        ("colab:gpu", 8899, Exposure(kind="colab", session="gpu", port=8899)),
    ],
)  # fmt: skip
def test_the_ways_in(text: str, port: int | None, exposure: Exposure) -> None:
    assert parse_exposure(text, port=port) == exposure


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "loopback:",
            "colab:",
            "colab:../x",
            "tailscale",
            "url:",
            "url:https://",
            "url:https://me@host",
        ),
        *("url:https://host?token=x", "ssh:", "ssh:-v", "ssh:a b", "ssh:relay:", "ssh:relay:123456"),
    ],
)
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_exposure(text, port=8899)


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        (None, "share the machine, which has no GPU"),
        ({"name": "Tesla T4", "count": 1}, "both share the one GPU, Tesla T4"),
        ({"name": "A100", "count": 4}, "see the same 4 GPUs"),
    ],
)
def test_whoever_comes_is_told_what_is_shared_with_the_jobs(gpu: dict[str, Any] | None, words: str) -> None:
    assert words in note_on_sharing(gpu)
