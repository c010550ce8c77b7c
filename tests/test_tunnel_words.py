"""`tunnel forward` and `tunnel debug` as they are typed, in a terminal and in a notebook."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import harness
import pytest
from dap_client import DapClient
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from colab_magics.options import split_given
from colab_magics.tunnel import book, jsonc

LINES = [
    ("debug train.py", "debug train.py", ""),
    ("debug train.py --lr 0.1 -x --name y", "debug train.py", "--lr 0.1 -x --name y"),
    ("--name x debug train.py --yes", "--name x debug train.py", "--yes"),
    ("debug --name x --yes train.py -h", "debug --name x --yes train.py", "-h"),
    ("--name debug status", "--name debug status", ""),
    ("--name=debug debug a.py debug b.py", "--name=debug debug a.py", "debug b.py"),
    ("debug", "debug", ""),
    ("debug --yes", "debug --yes", ""),
    ("close debug --name x", "close debug --name x", ""),
    ("debug a.py -- --help", "debug a.py", "-- --help"),
    ("terminal -- nvidia-smi -L", "terminal", "nvidia-smi -L"),
    ("terminal --name x -- make --name y -- z", "terminal --name x", "make --name y -- z"),
    ("terminal", "terminal", ""),
    ("close -- x", "close -- x", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("line", "ours", "scripts"), LINES)
def test_everything_after_the_script_is_the_scripts(line: str, ours: str, scripts: str) -> None:
    assert split_given(line.split()) == (ours.split(), scripts.split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, the folder of the test, with an open session."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "XDG_STATE_HOME", "HOME"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))
    files = {"fail.py": "import sys\nprint('in', sys.argv[1:])\nsys.exit(5)\n"}
    project = harness.make_project(tmp_path / "project", files=files)
    monkeypatch.chdir(project)
    harness.run([*COLAB, "local"])
    yield project
    for name in list(book.load()):
        harness.run([*COLAB, "close", name])


COLAB = [sys.executable, "-m", "colab_magics.cli", "tunnel"]


@pytest.fixture
def page() -> Iterator[int]:
    """A web server there; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"seen")

        def log_message(self, *given: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def get(port: int) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        data: bytes = answer.read()
        return data


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_terminal_forwards_until_it_is_interrupted(folder: Path, page: int) -> None:
    here = free_port()
    command = [*COLAB, "forward", f"{page}:{here}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            f"127.0.0.1:{here} here leads to port {page} of local. Ctrl-C ends it.\n"
        )
        assert get(here) == b"seen"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"Port {here} is closed.\n", "")
    with pytest.raises(OSError, match="refused"):
        get(here)


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "colab_magics")
    yield shell
    shell.run_line_magic("unload_ext", "colab_magics")
    InteractiveShell.clear_instance()


def test_in_a_notebook_a_forward_goes_on_until_it_is_closed(
    folder: Path, page: int, shell: InteractiveShell
) -> None:
    forward = shell.run_line_magic("colab_tunnel", f"forward {page}")
    assert repr(forward) == f"<forward 127.0.0.1:{forward.port} → port {page} there>"
    assert get(forward.port) == b"seen"
    forward.close()
    forward.close()
    assert repr(forward) == "<forward closed>"


def test_a_session_that_is_closed_takes_its_forwards_along(
    folder: Path, page: int, shell: InteractiveShell
) -> None:
    forward = shell.run_line_magic("colab_tunnel", f"forward {page}")
    with subprocess.Popen(
        [*COLAB, "forward", str(page)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        assert other.stderr is not None
        assert other.stderr.readline()
        harness.run([*COLAB, "close"])
        other.communicate(timeout=60)
        assert other.returncode == 0
    harness.wait_until(lambda: repr(forward) == "<forward closed>", what="the forward here to close itself")


def test_in_a_notebook_a_script_writes_into_the_cell_and_ends_it(
    folder: Path, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def attach() -> None:
        path = folder / ".vscode/launch.json"
        harness.wait_until(path.exists, what="the entry")
        [entry] = jsonc.loads(path.read_text())["configurations"]
        with DapClient(entry, workspace=folder) as ada:
            ada.attach(breakpoints={})
            ada.event("terminated")

    attaching = threading.Thread(target=attach)
    attaching.start()
    ended = shell.run_line_magic("colab_tunnel", "debug fail.py --name x")
    attaching.join()
    assert (ended.code, str(ended)) == (5, "fail.py ended with exit code 5.")
    assert "in ['--name', 'x']\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["", "http", "0", "70000", "80:", "80:x", "80:99999", "80 90"])
def test_a_port_that_is_none_is_a_sentence(words: str) -> None:
    done = subprocess.run([*COLAB, "forward", *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "PORT:LOCAL" in line


def test_the_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = harness.run([sys.executable, harness.ROOT / "examples/debug_gpu_example.py", "--epochs", "2"])
    assert done.stdout.splitlines()[-1].startswith("epoch 1: loss ")
