"""F5 on a file: a script on another folder's server, and a debugger that attaches by launch.json's entry."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import harness
import psutil
import pytest
import tunnel_stage
from dap_client import DapClient
from jupyter_servers import TOKEN, jupyter_server
from kernel_environments import Stack, python_of
from tcp_proxies import TcpProxy

from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import TunnelError
from colab_magics.tunnel import book, jsonc
from colab_magics.tunnel.debug import DebuggedScript
from colab_magics.tunnel.launch_json import entry
from colab_magics.tunnel.project import project_at, sync

SCRIPT = """\
import sys
from helper import double

def work(n):
    twice = double(n)
    print("twice", twice)
    return twice

if __name__ == "__main__":
    total = work(int(sys.argv[2]))
    print("args", sys.argv[1:], file=sys.stderr)
    sys.exit(total)
"""
HELPER = """\
def double(n):
    result = n * 2
    return result
"""
SLEEPER = """\
import sys, time
try:
    print("begun", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(3)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, and an open session with this machine, whose home is elsewhere."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "far"))
    (tmp_path / "far").mkdir()
    files = {"train.py": SCRIPT, "helper.py": HELPER, "sleeper.py": SLEEPER, ".gitignore": "ignored.py\n"}
    folder = harness.make_project(tmp_path / "project", files=files)
    opened = colab(folder, "local")
    assert opened.returncode == 0, opened.stderr
    yield folder
    for name in list(book.load()):
        colab(folder, "close", name)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "colab_magics.cli", "tunnel", *words]


def colab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return tunnel_stage.colab("tunnel", *words, cwd=folder)


def processes(word: str) -> list[psutil.Process]:
    """This session's processes that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = process.environ().get(harness.SESSION_MARK) == os.environ[harness.SESSION_MARK]
            if is_ours and word in " ".join(process.cmdline()):
                found.append(process)
    return found


@dataclass(slots=True)
class Debugging:
    """`tunnel debug …` under way, and the entry that it wrote."""

    process: subprocess.Popen[str]
    entry: dict[str, object]
    err: Path
    out: Path

    def ends_with(self, code: int) -> tuple[str, str]:
        assert self.process.wait(60) == code, self.err.read_text()
        return self.out.read_text(), self.err.read_text()


@contextmanager
def debugging(project: Path, *words: str) -> Iterator[Debugging]:
    out, err = project.parent / "out", project.parent / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            command("debug", *words), cwd=project, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
    try:
        harness.wait_until(
            lambda: "waits there for a debugger" in err.read_text() or process.poll() is not None,
            what="the script to wait",
        )
        assert process.poll() is None, err.read_text()
        [entry] = jsonc.loads((project / ".vscode/launch.json").read_text())["configurations"]
        yield Debugging(process, entry, err, out)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
        process.wait(60)


def test_a_breakpoint_by_its_path_here_holds_there_and_the_exit_code_comes_back(project: Path) -> None:
    before = harness.untouched_state(project)
    with debugging(project, "train.py", "--lr", "21", "-x") as running:
        with DapClient(running.entry, workspace=project) as ada:
            lines = {project / "train.py": [6], project / "helper.py": [2]}
            assert [one["verified"] for one in ada.attach(breakpoints=lines)] == [True, True]
            inside = ada.stopped()
            assert [(one["source"]["path"], one["line"]) for one in inside["frames"][:3]] == [
                (str(project / "helper.py"), 2),
                (str(project / "train.py"), 5),
                (str(project / "train.py"), 10),
            ]
            assert inside["locals"]["n"] == "21"
            ada.request("continue", threadId=inside["threadId"])
            after = ada.stopped()
            assert (after["frames"][0]["line"], after["locals"]["twice"]) == (6, "42")
            ada.request("continue", threadId=after["threadId"])
            ada.event("terminated")
        out, err = running.ends_with(42)
    assert out == "twice 42\ntrain.py ended with exit code 42.\n"
    assert "args ['--lr', '21', '-x']" in err
    after = harness.untouched_state(project)
    assert {name: value for name, value in after.items() if ".vscode" not in name and name != "status"} == {
        name: value for name, value in before.items() if name != "status"
    }


def test_the_second_time_the_entry_is_the_same(project: Path) -> None:
    ports = []
    for _ in range(2):
        with debugging(project, "train.py", "x", "0") as running:
            with DapClient(running.entry, workspace=project) as ada:
                ada.attach(breakpoints={})
                ada.event("terminated")
            running.ends_with(0)
            ports.append(running.entry["connect"])
    assert ports[0] == ports[1]


def test_ctrl_c_interrupts_the_script_there(project: Path) -> None:
    with debugging(project, "sleeper.py") as running, DapClient(running.entry, workspace=project) as ada:
        ada.attach(breakpoints={})
        harness.wait_until(lambda: "begun" in running.out.read_text(), what="the script to begin")
        running.process.send_signal(signal.SIGINT)
        out, err = running.ends_with(3)
    assert out == "begun\ninterrupted\nsleeper.py ended with exit code 3.\n"
    assert "Interrupted there; once more ends it." in err


def test_ctrl_c_twice_ends_it_while_it_waits_and_nothing_stays(project: Path) -> None:
    with debugging(project, "sleeper.py") as running:
        scripts = processes("sleeper.py") + processes("debugpy/adapter")
        assert len(scripts) > 2  # it here, it there, and the debugger's adapter
        running.process.send_signal(signal.SIGINT)
        harness.wait_until(lambda: "Interrupted there" in running.err.read_text(), what="the first")
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) in (1, 130, 137)
    _, alive = psutil.wait_procs(scripts, timeout=20)
    assert not alive


NEVER_CONNECTS = """\
import socket, sys, time
if "--wait-for-client" in sys.orig_argv:
    def connect(self, address):
        time.sleep(600)
    socket.socket.connect = connect
