"""`%colab_tunnel ssh://…`: with a real sshd and the system's ssh, from the outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import harness
import pexpect
import psutil
import pytest
from debug_cell import Cell, NotebookDebugger
from jupyter_client.manager import start_new_kernel
from kernel_client import Done, Frontend, Request, Unmet
from proxy_process import proxy_process
from ssh_server import HOST, SshMachine, tokens_in_process_lists
from tcp_proxies import TcpProxy
from wan_link import WanLink

from colab_kernel import sessions
from colab_magics.tunnel import book
from colab_magics.tunnel.kept import Folder

pytestmark = pytest.mark.sshd

PATIENCE_S = 120.0

PRINTING = """
import os, time
n = 0
while not os.path.exists({mark!r}):
    print(n, flush=True)
    n += 1
    time.sleep(0.02)
print(n)
"""


@dataclass(frozen=True, slots=True)
class Near:
    """This side: a home of the test's own, and the machine that it reaches."""

    folder: Path
    machine: SshMachine

    def colab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "colab_magics.cli", "tunnel", *words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def open(self, *words: str) -> str:
        """Open the session, which must succeed; return what was said."""
        done = self.colab(HOST, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def refused(self, *words: str) -> str:
        """Open the session in vain; return the one sentence, having seen that nothing of it stays."""
        done = self.colab(*(words or (HOST,)))
        assert done.returncode in (1, 2), done.stdout
        said = [line for line in done.stderr.splitlines() if not line.endswith("…")]
        [line] = said
        assert book.load() == {}
        assert sessions.load().runtimes == ()
        assert not self.kept.path.exists()
        assert self.processes() == []
        assert self.machine.private_servers() == []
        return line

    @property
    def kept(self) -> Folder:
        return Folder.of(HOST)

    @property
    def state(self) -> str:
        return self.kept.state().state

    @property
    def port(self) -> int:
        return int(sessions.load().get(HOST).url.rpartition(":")[2])

    @property
    def control(self) -> Path:
        kept = self.kept.kept()
        assert kept is not None
        return kept.link.control

    def master(self) -> psutil.Process:
        """The ssh process that holds the connection."""
        [found] = [one for one in self.processes() if one.name() == "ssh"]
        return found

    def keeper(self) -> psutil.Process:
        return psutil.Process(self.kept.state().pid)

    def processes(self) -> list[psutil.Process]:
        """The keeper, and every ssh of ours: those that carry the session's mark and this test's folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                ours = str(self.folder) in words and ("ssh_keeper" in words or words.startswith("ssh "))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @contextlib.contextmanager
    def kernel(self) -> Iterator[Frontend]:
        """A frontend at a proxy kernel of the session."""
        with (
            proxy_process(self.folder, self.folder / "runtime", arguments=["--runtime", HOST]) as proxy,
            Frontend(proxy.connection, patience_s=PATIENCE_S) as frontend,
        ):
            yield frontend


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[SshMachine]:
    with SshMachine(tmp_path / "far") as one:
        yield one


@pytest.fixture
def near(tmp_path: Path, machine: SshMachine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Near]:
    yield from nearby(tmp_path, machine, monkeypatch)


def nearby(folder: Path, machine: SshMachine, patch: pytest.MonkeyPatch) -> Iterator[Near]:
    patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
    patch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))
    patch.setenv("COLAB_MAGICS_SSH_CONFIG", str(machine.config))
    near = Near(folder, machine)
    yield near
    for name in list(book.load()):
        near.colab("close", name)
    assert near.processes() == []


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits for a parent that does not look."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def numbers(done: Done) -> list[int]:
    return [int(line) for line in done.stdout.split()]


def wait_for_more(frontend: Frontend, request: Request) -> None:
    """Wait until some more is printed than what is here."""
    came = len(frontend.published(request, "stream"))
    frontend.wait(
        lambda: len(frontend.published(request, "stream")) > came + 3, unmet=Unmet("nothing came again")
    )


# --- one line ----------------------------------------------------------------------------------------------


def test_a_cell_runs_there_and_stops_at_a_breakpoint(near: Near) -> None:
    assert f"● {HOST}: open  (ssh://{HOST})" in near.open()
    cell = Cell("import os\nx = 20\nprint(os.environ['HOME'], x * 2)", "cell")
    with near.kernel() as frontend:
        notebook = NotebookDebugger(frontend, (cell,))
        request = notebook.debug(cell, [{"line": 3}])
        debugger = notebook.debugger
        thread = debugger.stopped("breakpoint")
        [frame, *_] = debugger.frames(thread)
        assert debugger.locals(frame)["x"] == "20"
        debugger.body("continue", threadId=thread)
        assert frontend.done(request).stdout == f"{near.machine.home} 40\n"
        notebook.close()


def test_one_connection_is_all_that_is_opened(near: Near) -> None:
    near.open()
    with near.kernel() as frontend:
        frontend.run("1")
    assert near.colab("close").returncode == 0
    assert near.machine.logins == 1


def test_a_second_time_it_finds_the_server_that_runs(near: Near) -> None:
    near.open()
    [server], keeper, port = near.machine.private_servers(), near.keeper(), near.port
    near.open()
    assert ([server], keeper, port) == (near.machine.private_servers(), near.keeper(), near.port)
    assert near.machine.logins == 1


def test_closing_leaves_nothing(near: Near) -> None:
    near.open()
    port, control = near.port, near.control
    [server] = near.machine.private_servers()
    closed = near.colab("close")
    assert (closed.returncode, closed.stdout) == (0, f"{HOST} (ssh://{HOST}) is closed.\n")
    assert has_ended(server)
    assert near.processes() == []
    assert not control.parent.exists()
    assert not near.kept.path.exists()
    assert book.load() == {}
    assert sessions.load().runtimes == ()
    with pytest.raises(ConnectionRefusedError):
        ask(port)
    there = [path for path in near.machine.home.rglob("*") if path.is_file()]
    assert not [path for path in there if "colab-magics" in path.parts or "jupyter" in path.parts]


def test_its_token_is_seen_nowhere_and_wanted_everywhere(near: Near) -> None:
    said = near.open()
    token = sessions.load().get(HOST).token.value
    assert token
    assert token not in said
    assert [*tokens_in_process_lists(token)] == []
    registry = sessions.registry_path()
    for path in [*near.folder.rglob("*")]:
        if path.is_file() and path != registry and path.name != "server.json":
            assert token.encode() not in path.read_bytes(), path
    for path in (registry, *near.machine.home.rglob("server.json"), *near.kept.path.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert near.control.parent.stat().st_mode & 0o077 == 0
    assert (ask(near.port), ask(near.port, "wrong-t0ken"), ask(near.port, token)) == (403, 403, 200)


def ask(port: int, token: str = "") -> int:
    """The status of a request that wants a token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"token {token}"} if token else {}
    try:
        connection.request("GET", "/api/kernels", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_host_behind_a_proxy_command(near: Near) -> None:
    jump = near.folder / "jump"
    jump.write_text(near.machine.config.read_text())
    near.machine.write_config(ProxyCommand=f"ssh -F {jump} -W 127.0.0.1:{near.machine.port} {HOST}", Port="1")
    near.open()
    with near.kernel() as frontend:
        assert frontend.run("print(6 * 7)").stdout == "42\n"


def test_what_the_configuration_says_of_terminals_is_no_hindrance(near: Near) -> None:
    near.machine.write_config(
        RemoteCommand="cd /content; exec bash -l",
        RequestTTY="yes",
        ControlMaster="auto",
        ControlPath=str(near.folder / "other"),
        ControlPersist="60",
        LocalForward="1 127.0.0.1:1",
    )
    near.open()
    assert not (near.folder / "other").exists()


def test_the_python_that_has_what_is_needed_is_found(near: Near, machine: SshMachine) -> None:
    bare = bare_python(near.folder)
    for place, python in (("first/python3", bare), ("home/.venv/bin/python", Path(sys.executable))):
        wrapper = harness.write(machine.home.parent / place, f'#!/bin/sh\nexec "{python}" "$@"\n')
        wrapper.chmod(0o755)
    machine.stop()
    machine.path = f"{machine.home.parent / 'first'}:/usr/bin:/bin"
    machine.start()
    near.open()
    with near.kernel() as frontend:
        assert frontend.run("import sys; print(sys.prefix)").stdout == f"{sys.prefix}\n"


def bare_python(folder: Path) -> Path:
    """A Python with nothing installed."""
    harness.run([sys.executable, "-m", "venv", "--without-pip", folder / "bare"])
    return folder / "bare/bin/python"


def test_it_outlives_the_notebook_that_opened_it(near: Near) -> None:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(near.folder))
    said: list[str] = []
    try:
        client.execute_interactive(
            f"%load_ext colab_magics\n%colab_tunnel {HOST}",
            output_hook=lambda message: said.append(str(message["content"])),
            timeout=PATIENCE_S,
        )
        assert f"{HOST}</b> is open" in "".join(said)
        manager.interrupt_kernel()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    with near.kernel() as frontend:
        assert frontend.run("print(6 * 7)").stdout == "42\n"
    assert near.machine.logins == 1


