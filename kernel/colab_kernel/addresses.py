"""The addresses that people copy: a server's base address, the token in it, and a name for what is there."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain, count
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from colab_kernel.runtime import AuthScheme

_TOKEN_KEYS = {"token": AuthScheme.JUPYTER, "colab-runtime-proxy-token": AuthScheme.COLAB}
"""The names that a token has in an address, each with its scheme."""

_PAGE = re.compile(r"/(lab|tree|notebooks|edit|doc|consoles|terminals)(/.*)?$")
"""Where Jupyter's pages are, below the server's base address: what a browser shows is what people paste."""


@dataclass(frozen=True, slots=True)
class Address:
    """What an address says.

    Attributes:
        url: the base address, without query and without a slash at the end.
        token: the one in its query, or empty.
        auth: whose names that token goes by.
    """

    url: str
    token: str = field(repr=False)
    auth: AuthScheme


def split_address(address: str) -> Address:
    """Read an address as people copy it.

    Raises:
        ValueError: it is none. The text goes on after what the caller calls it: it may hold a token.
    """
    try:
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError
    except ValueError:  # chained, it might show the token
        raise ValueError("is no address of the form https://HOST:PORT/PATH") from None
    pairs = [(key, value) for key, value in parse_qsl(parts.query) if key in _TOKEN_KEYS]
    key, token = pairs[0] if pairs else ("token", "")
    path = _PAGE.sub("", parts.path).rstrip("/")
    return Address(urlunsplit((parts.scheme, parts.netloc, path, "", "")), token, _TOKEN_KEYS[key])


def name_after(url: str, *, taken: Collection[str]) -> str:
    """A name from an address's host and port, with a number if another runtime has it."""
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    name = re.sub(r"[^a-z0-9.]+", "-", f"{parts.hostname}{port}").strip("-.")[:60] or "runtime"
    numbered = (f"{name}-{at}" for at in count(2))
    return next(each for each in chain([name], numbered) if each not in taken)
