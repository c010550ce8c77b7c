"""No runtime, or none any more: the proxy kernel starts all the same, and each cause has its own sentence.

A sentence says what was tried, what came, and what to type. It is the error under the cell, and, where the
process ends, its last line on stderr.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import jupyter_servers
import pytest
from jupyter_servers import TOKEN, Certificate, JupyterServer, jupyter_server, web_server
from kernel_client import Debugger, Done, Frontend
from proxy_process import ProxyProcess, proxy_process
from runtime_proxy import RuntimeProxy
from tcp_proxies import TcpProxy

from colab_kernel import orphans, rest, sessions
from colab_kernel.background import Background
from colab_kernel.errors import RegistryError, UnreachableError
from colab_kernel.link_keeper import Event, LinkKeeper, NoKernel
from colab_kernel.runtime import AuthScheme, Runtime, TokenSource

WRONG = "wr0ng-t0k-77aa"
COMMAND = "`python -m colab_kernel connect URL --token stdin`"
AGAIN = "; then run the cell again"
OURS = "localhost"
"""A name that `server` does not take in the Host header."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("server")
    with jupyter_server(folder, options=["--ServerApp.local_hostnames=elsewhere.example"]) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    return jupyter_servers.make_certificate(folder, names=["DNS:elsewhere.example"])


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("tls"), certificate=certificate) as running:
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
    """One proxy kernel and one frontend of it, which has been told that the kernel is there."""

    kernel: ProxyProcess
    frontend: Frontend

    def refuses(self, code: str = "1") -> str:
        """Run a cell, which fails with one error of ours; return its sentence."""
        return sentence_of(self.frontend.done(self.frontend.execute(code)))


@pytest.fixture
def start(tmp_path: Path, runtime_dir: Path) -> Iterator[Callable[..., Stage]]:
    """Starts a proxy kernel and waits for its kernel_info. At the end nobody waits for anything."""
    with contextlib.ExitStack() as ends:
        numbers = itertools.count()

        def begin(*arguments: str, env: dict[str, str] | None = None) -> Stage:
            kernel = ends.enter_context(
                proxy_process(
                    tmp_path,
                    runtime_dir,
                    name=f"kernel-{next(numbers)}",
                    arguments=arguments,
                    env={"COLAB_KERNEL_LOG": "WARNING", **(env or {})},
                )
            )
            frontend = Frontend(kernel.connection)
            ends.callback(frontend.close)
            frontend.connect()
            return Stage(kernel, frontend)

        yield begin


def register(url: str, *, token: str | TokenSource | None = TOKEN, name: str = "gpu", **fields: Any) -> None:
    source = token if isinstance(token, TokenSource) else TokenSource(value=token)
    sessions.save_runtime(Runtime(name=name, url=url, token=source, **fields))


def sentence_of(done: Done) -> str:
    """The sentence of a cell that failed: in the reply, and once on iopub. It is fit for a person."""
    assert done.reply["status"] == "error", done.reply
    errors = done.of_type("error")
    assert len(errors) == 1
    said: str = done.reply["evalue"]
    assert errors[0]["evalue"] == said
    shown = "\n".join(errors[0]["traceback"])
    assert shown == f"{done.reply['ename']}: {said}"
    for never in ("Traceback", "ipykernel", "No module named", TOKEN, WRONG, "\n"):
        assert never not in said
    return said


# --- the first cell --------------------------------------------------------------------------------------


def test_without_a_registry_the_first_cell_says_how_to_register_a_runtime(
    start: Callable[..., Stage], runtime_dir: Path
) -> None:
    said = start().refuses()
    assert said.startswith(f"no runtime is registered in {runtime_dir / 'colab-runtimes.json'}: ")
    assert "`python -m colab_kernel connect URL` registers one" in said
    assert said.endswith(AGAIN)


def test_a_registry_that_does_not_parse_is_told_and_left_alone(
    start: Callable[..., Stage], runtime_dir: Path
) -> None:
    path = harness.write(runtime_dir / "colab-runtimes.json", '{"version": 1, "runtimes": {"gpu"')
    path.chmod(0o600)
    said = start().refuses()
    assert said.startswith(f"the session registry {path} was not used: ")
    assert "`python -m colab_kernel connect URL`" in said
    assert path.read_text(encoding="utf-8").endswith('{"gpu"')


def test_a_registry_that_others_can_read_is_told_with_the_command_that_ends_that(
    start: Callable[..., Stage], runtime_dir: Path
) -> None:
    register("http://127.0.0.1:1")
    path = runtime_dir / "colab-runtimes.json"
    path.chmod(0o644)
    stage = start()
    said = stage.refuses()
    assert f"others have access to it (mode 644); `chmod 600 {path}` ends that" in said
    path.chmod(0o600)
    assert "nobody listens there" in stage.refuses()