def test_two_who_open_it_at_once_share_it(near: Near) -> None:
    with ThreadPoolExecutor() as both:
        done = [*both.map(lambda _: near.colab(HOST).returncode, range(2))]
    assert done == [0, 0]
    assert near.machine.logins == 1
    assert len(near.machine.private_servers()) == 1


def test_in_a_terminal_ssh_may_ask(near: Near) -> None:
    harness.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", near.machine.key])
    assert "unlock it with `ssh-add`" in near.refused()
    child = pexpect.spawn(
        sys.executable, ["-m", "colab_magics.cli", "tunnel", HOST], timeout=PATIENCE_S, encoding="utf-8"
    )
    child.expect("Enter passphrase for key")
    child.sendline("open sesame")
    child.expect(f"{HOST}: open")
    child.expect(pexpect.EOF)
    child.close()  # the terminal with it
    assert child.exitstatus == 0
    with near.kernel() as frontend:
        assert frontend.run("print(6 * 7)").stdout == "42\n"


# --- what drops comes back ---------------------------------------------------------------------------------


def test_a_cell_that_prints_loses_nothing_when_the_connection_dies(near: Near) -> None:
    near.open()
    port, mark = near.port, near.folder / "enough"
    with near.kernel() as frontend:
        frontend.run("kept = 'still here'")
        request = frontend.execute(PRINTING.format(mark=str(mark)))
        frontend.published(request, "stream")
        near.master().kill()
        wait_for_more(frontend, request)
        mark.touch()
        came = numbers(frontend.done(request))
        assert came == list(range(len(came)))
        assert frontend.run("print(kept)").stdout == "still here\n"
    assert (near.port, near.state) == (port, "open")
    assert near.machine.logins == 2


