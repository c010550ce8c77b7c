"""`%colab_tunnel colab:SESSION`: google-colab-cli itself before a fake of Google and its runtime proxy."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import official_client
import pytest
import tunnel_stage
from jupyter_servers import UNLIMITED, JupyterServer, jupyter_server
from kernel_client import Frontend
from official_client import Backend
from proxy_process import proxy_process
from runtime_proxy import TOKENS_BEGIN, RuntimeProxy

from colab_kernel import sessions
from colab_magics.tunnel import book
from colab_magics.tunnel.official_state import find_tool

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server"), options=UNLIMITED) as one:
        yield one


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def proxy(server: JupyterServer) -> Iterator[RuntimeProxy]:
    with RuntimeProxy(server, passes_subprotocol=False) as one:
        yield one


@pytest.fixture
def google(own_home: Path, proxy: RuntimeProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Somebody who has google-colab-cli, with a session `gpu`."""
    with Backend(own_home, proxy) as backend:
        said = backend.colab("new", "--session", "gpu", "--gpu", "T4")
        assert "Session READY" in said.stdout
        monkeypatch.setenv("COLAB_MAGICS_COLAB_CLI", backend.command)
        yield backend


def colab(*words: str) -> subprocess.CompletedProcess[str]:
    done = tunnel_stage.colab(*words)
    assert TOKENS_BEGIN not in done.stdout + done.stderr
    return done


def change_state(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    found["gpu"] |= changes
    path.write_text(json.dumps(found))


def in_utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


# --- the real client ---------------------------------------------------------------------------------------


def test_open_run_lose_the_token_go_on_close(google: Backend, proxy: RuntimeProxy, own_home: Path) -> None:
    opened = colab("tunnel", "colab:gpu")
    assert opened.returncode == 0, opened.stderr
    assert "● gpu: open  (colab:gpu)" in opened.stdout
    assert opened.stdout.startswith("Google's terms never allow")
    assert "stop --session gpu`" in opened.stdout
    asked = google.asked
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "gpu"]) as kernel,
        Frontend(kernel.connection) as frontend,
    ):
        assert frontend.run("x = 6 * 7; print(x)").stdout == "42\n"
        google.on_asked = proxy.rotate
        proxy.expire()
        # Nobody but the proxy kernel asks google-colab-cli for another token, and it writes it to its file.
        assert frontend.run("print(x + 1)").stdout == "43\n"
        assert google.asked > asked
        assert official_client.tokens_in(google.state) == {"gpu": proxy.token}
        assert TOKENS_BEGIN not in kernel.stderr
    assert TOKENS_BEGIN not in sessions.registry_path().read_text()
    assert TOKENS_BEGIN not in book.book_path().read_text()
    assert colab("tunnel", "close", "gpu").returncode == 0
    assert sessions.load().runtimes == ()
    assert book.load() == {}
    assert proxy.server.kernel_ids() == []


def test_a_token_near_its_end_is_renewed_before_it_is_used(google: Backend, proxy: RuntimeProxy) -> None:
    change_state(google.state, token_expires_at=in_utc(120))
    google.on_asked = proxy.rotate
    assert colab("tunnel", "colab:gpu").returncode == 0
    assert proxy.refused == 0
    assert official_client.tokens_in(google.state) == {"gpu": proxy.token}


def test_a_runtime_that_is_gone_is_told(google: Backend) -> None:
    change_state(google.state, token_expires_at=in_utc(-60))
    google.is_assigned = False
    said = colab("tunnel", "colab:gpu")
    assert said.returncode == 2
    assert "google-colab-cli has no session here" in said.stderr


# --- what its state file says ------------------------------------------------------------------------------


@pytest.fixture
def state(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where google-colab-cli keeps its state; it is not installed."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("COLAB_MAGICS_COLAB_CLI", raising=False)
    return own_home / "home/.config/colab-cli/sessions.json"


def session(proxy: RuntimeProxy, **more: Any) -> dict[str, Any]:
    return {"url": proxy.url, "token": proxy.token, "token_expires_at": in_utc(3600), **more}


def test_without_the_program_its_file_is_enough(state: Path, proxy: RuntimeProxy) -> None:
    official_client.write_state(state, gpu=session(proxy))
    assert colab("tunnel", "colab:").returncode == 0  # the only one
    assert "colab:" in colab("tunnel", "status").stdout


def test_another_token_in_the_file_is_used(state: Path, proxy: RuntimeProxy, own_home: Path) -> None:
    official_client.write_state(state, gpu=session(proxy))
    assert colab("tunnel", "colab:gpu").returncode == 0
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "gpu"]) as kernel,
        Frontend(kernel.connection) as frontend,
    ):
        assert frontend.run("print(1)").stdout == "1\n"
        proxy.rotate()
        official_client.write_state(state, gpu=session(proxy))
        assert frontend.run("print(2)").stdout == "2\n"


def test_no_session_at_all(state: Path) -> None:
    said = colab("tunnel", "colab:gpu")
    assert said.returncode == 2
    assert "google-colab-cli has no session here" in said.stderr
    assert "`pip install google-colab-cli` (Python 3.12 or later), then `colab new" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_an_unknown_session_names_those_that_there_are(state: Path, proxy: RuntimeProxy) -> None:
    official_client.write_state(state, a100=session(proxy), t4=session(proxy))
    said = colab("tunnel", "colab:gpu")
    assert said.returncode == 2
    assert "no session 'gpu'; there are colab:a100, colab:t4; `colab new --session gpu" in said.stderr
    several = colab("tunnel", "colab:")
    assert several.returncode == 2
    assert "several sessions: say which of colab:a100, colab:t4" in several.stderr


def test_a_token_that_has_ended_and_nobody_to_renew_it(state: Path, proxy: RuntimeProxy) -> None:
    official_client.write_state(state, gpu=session(proxy, token_expires_at=in_utc(-60)))
    said = colab("tunnel", "colab:gpu")
    assert said.returncode == 1
    assert "the token of gpu has ended, and google-colab-cli" in said.stderr
    assert proxy.seen == []


@pytest.mark.parametrize("text", ["{", "[]", '{"gpu": 1}', '{"gpu": {"token": "x"}}'])
def test_a_file_that_is_none_of_its_is_an_error_and_stays(state: Path, text: str) -> None:
    state.parent.mkdir(parents=True)
    state.write_text(text)
    said = colab("tunnel", "colab:gpu")
    assert said.returncode == 1
    assert "is not what google-colab-cli 0.7 writes" in said.stderr
    assert state.read_text() == text


def test_the_program_is_found_where_it_is(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_tool().command == ()
    program = tmp_path / "bin/colab"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert find_tool().command == (str(program),)
    assert find_tool().state == state
    monkeypatch.setenv("COLAB_MAGICS_COLAB_CLI", "colab --auth adc --config /x/sessions.json")
    given = find_tool()
    assert given.state == Path("/x/sessions.json")
    assert given.typed("status") == "`colab --auth adc --config /x/sessions.json status`"
