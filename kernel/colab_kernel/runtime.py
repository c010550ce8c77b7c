"""A runtime as a value: where a Jupyter Server is and how to be let in. One entry of the session registry."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
"""What a plain Jupyter Server takes in one websocket message; it closes the socket at one byte more.

Source: https://www.tornadoweb.org/en/stable/web.html (websocket_max_message_size)
"""

GONE_AFTER_S = 60.0
"""How long a server may refuse connections before its kernels are given up."""

_PROXY_HEADER = "X-Colab-Runtime-Proxy-Token"


class AuthScheme(enum.StrEnum):
    """Whose names the token goes by.

    Source: https://jupyter-server.readthedocs.io/en/latest/operators/security.html and
    https://github.com/googlecolab/google-colab-cli (runtime proxy)
    """

    JUPYTER = "jupyter"
    COLAB = "colab"


class TokenPlace(enum.StrEnum):
    """Where in a request the token is."""

    HEADER = "header"
    QUERY = "query"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Where a token is read, each time anew; exactly one of `value`, `env`, `file` is set, or none.

    Attributes:
        value: the token itself.
        env: the environment variable that holds it.
        file: a file's path; its text without white space around it, or, with `key`, one text in its JSON.
        key: the way into that JSON, from the top: names of objects.
        expires: the way to when the token ends, a time in ISO 8601, in the same JSON.
        refresh: a command that has that file written anew; run when the token is near its end, or refused.
    """

    value: str | None = field(default=None, repr=False)
    env: str | None = None
    file: str | None = None
    key: tuple[str, ...] = ()
    expires: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """What lets a request in: headers and query parameters. A secret: never shown, never logged."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A Jupyter Server elsewhere, whoever runs it.

    Attributes:
        name: the registry's name for it.
        url: its base address, `http://…` or `https://…`, without query and without a slash at the end.
        token: where its token is read.
        auth, token_in: how the token is shown.
        proxy_token: where the token of Colab's runtime proxy is read, for a server behind it that has a token
            of its own; `auth` is the server's then.
        headers: more headers for every request; none of them a secret.
        kernel_name: the kernelspec over there; empty for the server's default.
        local_root, remote_root: the same project's folder here and there, absolute; both or neither.
        max_message_bytes: the longest websocket message that it takes.
        gone_after_s: how long it may refuse connections before its kernels are given up.
    """

    name: str
    url: str
    token: TokenSource = TokenSource()
    auth: AuthScheme = AuthScheme.JUPYTER
    token_in: TokenPlace = TokenPlace.HEADER
    proxy_token: TokenSource = TokenSource()
    headers: Mapping[str, str] = field(default_factory=dict)
    kernel_name: str = ""
    local_root: str | None = None
    remote_root: str | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    gone_after_s: float = GONE_AFTER_S

    def access(self, token: str, *, proxy_token: str = "") -> Access:
        """What lets a request in with these tokens; without them (empty), only the entry's own headers."""
        headers = {**self.headers, **({_PROXY_HEADER: proxy_token} if proxy_token else {})}
        if not token:
            return Access(headers=headers)
        match self.auth, self.token_in:
            case AuthScheme.JUPYTER, TokenPlace.HEADER:
                return Access(headers={**headers, "Authorization": f"token {token}"})
            case AuthScheme.JUPYTER, TokenPlace.QUERY:
                return Access(headers=headers, query={"token": token})
            case AuthScheme.COLAB, TokenPlace.HEADER:
                return Access(headers={**headers, _PROXY_HEADER: token})
            case _:
                return Access(headers=headers, query={"colab-runtime-proxy-token": token})
