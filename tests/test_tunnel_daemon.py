"""`%colab_tunnel daemon`: a real daemon, a real remote, and what goes through it between the two."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import daemons
import harness
import psutil
import pytest
import tunnel_stage
from daemons import Project
from git_http import PASSWORDS, GitHttpServer
from jupyter_servers import TOKEN, Certificate, jupyter_server, make_certificate
from kernel_client import Frontend
from official_client import Backend
from proxy_process import proxy_process
from runtime_proxy import Port, RuntimeProxy
from ssh_server import SshMachine, free_port

from colab_kernel import sessions
from colab_magics.jobs.asking import Answer, Ask, serialize_answer
from colab_magics.jobs.state import State
from colab_magics.store.git import PushUpdate, Repository
from colab_magics.store.mailbox import Mailbox
from colab_magics.tunnel import book, sealing
from colab_magics.tunnel.private_server import home

Done = subprocess.CompletedProcess[str]


@dataclass
class DaemonProcess:
    """A daemon as its owner starts one."""

    process: subprocess.Popen[bytes]
    said: Path
    worker: str

    @property
    def words(self) -> str:
        return self.said.read_text()

    def servers(self) -> list[psutil.Process]:
        """The private servers that run for it."""
        name = f"daemon-{self.worker}"
        found = []
        for each in psutil.process_iter():
            try:
                if name in each.cmdline() and "serve" in each.cmdline():
                    found.append(each)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry and a state folder of the test's own."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def person(own_home: Path, project: Path) -> Project:
    """Who has a clone of the project, and no machine of their own."""
    return daemons.open_project(project)


Start = Callable[..., DaemonProcess]


@pytest.fixture
def start(person: Project, tmp_path: Path) -> Iterator[Start]:
    """Starts daemons; neither they nor their servers outlive the test."""
    started: list[DaemonProcess] = []

    def start_daemon(
        *options: str, name: str = "home", by: Project = person, repo: str = ""
    ) -> DaemonProcess:
        said = tmp_path / f"{name}.said"
        words = [sys.executable, "-m", "colab_magics.cli", "daemon", "--repo", repo or by.remote, *options]
        before = set(by.store.refresh().lives)
        with said.open("wb") as output:
            process = subprocess.Popen(
                [*words, "--workdir", tmp_path / name], stdout=output, stderr=output, cwd=tmp_path
            )

        def new() -> set[str]:
            assert process.poll() is None, said.read_text()
            return set(by.store.refresh().lives) - before

        [worker] = harness.wait_until(new, what="its first sign of life", every_s=0.1)
        started.append(DaemonProcess(process, said, worker))
        return started[-1]

    yield start_daemon
    for daemon in started:
        daemon.process.terminate()
    for daemon in started:
        daemon.process.wait(60)
        harness.wait_until(lambda each=daemon: not each.servers(), what="the server's end")  # type: ignore[misc]


def colab(person: Project, *words: str) -> Done:
    return tunnel_stage.colab(*words, cwd=person.folder)


def letters(remote: Path) -> list[str]:
    """The asks and answers that lie on the remote."""
    return [ref for ref in harness.refs(remote) if ref.startswith(("refs/colab/ask/", "refs/colab/answer/"))]


def mailbox_of(person: Project) -> Mailbox:
    return Mailbox(Repository.discover(person.folder), remote="origin", label="origin")


def an_ask(worker: str, key: sealing.Key, *, life_s: float = 600, ask_id: str = "0f" * 16) -> Ask:
    now = time.time()
    return Ask(ask_id=ask_id, worker=worker, key=key.public, at=now - 1000, expires_at=now + life_s)


def test_a_session_with_the_daemons_machine(
    person: Project, start: Start, bare_remote: Path, own_home: Path
) -> None:
    daemon = start("--expose", "loopback")
    opened = colab(person, "tunnel", "daemon")
    assert opened.returncode == 0, opened.stderr
    assert "● daemon: open  (daemon)" in opened.stdout
    assert "Jobs of the queue go on beside the session; both share" in opened.stdout
    assert letters(bare_remote) == []
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        assert frontend.run("print(6 * 7)").stdout == "42\n"
    assert "open" in colab(person, "tunnel", "status").stdout
    [server] = daemon.servers()
    closed = colab(person, "tunnel", "close")
    assert (closed.returncode, closed.stdout) == (0, "daemon (daemon) is closed.\n")
    harness.wait_until(lambda: not server.is_running(), what="the server's end")
    assert daemon.process.poll() is None
    assert (sessions.load().runtimes, book.load()) == ((), {})


def test_nothing_in_git_lets_anybody_in(person: Project, start: Start, bare_remote: Path) -> None:
    daemon = start("--expose", "loopback")
    assert colab(person, "tunnel", "daemon").returncode == 0
    token = sessions.load().get("daemon").token.value
    assert token
    for repository in (bare_remote, person.folder, daemon.said.parent / "home" / "cache.git"):
        assert token.encode() not in harness.all_objects(repository)
    said = [daemon.words, *(" ".join(each.cmdline()) for each in daemon.servers())]
    assert token not in "".join([*said, book.book_path().read_text()])


def test_the_kernels_do_not_have_the_daemons_token(
    person: Project, start: Start, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLAB_GIT_TOKEN", "a-token-of-the-daemon")
    start("--expose", "loopback")
    monkeypatch.delenv("COLAB_GIT_TOKEN")
    assert colab(person, "tunnel", "daemon").returncode == 0
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        done = frontend.run("import os; print(os.environ.get('COLAB_GIT_TOKEN'))")
    assert done.stdout == "None\n"


@pytest.mark.git_http
def test_the_same_over_http_with_a_password(
    start: Start, server: GitHttpServer, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, password = server.create("lab"), PASSWORDS["writer"]
    folder = harness.make_project(own_home / "lab")
    kept = harness.write(own_home / "credentials", server.url("lab", user="writer") + "\n")
    harness.git(folder, "config", "credential.helper", f"store --file {kept}")
    harness.git(folder, "remote", "add", "origin", server.url("lab"))
    harness.git(folder, "push", "-q", "origin", "main")
    person = daemons.open_project(folder)
    monkeypatch.setenv("COLAB_GIT_TOKEN", password)
    repo = server.url("lab").replace("http://", "http://writer@")
    daemon = start("--expose", "loopback", "--poll", "0.5", by=person, repo=repo)
    before = harness.untouched_state(folder)
    opened = colab(person, "tunnel", "daemon")
    assert opened.returncode == 0, opened.stderr
    assert (letters(remote), password in opened.stdout + daemon.words) == ([], False)
    assert harness.untouched_state(folder) == before
    assert colab(person, "tunnel", "close").returncode == 0


def test_a_daemon_whose_owner_did_not_allow_it_says_so(person: Project, start: Start) -> None:
    daemon = start()
    asked = colab(person, "tunnel", "daemon")
    assert asked.returncode == 2
    assert f"the daemon {daemon.worker} offers no session" in asked.stderr
    assert "--expose" in asked.stderr
    assert daemon.servers() == []


def test_who_asks_it_all_the_same_is_answered(person: Project, start: Start, bare_remote: Path) -> None:
    daemon, key, mailbox = start(), sealing.Key.new(), mailbox_of(person)
    ask = an_ask(daemon.worker, key)
    mailbox.ask(ask)
    answer = harness.wait_until(lambda: mailbox.look(ask.ask_id), what="the answer", every_s=0.1)
    content = key.open(answer.sealed)
    assert content["ask"] == ask.ask_id
    assert "start it with --expose loopback" in content["error"]
    assert letters(bare_remote) == [f"refs/colab/answer/{ask.ask_id}"]
    mailbox.clear(ask.ask_id)
    assert letters(bare_remote) == []


def test_an_ask_that_has_expired_is_deleted_and_not_answered(
    person: Project, start: Start, bare_remote: Path
) -> None:
    mailbox_of(person).ask(an_ask("somebody-gone", sealing.Key.new(), life_s=-1))
    assert len(letters(bare_remote)) == 1
    daemon = start("--expose", "loopback")
    harness.wait_until(lambda: letters(bare_remote) == [], what="it to be deleted", every_s=0.1)
    assert daemon.servers() == []


def test_an_answer_that_nobody_read_in_time_is_deleted(
    person: Project, start: Start, bare_remote: Path
) -> None:
    """When the daemon answers somebody else, it looks for those."""
    old = Answer(ask_id="aa" * 16, worker="somebody", sealed="", expires_at=time.time() - 1)
    repository, mailbox = Repository.discover(person.folder), mailbox_of(person)
    commit = repository.build_commit({"answer.json": serialize_answer(old)}, message="Answer", date_s=0)
    repository.push("origin", [PushUpdate(commit, f"refs/colab/answer/{old.ask_id}")])
    daemon = start()
    mailbox.ask(an_ask(daemon.worker, sealing.Key.new()))
    answered = f"refs/colab/answer/{'0f' * 16}"
    harness.wait_until(lambda: letters(bare_remote) == [answered], what="only the new one", every_s=0.1)


def test_a_job_runs_on_beside_an_open_session(person: Project, start: Start) -> None:
    start("--expose", "loopback")
    go = person.folder.parent / "go"
    person.submit(person.command("long", f"until [ -e {go} ]; do sleep 0.1; done; echo done"))
    person.wait_for("long", State.RUNNING)
    opened = colab(person, "tunnel", "daemon")
    assert opened.returncode == 0, opened.stderr
    go.touch()
    person.wait_for("long", State.SUCCEEDED)
    assert "open" in colab(person, "tunnel", "status").stdout


def test_the_server_ends_with_a_daemon_that_is_killed(person: Project, start: Start) -> None:
    daemon = start("--expose", "loopback")
    assert colab(person, "tunnel", "daemon").returncode == 0
    [server] = daemon.servers()
    daemon.process.kill()
    harness.wait_until(lambda: not server.is_running(), what="the server's end")
    assert "gone" in colab(person, "tunnel", "status").stdout
    assert colab(person, "tunnel", "close").returncode == 0


def test_a_daemon_that_somebody_uses_is_not_idle(person: Project, start: Start) -> None:
    """A job keeps it until somebody is there; then nobody uses the server, which ends first."""
    daemon = start("--expose", "loopback", "--idle-stop", "0.1")
    go = person.folder.parent / "go"
    person.submit(person.command("long", f"until [ -e {go} ]; do sleep 0.1; done"))
    person.wait_for("long", State.RUNNING)
    assert colab(person, "tunnel", "daemon").returncode == 0
    go.touch()
    daemon.process.wait(120)
    assert "nobody has used this server" in (home(f"daemon-{daemon.worker}") / "server.log").read_text()


def test_a_second_session_shares_the_server_and_leaves_it_to_the_first(person: Project, start: Start) -> None:
    daemon = start("--expose", "loopback")
    assert colab(person, "tunnel", "daemon", "--name", "first").returncode == 0
    assert colab(person, "tunnel", "daemon", "--name", "second").returncode == 0
    [server] = daemon.servers()
    assert colab(person, "tunnel", "close", "second").returncode == 0
    assert server.is_running()
    assert colab(person, "tunnel", "daemon", "--name", "first").returncode == 0
    assert colab(person, "tunnel", "close", "first").returncode == 0
    harness.wait_until(lambda: not server.is_running(), what="the server's end")


def test_of_several_daemons_one_is_named(person: Project, start: Start) -> None:
    none = colab(person, "tunnel", "daemon")
    assert (none.returncode, "no daemon works on" in none.stderr) == (2, True)
    one = start("--expose", "loopback", name="one")
    other = start("--expose", "loopback", name="other")
    asked = colab(person, "tunnel", "daemon")
    assert asked.returncode == 2
    assert f"{one.worker} (loopback)" in asked.stderr
    assert f"{other.worker} (loopback)" in asked.stderr
    assert colab(person, "tunnel").returncode == 2
    assert colab(person, "tunnel", f"daemon:{one.worker}", "--name", "it").returncode == 0
    assert (len(one.servers()), len(other.servers())) == (1, 0)
    wrong = colab(person, "tunnel", "daemon:nobody")
    assert "no daemon's name begins with 'nobody'" in wrong.stderr


def test_without_a_target_it_is_the_daemon_that_offers_a_session(person: Project, start: Start) -> None:
    nothing = colab(person, "tunnel")
    assert (nothing.returncode, "offers a session, and no server is registered" in nothing.stderr) == (
        2,
        True,
    )
    start(name="other")
    daemon = start("--expose", "loopback")
    opened = colab(person, "tunnel", "--json")
    assert opened.returncode == 0, opened.stderr
    assert (json.loads(opened.stdout)["target"], len(daemon.servers())) == ("daemon", 1)


def test_without_a_target_and_a_daemon_it_is_the_only_server_that_is_registered(
    person: Project, tmp_path: Path
) -> None:
    with jupyter_server(tmp_path / "server") as server:
        opened = colab(person, "tunnel", f"{server.url}?token={TOKEN}", "--name", "gpu")
        assert opened.returncode == 0, opened.stderr
        again = colab(person, "tunnel", "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["name"] == "gpu"
        assert colab(person, "tunnel", f"{server.url}/other", "--name", "gpu").returncode == 2
        assert colab(person, "tunnel", "close").returncode == 0


def test_a_session_through_a_tunnel_that_the_owner_runs(
    person: Project, start: Start, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands for the tunnel ends TLS here, as cloudflared or a reverse proxy does elsewhere."""
    certificate = make_certificate(own_home / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.public))
    port = free_port()
    with tls_tunnel(port, certificate) as outside:
        daemon = start("--expose", f"url:https://localhost:{outside}", "--expose-port", str(port))
        opened = colab(person, "tunnel", "daemon")
        assert opened.returncode == 0, opened.stderr
        assert sessions.load().get("daemon").url == f"https://localhost:{outside}"
        with (
            proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
            Frontend(proxy.connection) as frontend,
        ):
            assert frontend.run("print(6 * 7)").stdout == "42\n"
        [server] = daemon.servers()
        assert colab(person, "tunnel", "close").returncode == 0
        harness.wait_until(lambda: not server.is_running(), what="the server's end")


