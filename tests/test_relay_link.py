"""The forward of `--expose ssh:…`: a real sshd is the relay, and this machine is the daemon's."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from ssh_server import SshMachine, reaches

from colab_magics.daemon.exposure import Exposure
from colab_magics.daemon.relay_link import RelayLink
from colab_magics.errors import TunnelError


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[SshMachine]:
    with SshMachine(tmp_path / "relay") as one:
        yield one


def link_to(relay: SshMachine) -> RelayLink:
    exposure = Exposure(kind="ssh", relay=relay.user_at, relay_port=relay.port)
    return RelayLink(exposure, environment=relay.environment)


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


def said_at(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        return one.recv(16)
    return b""


def test_the_relay_leads_to_this_machine_until_it_is_closed(relay: SshMachine, service: int) -> None:
    link = link_to(relay)
    port = link.open(service)
    assert port != service
    assert said_at(port) == b"here"
    assert link.open(service) == port  # a second visitor finds the same way
    link.close()
    harness.wait_until(lambda: not reaches(port), what="the forward's end")


def test_after_a_drop_it_is_back_at_the_same_port(relay: SshMachine, service: int) -> None:
    link = link_to(relay)
    try:
        port = link.open(service)
        relay.drop_everybody()
        harness.wait_until(lambda: said_at(port) == b"here", what="the forward", every_s=0.1)
    finally:
        link.close()


def test_a_relay_with_another_host_key_is_refused(relay: SshMachine, service: int) -> None:
    relay.change_host_key()
    link = link_to(relay)
    with pytest.raises(TunnelError, match=r"the relay .* could not be used: .*verification failed"):
        link.open(service)


def test_a_relay_that_nobody_knows_is_refused_and_nothing_is_asked(relay: SshMachine, service: int) -> None:
    relay.known_hosts.unlink()
    with pytest.raises(TunnelError, match="could not be used"):
        link_to(relay).open(service)


def test_a_relay_that_lets_us_not_in_is_told(relay: SshMachine, service: int) -> None:
    relay.authorized_keys.write_text("")
    with pytest.raises(TunnelError, match="Permission denied"):
        link_to(relay).open(service)
