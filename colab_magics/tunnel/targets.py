"""What may stand behind `%colab_tunnel`: words in, one target out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from colab_kernel.addresses import split_address
from colab_kernel.runtime import AuthScheme
from colab_magics.errors import UsageError

FORMS = "https://HOST/…?token=…, ssh://USER@HOST, a Host of ~/.ssh/config, colab:SESSION, daemon or local"

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Url:
    """Any Jupyter Server. `token` may be empty."""

    url: str
    token: str = field(repr=False)
    auth: AuthScheme

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class Ssh:
    """A machine that the system's `ssh` knows how to reach.

    Attributes:
        host: a name or an address, or a Host of the person's ssh configuration.
        user, port: None for what ssh would take.
        to: the port there that a Jupyter Server has already, behind which may be another machine; None: we
            start one.
    """

    host: str
    user: str | None = None
    port: int | None = None
    to: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        at = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"ssh://{at}{host}{port}" + (f"/{self.to}" if self.to else "")


@dataclass(frozen=True, slots=True)
class Official:
    """A runtime that google-colab-cli has allocated, by the name of its session; empty for the only one."""

    session: str

    def __str__(self) -> str:
        return f"colab:{self.session}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """The machine of a daemon of this repository. `worker`: its id's beginning; empty for the only one."""

    worker: str = ""

    def __str__(self) -> str:
        return f"daemon:{self.worker}" if self.worker else "daemon"


@dataclass(frozen=True, slots=True)
class Local:
    """This machine."""

    def __str__(self) -> str:
        return "local"


Target = Url | Ssh | Official | Daemon | Local


def parse_target(text: str) -> Target:
    """Read a target.

    Raises:
        UsageError: it is none. The sentence does not quote what could hold a token.
    """
    scheme, colon, rest = text.partition(":")
    if text == "local":
        return Local()
    if scheme == "daemon" and (not colon or _SESSION.fullmatch(rest)):
        return Daemon(rest)
    if scheme == "colab" and colon and (not rest or _SESSION.fullmatch(rest)):
        return Official(rest)
    if scheme == "ssh" and rest.startswith("//"):
        return _ssh(text)
    if scheme in {"http", "https"}:
        try:
            address = split_address(text)
        except ValueError as error:
            raise UsageError(f"the target {error}") from None
        return Url(address.url, address.token, address.auth)
    if not colon and _HOST.fullmatch(text):
        return Ssh(text)
    raise UsageError(f"the target is none of {FORMS}")


def _ssh(text: str) -> Ssh:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{text} has a port that is none: ssh://USER@HOST:PORT") from None
    host, user = _host_in(parts.netloc), parts.username
    path = parts.path.strip("/")
    to = int(path) if _PORT.fullmatch(path) else 0
    is_plain = not (parts.query or parts.fragment or parts.password) and (not path or 0 < to < 65536)
    is_host = bool(_HOST.fullmatch(host)) or ":" in host
    if not is_host or (user is not None and not _USER.fullmatch(user)) or port == 0 or not is_plain:
        raise UsageError(
            "an ssh target has the form ssh://USER@HOST:PORT, without a password or a path; a Jupyter Server "
            "that is there already is ssh://USER@HOST:PORT/ITS-PORT"
        )
    return Ssh(host, user, port, to or None)


def _host_in(netloc: str) -> str:
    """The host as it was typed: `urlsplit` has it in small letters, and a Host of ~/.ssh/config need not be.

    Source: https://man.openbsd.org/ssh_config (PATTERNS)
    """
    host = netloc.rpartition("@")[2]
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
