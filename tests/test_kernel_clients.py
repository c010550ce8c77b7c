"""The clients that people have, by the kernelspec that the package brings, and a real Jupyter Server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
import jupyter_servers
import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import AsyncKernelManager, KernelManager
from jupyter_servers import JupyterServer, jupyter_server
from kernel_client import Frontend
from nbclient import NotebookClient
from proxy_process import proxy_process
from tcp_proxies import TcpProxy

NAME = "colab"
PATIENCE_S = 60

CELLS = (
    "import sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)",
    "from IPython.display import HTML, Image, clear_output, display, update_display\n6 * 7",
    "display(HTML('<b>bold</b>'), {'a': [1, None]})",
    "display('first', display_id='one')\nupdate_display('second', display_id='one')",
    "print('gone')\nclear_output()\nprint('stays')",
    "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]);",
    "%%bash\necho from a shell",
    "'x' * 1_000_000",
    "1 / 0",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture(autouse=True)
def runtime_dir(server: JupyterServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The server is this person's runtime. Whatever a client started over there, it ended as well."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    connect(server.url, name="first")
    yield tmp_path / "runtime"
    harness.wait_until(lambda: not server.kernel_ids(), what="the remote kernels to be gone")


def connect(url: str, *, name: str, token: str = jupyter_servers.TOKEN) -> None:
    """Have a runtime, the current one from now on."""
    harness.run([sys.executable, "-m", "colab_kernel", "connect", url, "--name", name, "--token", token])


def jupyter(*words: str | Path, typed: str = "") -> str:
    """Run one of Jupyter's own commands to its end; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", *map(str, words)],
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


# --- a notebook without a face -----------------------------------------------------------------------------


def outputs(kernel_name: str, cells: Sequence[str]) -> list[Any]:
    client = NotebookClient(notebook(*cells), kernel_name=kernel_name, allow_errors=True, timeout=PATIENCE_S)
    done = client.execute()
    return [(cell.execution_count, cell.outputs) for cell in done.cells]


def test_nbclient_gets_the_outputs_that_a_local_kernel_gives() -> None:
    assert outputs(NAME, CELLS) == outputs("python3", CELLS)


def test_jupyter_execute_writes_the_notebook(tmp_path: Path) -> None:
    nbformat.write(notebook("import os\nos.getpid()"), tmp_path / "book.ipynb")
    jupyter("execute", tmp_path / "book.ipynb", f"--kernel_name={NAME}", "--inplace")
    [cell] = nbformat.read(tmp_path / "book.ipynb", as_version=4).cells
    assert cell.execution_count == 1
    assert int(cell.outputs[0]["data"]["text/plain"])


# --- a terminal --------------------------------------------------------------------------------------------


def test_jupyter_console_runs_what_is_typed() -> None:
    typed = "x = 40\nx + 2\nprint('asked:', input('name? '))\nAda\n1 / 0\nexit\n"
    said = jupyter("console", "--kernel", NAME, "--simple-prompt", typed=typed)
    assert "Out[2]: 42" in said
    assert "asked: Ada" in said
    assert "ZeroDivisionError" in said


def test_jupyter_run_runs_a_file(tmp_path: Path) -> None:
    script = harness.write(tmp_path / "script.py", "print(6 * 7)\n")
    assert jupyter("run", "--kernel", NAME, script) == "42\n"


# --- a program ---------------------------------------------------------------------------------------------


def test_an_async_manager_starts_interrupts_restarts_and_ends_it_in_its_patience(
    server: JupyterServer,
) -> None:
    async def life() -> None:
        manager = AsyncKernelManager(kernel_name=NAME)
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=PATIENCE_S)
            assert await run(client, "x = 6") == ("ok", "")
            sleeping = asyncio.create_task(
                run(client, "print('on', flush=True)\nimport time; time.sleep(600)")
            )
            while (await client.get_iopub_msg(timeout=PATIENCE_S))["msg_type"] != "stream":
                pass
            await manager.interrupt_kernel()
            assert await sleeping == ("error", "KeyboardInterrupt")
            assert await run(client, "assert x == 6") == ("ok", "")

            [before], first = server.kernel_ids(), manager.provisioner.process
            await manager.restart_kernel()
            await client.wait_for_ready(timeout=PATIENCE_S)
            assert await run(client, "x") == ("error", "NameError")
            assert first.returncode == 0
            [after] = server.kernel_ids()
            assert after != before

            second = manager.provisioner.process
            await manager.shutdown_kernel()
            assert second.returncode == 0
            assert server.kernel_ids() == []
        finally:
            client.stop_channels()
            if await manager.is_alive():
                await manager.shutdown_kernel(now=True)

    async def run(client: Any, code: str) -> tuple[str, str]:
        reply = await client.execute(code, reply=True, timeout=PATIENCE_S)
        return reply["content"]["status"], reply["content"].get("ename", "")

    asyncio.run(life())


