"""The daemon machine's private Jupyter Server, and the way to it from outside."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from colab_magics.daemon.exposure import Exposure
from colab_magics.daemon.relay_link import RelayLink
from colab_magics.errors import TunnelError
from colab_magics.tunnel.server_facts import PROGRAM, ServerFacts, parse_facts

OPEN_S = 120.0
IDLE_STOP_MIN = 60.0


class Offer:
    """Opens at most one server, which ends with this process, or when nobody has used it for a while.

    Attributes:
        port: the server's on this machine, once it was opened.
    """

    def __init__(
        self,
        exposure: Exposure,
        *,
        worker: str,
        python: Path,
        environment: Mapping[str, str],
        idle_stop_min: float = IDLE_STOP_MIN,
        token: str | None = None,
        root: Path | None = None,
        relay_options: Sequence[str] = (),
    ) -> None:
        """Nothing is started before `open`.

        Args:
            exposure: how it is reached.
            worker: the daemon's name, from which the server's is made.
            python: an interpreter that has jupyter_server and ipykernel.
            environment: that of the server and its kernels; without the daemon's own secrets.
            idle_stop_min: minutes without use after which the server ends.
            token: what lets in; None for one that the server makes.
            root: the server's folder; None for the home folder.
            relay_options: what ssh is told beyond our own, `Name=value` each.
        """
        self.exposure = exposure
        self.port: int | None = None
        self._name = f"daemon-{worker}"
        self._program = (str(python), str(PROGRAM))
        self._environment = dict(environment)
        self._idle_stop_min, self._token, self._root = idle_stop_min, token, root
        self._server: psutil.Process | None = None
        self._link: RelayLink | None = None
        if exposure.kind == "ssh":
            self._link = RelayLink(exposure, environment=environment, options=relay_options)
        self._is_fresh = True

    @property
    def is_open(self) -> bool:
        """Whether the server runs."""
        server = self._server
        with contextlib.suppress(psutil.Error):
            return server is not None and server.is_running() and server.status() != psutil.STATUS_ZOMBIE
        return False

    def open(self, *, owner_pid: int) -> dict[str, Any]:
        """Find or start the server; returns what who asked must know, its token among it.

        Raises:
            TunnelError: there is none; the sentence says why.
        """
        if self._is_fresh:  # one that a daemon of this name left behind ends by itself, but not at once
            self._run("close")
            self._is_fresh = False
        port = self.exposure.port
        options = ["--owner-pid", str(owner_pid), "--idle-stop", f"{self._idle_stop_min:g}"]
        options += ["--port", str(port)] if port is not None else []
        is_named_late = self.exposure.kind == "colab"  # by Google, when whoever comes asks for the port
        host = "*" if is_named_late else urlsplit(self.exposure.url).hostname
        options += ["--allow-host", host] if host else []
        options += ["--root", str(self._root)] if self._root else []
        options += ["--token-stdin"] if self._token is not None else []
        facts = parse_facts(self._run("open", *options), where="its machine")
        self.port = facts.port
        with contextlib.suppress(psutil.Error):
            self._server = psutil.Process(facts.pid)
        try:
            return {**_told(facts), **self._way(facts.port)}
        except TunnelError:
            self.close()
            raise

    def close(self) -> None:
        """End the server and the way to it."""
        if self._link is not None:
            self._link.close()
        if not self._is_fresh:
            self._run("close")
        self._server = None

    def rest(self) -> None:
        """End the way to a server that has ended by itself."""
        if self._link is not None and not self.is_open:
            self._link.close()

    def _way(self, port: int) -> dict[str, Any]:
        """What of the address is not the server's own."""
        exposure = self.exposure
        if exposure.kind == "url":
            return {"url": exposure.url}
        if self._link is not None:
            at = self._link.open(port)
            return {"relay": exposure.relay, "relay_port": exposure.relay_port, "port": at}
        return {"port": port, **({"session": exposure.session} if exposure.kind == "colab" else {})}

    def _run(self, verb: str, *options: str) -> str:
        command: Sequence[str] = (*self._program, verb, "--name", self._name, *options)
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                input=f"{self._token or ''}\n",
                stdout=subprocess.PIPE,
                text=True,
                timeout=OPEN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TunnelError(f"the private server did not answer to `{verb}`: {error}") from error
        return done.stdout


def _told(facts: ServerFacts) -> dict[str, Any]:
    names = ("token", "pid", "root", "host", "max_message_bytes", "is_new")
    return {name: getattr(facts, name) for name in names}