def test_a_session_through_a_relay_that_both_sides_log_in_to(
    person: Project, start: Start, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SshMachine(own_home / "relay") as relay:
        monkeypatch.setenv("PATH", relay.environment["PATH"])
        daemon = start("--expose", f"ssh:{relay.user_at}:{relay.port}")
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(relay.config))
        opened = colab(person, "tunnel", "daemon")
        assert opened.returncode == 0, opened.stderr
        with (
            proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
            Frontend(proxy.connection) as frontend,
        ):
            assert frontend.run("print(6 * 7)").stdout == "42\n"
            relay.drop_everybody()
            assert frontend.run("print(6 * 8)").stdout == "48\n"
        assert colab(person, "tunnel", "daemon").returncode == 0  # a second time it is the same one
        [server] = daemon.servers()
        assert colab(person, "tunnel", "close").returncode == 0
        harness.wait_until(lambda: not server.is_running(), what="the server's end")
        daemon.process.terminate()
        daemon.process.wait(60)


@pytest.fixture
def google(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A FAKE of Google, and somebody whose google-colab-cli has a session `gpu`: the daemon's machine."""
    monkeypatch.setenv("HOME", str(own_home / "home"))
    with RuntimeProxy(Port(8080)) as front, Backend(own_home, front) as backend:
        assert "Session READY" in backend.colab("new", "--session", "gpu", "--gpu", "T4").stdout
        monkeypatch.setenv("COLAB_MAGICS_COLAB_CLI", backend.command)
        yield backend


def port_files(own_home: Path) -> list[Path]:
    """Where the runtime proxy's tokens are, of sessions that need one."""
    return sorted((own_home / "runtime" / "colab-ports").glob("*"))


def test_a_session_through_googles_runtime_proxy(
    person: Project, start: Start, own_home: Path, google: Backend
) -> None:
    """Two secrets are in each request: the proxy's, which ends and is renewed, and the server's own."""
    daemon = start("--expose", "colab:gpu")
    opened = colab(person, "tunnel", "daemon")
    assert opened.returncode == 0, opened.stderr
    assert "Google's terms never allow" in opened.stdout + opened.stderr
    [(port, front)] = google.ports.items()
    assert f"as port {port} of colab:gpu" in opened.stdout + opened.stderr
    [kept] = port_files(own_home)
    assert (kept.stat().st_mode & 0o777, front.refused) == (0o600, 0)
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        assert frontend.run("x = 6 * 7; print(x)").stdout == "42\n"
        before = front.token
        front.expire()
        assert frontend.run("print(x + 1)").stdout == "43\n"
        assert front.token != before
        said = [opened.stdout, opened.stderr, proxy.stderr, book.book_path().read_text(), daemon.words]
        said += [path.read_text() for path in own_home.glob("home/.config/colab-cli/*.log")]
        said += [sessions.registry_path().read_text()]
        assert (before in "".join(said), front.token in "".join(said)) == (False, False)
    assert "open" in colab(person, "tunnel", "status").stdout
    [server] = daemon.servers()
    assert colab(person, "tunnel", "close").returncode == 0
    harness.wait_until(lambda: not server.is_running(), what="the server's end")
    assert (port_files(own_home), sessions.load().runtimes, book.load()) == ([], (), {})


def test_a_token_of_the_runtime_proxy_is_renewed_before_its_end(
    person: Project, start: Start, own_home: Path, google: Backend
) -> None:
    start("--expose", "colab")  # the only session of whoever asks
    opened = colab(person, "tunnel", "daemon")
    assert opened.returncode == 0, opened.stderr
    [front] = google.ports.values()
    front.expire()
    [kept] = port_files(own_home)
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "expires_at": "2020-01-01T00:00:00Z"}))
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "daemon"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        assert frontend.run("print(1)").stdout == "1\n"
    assert front.refused == 0
    assert colab(person, "tunnel", "close").returncode == 0