"""
"""A script that never reaches its debugger's adapter, which has already said where it listens."""


def test_a_script_that_ends_before_its_adapter_knows_it_leaves_no_adapter(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.parent / "slow").mkdir()
    (project.parent / "slow/sitecustomize.py").write_text(NEVER_CONNECTS)
    monkeypatch.setenv("PYTHONPATH", str(project.parent / "slow"))
    colab(project, "close", "local")
    assert colab(project, "local").returncode == 0
    with debugging(project, "sleeper.py") as running:
        adapters = processes("debugpy/adapter")
        assert adapters
        running.process.send_signal(signal.SIGINT)
        running.process.wait(60)
    _, alive = psutil.wait_procs(adapters, timeout=20)
    assert not alive


def test_every_port_is_on_loopback_and_this_users_alone(project: Path) -> None:
    if os.geteuid() != 0:
        harness.missing("only root can be somebody else")
    with debugging(project, "sleeper.py") as running:
        ports = {int(running.entry["connect"]["port"])}  # type: ignore[index]
        for process in processes("debugpy/adapter") + processes("sleeper.py"):
            for each in process.net_connections():
                if each.status == psutil.CONN_LISTEN:
                    assert each.laddr.ip == "127.0.0.1"
                    ports.add(each.laddr.port)
        assert len(ports) > 1
        for port in ports:
            asked = "import encodings.idna, os, socket; os.setuid(65534); " + (
                f"s = socket.create_connection(('127.0.0.1', {port})); s.settimeout(30); print(s.recv(1))"
            )
            said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
            assert said.stdout == "b''\n" or "ConnectionResetError" in said.stderr, (port, said)
        with DapClient(running.entry, workspace=project) as ada:
            ada.attach(breakpoints={})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "debug takes a script of your project"),
        (["nowhere.py"], "nowhere.py is not there"),
        (["ignored.py"], "ignored.py is not there: does Git ignore it?"),
    ],
)
def test_what_cannot_be_debugged_is_one_sentence(project: Path, words: list[str], sentence: str) -> None:
    harness.write(project / "ignored.py", "")
    said = colab(project, "debug", *words)
    assert said.returncode in (1, 2)
    assert sentence in said.stderr.splitlines()[-1]
    assert not (project / ".vscode").exists()