@pytest.mark.parametrize("how", ["cut", "abort"])
def test_a_network_that_closes_connections_costs_nothing(near: Near, how: str) -> None:
    with TcpProxy(near.machine.port) as network:
        near.machine.write_config(port=network.port)
        near.open()
        mark = near.folder / "enough"
        with near.kernel() as frontend:
            request = frontend.execute(PRINTING.format(mark=str(mark)))
            frontend.published(request, "stream")
            getattr(network, how)()
            wait_for_more(frontend, request)
            mark.touch()
            came = numbers(frontend.done(request))
            assert came == list(range(len(came)))
        near.colab("close")


def test_while_the_machine_is_away_it_is_said_and_tried_again(near: Near) -> None:
    near.open()
    near.machine.stop()
    harness.wait_until(lambda: near.state == "reconnecting", what="the keeper to notice")
    harness.wait_until(lambda: "nobody listens there" in near.colab("status").stdout, what="its reason")
    near.machine.start()
    harness.wait_until(lambda: near.state == "open", what="the connection to be back")
    with near.kernel() as frontend:
        assert frontend.run("print(6 * 7)").stdout == "42\n"


def test_another_machine_in_its_place_gets_nothing(near: Near) -> None:
    near.open()
    near.machine.change_host_key()
    harness.wait_until(lambda: near.state == "gone", what="the keeper's end")
    assert "shows another host key than the one that is known" in near.colab("status").stdout
    assert near.processes() == []


def test_a_server_that_has_ended_there_is_gone(near: Near) -> None:
    near.open()
    [server] = near.machine.private_servers()
    server.terminate()
    harness.wait_until(lambda: has_ended(server), what="the server's end")
    near.master().kill()
    harness.wait_until(lambda: near.state == "gone", what="the keeper's end")
    assert "the private server there has ended: open the session again" in near.colab("status").stdout
    harness.wait_until(lambda: near.processes() == [], what="its end")
    near.open()
    assert near.state == "open"


def test_a_keeper_that_was_killed_is_replaced(near: Near) -> None:
    near.open()
    port, [server] = near.port, near.machine.private_servers()
    near.keeper().kill()
    harness.wait_until(lambda: near.state == "gone", what="its end")
    assert "the process that kept it has ended" in near.colab("status").stdout
    near.open()
    assert (near.port, near.machine.private_servers()) == (port, [server])
    near.keeper().kill()
    assert near.colab("close").returncode == 0
    assert near.processes() == []
    assert has_ended(server)


