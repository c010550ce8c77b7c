"""`%colab_tunnel local`, a server's address, `status` and `close`: with real servers, from the outside."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pexpect
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_servers import TOKEN, JupyterServer, jupyter_server
from kernel_client import Frontend
from proxy_process import proxy_process
from tunnel_stage import colab

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import TunnelError
from colab_magics.tunnel import book
from colab_magics.tunnel.plan import Plan
from colab_magics.tunnel.private_server import home
from colab_magics.tunnel.session import open_session
from colab_magics.tunnel.targets import parse_target


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own; the private servers in it are ended afterwards."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path
    for name in list(book.load()):
        colab("tunnel", "close", name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as one:
        yield one


def kernelspecs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data/kernels").glob("*"))


def is_private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_this_machine_in_one_line(own_home: Path) -> None:
    opened = colab("tunnel", "local")
    assert opened.returncode == 0, opened.stderr
    assert "● local: open  (local)" in opened.stdout
    assert "Colab GPU — local" in opened.stdout
    assert kernelspecs(own_home) == ["colab-local"]
    token = sessions.load().get("local").token.value
    assert token
    assert token not in opened.stdout + opened.stderr
    assert token not in (home("local") / "server.log").read_text()
    assert is_private(home("local") / "server.json")
    assert is_private(home("local"))
    assert is_private(book.book_path())
    assert token not in book.book_path().read_text()


def test_its_kernel_runs_cells(own_home: Path) -> None:
    assert colab("tunnel", "local").returncode == 0
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "local"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        assert frontend.run("print(6 * 7)").stdout == "42\n"


def test_a_second_time_it_finds_the_server_that_runs(own_home: Path) -> None:
    assert colab("tunnel", "local").returncode == 0
    before = json.loads((home("local") / "server.json").read_text())
    assert colab("tunnel", "local").returncode == 0
    assert json.loads((home("local") / "server.json").read_text()) == before


def test_closing_leaves_nothing(own_home: Path) -> None:
    assert colab("tunnel", "local").returncode == 0
    pid = json.loads((home("local") / "server.json").read_text())["pid"]
    closed = colab("tunnel", "close")
    assert (closed.returncode, closed.stdout) == (0, "local (local) is closed.\n")
    harness.wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the server's end")
    assert kernelspecs(own_home) == []
    assert sessions.load().runtimes == ()
    assert book.load() == {}
    assert not (home("local") / "server.json").exists()
    assert "No session is open." in colab("tunnel", "status").stdout


def test_a_server_by_its_address(own_home: Path, server: JupyterServer) -> None:
    opened = colab("tunnel", f"{server.url}/lab?token={TOKEN}", "--name", "gpu")
    assert opened.returncode == 0, opened.stderr
    assert TOKEN not in opened.stdout + opened.stderr
    assert sessions.load().get(None).name == "gpu"
    listed = colab("tunnel", "status")
    assert server.url in listed.stdout
    assert TOKEN not in listed.stdout
    assert colab("tunnel", "close", "gpu").returncode == 0
    assert server.api("GET", "/api")["version"]  # it is somebody else's, and runs on


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["http://127.0.0.1:1/?token=s3cret"], "nobody listens there"),
        (["what is this"], "the target is none of https://HOST"),
        (["status", "now"], "status does not know what 'now' is for"),
        (["local", "--name", "../x"], "a name is 1 to 64 ASCII letters"),
        (["close"], "no session is open: `%colab_tunnel TARGET` opens one"),
        (["close", "gpu"], "no session is open"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(own_home: Path, words: list[str], sentence: str) -> None:
    said = colab("tunnel", *words)
    assert said.returncode in (1, 2)
    [line] = said.stderr.splitlines()
    assert sentence in line
    assert "s3cret" not in line
    assert kernelspecs(own_home) == []
    assert sessions.load().runtimes == ()


def test_a_token_that_is_missing_is_asked_for(own_home: Path, server: JupyterServer) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return TOKEN

    open_session(parse_target(server.url), Plan(name="gpu", ask=ask))
    assert asked == [f"The token of {server.url}: "]
    assert sessions.read_token(sessions.load().get("gpu").token) == TOKEN
    open_session(parse_target(server.url), Plan(name="gpu", ask=ask))
    assert len(asked) == 1


def test_a_token_that_nobody_can_be_asked_for_is_a_sentence(own_home: Path, server: JupyterServer) -> None:
    said = colab("tunnel", server.url)
    assert said.returncode == 1
    assert "lets nobody in without a token" in said.stderr


def test_in_a_terminal_it_is_asked_for_unseen(own_home: Path, server: JupyterServer) -> None:
    command = ["-m", "colab_magics.cli", "tunnel", server.url, "--name", "gpu"]
    with pexpect.spawn(sys.executable, command, timeout=120, encoding="utf-8") as terminal:
        terminal.expect_exact(f"The token of {server.url}: ")
        terminal.sendline(TOKEN)
        terminal.expect(pexpect.EOF)
        shown = terminal.before or ""
    assert "gpu: open" in shown
    assert TOKEN not in shown
    again = colab("tunnel", server.url)  # it is known from now on
    assert again.returncode == 0, again.stderr


def test_in_a_notebook_the_frontend_asks(own_home: Path, server: JupyterServer) -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    client.stop_channels()
    try:
        connection = json.loads(Path(manager.connection_file).read_text())
        with Frontend(connection, patience_s=120) as frontend:
            request = frontend.execute(f"%load_ext colab_magics\n%colab_tunnel {server.url} --name gpu")
            question = frontend.question()
            asked = {"prompt": f"The token of {server.url}: ", "password": True}
            assert question["content"] == asked
            frontend.send("stdin", "input_reply", {"value": TOKEN}, parent=question)
            done = frontend.done(request)
        assert done.reply["status"] == "ok", done.reply
        assert "gpu" in json.dumps(done.outputs, default=str)
        assert TOKEN not in repr(done)
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_the_environment_has_a_token_where_nobody_can_be_asked(
    own_home: Path, server: JupyterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLAB_RUNTIME_TOKEN", TOKEN)
    assert colab("tunnel", server.url, "--name", "gpu").returncode == 0
    assert sessions.load().get("gpu").token.value == TOKEN


def test_a_token_that_has_changed_is_asked_for_again(own_home: Path, server: JupyterServer) -> None:
    old = Runtime(name="gpu", url=server.url, token=TokenSource(value="of-yesterday"))
    sessions.save_runtime(old)
    assert open_session(parse_target(server.url), Plan(ask=lambda question: TOKEN)).name == "gpu"
    assert sessions.load().get("gpu").token.value == TOKEN


def test_a_wrong_token_leaves_nothing(own_home: Path, server: JupyterServer) -> None:
    said = colab("tunnel", f"{server.url}?token=wrong-t0ken")
    assert said.returncode == 1
    assert "token" in said.stderr
    assert "wrong-t0ken" not in said.stderr
    assert sessions.load().runtimes == ()


def test_a_name_that_another_session_has_is_refused(own_home: Path, server: JupyterServer) -> None:
    assert colab("tunnel", f"{server.url}?token={TOKEN}", "--name", "gpu").returncode == 0
    said = colab("tunnel", "local", "--name", "gpu")
    assert said.returncode == 2
    assert "a session 'gpu' is open already" in said.stderr


def test_a_list_that_others_can_read_is_refused(own_home: Path, server: JupyterServer) -> None:
    assert colab("tunnel", f"{server.url}?token={TOKEN}", "--name", "gpu").returncode == 0
    book.book_path().chmod(0o644)
    with pytest.raises(TunnelError, match="others have access to it"):
        book.load()
    book.book_path().chmod(0o600)


def test_a_list_that_does_not_parse_is_an_error_and_stays(own_home: Path) -> None:
    path = book.book_path()
    path.parent.mkdir(mode=0o700, parents=True)
    path.touch(mode=0o600)
    path.write_text('{"version": 1, "sess')
    said = colab("tunnel", "status")
    assert said.returncode == 1
    assert "It was left as it is" in said.stderr
    assert path.read_text() == '{"version": 1, "sess'
    path.unlink()
