from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.daemon.masking import Masker, secrets_in

SECRET = 'tok"en/ä+b c%1234'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps({"x": json.dumps([SECRET])}),
        json.dumps(SECRET, ensure_ascii=False),
        quote(SECRET),
        quote(SECRET, safe=""),
        f"https://user:{quote(SECRET, safe='')}@host/x.git",
    ],
)
def test_a_secret_is_masked_however_it_is_quoted(shown: str) -> None:
    masked = Masker([SECRET]).mask(shown.encode())
    assert len(masked) == len(shown.encode())
    assert b"1234" not in masked
    assert b"****" in masked


@pytest.mark.parametrize("before", ["", "x", "xy", "user:", "x-access-token:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_in_base64_is_masked_at_any_offset(before: str, encode: object) -> None:
    encoded = encode(f"{before}{SECRET}!".encode())  # type: ignore[operator]
    masked = Masker([SECRET]).mask(encoded)
    assert len(masked) == len(encoded)
    assert masked.count(b"*") >= len(SECRET)


@given(st.binary(max_size=50), st.text(min_size=8, max_size=30), st.binary(max_size=50))
def test_lengths_never_change(before: bytes, secret: str, after: bytes) -> None:
    data = before + secret.encode("utf-8", "surrogatepass") + after
    masked = Masker([secret]).mask(data)
    assert len(masked) == len(data)
    assert secret.encode("utf-8", "surrogatepass") not in masked or set(secret) == {"*"}


def test_the_texts_of_a_value_are_masked_and_its_numbers_stay() -> None:
    masker = Masker(["12345678"])
    value = {
        "a": [12345678, 1.12345678, "12345678", "half \ud800"],
        "12345678": None,
        "b": ({"c": "x 12345678"},),
    }
    stars = "*" * 8
    assert masker.mask_values(value) == {
        "a": [12345678, 1.12345678, stars, "half \ud800"],
        "12345678": None,
        "b": [{"c": f"x {stars}"}],
    }


def test_json_stays_json_where_digits_of_a_number_or_an_escape_are_a_secret() -> None:
    masker = Masker(["12345678"])
    told = {"a": [12345678, 1.12345678, True, None, 7], "12345678": "\u1234" + "5678 12345678"}
    for ensure_ascii in (True, False):
        masked = json.loads(masker.mask_json(json.dumps(told, ensure_ascii=ensure_ascii).encode()))
        stars = "*" * 8
        assert masked == {"a": [stars, f"1.{stars}", True, None, 7], stars: f"\u12345678 {stars}"}
    assert masker.mask_json(b"no JSON 12345678") == b"no JSON ********"
    assert masker.mask_json(b"[ 1 ]") == b"[ 1 ]"


def test_each_line_of_a_key_is_a_secret() -> None:
    key = "-----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0B\nabcdefghijklmnopqrstu\n"
    masked = Masker([key]).mask(b"  | MIIEvQIBADANBgkqhkiG9w0B\n  | abcdefghijklmnopqrstu\n")
    assert masked == b"  | " + b"*" * 24 + b"\n  | " + b"*" * 21 + b"\n"


def test_short_values_are_not_secrets_and_nothing_is_masked_without_any() -> None:
    data = b"true 1234567"
    assert Masker(["true", "1234567"]).mask(data) is data
    assert Masker([]).longest_bytes == 0


def test_secrets_are_found_by_the_names_of_variables(tmp_path: Path) -> None:
    environment = {
        "GITHUB_TOKEN": "ghp_12345678",
        "my_api_key": "key-12345678",
        "AWS_SECRET_ACCESS_KEY": "aws-12345678",
        "DB_PASSWORD": "pw-12345678",
        "SHORT_TOKEN": "short",
        "TOKENIZER": "bert-base-uncased",
        "TOKENIZERS_PARALLELISM": "falsefalse",
        "HOME": "/root/of/all",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path),
    }
    assert sorted(secrets_in(environment)) == ["aws-12345678", "ghp_12345678", "key-12345678", "pw-12345678"]
