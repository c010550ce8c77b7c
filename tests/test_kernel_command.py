"""`python -m colab_kernel`: as processes, against real servers; what is shown, and what never is."""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import jupyter_servers
import psutil
import pytest
from jupyter_servers import JupyterServer, jupyter_server

from colab_kernel import __main__ as command
from colab_kernel import sessions
from colab_kernel.errors import RemoteError
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace, TokenSource

TOKEN = jupyter_servers.TOKEN
WRONG = "wr0ng-t0k-77aa"
NOBODY = "http://127.0.0.1:1"
"""Refuses at once: what needs no server is registered with it, as a runtime that is down."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "runtime" / "colab-runtimes.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server"), base_path="/user/ada") as running:
        yield running


def run(*words: object, typed: str = "", env: dict[str, str] | None = None) -> Said:
    """Run the command to its end. No token is ever shown, except where one is part of a path."""
    done = subprocess.run(
        [sys.executable, "-m", "colab_kernel", *map(str, words)],
        input=typed,
        env={**os.environ, "PYTHONPATH": str(harness.ROOT / "kernel"), **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    for secret in (TOKEN, WRONG):
        assert secret not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


# --- connect ---------------------------------------------------------------------------------------------


def test_a_server_is_registered_and_answers(server: JupyterServer) -> None:
    said = run("connect", server.url, "--token", "stdin", typed=f"{TOKEN}\n")
    name = f"127.0.0.1-{server.port}"
    assert (said.code, said.out) == (0, f"{name}\n")
    registered = f"{name} ({server.url}) is registered, and is the current runtime. "
    assert re.fullmatch(re.escape(registered) + r"Jupyter Server [\d.]+ answers\.\n", said.err)
    assert sessions.load().get(None) == Runtime(name=name, url=server.url, token=TokenSource(value=TOKEN))


@pytest.mark.parametrize("page", ["/lab", "/tree", "/lab/tree/a/b.ipynb", "/notebooks/a.ipynb", "/", ""])
def test_a_browsers_address_is_taken_as_it_is(server: JupyterServer, page: str) -> None:
    said = run("connect", f"{server.url}{page}?reset&token={TOKEN}#x", "--name", "gpu")
    assert (said.code, said.out) == (0, "gpu\n")
    hint, told = said.err.splitlines()
    assert hint.startswith("hint: others on this machine can see")
    assert told.endswith("answers.")
    assert sessions.load().get("gpu").url == server.url


def test_a_wrong_token_registers_nothing_unless_forced(server: JupyterServer, registry: Path) -> None:
    said = run("connect", server.url, "--token", WRONG, "--name", "gpu")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1].endswith("nothing was registered (--force does it all the same)")
    assert not registry.exists()
    said = run("connect", server.url, "--token", WRONG, "--name", "gpu", "--force")
    assert (said.code, said.out) == (0, "gpu\n")
    assert "It would not work now: " in said.err


def test_what_is_refused_leaves_the_entry_that_was_there(server: JupyterServer, registry: Path) -> None:
    run("connect", server.url, "--token", "stdin", "--name", "gpu", typed=TOKEN)
    before = registry.read_bytes()
    assert run("connect", server.url, "--token", "stdin", "--name", "gpu", typed=WRONG).code == 1
    assert registry.read_bytes() == before


def test_a_server_that_is_down_is_registered_with_a_line_about_it() -> None:
    said = run("connect", NOBODY)
    assert (said.code, said.out) == (0, "127.0.0.1-1\n")
    assert "is registered, and is the current runtime. It was not reached: " in said.err
    assert len(said.err.splitlines()) == 1


def test_a_kernel_that_it_does_not_have_is_told(server: JupyterServer) -> None:
    said = run("connect", server.url, "--token", "stdin", "--kernel", "julia", typed=TOKEN)
    assert said.code == 0
    # Beside what else is installed where this server runs.
    assert re.search(r"It answers, and has no kernel 'julia'; it has (.+, )?python3\b", said.err)


def test_every_option_lands_in_the_entry(tmp_path: Path) -> None:
    said = run(
        *("connect", f"{NOBODY}/base/", "--name", "gpu", "--token", "env:MY_TOKEN", "--auth", "colab"),
        *("--token-in", "query", "--header", "X-A=b=c", "--header", "X-D=", "--kernel", "python3"),
        *("--local-root", tmp_path, "--remote-root", "/content/p", "--max-message-mib", "20"),
        env={"MY_TOKEN": TOKEN},
    )
    assert said.code == 0
    assert sessions.load().get("gpu") == Runtime(
        name="gpu",
        url=f"{NOBODY}/base",
        token=TokenSource(env="MY_TOKEN"),
        auth=AuthScheme.COLAB,
        token_in=TokenPlace.QUERY,
        headers={"X-A": "b=c", "X-D": ""},
        kernel_name="python3",
        local_root=str(tmp_path),
        remote_root="/content/p",
        max_message_bytes=20 * 1024 * 1024,
    )


def test_colabs_own_token_brings_its_scheme() -> None:
    assert (
        run("connect", f"{NOBODY}/?authuser=0&colab-runtime-proxy-token={TOKEN}", "--name", "gpu").code == 0
    )
    found = sessions.load().get("gpu")
    assert (found.auth, found.token, found.url) == (AuthScheme.COLAB, TokenSource(value=TOKEN), NOBODY)


def test_each_way_to_a_token(tmp_path: Path) -> None:
    plain = harness.write(tmp_path / "token", f"{TOKEN}\n")
    nested = harness.write(tmp_path / "sessions.json", json.dumps({"a": {"token": TOKEN}}))
    ways = {
        "env": TokenSource(env="COLAB_RUNTIME_TOKEN"),
        "env:OTHER": TokenSource(env="OTHER"),
        f"file:{plain}": TokenSource(file=str(plain)),
        f"file:{nested}#a.token": TokenSource(file=str(nested), key=("a", "token")),
        "stdin": TokenSource(value=TOKEN),
    }
    for way, source in ways.items():
        variables = {"COLAB_RUNTIME_TOKEN": TOKEN, "OTHER": TOKEN}
        said = run("connect", NOBODY, "--name", "gpu", "--token", way, typed=f"{TOKEN}\nmore", env=variables)
        assert (said.code, len(said.err.splitlines())) == (0, 1)
        found = sessions.load().get("gpu").token
        assert found == source
        if source.env is None:
            assert sessions.read_token(found) == TOKEN


def test_a_token_that_cannot_be_read_registers_nothing(tmp_path: Path, registry: Path) -> None:
    for way, told in (
        ("env:NOT_SET", "NOT_SET: the variable is not set"),
        (f"file:{tmp_path}/none", f"{tmp_path}/none: it cannot be read"),
        ("stdin", "token.value is no printable text, or empty"),
        (f"{WRONG} {WRONG}", "token.value has a space"),
    ):
        said = run("connect", NOBODY, "--token", way)
        assert said.code == 1
        assert told in said.err
    assert not registry.exists()


def test_a_token_is_asked_for_in_a_terminal_and_not_echoed() -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "colab_kernel", "connect", NOBODY, "--name", "gpu", "--token", "stdin"],
        env={**os.environ, "PYTHONPATH": str(harness.ROOT / "kernel")},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        while b"Token: " not in seen:
            seen += os.read(ours, 1000)
        os.write(ours, f"{TOKEN}\n".encode())
        while b"is registered" not in seen:
            seen += os.read(ours, 1000)
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert TOKEN.encode() not in seen
    assert sessions.load().get("gpu").token == TokenSource(value=TOKEN)


def test_names_are_derived_and_kept() -> None:
    def name(url: str, *words: str) -> str:
        return run("connect", url, *words).out.strip()

    assert name(f"{NOBODY}/user/ada") == "127.0.0.1-1"
    assert name(f"{NOBODY}/user/bob") == "127.0.0.1-1-2"
    assert name(f"{NOBODY}/user/ada") == "127.0.0.1-1"
    assert name(f"{NOBODY}/user/eve", "--name", "eve") == "eve"
    assert name(f"{NOBODY}/user/eve/lab") == "eve"
    assert name("http://[::1]:1") == "1-1"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["connect"], "required: URL"),
        (["connect", "localhost:8888"], "URL is no address"),
        (["connect", f"http://[{WRONG}?token={WRONG}"], "URL is no address"),
        (["connect", NOBODY, "--header", WRONG], "--header wants KEY=VALUE"),
        (["connect", f"{NOBODY}?token={WRONG}", "--token", WRONG], "--token gives another"),
        (["connect", NOBODY, "--auth", WRONG], "argument --auth: invalid choice;"),
        (["connect", NOBODY, "--max-message-mib", WRONG], "argument --max-message-mib: invalid int value;"),
        (["connect", NOBODY, f"--tokn={WRONG}", "--no", WRONG], "not understood: --tokn, --no;"),
        (["connect", NOBODY, WRONG], "not understood: more words"),
        (["list", f"--json={WRONG}"], "argument --json: ignored explicit argument;"),
        ([f"{NOBODY}?token={WRONG}"], "argument COMMAND: invalid choice;"),
        (["--tokn", "list"], "not understood: --tokn"),
        (["-f", "c.json", "--nonsense"], "not understood: --nonsense"),
        (["--runtime", "gpu"], "say either -f"),
        (["install", "--user", "--prefix", "x"], "not allowed with argument --user"),
        ([], "say either -f CONNECTION_FILE or one of the commands"),
    ],
)
def test_what_is_not_understood_is_one_line_and_ends_with_2(
    words: list[str], told: str, registry: Path
) -> None:
    said = run(*words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert len(said.err.splitlines()) == 1
    assert not registry.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--name", "a/b"], "runtime 'a/b' cannot be registered: a name is"),
        (["--header", f"Cookie={WRONG}"], "headers: Cookie is a secret"),
        (["--header", f"X-A={WRONG}\n"], "headers: X-A is no printable"),
        (["--local-root", "."], "both of them or neither"),
        (["--local-root", ".", "--remote-root", "content"], "both of them or neither"),
        (["--max-message-mib", "0"], "max_message_bytes is no whole number above 0"),
    ],
)
def test_what_could_not_be_read_again_is_refused(words: list[str], told: str, registry: Path) -> None:
    said = run("connect", NOBODY, *words)
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
    assert told in said.err
    assert not registry.exists()


def test_a_corrupt_registry_ends_every_command_and_stays(registry: Path) -> None:
    registry.parent.mkdir()
    registry.write_text(f'{{"version": 1, "token": "{TOKEN}"', encoding="utf-8")
    registry.chmod(0o600)
    before = registry.read_bytes()
    for words in (["connect", NOBODY], ["list"], ["list", "--json"], ["use", "a"], ["forget", "a"]):
        said = run(*words)
        assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
        assert f"{registry} was not used" in said.err
    assert registry.read_bytes() == before


def test_no_process_is_started_that_could_show_a_token(
    server: JupyterServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    before = psutil.Process().children()
    assert command.main(["connect", f"{server.url}?token={TOKEN}"]) == 0
    assert psutil.Process().children() == before
    assert TOKEN not in "".join(capsys.readouterr())


def test_another_refusal_registers_nothing(monkeypatch: pytest.MonkeyPatch, registry: Path) -> None:
    class Server:
        def __init__(self, runtime: Runtime, *, read_token: object) -> None: ...

        def probe(self) -> None:
            raise RemoteError("this is no Jupyter Server")

    monkeypatch.setattr("colab_kernel.rest.Server", Server)
    assert command.main(["connect", NOBODY]) == 1
    assert not registry.exists()


# --- list, use, forget -----------------------------------------------------------------------------------


@pytest.fixture
def three() -> None:
    """Three runtimes; `here` is the current one."""
    sessions.save_runtime(Runtime(name="a", url="http://a.example.org", token=TokenSource(value=TOKEN)))
    sessions.save_runtime(
        Runtime(
            name="official",
            url="https://o.example.org",
            token=TokenSource(file="~/s.json", key=("a", "token")),
            headers={"X-A": TOKEN},
        )
    )
    sessions.save_runtime(Runtime(name="here", url="http://h", token=TokenSource(env="T")))


@pytest.mark.usefixtures("three")
def test_list_shows_how_a_token_is_read_and_never_the_token() -> None:
    sessions.save_runtime(Runtime(name="open", url="http://o"), make_current=False)
    assert run("list").out == (
        "   NAME      URL                    TOKEN\n"
        "   a         http://a.example.org   in the registry\n"
        "   official  https://o.example.org  file:~/s.json#a.token\n"
        "*  here      http://h               env:T\n"
        "   open      http://o               none\n"
    )


@pytest.mark.usefixtures("three")
def test_list_is_json_for_programs() -> None:
    rows = json.loads(run("list", "--json").out)
    assert [(row["name"], row["current"]) for row in rows] == [
        ("a", False),
        ("official", False),
        ("here", True),
    ]
    assert rows[1] == {
        "name": "official",
        "current": False,
        "url": "https://o.example.org",
        "token": "file:~/s.json#a.token",
        "auth": "jupyter",
        "token_in": "header",
        "headers": ["X-A"],
        "kernel_name": "",
        "local_root": None,
        "remote_root": None,
        "max_message_bytes": 10485760,
        "gone_after_s": 60.0,
    }


def test_an_empty_list_says_what_to_type() -> None:
    said = run("list")
    assert (said.code, said.out) == (0, "")
    assert "`python -m colab_kernel connect URL` registers one" in said.err
    assert run("list", "--json").out == "[]\n"


@pytest.mark.usefixtures("three")
def test_use_and_forget_take_names_that_are_there() -> None:
    assert run("use", "a") == Said(0, "", "a is the current runtime.\n")
    assert sessions.load().current == "a"
    assert run("forget", "a") == Said(0, "", "a is forgotten.\n")
    assert sessions.load().current is None
    for verb in ("use", "forget"):
        said = run(verb, "a")
        assert (said.code, said.out) == (1, "")
        assert "there is no runtime 'a'; there are official, here: " in said.err


@pytest.mark.usefixtures("three")
def test_a_reader_that_leaves_early_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT / "kernel")}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "colab_kernel", "list"],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# --- install, uninstall ----------------------------------------------------------------------------------


def test_a_kernelspec_is_written_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "data/kernels/colab-a100"
    said = run("install", "--user", "--name", "colab-a100", "--display-name", "A100", "--runtime", "a100")
    assert (said.code, said.out) == (0, f"{folder}\n")
    kernelspec = json.loads((folder / "kernel.json").read_bytes())
    assert kernelspec["argv"][1:] == ["-m", "colab_kernel", "-f", "{connection_file}", "--runtime", "a100"]
    assert kernelspec["display_name"] == "A100"
    assert run("uninstall", "colab-a100").out == f"{folder}\n"
    assert not folder.exists()
    said = run("uninstall", "colab-a100")
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)
    said = run("install", "--name", "python3")
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)


def test_sys_prefix_is_this_pythons_environment() -> None:
    parser = command.make_parser()
    assert parser.parse_args(["install", "--sys-prefix"]).prefix == sys.prefix
    assert parser.parse_args(["install"]).prefix is None
    assert parser.parse_args(["uninstall", "x", "--prefix", "/p"]).prefix == "/p"


# --- the kernel ------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for the kernel; returns what it is called with."""
    called: list[tuple[Any, ...]] = []

    def main(connection_file: Path, *, runtime_name: str | None) -> int:
        called.append((connection_file, runtime_name))
        return 7

    stand_in = types.ModuleType("colab_kernel.app")
    stand_in.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colab_kernel.app", stand_in)
    monkeypatch.setattr("colab_kernel.app", stand_in, raising=False)
    return called


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "c d.json"],
        ["-fc d.json"],
        ["--f=c d.json"],
        ["--connection-file=c d.json"],
        ["--connection-file", "c d.json"],
        ["-f", "c d.json", "--HistoryManager.hist_file=:memory:", "--IPKernelApp.parent_appname=x"],
        ["-f", "c d.json", "a file that jupyter run runs.py", "list"],
    ],
)
def test_the_kernel_is_run_as_kernelspecs_say(kernel: list[tuple[Any, ...]], words: list[str]) -> None:
    assert command.main(words) == 7
    assert command.main([*words, "--runtime", "gpu"]) == 7
    assert kernel == [(Path("c d.json"), None), (Path("c d.json"), "gpu")]


