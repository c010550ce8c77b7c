"""Another port of an official runtime, behind Google's runtime proxy, which has a token for each port.

Its address and token are in `colab-ports/NAME.json` of Jupyter's runtime directory, a file of its owner's
alone, which `port_token.py` writes anew when the token is near its end, or was refused.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from colab_kernel import private_files, sessions, token_files
from colab_kernel.runtime import TokenSource
from colab_magics.errors import TunnelError
from colab_magics.tunnel.official_state import Tool

PROGRAM = Path(__file__).with_name("port_token.py")

ASK_S = 60.0
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that is reached: its address, and where the proxy's token is read."""

    url: str
    proxy_token: TokenSource


def reach(tool: Tool, session: str, port: int, *, name: str) -> Port:
    """Ask Google for the way to a port of a session's machine, for our session `name`.

    Raises:
        TunnelError: there is none; the sentence says why, and its file is as before.
    """
    file = _file(name)
    python, options = tool.python()
    order = ["--session", session, "--port", str(port), "--file", str(file)]
    command = (*python, str(PROGRAM), *options, *order)
    was_there = file.exists()
    try:
        private_files.make_folder_of(file)
        _ask(command, what=f"port {port} of colab:{session}")
        url = _url_in(file)
    except BaseException:
        if not was_there:
            forget(name)
        raise
    return Port(url=url, proxy_token=_source(file, refresh=command))


def state(name: str) -> str:
    """What the file of our session `name` says."""
    file = _file(name)
    if not file.exists():
        return "gone"
    return "its token has ended" if token_files.has_ended(_source(file), now=time.time()) else "open"


def forget(name: str) -> None:
    """Take the file of our session `name` away, its token with it. It is no error if there is none."""
    _file(name).unlink(missing_ok=True)


def _source(file: Path, *, refresh: tuple[str, ...] = ()) -> TokenSource:
    return TokenSource(file=str(file), key=("token",), expires=("expires_at",), refresh=refresh)


def _file(name: str) -> Path:
    return sessions.registry_path().with_name("colab-ports") / f"{name}.json"


def _ask(command: tuple[str, ...], *, what: str) -> None:
    """Run the program; it can ask nobody. TunnelError: it did not get the way."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=ASK_S,
            check=False,
        )
        said = json.loads((done.stdout.strip().splitlines() or [""])[-1])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise TunnelError(f"{what} could not be asked for with {command[0]}: {_told(error)}") from None
    if "error" in said:
        raise TunnelError(f"{what} is not reached through Google's runtime proxy: {said['error']}")


def _told(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took longer than {ASK_S:g} s"
    return error.strerror or "" if isinstance(error, OSError) else "it said nothing that is understood"


def _url_in(file: Path) -> str:
    try:
        url = json.loads(private_files.read(file, most_bytes=_MOST_BYTES) or b"")["url"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise TunnelError(f"{file} has no address ({type(error).__name__})") from None
    return str(url).rstrip("/")