def test_a_master_whose_socket_was_cleared_away_is_ended_all_the_same(near: Near) -> None:
    near.open()
    near.control.unlink()
    assert near.colab("close").returncode == 0
    assert near.processes() == []


def test_ctrl_c_does_not_end_it(near: Near) -> None:
    near.open()
    near.keeper().send_signal(signal.SIGINT)
    near.open()
    assert near.state == "open"
    assert near.machine.logins == 1


def test_it_ends_with_whoever_opens_it_until_it_is_open(near: Near) -> None:
    near.open()
    kept = near.kept.kept()
    assert kept is not None
    assert near.colab("close").returncode == 0
    folder = Folder.of("half")
    folder.make()
    kept.link.control.parent.mkdir(mode=0o700)
    folder.write_kept(kept)
    command = [sys.executable, "-m", "colab_magics.tunnel.ssh_keeper", str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as opener:
        assert opener.stdin is not None
        assert opener.stdout is not None
        assert json.loads(opener.stdout.readline()) == {"connected": True}
        assert len(near.processes()) == 2
        opener.stdin.close()
        assert opener.stdout.read() == b""
    assert near.processes() == []
    assert not kept.link.control.parent.exists()


def test_what_cannot_be_opened_again_is_not_forgotten(near: Near) -> None:
    near.open()
    port, [server] = near.port, near.machine.private_servers()
    near.machine.stop()
    harness.wait_until(lambda: near.state == "reconnecting", what="the keeper to notice")
    assert near.colab(HOST).returncode == 1
    assert near.state == "gone"
    assert "nobody listens there" in near.colab("status").stdout
    near.machine.start()
    near.open()
    assert (near.port, near.machine.private_servers()) == (port, [server])


def test_a_machine_that_is_away_is_closed_here(near: Near) -> None:
    near.open()
    [server] = near.machine.private_servers()
    near.machine.stop()
    closed = near.colab("close")
    assert closed.returncode == 0, closed.stderr
    assert f"{HOST} was not reached: the private server there ends by itself" in closed.stdout
    assert near.processes() == []
    assert book.load() == {}
    server.terminate()


def test_opening_that_is_interrupted_leaves_nothing(near: Near) -> None:
    near.machine.write_config(ProxyCommand="sleep 600")
    command = [sys.executable, "-m", "colab_magics.cli", "tunnel", HOST]
    with psutil.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as opener:
        harness.wait_until(near.processes, what="the keeper's first moment")
        opener.send_signal(signal.SIGINT)
        assert opener.wait(PATIENCE_S) == 130
    assert near.processes() == []
    assert not near.kept.path.exists()


def test_opening_that_is_killed_ends_what_it_began(near: Near) -> None:
    near.machine.write_config(ProxyCommand="sleep 600")
    command = [sys.executable, "-m", "colab_magics.cli", "tunnel", HOST]
    with psutil.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as opener:
        harness.wait_until(
            lambda: [one for one in near.processes() if one.name() == "ssh"], what="ssh to be waiting"
        )
        opener.kill()
    harness.wait_until(lambda: near.processes() == [], what="the keeper's end")


# --- what cannot be ----------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_shown_and_not_taken(near: Near) -> None:
    near.machine.known_hosts.write_text("")
    said = near.refused()
    told = harness.run(["ssh-keygen", "-lf", near.machine.home.parent / "host_key.pub"]).stdout.split()[1]
    assert f"{HOST} is not known to ssh yet, and its key has the fingerprint {told}" in said
    assert f"run `ssh -F {near.machine.config} {HOST}` once in a terminal" in said
    assert near.machine.known_hosts.read_text() == ""


def test_a_wrong_host_key_stops(near: Near) -> None:
    near.machine.change_host_key()
    said = near.refused()
    assert f"{HOST} shows another host key than the one that is known" in said
    assert f'`ssh-keygen -f "{near.machine.known_hosts}" -R "{HOST}"`' in said
    assert near.machine.logins == 0


def test_a_key_that_is_not_let_in(near: Near) -> None:
    (near.machine.home.parent / "authorized_keys").write_text("")
    assert f"{HOST} did not let ssh in (it would take: publickey)" in near.refused()


def test_a_port_where_nobody_listens(near: Near) -> None:
    assert f"ssh did not reach {HOST}: nobody listens there" in near.refused(
        f"ssh://{HOST}:1", "--name", HOST
    )


def test_a_name_that_nobody_has(near: Near) -> None:
    said = near.refused("ssh://nobody.invalid", "--name", HOST)
    assert "there is no machine of that name: is it spelt as in" in said


def test_a_proxy_command_that_fails_says_why(near: Near) -> None:
    near.machine.write_config(ProxyCommand="sh -c 'echo the runtime has ended >&2; exit 1'")
    assert "was closed before ssh could begin: the runtime has ended" in near.refused()


def test_a_machine_without_jupyter(near: Near) -> None:
    python = bare_python(near.folder)
    said = near.refused(HOST, "--python", str(python))
    assert f"`{python} -m pip install jupyter_server ipykernel` brings what is missing" in said


def test_a_python_that_is_not_there(near: Near) -> None:
    assert "the Python that --python names is not there" in near.refused(HOST, "--python", "/none/python")


def test_a_machine_that_forwards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SshMachine(tmp_path / "far", options={"AllowTcpForwarding": "no"}) as machine:
        for near in nearby(tmp_path, machine, monkeypatch):
            done = near.colab(HOST)
            assert done.returncode == 1
            assert "does its sshd allow TCP forwarding" in done.stderr
            assert near.processes() == []
            assert near.machine.private_servers() == []


def test_ssh_that_is_not_installed(near: Near, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(near.folder))
    assert "there is no `ssh` on this machine" in near.refused()


# --- over a bad line ---------------------------------------------------------------------------------------

CUT_S = 30.0


@contextlib.contextmanager
def far_away(folder: Path, patch: pytest.MonkeyPatch, wan: WanLink) -> Iterator[Near]:
    """A machine at the far end of a line, and a session with it; the block runs at the near end."""
    with contextlib.ExitStack() as ends:
        with wan.there.entered():
            machine = ends.enter_context(SshMachine(folder / "far", address=wan.there.address))
        ends.enter_context(wan.here.entered())
        for near in nearby(folder, machine, patch):
            near.open()
            yield near


def test_a_cut_of_half_a_minute_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WanLink() as wan:
        wan.delay_s, wan.loss = 0.03, 0.01
        with far_away(tmp_path, monkeypatch, wan) as near, near.kernel() as frontend:
            mark = near.folder / "enough"
            request = frontend.execute(PRINTING.format(mark=str(mark)))
            frontend.published(request, "stream")
            wan.unplug()
            began = time.monotonic()
            harness.wait_until(lambda: time.monotonic() > began + CUT_S, what="the cut's end", every_s=1)
            wan.plug()
            wait_for_more(frontend, request)
            mark.touch()
            came = numbers(frontend.done(request))
            assert came == list(range(len(came)))
            assert near.state == "open"
            assert near.machine.logins == 1


def test_a_connection_that_a_router_forgot_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WanLink() as wan, far_away(tmp_path, monkeypatch, wan) as near, near.kernel() as frontend:
        frontend.run("kept = 'still here'")
        wan.forget()
        harness.wait_until(lambda: near.machine.logins == 2, what="another connection", timeout_s=150)
        assert frontend.run("print(kept)").stdout == "still here\n"


def test_a_machine_that_accepts_nothing_is_reached_through_a_relay(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as ends:
        wan = ends.enter_context(WanLink())
        with wan.here.entered():
            relay = ends.enter_context(
                SshMachine(tmp_path_factory.mktemp("relay") / "one", address=wan.here.address)
            )
        with wan.there.entered():
            machine = ends.enter_context(SshMachine(tmp_path / "far"))
            back = f"{machine.port}:127.0.0.1:{machine.port}"
            command = ["ssh", "-F", relay.config, "-N", "-o", "ExitOnForwardFailure=yes", "-R", back, HOST]
            owner = psutil.Popen(command, stdin=subprocess.DEVNULL)
            ends.callback(owner.wait)
            ends.callback(owner.kill)
        ends.enter_context(wan.here.entered())
        harness.wait_until(lambda: relay.logins, what="the owner's connection to the relay")
        for near in nearby(tmp_path, machine, monkeypatch):
            near.open()
            with near.kernel() as frontend:
                assert frontend.run("print(6 * 7)").stdout == "42\n"
