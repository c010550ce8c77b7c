"""One entry of the session registry as JSON: how a runtime is written, and what is refused when it is read.

What it means: docs/reference/runtimes.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace, TokenSource

TOKEN = re.compile(r"[!-~]+")
"""What a header can hold; an HTTP client's error would quote anything else."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-colab-runtime-proxy-token"})

_TOKEN_LISTS = ("key", "expires", "refresh")

_NAMES = [each.name for each in fields(Runtime) if each.name not in {"name", "url", "token", "proxy_token"}]
DEFAULTS = {name: getattr(Runtime(name="", url=""), name) for name in _NAMES}


def to_entry(runtime: Runtime) -> dict[str, Any]:
    """A runtime as its JSON; what has its default is left out."""
    others = {key: getattr(runtime, key) for key in DEFAULTS}
    proxy_token = _token_entry(runtime.proxy_token)
    return {
        "url": runtime.url,
        "token": _token_entry(runtime.token),
        **({"proxy_token": proxy_token} if proxy_token else {}),
        **{key: value for key, value in others.items() if value != DEFAULTS[key]},
    }


def parse_entry(name: str, entry: Any) -> Runtime:
    """The runtime that an entry's JSON means; keys that are unknown here are for others.

    Raises:
        ValueError: it means none. The sentence has no value of the entry in it: any may be a secret.
    """
    need(_NAME.fullmatch(name), "a name is 1 to 64 ASCII letters, digits, dots, hyphens and underscores")
    need(isinstance(entry, dict), "it is no JSON object")
    found = {
        **DEFAULTS,
        "token": {},
        "proxy_token": {},
        **{key: value for key, value in entry.items() if value is not None},
    }
    need(found["auth"] in list(AuthScheme), f"auth is none of {', '.join(AuthScheme)}")
    need(found["token_in"] in list(TokenPlace), f"token_in is none of {', '.join(TokenPlace)}")
    need(is_text(found["kernel_name"]), "kernel_name is no printable text")
    roots = found["local_root"], found["remote_root"]
    both = all(map(_is_absolute, roots))
    fits = both or roots == (None, None)
    need(fits, "local_root and remote_root: absolute paths, both of them or neither")
    most, patience_s = found["max_message_bytes"], found["gone_after_s"]
    need(type(most) is int and 0 < most < 1 << 53, "max_message_bytes is no whole number above 0")
    need(type(patience_s) in (int, float) and 0 <= patience_s < 1 << 53, "gone_after_s is no number from 0")
    proxy_token = _token_source(found["proxy_token"], name="proxy_token")
    need(
        proxy_token == TokenSource() or found["auth"] == AuthScheme.JUPYTER,
        "proxy_token goes with auth jupyter: with auth colab the proxy's token is the only one, in token",
    )
    plain = {"kernel_name", "local_root", "remote_root", "max_message_bytes", "gone_after_s"}
    return Runtime(
        name=name,
        url=_url(found.get("url")),
        token=_token_source(found["token"], name="token"),
        proxy_token=proxy_token,
        auth=AuthScheme(found["auth"]),
        token_in=TokenPlace(found["token_in"]),
        headers=_headers(found["headers"]),
        **{key: found[key] for key in plain},
    )


def _token_entry(source: TokenSource) -> dict[str, Any]:
    plain: dict[str, Any] = {"value": source.value, "env": source.env, "file": source.file}
    plain |= {name: list(getattr(source, name)) or None for name in _TOKEN_LISTS}
    return {key: value for key, value in plain.items() if value is not None}


def need(condition: object, otherwise: str) -> None:
    """Raise ValueError(otherwise) unless the condition holds."""
    if not condition:
        raise ValueError(otherwise)


def is_text(value: Any) -> bool:
    """Whether it is text that can be shown."""
    return isinstance(value, str) and value.isprintable()


def _is_absolute(value: Any) -> bool:
    systems = PurePosixPath, PureWindowsPath  # the remote machine may have another one
    return is_text(value) and any(system(value).is_absolute() for system in systems)


def _url(value: Any) -> str:
    text = value.rstrip("/") if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    need(usable and TOKEN.fullmatch(text), "url is no address of the form https://HOST:PORT/PATH")
    is_plain = not set(text) & set("?#@")
    need(is_plain, "url has a query, a fragment or a password; a secret belongs into token")
    return text


def _headers(value: Any) -> dict[str, str]:
    need(isinstance(value, Mapping), "headers is no JSON object")
    for name, text in value.items():
        need(_HEADER.fullmatch(name), "headers has a name that no header can have")
        need(is_text(text) and text.isascii(), f"headers: {name} is no printable ASCII text")
        need(name.lower() not in _SECRET_HEADERS, f"headers: {name} is a secret, which belongs into token")
    return dict(value)


def _token_source(value: Any, *, name: str) -> TokenSource:
    need(isinstance(value, dict), f"{name} is no JSON object")
    ways = {way: value[way] for way in ("value", "env", "file") if value.get(way) is not None}
    need(len(ways) <= 1, f"{name} has more than one of value, env and file")
    for way, text in ways.items():
        need(is_text(text) and text, f"{name}.{way} is no printable text, or empty")
    need(TOKEN.fullmatch(ways.get("value", "-")), f"{name}.value has a space or a letter beyond ASCII in it")
    need("=" not in ways.get("env", ""), f"{name}.env is no name of an environment variable")
    file = ways.get("file", "~")
    need(file.startswith("~") or _is_absolute(file), f"{name}.file is no absolute path")
    lists: dict[str, list[str]] = {each: value.get(each) or [] for each in _TOKEN_LISTS}
    for each, texts in lists.items():
        need(isinstance(texts, list) and all(map(is_text, texts)), f"{name}.{each} is no list of texts")
        need("file" in ways or not texts, f"{name} has {each} without a file")
    key, expires, refresh = (tuple(lists[each]) for each in _TOKEN_LISTS)
    return TokenSource(**ways, key=key, expires=expires, refresh=refresh)
