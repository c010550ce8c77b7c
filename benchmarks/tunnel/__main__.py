"""`python -m benchmarks.tunnel`: how soon a session is open, how fast files cross, how late an echo is."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks.queue import report
from benchmarks.queue.report import Row
from benchmarks.queue.stage import ROOT, stage

sys.path.insert(0, str(ROOT / "tests"))  # a real sshd, and a network that is slow

from harness import SESSION_MARK

from colab_kernel import sessions
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.tunnel import files, session
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.plan import Plan
from colab_magics.tunnel.server_facts import PROGRAM, parse_facts
from colab_magics.tunnel.targets import parse_target
from colab_magics.tunnel.terminal_line import TerminalLine

PAGE = ROOT / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- benchmarks.tunnel writes from here -->"
OPEN_GOAL_S, FILE_GOAL, KEY_GOAL, KEY_MORE_S = 1.5, 1.3, 1.2, 0.005
DELAY_S = 0.025
KEYS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; a goal that is missed is a line of the table, not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=1024, help="the size of the file; 1024 by default")
    parser.add_argument("--quick", action="store_true", help="only see that everything still runs")
    parser.add_argument("--into", nargs="?", type=Path, const=PAGE, metavar="PAGE")
    arguments = parser.parse_args(argv)
    rounds, megabytes = (1, 8) if arguments.quick else (arguments.rounds, arguments.megabytes)
    with stage() as folder, _private_server(folder) as runtime:
        rows = [_opening(runtime, rounds=rounds), *_keys(runtime)]
        rows += _files(runtime, folder, megabytes=megabytes, rounds=rounds)
    table = report.render(rows, rounds=f"{rounds} rounds in turns, medians.", programs=_versions())
    print(table)
    if arguments.into:
        report.write(arguments.into, table, begin=BEGIN)
    return 0


@contextlib.contextmanager
def _private_server(folder: Path) -> Iterator[Runtime]:
    os.environ[SESSION_MARK] = "benchmarks.tunnel"
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    os.environ["JUPYTER_RUNTIME_DIR"] = str(folder / "runtime")
    os.environ["JUPYTER_DATA_DIR"] = str(folder / "data")
    command = [sys.executable, str(PROGRAM)]
    opened = subprocess.run(
        [*command, "open", "--root", str(folder)], capture_output=True, text=True, check=False
    )
    try:
        yield parse_facts(opened.stdout, where="this machine").runtime("bench")
    finally:
        subprocess.run([*command, "close"], capture_output=True, check=False)


def _opening(runtime: Runtime, *, rounds: int) -> Row:
    """A session with a server that runs, beside a kernel's start until it has answered."""
    target = parse_target(f"{runtime.url}/?token={runtime.token.value}")
    more, whole = [], []
    for _ in range(rounds):
        began = time.monotonic()
        with Hand.open(runtime, bare=True) as hand:
            hand.run("1")
            kernel_s = time.monotonic() - began
        began = time.monotonic()
        opened = session.open_session(target, Plan(name="timed"))
        whole.append(time.monotonic() - began)
        more.append(whole[-1] - kernel_s)
        session.close_session(opened.reached)
    measured = f"{median(more):.2f} s beyond the kernel's own start ({median(whole):.2f} s in all)"
    is_met = median(more) <= OPEN_GOAL_S
    return Row("open a session to a running server", "on loopback", measured, f"≤ {OPEN_GOAL_S} s", is_met)


def _keys(runtime: Runtime) -> list[Row]:
    """From a key to its echo, over a link that takes 50 ms there and back, and over none."""
    from tcp_proxies import TcpProxy

    rows = []
    port = int(runtime.url.rpartition(":")[2])
    for delay_s in (0.0, DELAY_S):
        with TcpProxy(port, delay_s=delay_s) as network:
            near = Runtime(name="far", url=f"http://127.0.0.1:{network.port}", token=TokenSource())
            echoes = _echoes(runtime, near)
        goal_s = KEY_GOAL * 2 * delay_s + KEY_MORE_S
        where = f"a link of {2000 * delay_s:.0f} ms" if delay_s else "on loopback"
        measured = f"{1000 * median(echoes):.1f} ms, the slowest {1000 * max(echoes):.1f} ms"
        rows.append(
            Row(
                "a key in the terminal → its echo", where, measured, f"≤ {1000 * goal_s:.0f} ms",
                median(echoes) <= goal_s,
            )
        )  # fmt: skip
    return rows


