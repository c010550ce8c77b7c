"""The proxy kernel and its token: each way to show it, its end and renewal in mid-session; nobody sees it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import jupyter_servers
import pytest
from jupyter_servers import UNLIMITED, JupyterServer, jupyter_server
from kernel_client import Frontend, NoOutput, Request
from proxy_process import ProxyProcess, proxy_process
from runtime_proxy import TOKENS_BEGIN, RuntimeProxy

from colab_kernel import sessions
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace, TokenSource

DEFAULT_ONLY = "--ZMQChannelsWebsocketConnection.kernel_ws_protocol="
V1 = "v1.kernel.websocket.jupyter.org"

ECHO = """
def register(comm, message):
    @comm.on_msg
    def echo(message):
        comm.send({"echo": message["content"]["data"]}, buffers=[bytes(one) for one in message["buffers"]])
get_ipython().kernel.comm_manager.register_target("echo", register)
"""
BUFFERS = [bytes(range(256)), b"", b"\x00" * 70_000, b'{"no": "json"}']


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server"), options=UNLIMITED) as running:
        yield running


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """One that speaks the default subprotocol only."""
    with jupyter_server(tmp_path_factory.mktemp("old"), options=[DEFAULT_ONLY, *UNLIMITED]) as running:
        yield running


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's runtime directory, for this process and for those that it starts."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(harness.ROOT / "kernel"))
    return folder


@dataclass(frozen=True)
class Stage:
    """One proxy kernel and one frontend of it."""

    kernel: ProxyProcess
    frontend: Frontend


@pytest.fixture
def start(tmp_path: Path, runtime_dir: Path) -> Iterator[Callable[[], Stage]]:
    """Starts a proxy kernel that logs all it can. At the end no token is in anything that it showed."""
    with contextlib.ExitStack() as ends:
        numbers = itertools.count()

        def begin() -> Stage:
            name = f"kernel-{next(numbers)}"
            log = {"COLAB_KERNEL_LOG": "DEBUG"}
            kernel = ends.enter_context(proxy_process(tmp_path, runtime_dir, name=name, env=log))
            frontend = Frontend(kernel.connection)
            ends.callback(frontend.close)
            frontend.connect()
            ends.callback(nothing_is_shown, kernel, frontend, command_line=kernel.process.cmdline())
            return Stage(kernel, frontend)

        yield begin


def nothing_is_shown(kernel: ProxyProcess, frontend: Frontend, *, command_line: list[str]) -> None:
    told = repr((frontend.iopub, frontend._replies, frontend._questions))
    for shown in (kernel.stderr, json.dumps(kernel.connection), " ".join(command_line), told):
        assert TOKENS_BEGIN not in shown
        assert jupyter_servers.TOKEN not in shown


def register(url: str, token: TokenSource, **fields: Any) -> None:
    sessions.save_runtime(Runtime(name="gpu", url=url, token=token, **fields))


def delete_kernels(server: JupyterServer) -> None:
    for kernel_id in server.kernel_ids():
        server.api("DELETE", f"/api/kernels/{kernel_id}")


# --- each way to show a token ------------------------------------------------------------------------------


def echo_buffers(frontend: Frontend) -> None:
    """Run a cell, and send buffers to it that it sends back."""
    assert frontend.run(f"{ECHO}\nprint(6 * 7)").stdout == "42\n"
    comm = {"comm_id": "c1", "target_name": "echo", "data": {}}
    frontend.send("shell", "comm_open", comm)
    sent = frontend.send("shell", "comm_msg", {"comm_id": "c1", "data": {"n": 1}}, buffers=BUFFERS)
    (message,) = frontend.published(sent, "comm_msg")
    assert message["content"]["data"] == {"echo": {"n": 1}}
    assert [bytes(buffer) for buffer in message["buffers"]] == BUFFERS
    frontend.settle()


@pytest.mark.parametrize("place", TokenPlace)
@pytest.mark.parametrize("speaks_v1", [True, False], ids=["v1", "default"])
def test_a_jupyter_server_takes_its_token_in_either_place(
    start: Callable[[], Stage], request: pytest.FixtureRequest, speaks_v1: bool, place: TokenPlace
) -> None:
    server: JupyterServer = request.getfixturevalue("server" if speaks_v1 else "old_server")
    register(server.url, TokenSource(value=server.token), token_in=place)
    echo_buffers(start().frontend)


@pytest.mark.parametrize("place", TokenPlace)
@pytest.mark.parametrize("speaks_v1", [True, False], ids=["v1", "default"])
def test_colabs_proxy_takes_its_token_in_either_place(
    start: Callable[[], Stage], server: JupyterServer, speaks_v1: bool, place: TokenPlace
) -> None:
    with RuntimeProxy(server, passes_subprotocol=speaks_v1) as proxy:
        register(proxy.url, TokenSource(value=proxy.token), auth=AuthScheme.COLAB, token_in=place)
        stage = start()
        echo_buffers(stage.frontend)
        stage.kernel.process.terminate()
        stage.kernel.ends_with(0)
        assert server.kernel_ids() == []
        assert proxy.subprotocols == [V1 if speaks_v1 else None]
        assert {(seen.token_in, seen.status) for seen in proxy.seen if not seen.is_websocket} == {
            (place, 200)
        }
        assert [seen.token_in for seen in proxy.seen if seen.is_websocket] == [place]


# --- a token that ends -------------------------------------------------------------------------------------

LINES = 200
PRINTS = f"""
import time
for n in range({LINES}):
    print(n, flush=True)
    time.sleep(0.01)