def test_without_the_session_that_the_daemon_runs_on_nothing_stays(
    person: Project, start: Start, own_home: Path, google: Backend
) -> None:
    daemon = start("--expose", "colab:theirs")
    said = colab(person, "tunnel", "daemon")
    assert said.returncode == 2
    assert "no session 'theirs'; there are colab:gpu" in said.stderr
    assert (port_files(own_home), sessions.load().runtimes, book.load()) == ([], (), {})
    assert len(daemon.servers()) == 1  # nobody could reach it to end it: it ends when nobody has used it


def test_where_google_gives_no_way_to_the_port_that_is_said(
    person: Project, start: Start, own_home: Path, google: Backend
) -> None:
    start("--expose", "colab:gpu")
    google.gives_ports = False
    said = colab(person, "tunnel", "daemon")
    assert said.returncode == 1
    assert "of colab:gpu is not reached through Google's runtime proxy: Google answered 404" in said.stderr
    assert (port_files(own_home), sessions.load().runtimes, book.load()) == ([], (), {})


@contextlib.contextmanager
def tls_tunnel(port: int, certificate: Certificate) -> Iterator[int]:
    """An address that speaks TLS, leads to a port of this machine, and is there as long as the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.public, certificate.private)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    async def serve() -> None:
        async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=context) as server:
            told.put(server.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    over = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield told.get(timeout=30)
    finally:
        over.set()
        thread.join()


def test_the_server_takes_what_comes_under_the_tunnels_name(person: Project, start: Start) -> None:
    port = free_port()
    daemon = start("--expose", "url:https://gpu.example.org/", "--expose-port", str(port))
    key, mailbox = sealing.Key.new(), mailbox_of(person)
    mailbox.ask(an_ask(daemon.worker, key))
    answer = harness.wait_until(lambda: mailbox.look("0f" * 16), what="the answer", every_s=0.1)
    mailbox.clear("0f" * 16)
    content = key.open(answer.sealed)
    assert content["url"] == "https://gpu.example.org"
    status = [status_of(port, token=token) for token in ("", content["token"])]
    assert status == [403, 200]


def status_of(port: int, *, token: str) -> int:
    """What the server says to a request that comes through a tunnel."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": "gpu.example.org", **({"Authorization": f"token {token}"} if token else {})}
    connection.request("GET", "/api/kernels", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--expose", "everything"], "--expose is one of loopback"),
        (["--expose", "url:http://gpu.example.org", "--expose-port", "80"], "the plain https:// address"),
        (["--expose", "url:https://gpu.example.org"], "needs --expose-port"),
        (["--expose", "colab:"], "--expose is one of"),
        (["--expose-port", "8899"], "--expose-port goes with --expose"),
        (["--expose", "loopback", "--expose-port", "0"], "from 1 to 65535"),
        (["--expose", "ssh:-oProxyCommand=x"], "--expose is one of"),
    ],
)
def test_a_bad_way_is_refused_at_once(person: Project, options: list[str], sentence: str) -> None:
    said = colab(person, "daemon", "--repo", person.remote, *options)
    assert said.returncode == 2
    assert sentence in said.stderr
