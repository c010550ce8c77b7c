"""A forward from a relay that the owner has to this machine, kept up by the system's `ssh`.

The relay listens on its own loopback only, so whoever comes has to log in there first. Host keys are checked,
and nothing is asked: a relay whose key is unknown, or that wants a password, is an error.

Source: https://man.openbsd.org/ssh (-R with port 0: the relay chooses, and ssh says which), ssh_config
"""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from colab_magics.daemon.exposure import Exposure
from colab_magics.errors import TunnelError

logger = logging.getLogger(__name__)

OPEN_S = 30.0
AGAIN_S = 1.0
AGAIN_AT_MOST_S = 30.0
END_S = 5.0

_ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward")
_OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes", "ControlPath=none",
    "ServerAliveInterval=10", "ServerAliveCountMax=3", "ConnectTimeout=15", "LogLevel=INFO",
)  # fmt: skip


class RelayLink:
    """One forward. After a drop it is made again, at the same port of the relay."""

    def __init__(
        self, exposure: Exposure, *, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        """Nothing is started before `open`.

        Args:
            options: more of ssh's, `Name=value` each; ours go first.
        """
        self._exposure, self._environment = exposure, dict(environment)
        self._options = [word for option in (*_OPTIONS, *options) for word in ("-o", option)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._keeper: threading.Thread | None = None
        self._closing = threading.Event()
        self._told = threading.Event()
        self._to: int | None = None
        self._at = 0
        self._said = ""

    def open(self, port: int) -> int:
        """Have the forward to a port of this machine; the relay's port.

        Raises:
            TunnelError: ssh could not log in, or the relay does not forward.
        """
        if self._keeper is not None and self._keeper.is_alive() and self._to == port:
            return self._at
        self.close()
        self._closing, self._told = threading.Event(), threading.Event()
        self._to, self._at, self._said = port, 0, ""
        self._keeper = threading.Thread(target=self._keep, name="colab-relay", daemon=True)
        self._keeper.start()
        self._told.wait(OPEN_S)
        if not self._at:
            self.close()
            why = self._said or f"ssh said nothing in {OPEN_S:g} s"
            raise TunnelError(f"the relay {self._exposure.relay} could not be used: {why}")
        return self._at

    def close(self) -> None:
        """End it."""
        self._closing.set()
        with self._lock:
            process = self._process
        if process is not None:
            _end(process)
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def _keep(self) -> None:
        pause_s = AGAIN_S
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._run()
            except OSError as error:
                self._said = f"ssh cannot be started: {error.strerror}"
            if not self._at:
                break  # it never worked: whoever opens it is told
            if time.monotonic() - began > AGAIN_AT_MOST_S:
                pause_s = AGAIN_S
            if not self._closing.wait(pause_s):
                logger.warning("the relay %s was lost (%s)", self._exposure.relay, self._said)
            pause_s = min(2 * pause_s, AGAIN_AT_MOST_S)
        self._told.set()

    def _run(self) -> None:
        """One ssh, to its end."""
        at = ["-p", str(self._exposure.relay_port)] if self._exposure.relay_port else []
        forward = f"127.0.0.1:{self._at}:127.0.0.1:{self._to}"
        with self._lock:
            if self._closing.is_set():
                return
            process = self._process = subprocess.Popen(
                ["ssh", "-N", "-T", *self._options, *at, "-R", forward, "--", self._exposure.relay],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        with process:
            assert process.stderr is not None
            self._listen(process.stderr)
        with self._lock:
            self._process = None

    def _listen(self, stderr: IO[str]) -> None:
        for line in stderr:
            found = _ALLOCATED.search(line)
            if found:
                self._at = int(found[1])
                self._told.set()
            elif line.strip():
                self._said = line.strip()[:300]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
        return
    process.kill()
