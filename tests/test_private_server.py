"""The private server, on this stack and on Colab's with a configuration that would open it to everybody."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import colab_pins
import harness
import psutil
import pytest
from private_servers import PrivateServer, private_server, say, wait_for_its_end
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.server_facts import PROGRAM

pytestmark = pytest.mark.timeout(1800)

HOSTILE = """
c.ServerApp.allow_origin = "*"
c.ServerApp.disable_check_xsrf = True
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_unauthenticated_access = True
c.ServerApp.token = ""
c.ServerApp.password = ""
c.IdentityProvider.token = ""
c.ServerApp.ip = "0.0.0.0"
c.Session.key = b""
c.Session.signature_scheme = "hmac-md5"
"""
"""What Colab's own server runs with, and worse."""


@pytest.fixture(scope="module", params=["newest", pytest.param("colab", marks=pytest.mark.colab_pins)])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An interpreter with Jupyter Server. Colab's has a configuration in the way, below etc/ of its own."""
    if request.param == "newest":
        yield Path(sys.executable)
        return
    if colab_pins.interpreter() is None:
        harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
    folder = tmp_path_factory.mktemp("colab") / "machine"
    colab = colab_pins.copy_environment(colab_pins.pinned_environment(), folder)
    harness.write(folder / "etc/jupyter/jupyter_server_config.py", HOSTILE)
    yield colab
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServer]:
    folder = tmp_path_factory.mktemp("server")
    root = folder / "root"
    root.mkdir()
    (root / "secret.txt").write_text("what is in it\n")
    with private_server(python, "--root", str(root), state=folder / "state") as one:
        yield one


# --- who gets in -------------------------------------------------------------------------------------------

CLOSED = [
    *(("GET", f"/api/{what}") for what in ("kernels", "sessions", "contents", "terminals", "kernelspecs")),
    *(("GET", f"/api/{what}") for what in ("status", "me", "config/notebook", "spec.yaml")),
    *(("POST", f"/api/{what}") for what in ("kernels", "sessions", "terminals", "contents", "shutdown")),
    *(("PUT", "/api/contents/new.txt"), ("DELETE", "/api/contents/secret.txt")),
    *(("PATCH", "/api/contents/secret.txt"), ("GET", "/api/contents/secret.txt/checkpoints")),
    *(("GET", "/files/secret.txt"), ("GET", "/view/secret.txt"), ("GET", "/nbconvert/html/secret.txt")),
    *((method, "/colab/bytes?path=/etc/hostname&offset=0&size=1") for method in ("GET", "PUT")),
    *(("GET", "/metrics"), ("GET", "/kernelspecs/python3/logo-64x64.png"), ("GET", "/api/nothing")),
]


@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize(("method", "path"), CLOSED, ids=[f"{method} {path}" for method, path in CLOSED])
def test_without_its_token_nobody_gets_in(
    server: PrivateServer, method: str, path: str, token: str | None
) -> None:
    body = None if method == "GET" else {}
    status, said, headers = server.ask(method, path, token=token, body=body)
    is_sent_to_log_in = status == 302 and headers["Location"].startswith("/login")
    assert status in (403, 404) or is_sent_to_log_in, (status, said)
    assert "what is in it" not in said
    assert headers.get("Access-Control-Allow-Origin") is None


def test_its_owner_gets_in(server: PrivateServer) -> None:
    assert server.api("GET", "/api/kernels") == []
    assert server.api("GET", "/api/contents/secret.txt")["content"] == "what is in it\n"


@pytest.mark.parametrize("path", ["/api/kernels/{}/channels", "/terminals/websocket/{}"])
@pytest.mark.parametrize("token", ["", "token wrong"])
def test_without_its_token_nobody_gets_a_websocket(server: PrivateServer, path: str, token: str) -> None:
    kernel = server.api("POST", "/api/kernels", body={})["id"]
    terminal = server.api("POST", "/api/terminals", body={})["name"]
    try:
        at = f"ws://127.0.0.1:{server.port}" + path.format(kernel if "kernels" in path else terminal)
        headers = {"Authorization": token} if token else {}
        with pytest.raises(InvalidStatus) as refused, connect(at, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403
    finally:
        server.api("DELETE", f"/api/kernels/{kernel}")
        server.api("DELETE", f"/api/terminals/{terminal}")


def test_it_listens_on_loopback_only(server: PrivateServer) -> None:
    listening = [
        one.laddr.ip for one in psutil.Process(server.pid).net_connections("inet") if one.status == "LISTEN"
    ]
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["evil.example", "gpu.example.org:443"])
def test_a_name_that_it_was_not_told_is_refused_with_the_token(server: PrivateServer, host: str) -> None:
    assert server.ask("GET", "/api/kernels", token=server.token, Host=host)[0] == 403