def test_an_interrupt_ends_with_130(
    kernel: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("colab_kernel.app.main", interrupt)
    assert command.main(["-f", "c.json"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_nothing_slow_is_imported_before_the_kernel(tmp_path: Path) -> None:
    """A frontend waits for the sockets."""
    program = (
        "import sys, types\n"
        "app = types.ModuleType('colab_kernel.app')\n"
        "app.main = lambda file, *, runtime_name: print(*sorted(sys.modules), sep='\\n') or 0\n"
        "sys.modules['colab_kernel.app'] = app\n"
        "from colab_kernel.__main__ import main\n"
        "sys.exit(main(['-f', 'c.json']))\n"
    )
    environment = {"PYTHONPATH": str(harness.ROOT / "kernel")}
    loaded = set(
        harness.run([sys.executable, "-S", "-c", program], cwd=tmp_path, env=environment).stdout.split()
    )
    slow = {
        "zmq",
        "asyncio",
        "jupyter_client",
        "jupyter_core",
        "psutil",
        "traitlets",
        "urllib.request",
        "ssl",
    }
    assert loaded & slow == set()
    assert {name for name in loaded if name.startswith("colab_kernel")} == {
        "colab_kernel",
        "colab_kernel.__main__",
        "colab_kernel.app",
        "colab_kernel.errors",
    }


# --- its page --------------------------------------------------------------------------------------------


def test_every_command_and_option_is_on_its_page_in_the_same_words() -> None:
    page = (harness.ROOT / "docs/reference/runtimes.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(.*)` \| (.*) \|$", page, re.MULTILINE))
    wanted = set()
    [commands] = [
        each for each in command.make_parser()._actions if isinstance(each, argparse._SubParsersAction)
    ]
    for choice in commands._choices_actions:
        actions = commands.choices[choice.dest]._actions
        places = [str(each.metavar) for each in actions if not each.option_strings]
        wanted.add((" ".join([choice.dest, *places]), choice.help))
        for action in actions:
            if not action.option_strings or action.dest == "help":
                continue
            value = action.metavar or (action.choices and f"{{{','.join(action.choices)}}}")
            words = [choice.dest, action.option_strings[0], *([str(value)] if value else [])]
            wanted.add((" ".join(words), action.help))
    assert wanted == {row for row in rows if row[0].split()[0] in commands.choices}
