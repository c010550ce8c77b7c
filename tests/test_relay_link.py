"""The forward of `--expose ssh:…`: a real sshd is the relay, and this machine is the daemon's."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import harness
import psutil
import pytest

from colab_magics.daemon.exposure import Exposure
from colab_magics.daemon.relay_link import RelayLink
from colab_magics.errors import TunnelError


@dataclass
class Relay:
    """An sshd on loopback, and what a daemon's machine needs to log in to it."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def exposure(self) -> Exposure:
        return Exposure(kind="ssh", relay=f"{getpass.getuser()}@127.0.0.1", relay_port=self.port)

    @property
    def environment(self) -> Mapping[str, str]:
        """Has an `ssh` on the PATH whose configuration is the test's: ssh does not go by HOME."""
        return {**os.environ, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def drop_everybody(self) -> None:
        """End all connections; the relay goes on."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGKILL)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        harness.missing("no OpenSSH on this machine (apt install openssh-server openssh-client)")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "me"):
        harness.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name])
    port = free_port()
    shutil.copy(tmp_path / "me.pub", tmp_path / "allowed")
    config = harness.write(
        tmp_path / "sshd_config",
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path / 'allowed'}\nStrictModes no\nPasswordAuthentication no\n",
    )
    host_key = (tmp_path / "host.pub").read_text()
    harness.write(tmp_path / "known", f"[127.0.0.1]:{port} {host_key}")
    harness.write(
        tmp_path / "ssh_config",
        f"Host *\nIdentityFile {tmp_path / 'me'}\nIdentitiesOnly yes\n"
        f"UserKnownHostsFile {tmp_path / 'known'}\n",
    )
    wrapper = f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path / "ssh_config"} "$@"\n'
    harness.write(tmp_path / "bin" / "ssh", wrapper).chmod(0o755)
    with (tmp_path / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", config], stdout=log, stderr=log)
    one = Relay(port, tmp_path, process)
    try:
        harness.wait_until(lambda: reaches(port), what="the relay")
        yield one
    finally:
        one.drop_everybody()
        process.terminate()
        process.wait(20)


@pytest.fixture
def service() -> Iterator[int]:
    """The port of something on this machine that says `here` to whoever comes."""

    class Greeter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"here")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeter) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def reaches(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def said_at(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        return one.recv(16)
    return b""


def test_the_relay_leads_to_this_machine_until_it_is_closed(relay: Relay, service: int) -> None:
    link = RelayLink(relay.exposure, environment=relay.environment)
    port = link.open(service)
    assert port != service
    assert said_at(port) == b"here"
    assert link.open(service) == port  # a second visitor finds the same way
    link.close()
    harness.wait_until(lambda: not reaches(port), what="the forward's end")


def test_after_a_drop_it_is_back_at_the_same_port(relay: Relay, service: int) -> None:
    link = RelayLink(relay.exposure, environment=relay.environment)
    try:
        port = link.open(service)
        relay.drop_everybody()
        harness.wait_until(lambda: said_at(port) == b"here", what="the forward", every_s=0.1)
    finally:
        link.close()


def test_a_relay_with_another_host_key_is_refused(relay: Relay, service: int) -> None:
    other = (relay.folder / "me.pub").read_text()
    harness.write(relay.folder / "known", f"[127.0.0.1]:{relay.port} {other}")
    link = RelayLink(relay.exposure, environment=relay.environment)
    with pytest.raises(TunnelError, match=r"the relay .* could not be used: .*verification failed"):
        link.open(service)


def test_a_relay_that_nobody_knows_is_refused_and_nothing_is_asked(relay: Relay, service: int) -> None:
    (relay.folder / "known").unlink()
    with pytest.raises(TunnelError, match="could not be used"):
        RelayLink(relay.exposure, environment=relay.environment).open(service)


def test_a_relay_that_lets_us_not_in_is_told(relay: Relay, service: int) -> None:
    (relay.folder / "allowed").write_text("")
    with pytest.raises(TunnelError, match="Permission denied"):
        RelayLink(relay.exposure, environment=relay.environment).open(service)
