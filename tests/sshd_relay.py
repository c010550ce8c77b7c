"""A real sshd on loopback, as the relay of two machines that reach it and not each other."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import harness
import psutil


@dataclass
class Relay:
    """An sshd on loopback, and what a daemon's machine needs to log in to it."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def user_at(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    @property
    def config(self) -> Path:
        """The configuration of ssh that logs in."""
        return self.folder / "ssh_config"

    @property
    def environment(self) -> Mapping[str, str]:
        """Has an `ssh` on the PATH whose configuration is the test's: ssh does not go by HOME."""
        return {**os.environ, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def drop_everybody(self) -> None:
        """End all connections; the relay goes on."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def sshd_relay(folder: Path) -> Iterator[Relay]:
    """Run one whose keys are in `folder`, until the block is left."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        harness.missing("no OpenSSH on this machine (apt install openssh-server openssh-client)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    for name in ("host", "me"):
        harness.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name])
    port = free_port()
    shutil.copy(folder / "me.pub", folder / "allowed")
    config = harness.write(
        folder / "sshd_config",
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'allowed'}\nStrictModes no\nPasswordAuthentication no\n",
    )
    host_key = (folder / "host.pub").read_text()
    harness.write(folder / "known", f"[127.0.0.1]:{port} {host_key}")
    harness.write(
        folder / "ssh_config",
        f"Host *\nIdentityFile {folder / 'me'}\nIdentitiesOnly yes\nUserKnownHostsFile {folder / 'known'}\n",
    )
    wrapper = f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "ssh_config"} "$@"\n'
    harness.write(folder / "bin" / "ssh", wrapper).chmod(0o755)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", config], stdout=log, stderr=log)
    one = Relay(port, folder, process)
    try:
        harness.wait_until(lambda: reaches(port), what="the relay")
        yield one
    finally:
        one.drop_everybody()
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def reaches(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