def test_a_runtime_that_is_not_registered_is_told_with_those_that_are(start: Callable[..., Stage]) -> None:
    register("http://127.0.0.1:1")
    said = start("--runtime", "a100").refuses()
    assert said.startswith("there is no runtime 'a100'; there are gpu: `python -m colab_kernel use NAME`")


def test_no_current_runtime_is_told_with_those_that_there_are(start: Callable[..., Stage]) -> None:
    register("http://127.0.0.1:1", name="cpu")
    register("http://127.0.0.1:1")
    sessions.forget("gpu")
    said = start().refuses()
    assert said.startswith("no runtime is the current one; there are cpu: `python -m colab_kernel use NAME`")


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (
            TokenSource(file="/nowhere/token"),
            "in /nowhere/token: it cannot be read (No such file or directory)",
        ),
        (
            TokenSource(env="NO_SUCH_TOKEN"),
            "in the environment variable NO_SUCH_TOKEN: the variable is not set",
        ),
    ],
)
def test_a_token_that_is_not_where_it_should_be_is_told(
    start: Callable[..., Stage], source: TokenSource, where: str
) -> None:
    register("http://127.0.0.1:1", token=source)
    said = start().refuses()
    assert said.startswith(f"there is no token to be read {where}")
    assert COMMAND in said


Cause = tuple[str, str, str]
"""What the address gets, what is said of it, what to do."""

