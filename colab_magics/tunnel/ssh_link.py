"""One ssh connection, by the system's `ssh`: opened once, shared by commands and forwards, ended.

It is OpenSSH's multiplexing: a master in the background holds the connection, and whoever can reach its
control socket goes through it. The socket is in a folder that only its owner can enter.

Source: https://man.openbsd.org/ssh_config (ControlMaster, ControlPath), https://man.openbsd.org/ssh (-O)
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel.private_server import started
from colab_magics.tunnel.signals import signals_later
from colab_magics.tunnel.ssh_sentences import HostKeyError, explain
from colab_magics.tunnel.targets import Ssh

ALIVE_S, ALIVE_COUNT = 15, 4
"""A link is dead when so many questions, so far apart, got no answer: after a cut of 30 s TCP may take until
its 51st second to try again, and what it holds is not to be thrown away.

Source: https://www.rfc-editor.org/rfc/rfc6298#section-5 (each pause is twice the one before)
"""

DIAL_S = 20
CONNECT_S = 60.0
CONTROL_S = 10.0
RUN_S = 150.0
_CONTROL_ONLY = ("-F", "none", "-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ProxyCommand=false")
"""For what goes through the master and nowhere else: without it, ssh would open a connection of its own."""


class LinkLostError(TunnelError):
    """The connection is not there, or went away meanwhile."""


@dataclass(frozen=True, slots=True)
class Master:
    """The process that holds a connection; pid 0 if it could not be told."""

    pid: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether it is still that process."""
        return bool(self.started) and started(self.pid) == self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLink:
    """How one machine is reached, and where the connection to it is held.

    Attributes:
        destination: what stands behind `ssh`: options, then the host.
        config: the configuration that ssh reads instead of its own files; empty for those.
        control: the control socket's path.
    """

    destination: tuple[str, ...]
    config: str
    control: Path

    @property
    def name(self) -> str:
        """What a person types after `ssh` to get there."""
        config = ("-F", self.config) if self.config else ()
        return shlex.join([*config, *self.destination])

    @property
    def host(self) -> str:
        """What a person calls the machine."""
        return self.destination[-1]

    # --- its life ----------------------------------------------------------------------------------------

    def connect(self, *, log: Path, may_ask: bool = False) -> Master:
        """Open the connection; it is in the background then, in a session of its own.

        Args:
            log: a file for what ssh says, now and later.
            may_ask: ssh may ask at the terminal for passwords, and whether a key is right.

        Raises:
            HostKeyError: it is another machine than the known one, or an unknown one.
            TunnelError: there is no connection.
        """
        # No exception leaves a master behind: `end` finds whatever has its socket.
        how = ("-f", "-N", "-T", "-a", "-x", "-o", f"BatchMode={'no' if may_ask else 'yes'}")
        options = (
            "ControlMaster=yes",
            f"ControlPath={self.control}",
            "ControlPersist=no",
            "ClearAllForwardings=yes",
            "RemoteCommand=none",
            "LogLevel=INFO",
            f"ConnectTimeout={DIAL_S}",
            f"ServerAliveInterval={ALIVE_S}",
            f"ServerAliveCountMax={ALIVE_COUNT}",
        )
        log.write_bytes(b"")
        log.chmod(0o600)
        told = ("-E", str(log)) if may_ask else ()
        command = ["ssh", *self._config, *told, *how, *_options(*options), *self.destination]
        code = self._call(command, log, timeout_s=None if may_ask else CONNECT_S, to_terminal=may_ask)
        if code:
            raise self._with_fingerprint(self._explain(log.read_text(errors="replace")))
        return self._master()

    @contextmanager
    def watched(self) -> Iterator[socket.socket]:
        """A socket that reads as ended as soon as the connection is. LinkLostError: it is already."""
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(str(self.control))
            except OSError as error:
                raise LinkLostError(f"the connection to {self.host} is not there") from error
            yield line

    def end(self, master: Master | None = None) -> None:
        """End the connection, and all that goes through it. It is no error if it is not there.

        Args:
            master: the process that holds it, if that is known: it is ended even if its socket is lost.
        """
        with contextlib.suppress(LinkLostError), self.watched() as line:
            master = master or self._master()
            self._control("exit")
            line.settimeout(CONTROL_S)
            with contextlib.suppress(OSError):
                while line.recv(4096):
                    pass
        if master is not None and master.runs:
            os.kill(master.pid, signal.SIGKILL)
        self.control.unlink(missing_ok=True)

    # --- what goes through it ------------------------------------------------------------------------------

    def run(self, script: str, *, timeout_s: float = RUN_S) -> str:
        """Run a shell script there; it travels on standard input. Returns what it printed.

        Raises:
            LinkLostError: the connection is not there, or broke.
            TunnelError: it took too long.
        """
        through = ["ssh", *_CONTROL_ONLY, "-o", f"ControlPath={self.control}", "-T", "-a", "-x"]
        return self._run([*through, "there", "exec sh"], script, timeout_s=timeout_s)

    def run_apart(self, script: str, *, timeout_s: float = RUN_S) -> str:
        """The same over a connection of its own, which asks nobody anything."""
        options = ("BatchMode=yes", "ControlPath=none", "ClearAllForwardings=yes", "RemoteCommand=none")
        more = _options(*options, f"ConnectTimeout={DIAL_S}")
        command = ["ssh", *self._config, "-T", "-a", "-x", *more, *self.destination, "exec sh"]
        return self._run(command, script, timeout_s=timeout_s)

    def forward(self, port: int, *, to: int) -> None:
        """Have `port` of this machine's loopback interface lead to `to` of the other's.

        Raises:
            LinkLostError: the connection is not there.
            TunnelError: the port is taken.
        """
        done = self._control("forward", "-L", f"127.0.0.1:{port}:127.0.0.1:{to}")
        if done != 0:
            with self.watched():
                raise TunnelError(f"port {port} of this machine could not be listened at: somebody has it")

    # --- inside ------------------------------------------------------------------------------------------

    @property
    def _config(self) -> tuple[str, ...]:
        return ("-F", self.config) if self.config else ()

    def _explain(self, said: str) -> TunnelError:
        return explain(said, host=self.host, name=self.name, config=self.config or "~/.ssh/config")

    def _run(self, command: list[str], script: str, *, timeout_s: float) -> str:
        try:
            done = subprocess.run(
                command, input=script.encode(), capture_output=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError as error:
            raise _no_ssh() from error
        except subprocess.TimeoutExpired as error:
            raise TunnelError(f"{self.host} did not answer in {timeout_s:g} s") from error
        if done.returncode == 255:
            raise LinkLostError(f"the connection to {self.host} was lost")
        return (done.stdout or done.stderr).decode(errors="replace")

    def _control(self, verb: str, *more: str) -> int:
        command = ["ssh", *_CONTROL_ONLY, "-o", f"ControlPath={self.control}", "-O", verb, *more, "there"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CONTROL_S, check=False)
        except subprocess.TimeoutExpired:
            return 255
        return done.returncode

    def _master(self) -> Master:
        command = ["ssh", *_CONTROL_ONLY, "-o", f"ControlPath={self.control}", "-O", "check", "there"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=CONTROL_S, check=False)
        except subprocess.TimeoutExpired:
            return Master(0, "")
        found = re.search(rb"pid=(\d+)", done.stdout + done.stderr)
        pid = int(found[1]) if found else 0
        return Master(pid, started(pid) if pid else "")

    def _call(self, command: list[str], log: Path, *, timeout_s: float | None, to_terminal: bool) -> int:
        with log.open("ab") as sink:
            # The master keeps what it is given here as long as it lives: no pipe of ours.
            where = sys.stderr if to_terminal else sink
            process = None
            try:
                with signals_later(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=where,
                        # One of its own, but where it asks: only the foreground's may read a terminal.
                        process_group=None if to_terminal else 0,
                    )
                return process.wait(timeout_s)
            except FileNotFoundError as error:
                raise _no_ssh() from error
            except subprocess.TimeoutExpired:
                sink.write(b"ssh: timed out\n")
                return 255
            finally:
                if process is not None:
                    _terminate(process, with_group=not to_terminal)

    def _with_fingerprint(self, error: TunnelError) -> TunnelError:
        """The same error; of an unknown machine, with its key's fingerprint, which ssh only tells aside."""
        if not isinstance(error, HostKeyError) or "SHA256:" in str(error):
            return error
        options = ("BatchMode=yes", "ControlPath=none", f"ConnectTimeout={DIAL_S}")
        command = ["ssh", *self._config, "-v", "-N", *_options(*options), *self.destination]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONNECT_S, check=False
            )
            return self._explain(done.stderr.decode(errors="replace"))
        return error


def destination_of(target: Ssh) -> tuple[str, ...]:
    """The words behind `ssh` that mean a target."""
    port = ("-p", str(target.port)) if target.port else ()
    user = ("-l", target.user) if target.user else ()
    return (*port, *user, target.host)


def wait_for_answer(port: int, *, timeout_s: float) -> bool:
    """Whether somebody answers HTTP at a port of this machine; asked again until then."""
    deadline = time.monotonic() + timeout_s
    while not answers(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def answers(port: int) -> bool:
    """Whether somebody answers HTTP at a port of this machine. Nothing is asked that wants a token."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CONTROL_S) as line:
            line.sendall(b"GET /api HTTP/1.0\r\n\r\n")
            return line.recv(5) == b"HTTP/"
    except OSError:
        return False


def _options(*options: str) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def _terminate(process: subprocess.Popen[bytes], *, with_group: bool) -> None:
    """End ssh, if it runs, with its ProxyCommand, to which it says no word before it is connected."""
    if process.poll() is None:
        if with_group:
            os.killpg(process.pid, signal.SIGTERM)
        process.terminate()
        try:
            process.wait(CONTROL_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _no_ssh() -> UsageError:
    return UsageError("there is no `ssh` on this machine: install OpenSSH's client (openssh-client)")