def _echoes(runtime: Runtime, through: Runtime) -> list[float]:
    server = Server(
        Runtime(name="far", url=through.url, token=runtime.token),
        read_token=lambda: sessions.read_token(runtime.token),
    )
    name = server.start_terminal()
    line = TerminalLine.open(through, server, name)
    try:
        line.send("stdin", "exec cat\r")
        _until(line, "")
        while _until(line, None):
            pass
        taken = []
        for at in range(KEYS):
            key = chr(ord("a") + at % 26)
            began = time.monotonic()
            line.send("stdin", key)
            _until(line, key)
            taken.append(time.monotonic() - began)
        return taken
    finally:
        line.close()
        server.delete_terminal(name)


def _until(line: TerminalLine, wanted: str | None) -> bool:
    """Read until the terminal says that; None: for half a second, whatever it says."""
    import select

    deadline = time.monotonic() + (0.5 if wanted is None else 30)
    while (left := deadline - time.monotonic()) > 0:
        select.select([line], [], [], 0 if line.has_early else left)
        said = [str(message[1]) for message in line.receive() if message[0] == "stdout"]
        if any(wanted is None or wanted in text for text in said):
            return True
    return False


def _files(runtime: Runtime, folder: Path, *, megabytes: int, rounds: int) -> list[Row]:
    """`put` and `get`, beside scp to a sshd here: a new connection each time, as a person has it."""
    from ssh_server import HOST, SshMachine, what_is_missing

    size_bytes = megabytes << 20
    here, there, back = folder / "here", folder / "there", folder / "back"
    with here.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    taken: dict[str, list[float]] = {"put": [], "get": [], "scp there": [], "scp back": []}
    with contextlib.ExitStack() as peers:
        machine = None if what_is_missing() else peers.enter_context(SshMachine(folder / "ssh"))
        for _ in range(rounds):
            for name in taken:
                source, target = (here, there) if name in ("put", "scp there") else (there, back)
                target.unlink(missing_ok=True)
                began = time.monotonic()
                if name == "put":
                    files.put(runtime, source, str(target), watch=lambda progress: None)
                elif name == "get":
                    files.get(runtime, str(source), target, watch=lambda progress: None)
                elif machine is None:
                    continue
                else:
                    ends = (
                        (source, f"{HOST}:{target}") if name == "scp there" else (f"{HOST}:{source}", target)
                    )
                    subprocess.run(["scp", "-O", "-q", "-F", machine.config, *ends], check=True)
                taken[name].append(time.monotonic() - began)
    rows = []
    for name, peer in (("put", "scp there"), ("get", "scp back")):
        rate = size_bytes / 1e6 / median(taken[name])
        measured = f"{median(taken[name]):.1f} s, {rate:.0f} MB/s"
        is_met = None
        if taken[peer]:
            ratio = median(a / b for a, b in zip(taken[name], taken[peer], strict=True))
            measured += f", **{ratio:.2f}×** scp's {median(taken[peer]):.1f} s"
            is_met = ratio <= FILE_GOAL
        rows.append(
            Row(f"`{name}` {megabytes} MiB, its helper kernel's start included", "on loopback", measured,
                f"≤ {FILE_GOAL}×", is_met)
        )  # fmt: skip
    return rows


def _versions() -> str:
    from importlib.metadata import version

    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.split(",")[0]
    return f"jupyter_server {version('jupyter_server')}, ipykernel {version('ipykernel')}, {ssh}"


if __name__ == "__main__":
    sys.exit(main())