def test_a_launch_json_that_is_none_ends_the_script_and_stays(project: Path) -> None:
    path = harness.write(project / ".vscode/launch.json", "{ oh")
    said = colab(project, "debug", "sleeper.py")
    assert said.returncode == 2
    assert "was left as it is" in said.stderr
    assert path.read_text() == "{ oh"


def test_what_a_script_writes_comes_whole_however_much(project: Path) -> None:
    harness.write(project / "flood.py", "for n in range(60000):\n    print('%06d ' % n + 'ä' * 60)\n")
    with debugging(project, "flood.py") as running:
        with DapClient(running.entry, workspace=project) as ada:
            ada.attach(breakpoints={})
            ada.event("terminated")
        out, _ = running.ends_with(0)
    lines = out.splitlines()
    assert lines[:-1] == [f"{n:06} {'ä' * 60}" for n in range(60000)]


def test_a_cut_is_told_and_ends_the_script(tmp_path: Path) -> None:
    script = harness.write(tmp_path / "sleeper.py", SLEEPER)
    with jupyter_server(tmp_path / "server") as server, TcpProxy(server.port) as proxy:
        runtime = Runtime(name="far", url=f"http://127.0.0.1:{proxy.port}", token=TokenSource(value=TOKEN))
        with DebuggedScript(runtime) as running:
            running.start(str(script), [], folder=str(tmp_path), port=0, write=lambda stream, data: None)
            scripts = processes(str(script))
            assert scripts
            proxy.cut()
            with pytest.raises(TunnelError, match="the connection to the machine was lost"):
                running.wait(lambda stream, data: None, note=lambda sentence: None)
        assert not psutil.wait_procs(scripts, timeout=20)[1]
        assert server.kernel_ids() == []


def test_a_script_that_ends_by_a_signal_there_tells_its_number(project: Path) -> None:
    harness.write(project / "killed.py", "import os\nos.kill(os.getpid(), 9)\n")
    with debugging(project, "killed.py") as running:
        with DapClient(running.entry, workspace=project) as ada:
            ada.attach(breakpoints={})
        running.ends_with(137)


@pytest.mark.colab_pins
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stack", [Stack.COLAB, Stack.NEWEST_313])
def test_colabs_versions_take_the_project_and_hold_at_the_breakpoint(tmp_path: Path, stack: Stack) -> None:
    here = harness.make_project(tmp_path / "project", files={"train.py": SCRIPT, "helper.py": HELPER})
    written = {"stdout": b"", "stderr": b""}

    def write(stream: str, data: bytes) -> None:
        written[stream] += data

    with jupyter_server(tmp_path / "server", python=python_of(stack)) as server:
        runtime = Runtime(name="far", url=server.url, token=TokenSource(value=TOKEN))
        with DebuggedScript(runtime) as running:
            root = str(tmp_path / "there")
            sync(running.hand, project_at(here), remote_root=root, accept=False, max_file_bytes=10**6)
            running.start(
                f"{root}/train.py",
                ["-n", "3"],
                folder=root,
                port=0,
                write=write,
            )
            wanted = entry("any", port=running.port, remote_root=root)
            with DapClient(wanted, workspace=here) as ada:
                assert [one["verified"] for one in ada.attach(breakpoints={here / "helper.py": [2]})] == [
                    True
                ]
                stopped = ada.stopped()
                assert stopped["frames"][0]["source"]["path"] == str(here / "helper.py")
                assert stopped["locals"]["n"] == "3"
                ada.request("continue", threadId=stopped["threadId"])
                ada.event("terminated")
            code = running.wait(write, note=lambda sentence: None)
    assert code == 6
    assert written == {"stdout": b"twice 6\n", "stderr": b"args ['-n', '3']\n"}