def test_two_clients_of_one_kernel_see_the_same_output() -> None:
    manager = KernelManager(kernel_name=NAME)
    manager.start_kernel()
    clients = [BlockingKernelClient(connection_file=manager.connection_file) for _ in range(2)]
    try:
        for client in clients:
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=PATIENCE_S)
        ada, grace = clients
        for asking in (ada, grace):
            request = asking.execute("print('for both')\nx = 1")
            assert published(ada, request) == published(grace, request)
            assert asking.get_shell_msg(timeout=PATIENCE_S)["parent_header"]["msg_id"] == request
        assert not ada.shell_channel.msg_ready()
        assert not grace.shell_channel.msg_ready()
    finally:
        for client in clients:
            client.stop_channels()
        manager.shutdown_kernel()


def published(client: BlockingKernelClient, request: str) -> list[tuple[str, Any]]:
    """All that is published for a request, to its end."""
    heard: list[tuple[str, Any]] = []
    while ("status", {"execution_state": "idle"}) not in heard:
        message = client.get_iopub_msg(timeout=PATIENCE_S)
        if message["parent_header"].get("msg_id") == request:
            heard.append((message["msg_type"], message["content"]))
    assert ("stream", {"name": "stdout", "text": "for both\n"}) in heard
    return heard


def test_a_subshell_answers_while_a_cell_runs(tmp_path: Path) -> None:
    manager = KernelManager(kernel_name=NAME)
    manager.start_kernel()
    client = BlockingKernelClient(connection_file=manager.connection_file)
    client.load_connection_file()
    client.start_channels()
    go = tmp_path / "go"
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        client.execute_interactive("pass", timeout=PATIENCE_S)  # by the remote kernel, not only its proxy
        client.control_channel.send(client.session.msg("create_subshell_request", {}))
        subshell = client.get_control_msg(timeout=PATIENCE_S)["content"]["subshell_id"]
        waiting = client.execute(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)")
        request = client.session.msg("execute_request", {"code": f"open({str(go)!r}, 'x').close()"})
        request["header"]["subshell_id"] = subshell
        client.shell_channel.send(request)
        replies = [client.get_shell_msg(timeout=PATIENCE_S) for _ in range(2)]
        assert {reply["parent_header"]["msg_id"] for reply in replies} == {
            waiting,
            request["header"]["msg_id"],
        }
        assert [reply["content"]["status"] for reply in replies] == ["ok", "ok"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


# --- another runtime meanwhile -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["second", "first"])
def test_connecting_elsewhere_leaves_a_running_kernel_where_it_is(
    server: JupyterServer, runtime_dir: Path, tmp_path: Path, name: str
) -> None:
    """Even by the name that it had, and though it has to come back through a connection that broke."""
    with TcpProxy(server.port) as network, jupyter_server(tmp_path / "other", token="other") as other:
        connect(f"http://127.0.0.1:{network.port}", name="first")
        with proxy_process(tmp_path, runtime_dir) as proxy, Frontend(proxy.connection) as frontend:
            frontend.run("x = 6")
            connect(other.url, name=name, token="other")
            network.abort()
            assert frontend.run("print(x * 7)").stdout == "42\n"
            [kernel_id] = server.kernel_ids()
            assert other.kernel_ids() == []
            with (
                proxy_process(tmp_path, runtime_dir, name="next") as next_one,
                Frontend(next_one.connection) as elsewhere,
            ):
                elsewhere.run("x = 7")
                assert len(other.kernel_ids()) == 1
                assert frontend.run("print(x)").stdout == "6\n"
                assert server.kernel_ids() == [kernel_id]
            harness.wait_until(lambda: next_one.process.poll() is not None, what="its end")