"""


def in_a_file(proxy: RuntimeProxy, folder: Path) -> Callable[[], object]:
    path = harness.write(folder / "token", f"{proxy.token}\n")
    register(proxy.url, TokenSource(file=str(path)), auth=AuthScheme.COLAB)
    return lambda: harness.write(path, f"{proxy.token}\n")


def in_json(proxy: RuntimeProxy, folder: Path) -> Callable[[], object]:
    path = folder / "sessions.json"

    def renew() -> None:
        harness.write(path, json.dumps({"default": {"url": proxy.url, "token": proxy.token}}))

    renew()
    source = TokenSource(file=str(path), key=("default", "token"))
    register(proxy.url, source, auth=AuthScheme.COLAB, token_in=TokenPlace.QUERY)
    return renew


def in_the_registry(proxy: RuntimeProxy, folder: Path) -> Callable[[], object]:
    command = [sys.executable, "-m", "colab_kernel", "connect"]

    def renew() -> None:
        harness.run([*command, f"{proxy.url}/?colab-runtime-proxy-token={proxy.token}"])

    renew()
    return renew


def wait_for_line(frontend: Frontend, cell: Request, number: int) -> None:
    """Wait until a cell that prints numbers has come so far."""

    def is_printed() -> bool:
        texts = [message["content"]["text"] for message in frontend.published(cell, "stream")]
        return f"\n{number}\n" in "".join(texts)

    frontend.wait(is_printed, unmet=NoOutput(f"no line {number}"))


@pytest.mark.parametrize("source", [in_a_file, in_json, in_the_registry])
def test_a_token_that_is_renewed_in_mid_session_loses_no_line(
    start: Callable[[], Stage],
    server: JupyterServer,
    tmp_path: Path,
    source: Callable[[RuntimeProxy, Path], Callable[[], object]],
) -> None:
    with RuntimeProxy(server) as proxy:
        renew = source(proxy, tmp_path)
        frontend = start().frontend
        cell = frontend.execute(PRINTS)
        wait_for_line(frontend, cell, 20)
        proxy.rotate()
        renew()
        behind = frontend.execute("print('behind')")
        done = frontend.done(cell)
        assert done.reply["status"] == "ok"
        assert done.stdout == "".join(f"{n}\n" for n in range(LINES))
        assert frontend.done(behind).stdout == "behind\n"
        frontend.settle()
        assert len(proxy.subprotocols) >= 2


def test_requests_wait_for_a_token_that_is_not_renewed_yet(
    start: Callable[[], Stage], server: JupyterServer, tmp_path: Path
) -> None:
    with RuntimeProxy(server) as proxy:
        renew = in_a_file(proxy, tmp_path)
        stage = start()
        frontend = stage.frontend
        frontend.run("x = 6")
        proxy.expire()
        requests = [frontend.execute("x += 1"), frontend.execute("print(x)")]
        tries = proxy.refused
        harness.wait_until(lambda: proxy.refused >= tries + 4, what="some more tries")
        assert not any(frontend.is_replied(request) for request in requests)
        # While the file is written there is nothing in it, nor need there be a file.
        (tmp_path / "token").unlink()
        proxy.rotate()
        renew()
        assert frontend.done(requests[1]).stdout == "7\n"
        frontend.settle()
        assert stage.kernel.process.is_running()


def test_a_token_that_expires_by_itself_loses_no_line(
    start: Callable[[], Stage], server: JupyterServer, tmp_path: Path
) -> None:
    with RuntimeProxy(server) as proxy:
        renew = in_json(proxy, tmp_path)
        frontend = start().frontend
        cell = frontend.execute(PRINTS)
        frontend.published(cell, "execute_input")
        proxy.lifetime_s = 1.0  # less than the cell takes: its reply comes over another websocket
        proxy.rotate()
        renew()
        proxy.lifetime_s = None
        tries = proxy.refused
        harness.wait_until(lambda: proxy.refused > tries, what="a try with a token that has expired")
        proxy.rotate()
        renew()
        assert frontend.done(cell).stdout == "".join(f"{n}\n" for n in range(LINES))
        assert len(proxy.subprotocols) >= 2


def test_a_token_that_is_never_renewed_ends_every_request_and_the_process(
    start: Callable[[], Stage], server: JupyterServer
) -> None:
    delete_kernels(server)
    with RuntimeProxy(server) as proxy:
        register(proxy.url, TokenSource(value=proxy.token), auth=AuthScheme.COLAB, gone_after_s=1)
        stage = start()
        frontend = stage.frontend
        cell = frontend.execute("import time\ntime.sleep(600)")
        frontend.published(cell, "execute_input")
        behind = [
            frontend.execute("1"),
            frontend.send("shell", "history_request", {"hist_access_type": "tail"}),
        ]
        proxy.expire()
        done = frontend.done(cell)
        said = done.reply["evalue"]
        assert [error["evalue"] for error in done.of_type("error")] == [said]
        assert [frontend.done(request).reply["evalue"] for request in behind] == [said, said]
        assert said.startswith(
            "The connection to the remote kernel was lost, and did not come back within 1 s: "
        )
        assert "was answered with 401: the token is not the right one" in said
        assert "`python -m colab_kernel connect URL --token stdin`; then restart the kernel" in said
        assert stage.kernel.ends_with(1) == f"colab_kernel: {said}"
        # The kernel over there could not be ended without a token; the next process with one does it.
        (left,) = server.kernel_ids()
        proxy.rotate()
        register(proxy.url, TokenSource(value=proxy.token), auth=AuthScheme.COLAB)
        start().frontend.run("1")
        assert left not in server.kernel_ids()


# --- the fake itself ---------------------------------------------------------------------------------------


def test_the_fake_proxy_answers_a_foreign_page_with_404(server: JupyterServer) -> None:
    with RuntimeProxy(server) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        for origin, status in ((None, 200), (proxy.url, 200), ("https://elsewhere.example", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(connection):
                headers = {"X-Colab-Runtime-Proxy-Token": proxy.token}
                connection.request(
                    "GET", "/api", headers={**headers, **({"Origin": origin} if origin else {})}
                )
                response = connection.getresponse()
                response.read()
                assert response.status == status
