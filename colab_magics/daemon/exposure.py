"""How a session with the daemon's machine is reached, as its owner says with `--expose`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from colab_magics.errors import UsageError

FORMS = "loopback, url:https://HOST, ssh:USER@RELAY, ssh:USER@RELAY:PORT, colab or colab:SESSION"

_RELAY = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::(?P<port>\d{1,5}))?"
)
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One way in.

    Attributes:
        kind: `loopback`, `url`, `ssh` or `colab`.
        url: for `url`, the address that the owner's tunnel has.
        relay, relay_port: for `ssh`, what ssh calls the relay, and its port (None: what ssh takes).
        session: for `colab`, what google-colab-cli calls the runtime that this is; empty for the only one of
            whoever asks.
        port: the port of the private server on loopback; None for any that is free.
    """

    kind: str
    url: str = ""
    relay: str = ""
    relay_port: int | None = None
    session: str = ""
    port: int | None = None


def parse_exposure(text: str, *, port: int | None = None) -> Exposure:
    """Read `--expose`, and `--expose-port` with it.

    Raises:
        UsageError: it has none of the forms.
    """
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"--expose-port is a port from 1 to 65535; found {port}")
    kind, _, rest = text.partition(":")
    if text == "loopback":
        return Exposure(kind="loopback", port=port)
    if text == "colab" or (kind == "colab" and _SESSION.fullmatch(rest)):
        return Exposure(kind="colab", session=rest, port=port)
    if kind == "url":
        return Exposure(kind="url", url=_address(rest), port=_needed(port))
    relay = _RELAY.fullmatch(rest) if kind == "ssh" else None
    if relay is None:
        raise UsageError(f"--expose is one of {FORMS}; found {text!r}")
    at = relay["port"]
    return Exposure(kind="ssh", relay=relay["host"], relay_port=int(at) if at else None, port=port)


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise UsageError("--expose url: takes the plain https:// address of a tunnel that you run")
    return text.rstrip("/")


def _needed(port: int | None) -> int:
    if port is None:
        raise UsageError(
            "--expose url: needs --expose-port: the port of this machine that your tunnel leads to"
        )
    return port