def test_a_name_that_it_was_told_still_wants_the_token(python: Path, tmp_path: Path) -> None:
    with private_server(python, "--allow-host", "gpu.example.org", state=tmp_path) as server:
        answers = [
            server.ask("GET", "/api/kernels", token=token, Host=host)[0]
            for host in ("gpu.example.org", "gpu.example.org:8443", "evil.example")
            for token in (server.token, None)
        ]
        assert answers == [200, 403, 200, 403, 403, 403]


# --- who sees the token ------------------------------------------------------------------------------------


def test_the_token_is_in_no_command_line_log_or_environment(server: PrivateServer) -> None:
    kernel = server.api("POST", "/api/kernels", body={})["id"]
    try:
        assert server.ask("GET", f"/api/nothing?token={server.token}")[0] == 404
        assert server.ask("GET", f"/files/nothing?token={server.token}")[0] == 404
        process = psutil.Process(server.pid)
        family = [process, *process.children(recursive=True)]
        assert len(family) > 1
        for one in family:
            assert server.token not in " ".join(one.cmdline())
            assert server.token not in repr(one.environ())
        assert server.token not in server.log
    finally:
        server.api("DELETE", f"/api/kernels/{kernel}")


def test_its_files_are_its_owners_alone(server: PrivateServer) -> None:
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for name in ("server.json", "server.log", "lock"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
    runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    with_token = [
        path for path in runtime.rglob("*") if path.is_file() and server.token.encode() in path.read_bytes()
    ]
    assert with_token == []


def test_it_leaves_no_temporary_folder(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with private_server(python, state=tmp_path / "state") as server:
        server.api("GET", "/api/kernels")
    wait_for_its_end(server)
    assert list(temporary.iterdir()) == []


def test_a_token_of_its_owners_choosing(python: Path, tmp_path: Path) -> None:
    chosen = "a-token-that-nobody-guesses-4711"
    with private_server(python, "--token-stdin", state=tmp_path, token=chosen) as server:
        assert server.token == chosen
        assert server.api("GET", "/api/kernels") == []
        again = say(python, "open", "--name", "test", "--token-stdin", state=tmp_path, token=f"{chosen}-2")
        assert again == {"error": "a server 'test' runs already, with another token: close it first"}


@pytest.mark.parametrize("token", ["", "short", "a" * 40, "with a space in the middle of it"])
def test_a_token_that_could_be_guessed_starts_nothing(python: Path, tmp_path: Path, token: str) -> None:
    told = say(python, "open", "--token-stdin", state=tmp_path, token=token)
    assert "token" in told["error"]
    assert say(python, "status", state=tmp_path) == {"pid": None}


# --- its kernels -------------------------------------------------------------------------------------------


def test_a_kernel_is_an_ordinary_one_and_signs(server: PrivateServer) -> None:
    code = """
kernel = get_ipython().kernel
print(type(kernel).__module__, type(kernel).__name__, "colab_extension_is_loaded" in globals())
print(kernel.session.signature_scheme, len(kernel.session.key) > 30)
"""
    child = "import subprocess, time; _ = subprocess.run(['echo', 'from a child']); time.sleep(0.5)"
    with Hand.open(server.runtime, bare=True) as hand:
        assert hand.run(code) == "ipykernel.ipkernel IPythonKernel False\nhmac-sha256 True\n"
        harness.wait_until(lambda: "from a child" in hand.run(child), what="the child's output")


def test_a_kernel_whose_messages_nobody_signs_is_not_started(python: Path, tmp_path: Path) -> None:
    harness.write(
        tmp_path / "site/sitecustomize.py",
        "import jupyter_client.session\njupyter_client.session.new_id_bytes = lambda: b''\n",
    )
    env = {"PYTHONPATH": str(tmp_path / "site")}
    with private_server(python, state=tmp_path / "state", env=env) as server:
        status, said, _ = server.ask("POST", "/api/kernels", token=server.token, body={})
        assert status == 500, said
        assert "this kernel's messages would not be signed: it is not started" in server.log
        assert psutil.Process(server.pid).children() == []


HOSTILE_KERNEL = """
c.IPKernelApp.kernel_class = "no.such.Kernel"
c.IPKernelApp.capture_fd_output = False
c.IPKernelApp.ip = "0.0.0.0"
c.InteractiveShellApp.extensions = ["no_such_extension"]
c.InteractiveShellApp.extra_extensions = ["no_such_extension"]
c.InteractiveShellApp.reraise_ipython_extension_failures = True
c.InteractiveShellApp.exec_lines = ["came_in_by = 'a configuration'"]
c.InteractiveShell.ast_node_interactivity = "none"
c.Session.key = b""
"""


def test_what_its_user_has_configured_changes_nothing(python: Path, tmp_path: Path) -> None:
    for name in ("jupyter_config", "jupyter_server_config", "jupyter_notebook_config"):
        harness.write(tmp_path / f"jupyter/{name}.py", HOSTILE)
    profile = tmp_path / "ipython/profile_default"
    for name in ("ipython_config", "ipython_kernel_config"):
        harness.write(profile / f"{name}.py", HOSTILE_KERNEL)
    harness.write(profile / "startup/00-first.py", "came_in_by = 'a startup file'\n")
    env = {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"),
        "JUPYTER_CONFIG_PATH": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_TOKEN": "",
        "JUPYTER_GATEWAY_URL": "http://127.0.0.1:1",
        "JUPYTER_PREFER_ENV_PATH": "0",
    }
    with private_server(python, state=tmp_path / "state", env=env) as server:
        answers = [server.ask("GET", "/api/kernels", token=token)[0] for token in (None, "", server.token)]
        assert answers == [403, 403, 200]
        _, _, headers = server.ask("GET", "/api/kernels", Origin="https://evil.example")
        assert headers.get("Access-Control-Allow-Origin") is None
        with Hand.open(server.runtime, bare=True) as hand:
            shown = hand.run(
                "kernel = get_ipython().kernel\n"
                "print(type(kernel).__name__, 'came_in_by' in globals(), len(kernel.session.key) > 30)"
            )
            assert shown == "IPythonKernel False True\n"


# --- what it does otherwise than a plain server ------------------------------------------------------------


def test_it_does_not_wait_for_more_to_send(server: PrivateServer) -> None:
    head = f"Host: localhost\r\nAuthorization: token {server.token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(2):  # tornado turns it off after each answer
            client.sendall(f"GET /api/me HTTP/1.1\r\n{head}".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
            while not client.recv(65536).endswith(b"}"):
                pass
            assert is_nodelay(server.pid, peer=client.getsockname()) is True


def is_nodelay(pid: int, *, peer: tuple[str, int]) -> bool | None:
    """Whether Nagle's algorithm is off on the socket that a process has to `peer`; None if there is none.

    Source: https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html
    """
    pidfd_getfd = 438
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not str(entry.readlink()).startswith("socket:"):
                continue
            copy = syscall(pidfd_getfd, process, int(entry.name), 0)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            with socket.socket(fileno=copy) as held:
                if held.family != socket.AF_INET:
                    continue
                try:
                    if held.getpeername() == peer:
                        return bool(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                except OSError:  # it listens
                    continue
    finally:
        os.close(process)
    return None


def test_a_flood_of_output_arrives_whole(server: PrivateServer) -> None:
    lines = 6000
    with Hand.open(server.runtime, bare=True) as hand:
        said = hand.run(f"for n in range({lines}):\n    print(n, 'x' * 1000, flush=True)", timeout_s=120)
    assert [line.split()[0] for line in said.splitlines()] == [str(n) for n in range(lines)]


def test_a_message_of_twenty_mebibytes_goes_up_and_comes_back(server: PrivateServer) -> None:
    sent = os.urandom(1024) * 20 * 1024
    with Hand.open(server.runtime) as hand:
        hand.run("@colab_far.verb\ndef echo(content, buffers):\n    return {}, buffers")
        [back] = hand.ask("echo", buffers=[sent], timeout_s=120).buffers
    assert bytes(back) == sent


# --- its life ----------------------------------------------------------------------------------------------


def test_two_that_open_it_at_once_get_one(python: Path, tmp_path: Path) -> None:
    command = [str(python), str(PROGRAM), "open", "--name", "test"]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    try:
        both = [
            subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        told = [json.loads(one.communicate(timeout=180)[0]) for one in both]
        assert sorted(one["is_new"] for one in told) == [False, True]
        assert len({(one["pid"], one["port"], one["token"]) for one in told}) == 1
    finally:
        say(python, "close", "--name", "test", state=tmp_path)


def test_it_ends_with_the_process_that_owns_it_and_its_kernels_with_it(python: Path, tmp_path: Path) -> None:
    owner = subprocess.Popen(["sleep", "600"])
    try:
        with private_server(python, "--owner-pid", str(owner.pid), state=tmp_path) as server:
            server.api("POST", "/api/kernels", body={})
            kernels = psutil.Process(server.pid).children(recursive=True)
            assert kernels
            owner.kill()
            owner.wait()
            wait_for_its_end(server)
            harness.wait_until(lambda: not any(one.is_running() for one in kernels), what="the kernels' end")
            assert not (server.folder / "server.json").exists()
    finally:
        owner.kill()
        owner.wait()


def test_it_ends_when_nobody_has_used_it_but_not_while_somebody_does(python: Path, tmp_path: Path) -> None:
    with private_server(python, "--idle-stop", "0.05", state=tmp_path) as server:
        with Hand.open(server.runtime, bare=True) as hand:
            hand.run("import time; time.sleep(9)")  # three times as long as it may be idle
            assert hand.run("print('still here')") == "still here\n"
        wait_for_its_end(server)
        assert "nobody has used this server for 3 s" in server.log


def test_a_port_that_is_taken_is_told_in_a_sentence(python: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = say(python, "open", "--port", port, state=tmp_path)
        assert "Jupyter Server did not start" in told["error"]
        assert port in told["error"]
    assert say(python, "status", state=tmp_path) == {"pid": None}


def test_a_port_of_its_owners_choosing(python: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with private_server(python, "--port", str(port), state=tmp_path) as server:
        assert server.port == port
