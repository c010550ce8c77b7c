"""`jupyter colab tunnel terminal`, `edit`, `ls`, `gpu`: as a person at a terminal has them, a real pty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pexpect
import pytest
from jupyter_servers import TOKEN, JupyterServer, jupyter_server
from tcp_proxies import TcpProxy

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.tunnel import book
from colab_magics.tunnel.plan import Reached

CLI = (sys.executable, "-m", "colab_magics.cli", "tunnel")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("server")
    env = {"SHELL": "/bin/bash", "HOME": str(folder), "PS1": "$ "}
    terminals = "--ServerApp.jpserver_extensions=jupyter_server_terminals=True"
    with jupyter_server(folder, env=env, options=[terminals]) as one:
        yield one


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    if "local" in book.load():
        assert tunnel("close", "local").returncode == 0


def open_session(port: int, there: Path) -> None:
    """What `tunnel http://…` leaves behind, at once."""
    there.mkdir()
    runtime = Runtime(
        name="gpu",
        url=f"http://127.0.0.1:{port}",
        token=TokenSource(value=TOKEN),
        local_root=str(there),
        remote_root=str(there),
    )
    sessions.save_runtime(runtime)
    book.remember(Reached(name="gpu", target=runtime.url, kind="url"))


@pytest.fixture
def there(server: JupyterServer, tmp_path: Path) -> Path:
    """The folder of an open session."""
    open_session(server.port, tmp_path / "there")
    return tmp_path / "there"


def tunnel(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


def type_in(*words: str, env: dict[str, str] | None = None) -> pexpect.spawn:
    """Type a command in a terminal of 30 rows and 100 columns."""
    return pexpect.spawn(
        sys.executable,
        [*CLI[1:], *words],
        env={**os.environ, **(env or {})},
        dimensions=(30, 100),
        encoding="utf-8",
        timeout=60,
    )


@pytest.fixture
def shell(there: Path, server: JupyterServer) -> Iterator[pexpect.spawn]:
    """`tunnel terminal`, at its first prompt."""
    terminal = type_in("terminal")
    terminal.expect(r"[$#] ")
    yield terminal
    end(terminal)
    is_clean(server)


def end(shell: pexpect.spawn) -> None:
    """End it as a closed window does, and its terminal over there with it."""
    if shell.isalive():
        shell.kill(signal.SIGHUP)
        shell.expect(pexpect.EOF)
    shell.close(force=True)


def ask(shell: pexpect.spawn, command: str, answer: str) -> str:
    """Type a command; return what it said, in the form asked for."""
    shell.send(f"{command}\r")
    shell.expect(answer)
    return str(shell.match[1])


def is_clean(server: JupyterServer) -> None:
    """No terminal is left there; its end is noticed a moment after it."""
    harness.wait_until(lambda: server.api("GET", "/api/terminals") == [], what="the terminal's end")


def exit_code(shell: pexpect.spawn) -> int:
    shell.expect(pexpect.EOF)
    shell.close()
    return int(shell.exitstatus)


# --- a terminal --------------------------------------------------------------------------------------------


def test_a_shell_there_ends_with_its_own_code(shell: pexpect.spawn, server: JupyterServer) -> None:
    ask(shell, "echo answer: $((6 * 7))", r"answer: (42)")
    shell.send("exit 7\r")
    assert exit_code(shell) == 7
    is_clean(server)


def test_it_is_in_the_sessions_folder(shell: pexpect.spawn, there: Path) -> None:
    assert ask(shell, "echo at:$PWD:", r"at:(/[^:]*):") == str(there)


def test_nothing_is_seen_of_how_it_begins(there: Path) -> None:
    terminal = type_in("terminal")
    terminal.expect(r"[$#] ")
    assert "5379" not in terminal.before
    assert "exec" not in terminal.before
    end(terminal)


def test_its_size_is_that_of_the_window(shell: pexpect.spawn) -> None:
    assert ask(shell, "stty size", r"(\d+ \d+)\r\n") == "30 100"
    shell.setwinsize(40, 120)
    harness.wait_until(
        lambda: ask(shell, "stty size", r"(\d+ \d+)\r\n") == "40 120", what="the new size over there"
    )


def test_ctrl_c_goes_there(shell: pexpect.spawn) -> None:
    ask(shell, "echo ready; sleep 1000", r"(ready)\r\n")
    shell.sendcontrol("c")
    assert ask(shell, "echo code=$?.", r"code=(\d+)\.") == "130"


def test_what_is_not_ascii_goes_there_and_comes_back(shell: pexpect.spawn) -> None:
    assert ask(shell, "printf '<%s>' 'äß→😀' | tail -c 99", r"\r\n.*<([^>%]*)>") == "äß→😀"


def test_enter_tilde_dot_leaves(shell: pexpect.spawn, server: JupyterServer) -> None:
    shell.send("\r~.")
    assert exit_code(shell) == 255
    is_clean(server)


def test_the_terminal_is_as_it_was_afterwards(there: Path, tmp_path: Path) -> None:
    script = harness.write(
        tmp_path / "script",
        f"stty -a >{tmp_path}/before; {' '.join(CLI)} terminal; echo code=$?; stty -a >{tmp_path}/after\n",
    )
    terminal = pexpect.spawn("sh", [str(script)], encoding="utf-8", timeout=60)
    terminal.expect(r"[$#] ")
    ask(terminal, r"printf '\033[?1049h\033[?25l'; echo o''n", r"(on)\r\n")
    terminal.send("kill -9 $$\r")
    terminal.expect(r"code=(\d+)")
    assert terminal.match[1] == "137"
    assert "\x1b[?1049l\x1b[?25h" in terminal.before
    assert exit_code(terminal) == 0
    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()


def test_a_signal_that_ends_it_leaves_the_terminal_and_the_machine_clean(
    shell: pexpect.spawn, server: JupyterServer
) -> None:
    shell.kill(signal.SIGTERM)
    assert exit_code(shell) == 128 + signal.SIGTERM
    is_clean(server)


def test_a_line_that_was_cut_leads_to_the_same_terminal(server: JupyterServer, tmp_path: Path) -> None:
    with TcpProxy(server.port) as network:
        open_session(network.port, tmp_path / "there")
        shell = type_in("terminal")
        shell.expect(r"[$#] ")
        ask(shell, "kept=yes; echo seen$kept", r"(seenyes)")
        network.refuse()
        network.abort()
        shell.expect("the connection was lost; trying again")
        shell.send("echo still:$kept:\r")
        network.accept()
        shell.expect(r"still:(\w+):")
        assert shell.match[1] == "yes"
        assert "seenyes" not in shell.before  # it was shown already
        shell.send("exit 4\r")
        assert exit_code(shell) == 4


def test_a_terminal_that_somebody_ended_is_one_sentence(shell: pexpect.spawn, server: JupyterServer) -> None:
    [one] = server.api("GET", "/api/terminals")
    server.api("DELETE", f"/api/terminals/{one['name']}")
    shell.expect("the terminal was ended there; what its shell ended with is not known")
    assert exit_code(shell) == 1


def test_without_a_terminal_it_is_refused(there: Path) -> None:
    said = tunnel("terminal")
    assert said.returncode == 2
    assert said.stderr.endswith("terminal needs a terminal: standard input or output is none\n")


def test_a_command_runs_there_and_its_code_comes_back(there: Path, server: JupyterServer) -> None:
    said = tunnel("terminal", "--", "echo $PWD; test -t 1 && echo in a terminal;", "exit 6")
    assert (said.returncode, said.stderr) == (6, "")
    assert said.stdout == f"{there}\nin a terminal\n"
    is_clean(server)


def test_a_command_has_the_keyboard_where_there_is_one(there: Path, server: JupyterServer) -> None:
    shell = type_in("terminal", "--", "echo", "ready;", "read line; echo got:$line:; sleep 1000")
    shell.expect("ready")
    shell.send("what is typed\r")
    shell.expect("got:what is typed:")
    shell.sendcontrol("c")
    assert exit_code(shell) == 130
    is_clean(server)


def test_a_command_ends_with_whoever_began_it(there: Path, server: JupyterServer) -> None:
    command = [*CLI, "terminal", "--", "echo ready; exec sleep 1000"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\r\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    is_clean(server)


def test_no_token_is_among_what_other_people_see(shell: pexpect.spawn) -> None:
    assert TOKEN not in Path(f"/proc/{shell.pid}/cmdline").read_text()


def test_the_private_server_has_terminals_in_which_ctrl_c_works() -> None:
    assert tunnel("local").returncode == 0
    shell = type_in("terminal", env={"SHELL": "/bin/bash"})
    shell.expect(r"[$#] ")
    ask(shell, "echo ready; sleep 1000", r"(ready)\r\n")
    shell.sendcontrol("c")
    assert ask(shell, "echo code=$?.", r"code=(\d+)\.") == "130"
    shell.send("exit 0\r")
    assert exit_code(shell) == 0


# --- the other verbs ---------------------------------------------------------------------------------------


def test_put_ls_and_get(there: Path, tmp_path: Path) -> None:
    harness.write(tmp_path / "here/note.txt", "hello")
    put = tunnel("put", "note.txt", "sub/", cwd=tmp_path / "here")
    assert put.returncode == 0, put.stderr
    assert put.stdout.startswith(f"note.txt → {there}/sub/note.txt: 5 B in ")
    assert put.stdout.count("\n") == 1  # no bar where it cannot be drawn over
    listed = tunnel("ls", "sub")
    [line] = listed.stdout.splitlines()
    assert line.startswith("-rw-r--r--  5 B  ")
    assert line.endswith("  note.txt")
    assert tunnel("ls").stdout.splitlines()[0].endswith("  sub/")
    assert tunnel("get", "sub/note.txt", "back.txt", cwd=tmp_path).returncode == 0
    assert (tmp_path / "back.txt").read_text() == "hello"


def test_a_bar_is_drawn_in_a_terminal(there: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(9_000_000))
    putting = type_in("put", str(tmp_path / "data"))
    putting.expect("data  ▕█+.*▏  .* of 9.0 MB")
    assert exit_code(putting) == 0


def test_load_is_shown_once_where_nothing_can_be_drawn_over(there: Path) -> None:
    shown = tunnel("gpu").stdout
    assert shown.startswith("● gpu\n")
    assert "Main memory  ▕" in shown


def test_load_is_live_in_a_terminal_until_it_is_interrupted(there: Path) -> None:
    shown = type_in("gpu")
    shown.expect("Main memory")
    # Drawn over only when a figure has changed, so the second sight may never come.
    shown.sendcontrol("c")
    assert exit_code(shown) == 0


def test_edit_brings_back_what_was_changed(there: Path) -> None:
    config = harness.write(there / "config.yaml", "lr: 0.1\n")
    config.chmod(0o640)
    edited = type_in("edit", "config.yaml", env={"VISUAL": "sed -i s/0.1/0.01/"})
    edited.expect("config.yaml: changed")
    assert exit_code(edited) == 0
    assert config.read_text() == "lr: 0.01\n"
    assert config.stat().st_mode & 0o777 == 0o640


def test_edit_does_not_overwrite_what_was_changed_there_meanwhile(there: Path, tmp_path: Path) -> None:
    config = harness.write(there / "config.yaml", "lr: 0.1\n")
    editor = harness.write(tmp_path / "editor", f"echo lr: 0.2 >$1; echo lr: 0.01 >{config}")
    edited = type_in("edit", "config.yaml", env={"VISUAL": f"sh {editor}"})
    edited.expect(r"was changed there meanwhile, and was left as it is. Your text is (\S+)")
    assert exit_code(edited) == 1
    assert config.read_text() == "lr: 0.01\n"


def test_edit_begins_a_file_that_is_not_there(there: Path) -> None:
    edited = type_in("edit", "new.txt", env={"EDITOR": "cp /etc/hostname", "VISUAL": ""})
    edited.expect("new.txt: changed")
    assert exit_code(edited) == 0
    assert (there / "new.txt").read_text() == Path("/etc/hostname").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["put"], "put needs what to bring"),
        (["get", "nothing"], "nothing: No such file or directory"),
        (["put", "nothing"], "there is no "),
        (["ls", "nothing"], "nothing: No such file or directory"),
        (["gpu", "2"], "gpu does not know what '2' is for"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(there: Path, words: list[str], sentence: str) -> None:
    said = tunnel(*words)
    assert said.returncode in (1, 2)
    [line] = said.stderr.splitlines()
    assert sentence in line
    assert TOKEN not in line
