"""A private server behind a tunnel that somebody else runs: npm's localtunnel, between us and it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import localtunnels
import pytest
from localtunnels import NAME, localtunnel
from private_servers import PrivateServer, private_server

from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.plan import Plan
from colab_magics.tunnel.session import close_session, open_session
from colab_magics.tunnel.targets import parse_target

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of the test's own, where the tunnel's name leads to this machine, as a DNS would have it."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    resolve = socket.getaddrinfo

    def resolve_tunnels(host: Any, *more: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if name == NAME else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_tunnels)


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    localtunnels.installed()
    hosts = getattr(request, "param", ["--allow-host", NAME])
    with private_server(Path(sys.executable), *hosts, state=tmp_path / "state") as one:
        yield one


def test_open_run_close_through_it(server: PrivateServer, tmp_path: Path) -> None:
    with localtunnel(tmp_path, port=server.port) as url:
        session = open_session(parse_target(f"{url}?token={server.token}"), Plan())
        assert session.runtime.url == url
        with Hand.open(session.runtime, bare=True) as hand:
            assert hand.run("print(6 * 7)") == "42\n"
            flood = hand.run("for n in range(2000): print(n, 'x' * 500, flush=True)")
            assert len(flood.splitlines()) == 2000
        close_session(session.reached)
    assert server.api("GET", "/api/kernels") == []
    assert server.token not in (tmp_path / "localtunnel.log").read_text()


def test_whoever_finds_it_without_the_token_is_refused(server: PrivateServer, tmp_path: Path) -> None:
    with localtunnel(tmp_path, port=server.port) as url:
        for token in ("", "?token=wrong-0123456789-0123456789"):
            with pytest.raises(TunnelError, match="token"):
                open_session(parse_target(f"{url}{token}"), Plan())


@pytest.mark.parametrize("server", [[]], indirect=True)
def test_a_server_that_was_not_told_the_tunnels_name_says_so(server: PrivateServer, tmp_path: Path) -> None:
    with localtunnel(tmp_path, port=server.port) as url, pytest.raises(TunnelError) as refused:
        open_session(parse_target(f"{url}?token={server.token}"), Plan())
    assert "allow_remote_access" in str(refused.value)
