"""The ways from a client to a kernel. Each has a kernel of its own, all on this machine, over loopback."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.kernel.clients import Conversation, LibraryClient, WebsocketClient, ZmqClient
from benchmarks.queue.stage import ROOT
from colab_kernel.connection_file import ConnectionFile

READY_S = 60.0

NO_PINGS = ("--ZMQChannelsWebsocketConnection.websocket_ping_interval=0",)
"""A way whose turn it is not reads nothing, and a server gives up after 90 s whoever answers no ping."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way that is open.

    Attributes:
        name: what it is called in the table.
        talk: the client at this end.
        relay: the process in between that is ours; None if there is none.
    """

    name: str
    talk: Conversation
    relay: psutil.Process | None = None


DIRECT = "direct"
WEBSOCKET = "the websocket"
PROXY = "**the proxy kernel**"
GATEWAY = "Jupyter's gateway client"
LIBRARY = "jupyter-kernel-client"
PROVISIONER = "jupyter-kernel-provisioner-proxy"
PEERS = (GATEWAY, LIBRARY, PROVISIONER)


@contextmanager
def open_ways(folder: Path) -> Iterator[tuple[list[Way], dict[str, str]]]:
    """Open every way that can be opened, and name the others, each with what went wrong."""
    ways: list[Way] = []
    failed: dict[str, str] = {}
    with _tests_importable(), ExitStack() as ends:
        import jupyter_servers

        server = ends.enter_context(
            jupyter_servers.jupyter_server(folder / "server", options=(*jupyter_servers.UNLIMITED, *NO_PINGS))
        )
        openers: dict[str, Callable[[ExitStack, Path], Way]] = {
            DIRECT: _direct,
            WEBSOCKET: lambda ends, folder: _websocket(WEBSOCKET, ends, server),
            PROXY: lambda ends, folder: _proxy(ends, folder, server),
            GATEWAY: lambda ends, folder: _gateway(ends, folder, server, jupyter_servers),
            LIBRARY: lambda ends, folder: _library(ends, server),
            PROVISIONER: lambda ends, folder: _provisioner(ends, folder, server),
        }
        for number, (name, opener) in enumerate(openers.items()):
            at = folder / f"way{number}"
            at.mkdir()
            try:
                way = opener(ends, at)
                way.talk.run("pass")
            except Exception as error:  # whatever it is: the others are measured
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            else:
                ways.append(way)
        yield ways, failed


def _direct(ends: ExitStack, folder: Path) -> Way:
    from jupyter_client import KernelManager

    manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
    manager.start_kernel(cwd=str(folder))
    ends.callback(manager.shutdown_kernel, now=True)
    return Way(DIRECT, _on_zmq(ends, folder / "kernel.json"))


def _websocket(name: str, ends: ExitStack, server: Any, *, newest: bool = True) -> Way:
    client = WebsocketClient(server.url, token=server.token, kernel_id=server.start_kernel(), newest=newest)
    ends.callback(client.close)
    return Way(name, Conversation(client))


def _proxy(ends: ExitStack, folder: Path, server: Any) -> Way:
    from jupyter_client.connect import write_connection_file

    runtime_dir = folder / "runtime"
    runtime_dir.mkdir(mode=0o700)
    env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime_dir)}
    command = [sys.executable, "-m", "colab_kernel"]
    subprocess.run(
        [*command, "connect", server.url, "--token", server.token], env=env, check=True, capture_output=True
    )
    write_connection_file(str(folder / "kernel.json"), key=b"a key of the benchmark")
    process = ends.enter_context(
        _process([*command, "-f", str(folder / "kernel.json")], folder=folder, env=env)
    )
    return Way(PROXY, _on_zmq(ends, folder / "kernel.json"), relay=psutil.Process(process.pid))


def _gateway(ends: ExitStack, folder: Path, server: Any, jupyter_servers: Any) -> Way:
    options = (f"--gateway-url={server.url}", f"--GatewayClient.auth_token={server.token}", *NO_PINGS)
    near = ends.enter_context(jupyter_servers.jupyter_server(folder, options=options))
    return _websocket(GATEWAY, ends, near, newest=False)


def _library(ends: ExitStack, server: Any) -> Way:
    client = LibraryClient(server.url, token=server.token, kernel_id=server.start_kernel())
    ends.callback(client.close)
    return Way(LIBRARY, Conversation(client))


def _provisioner(ends: ExitStack, folder: Path, server: Any) -> Way:
    import jupyter_kernel_provisioner_proxy  # noqa: F401

    spec = folder / "kernels" / "far" / "kernel.json"
    spec.parent.mkdir(parents=True)
    config = {"kernel_url": server.url, "kernel_name": "python3"}
    provisioner = {"provisioner_name": "jupyter-kernel-provisioner-proxy", "config": config}
    spec.write_text(
        json.dumps(
            {
                "argv": [],
                "display_name": "far",
                "language": "python",
                "metadata": {"kernel_provisioner": provisioner},
            }
        )
    )
    env = {**os.environ, "JUPYTER_PATH": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-m", "benchmarks.kernel.provisioner_host", "far", server.token]
    process = ends.enter_context(_process(command, folder=folder, env=env))
    assert process.stdout is not None
    connection_file = process.stdout.readline().strip()
    if not connection_file:
        raise RuntimeError((folder / "stderr").read_text().strip().splitlines()[-1])
    return Way(PROVISIONER, _on_zmq(ends, Path(connection_file)))


def _on_zmq(ends: ExitStack, connection_file: Path) -> Conversation:
    """Connect, and ask until an answer and something published have come, as frontends do."""
    client = ZmqClient(ConnectionFile.read(connection_file))
    ends.callback(client.close)
    for _ in range(round(READY_S)):
        client.send("shell", "kernel_info_request", {})
        with contextlib.suppress(TimeoutError):
            client.receive("iopub", patience_s=1)
            client.receive("shell", patience_s=READY_S)
            return Conversation(client)
    raise TimeoutError(f"no answer within {READY_S:g} s")


@contextmanager
def _process(command: list[str], *, folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block; what it says on stderr is in `folder`."""
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    pipes: tuple[IO[str] | None, ...] = (process.stdin, process.stdout)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in pipes:
            if pipe is not None:
                pipe.close()


@contextmanager
def _tests_importable() -> Iterator[None]:
    """The servers are those of the tests (tests/jupyter_servers.py)."""
    sys.path.append(str(ROOT / "tests"))
    try:
        yield
    finally:
        sys.path.remove(str(ROOT / "tests"))
