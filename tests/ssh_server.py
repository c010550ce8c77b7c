"""A machine that ssh reaches: a real sshd on loopback, as an ordinary process, with a home folder of its own.

with SshMachine(tmp_path) as machine:
    machine.config             # an ssh configuration that knows it as the Host `box`, for `ssh -F`
    machine.stop(); machine.start()  # on the same port; its connections end, what was begun there lives on
    machine.change_host_key()
    machine.user_at, machine.environment  # for a program that calls `ssh` with an address and no `-F`
    machine.drop_everybody()   # the connections of now; the next ones are let in

What runs there has the tests' interpreter first on its PATH, and carries the session's mark, so that nothing
of it can be left behind unseen. `sshd` is started by whoever runs the tests, and lets in only them.

Source: https://man.openbsd.org/sshd_config
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import harness
import psutil

HOST = "box"


def what_is_missing() -> str | None:
    """Say which program is not on this machine, with how to get it, or None."""
    absent = [name for name in ("ssh", "ssh-keygen", "sshd") if _program(name) is None]
    return f"{', '.join(absent)} not found (apt-get install openssh-server)" if absent else None


class SshMachine:
    """One machine, between `with` and its end.

    Attributes:
        port: where its sshd listens; config: the configuration of who wants to go there.
        home: the home folder there; authorized_keys: who is let in.
        known_hosts, key: the files of who wants to go there.
    """

    def __init__(
        self, folder: Path, *, address: str = "127.0.0.1", options: Mapping[str, str] | None = None
    ) -> None:
        """Take an empty folder.

        Args:
            address: where its sshd listens, whoever may enter it.
            options: more of sshd's configuration.
        """
        absent = what_is_missing()
        if absent:
            harness.missing(absent)
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.key, self.known_hosts = folder / "id", folder / "known_hosts"
        self.config, self.log_file = folder / "config", folder / "sshd.log"
        self.authorized_keys = folder / "authorized_keys"
        self._folder, self._address, self._options = folder, address, dict(options or {})
        self._process: psutil.Popen | None = None
        self.port = 0
        self.path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"

    def __enter__(self) -> Self:
        _make_key(self.key)
        _make_key(self._folder / "host_key")
        shutil.copy(self.key.with_suffix(".pub"), self.authorized_keys)
        self.start()
        self.introduce()
        self.write_config()
        wrapper = f'#!/bin/sh\nexec {_program("ssh")} -F {self.config} "$@"\n'
        harness.write(self._folder / "bin" / "ssh", wrapper).chmod(0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for server in self.private_servers():
            with contextlib.suppress(psutil.NoSuchProcess):
                server.terminate()

    # --- what can happen -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Let people in, at the same port as before."""
        port = self.port or free_port(self._address)
        self._write_daemon_config(port)
        if os.geteuid() == 0:  # what Debian's unit does; sshd wants an empty folder there
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = _program("sshd")
        assert program is not None
        with self.log_file.open("ab") as log:
            self._process = psutil.Popen(
                [program, "-D", "-e", "-f", str(self._folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        harness.wait_until(lambda: reaches(port, self._address), what=f"sshd on port {port}: {self.log}")
        self.port = port

    def stop(self) -> None:
        """Let nobody in, and end the connections of now. What was started there in the background stays."""
        if self._process is None:
            return
        processes = [self._process, *self._process.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        self._process = None

    def drop_everybody(self) -> None:
        """End the connections of now; it goes on."""
        assert self._process is not None
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def change_host_key(self) -> None:
        """Be another machine from now on, at the same address."""
        self.stop()
        _make_key(self._folder / "host_key")
        self.start()

    def introduce(self) -> None:
        """Have the machine known to who wants to go there."""
        self.known_hosts.write_text(f"{HOST} {self.host_key}", encoding="utf-8")

    def write_config(self, *, port: int | None = None, **more: str) -> None:
        """Write the configuration of who wants to go there; `port` leads there another way."""
        options = {
            "HostName": self._address,
            "HostKeyAlias": HOST,
            "Port": str(port or self.port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            **more,
        }
        lines = "".join(f"    {name} {value}\n" for name, value in options.items())
        self.config.write_text(f"Host {HOST} {self._address}\n{lines}", encoding="utf-8")

    # --- what is asked of it -------------------------------------------------------------------------------

    @property
    def user_at(self) -> str:
        """What follows `ssh`, without a port."""
        return f"{getpass.getuser()}@{self._address}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Has an `ssh` on the PATH whose configuration is the test's: ssh does not go by HOME."""
        return {**os.environ, "PATH": f"{self._folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    @property
    def host_key(self) -> str:
        """The public one."""
        return (self._folder / "host_key.pub").read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        """What sshd has said so far."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    @property
    def logins(self) -> int:
        """How many connections have been let in."""
        return self.log.count("Accepted publickey")

    def private_servers(self) -> list[psutil.Process]:
        """The private Jupyter Servers that run there."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "serve" in words and words[1].startswith(str(self.home)):
                    found.append(process)
        return found

    def _write_daemon_config(self, port: int) -> None:
        variables = {
            "HOME": str(self.home),
            "PATH": self.path,
            harness.SESSION_MARK: os.environ[harness.SESSION_MARK],
        }
        options = {
            "Port": str(port),
            "ListenAddress": self._address,
            "HostKey": str(self._folder / "host_key"),
            "AuthorizedKeysFile": str(self.authorized_keys),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "yes",
            "SetEnv": " ".join(f"{name}={value}" for name, value in variables.items()),
            **self._options,
        }
        text = "".join(f"{name} {value}\n" for name, value in options.items())
        harness.write(self._folder / "sshd_config", text)


def _make_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    harness.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def free_port(address: str = "127.0.0.1") -> int:
    """One that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def reaches(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5):
        return True
    return False


def tokens_in_process_lists(token: str) -> Iterator[str]:
    """The command lines of all processes, whoever's, that hold a token."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if token in words:
                yield words