ANSWERS: dict[str, Cause] = {
    "a page": ("200", "what answers there is not a Jupyter Server", COMMAND),
    "a redirect": ("302 to https://login.example/in", "it sends the request elsewhere", COMMAND),
    "a teapot": ("418", "what answers there is not a Jupyter Server", COMMAND),
    "not found": (
        "404",
        "the runtime's session has ended, its tunnel is down, or the path is wrong",
        COMMAND,
    ),
    "bad gateway": (
        "502",
        "the runtime's session has ended, its tunnel is down, or the path is wrong",
        COMMAND,
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_answers_in_a_jupyter_servers_place_is_told(start: Callable[..., Stage], case: str) -> None:
    status, found, advice = ANSWERS[case]
    headers = {"Location": "https://login.example/in?state=1"} if "redirect" in case else {}
    with web_server(int(status[:3]), headers=headers) as web:
        register(web.url)
        said = start().refuses()
    assert said.startswith(f"POST {web.url}/api/kernels was answered with {status}: ")
    assert found in said
    assert advice in said
    assert said.endswith(AGAIN)


def test_a_wrong_token_and_none_at_all_are_two_causes(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    tried = f"POST {server.url}/api/kernels was answered with 403: "
    register(server.url, token=WRONG)
    stage = start()
    said = stage.refuses()
    assert said.startswith(f"{tried}the token is not the right one; ")
    assert COMMAND in said
    register(server.url, token=None)
    said = stage.refuses()
    assert said.startswith(f"{tried}it lets nobody in without a token; ")
    assert COMMAND in said
    register(server.url)
    assert stage.frontend.run("print(6 * 7)").stdout == "42\n"
    stage.frontend.settle()


def test_a_name_that_the_server_does_not_take_is_no_wrong_token(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    url = server.url.replace("127.0.0.1", OURS)
    register(url)
    said = start().refuses()
    assert said.startswith(f"POST {url}/api/kernels was answered with 403: ")
    assert "does not accept this name in the Host header" in said
    assert "--ServerApp.allow_remote_access=True" in said


def test_a_kernelspec_that_is_not_there_is_told_with_those_that_are(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    register(server.url, kernel_name="julia-1.11")
    said = start().refuses()
    assert f"POST {server.url}/api/kernels: the server has no kernelspec 'julia-1.11', it has " in said
    assert "`python -m colab_kernel connect URL --kernel NAME --token stdin`" in said


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:1", "nobody listens there; start the Jupyter Server or its tunnel"),
        ("http://no-such-host.invalid:8888", "no such host is known"),
    ],
)
def test_an_address_where_nobody_is_says_which_of_both_it_lacks(
    start: Callable[..., Stage], url: str, found: str
) -> None:
    register(url)
    said = start().refuses()
    assert said.startswith(f"POST {url}/api/kernels: {found}")
    assert COMMAND in said


def test_a_certificate_that_is_not_trusted_is_told_and_one_for_another_name_too(
    start: Callable[..., Stage], secure: JupyterServer, certificate: Certificate
) -> None:
    register(secure.url)
    tried = f"POST {secure.url}/api/kernels: its TLS certificate is not trusted"
    said = start().refuses()
    assert said.startswith(f"{tried} (self")
    assert "SSL_CERT_FILE" in said
    assert COMMAND in said
    said = start(env={"SSL_CERT_FILE": str(certificate.public)}).refuses()
    assert said.startswith(f"{tried} (IP address mismatch")


def test_http_where_tls_is_spoken_is_told(start: Callable[..., Stage], secure: JupyterServer) -> None:
    register(secure.url.replace("https", "http"))
    said = start().refuses()
    assert "if the address begins with https://" in said
    assert COMMAND in said


def test_a_level_of_the_log_that_there_is_not_stops_nothing(start: Callable[..., Stage]) -> None:
    stage = start(env={"COLAB_KERNEL_LOG": "very loud"})
    assert "no runtime is registered" in stage.refuses()
    assert stage.kernel.stderr == ""


def test_every_request_before_there_is_a_runtime_has_its_answer(start: Callable[..., Stage]) -> None:
    stage = start()
    frontend = stage.frontend
    said = stage.refuses()
    for msg_type, content in {
        "complete_request": {"code": "a", "cursor_pos": 1},
        "inspect_request": {"code": "a", "cursor_pos": 1, "detail_level": 0},
        "history_request": {"hist_access_type": "tail", "n": 1, "output": False, "raw": True},
        "comm_info_request": {},
        "kernel_info_request": {},
    }.items():
        reply = frontend.done(frontend.send("shell", msg_type, content)).reply
        assert reply["status"] == ("ok" if msg_type == "kernel_info_request" else "error")
        assert reply.get("evalue", said) == said
    debugger = Debugger(frontend)
    assert debugger.answer(debugger.ask("initialize"))["success"] is False
    frontend.settle()


def test_after_connect_the_next_cell_runs_in_the_same_process(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    stage = start()
    assert "no runtime is registered" in stage.refuses()
    command = [sys.executable, "-m", "colab_kernel", "connect", f"{server.url}/lab?token={TOKEN}"]
    harness.run(command)
    assert stage.frontend.run("print(6 * 7)").stdout == "42\n"
    stage.frontend.settle()
    assert stage.kernel.stderr == ""
    stage.kernel.process.terminate()
    assert stage.kernel.ends_with(0) == ""
    assert server.kernel_ids() == []


def test_cells_that_wait_together_fail_together_and_each_tries_no_more_than_once(
    start: Callable[..., Stage],
) -> None:
    register("http://127.0.0.1:1")
    stage = start()
    stage.refuses()
    requests = [stage.frontend.execute(str(n)) for n in range(3)]
    for request in requests:
        assert "nobody listens there" in sentence_of(stage.frontend.done(request))
    stage.frontend.settle()


def test_whoever_takes_a_connection_and_does_not_speak_tls_is_not_waited_for_as_long_as_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        server = rest.Server(Runtime(name="r", url=url), read_token=lambda: TOKEN)
        with pytest.raises(UnreachableError) as caught:
            server.start_kernel()
    said = str(caught.value)
    assert said.startswith(
        f"POST {url}/api/kernels: it takes connections, and does not speak TLS within 0.2 s"
    )
    assert "if the address begins with http://" in said
    assert COMMAND in said


def test_an_answer_may_take_longer_than_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = rest.Server(Runtime(name="r", url=url), read_token=lambda: TOKEN)
        with pytest.raises(UnreachableError, match=r"no answer within 0\.5 s"):
            server.start_kernel(timeout_s=0.5)


def first_sentence(keeper: LinkKeeper, background: Background, folder: Path) -> str:
    """Let a keeper seek a kernel in this process, where there is none to be had; return what it says."""
    keeper.connect(None, folder=folder)

    def found() -> list[Event]:
        background.run_outcomes()
        return keeper.events()

    (event,) = harness.wait_until(found, what="the keeper to find no kernel")
    assert isinstance(event, NoKernel)
    return event.sentence


@pytest.fixture
def keeper() -> Iterator[tuple[LinkKeeper, Background]]:
    background = Background()
    yield LinkKeeper(session_id="s", background=background, clock=time.monotonic), background
    background._reader.close()
    background._writer.close()


def test_a_token_that_goes_while_the_link_is_made_leaves_no_kernel_over_there(
    keeper: tuple[LinkKeeper, Background],
    server: JupyterServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    delete_kernels(server)
    register(server.url)
    reads = itertools.count()

    def read_token(source: TokenSource) -> str:
        if next(reads) == 1:  # after the kernel's start
            raise RegistryError("there is no token to be read")
        return TOKEN

    monkeypatch.setattr(sessions, "read_token", read_token)
    assert first_sentence(*keeper, tmp_path) == f"there is no token to be read{AGAIN}"
    assert server.kernel_ids() == []


def test_who_lets_nobody_in_is_not_asked_to_end_each_kernel_left_there(
    keeper: tuple[LinkKeeper, Background], tmp_path: Path
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as proxy:
        for number in range(3):
            orphans.record(f"kernel-{number}", "gpu", proxy.pid)
    with web_server(403) as web:
        register(web.url)
        assert "the token is not the right one" in first_sentence(*keeper, tmp_path)
        assert [method for method, _, _ in web.seen].count("DELETE") == 1
    assert len(orphans.abandoned()) == 3


# --- a kernel that was there -----------------------------------------------------------------------------

SLEEPS = "import time\ntime.sleep(600)"


@dataclass(frozen=True)
class Running:
    """A cell that runs over there, and other requests behind it."""

    stage: Stage
    requests: list[Any]

    def all_end(self) -> str:
        """Every request ends with the same sentence, and the process with it too; return it."""
        frontend = self.stage.frontend
        cell, *others = self.requests
        said = sentence_of(frontend.done(cell))
        for request in others:
            reply = frontend.done(request).reply
            assert reply["status"] == "error"
            assert reply["evalue"] == said
        assert self.stage.kernel.ends_with(1) == f"colab_kernel: {said}"
        assert "Traceback" not in self.stage.kernel.stderr
        return said


def delete_kernels(server: JupyterServer) -> None:
    for kernel_id in server.kernel_ids():
        server.api("DELETE", f"/api/kernels/{kernel_id}")


def run_a_cell(stage: Stage) -> Running:
    frontend = stage.frontend
    cell = frontend.execute(SLEEPS)
    frontend.published(cell, "execute_input")
    behind = frontend.send("shell", "complete_request", {"code": "a", "cursor_pos": 1})
    return Running(stage, [cell, frontend.execute("2"), behind])


def test_a_kernel_that_somebody_deletes_ends_this_one(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    register(server.url)
    running = run_a_cell(start())
    (kernel_id,) = server.kernel_ids()
    server.api("DELETE", f"/api/kernels/{kernel_id}")
    said = running.all_end()
    assert "was shut down or restarted by somebody else or by its server" in said
    assert "Restart the kernel" in said


def test_a_kernel_that_is_culled_ends_this_one(start: Callable[..., Stage], tmp_path: Path) -> None:
    options = [
        f"--MappingKernelManager.cull_{name}"
        for name in ("idle_timeout=1", "interval=1", "connected=True", "busy=True")
    ]
    with jupyter_server(tmp_path / "culls", options=options) as culling:
        register(culling.url)
        assert "by its server (it was idle for too long" in run_a_cell(start()).all_end()


def test_a_server_that_was_started_again_has_no_such_kernel(
    start: Callable[..., Stage], tmp_path: Path
) -> None:
    with jupyter_server(tmp_path / "server") as own:
        register(own.url)
        running = run_a_cell(start())
        own.restart(how=signal.SIGKILL)
        said = running.all_end()
    assert re.match(f"GET {own.url}/api/kernels/[-0-9a-f]+/channels", said)
    assert "404: the server has no such kernel any more: it was shut down or culled" in said
    assert said.endswith("restart the kernel here to have a new one there")


def test_a_server_that_is_gone_is_given_up_after_a_while(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    with TcpProxy(server.port) as network:
        url = f"http://127.0.0.1:{network.port}"
        register(url, gone_after_s=1)
        running = run_a_cell(start())
        network.refuse()
        network.abort()
        said = running.all_end()
    lost = "The connection to the remote kernel was lost, and did not come back within 1 s: "
    assert re.match(f"{lost}GET {url}/api/kernels/[-0-9a-f]+/channels", said)
    assert "nobody listens there; start the Jupyter Server or its tunnel" in said
    assert said.endswith("; then restart the kernel")
    delete_kernels(server)


def test_a_runtime_whose_session_ended_is_given_up_after_a_while(
    start: Callable[..., Stage], server: JupyterServer
) -> None:
    with RuntimeProxy(server) as proxy:
        register(proxy.url, token=proxy.token, auth=AuthScheme.COLAB, gone_after_s=1)
        running = run_a_cell(start())
        proxy.end_session()
        said = running.all_end()
    assert "was answered with 404: no Jupyter Server is behind this address: the runtime's session" in said
    assert COMMAND in said
    delete_kernels(server)


# --- a connection file that is none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"shell_port": 1}', '{"transport": "carrier pigeon"}']
)
def test_a_bad_connection_file_is_one_line_and_the_end(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kernel.json"
    if text is not None:
        harness.write(path, text)
    done = subprocess.run(
        [sys.executable, "-m", "colab_kernel", "-f", str(path)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("colab_kernel: ")
    assert str(path) in line
