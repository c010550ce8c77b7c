"""What dies, breaks off or goes silent around the proxy kernel, and what is left of it for the frontend."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import kernel_environments
import pytest
from jupyter_servers import UNLIMITED, JupyterServer, jupyter_server
from kernel_client import Debugger, Frontend, Request, Unmet
from kernel_environments import Stack
from proxy_process import ProxyProcess, proxy_process, register
from tcp_proxies import TcpProxy, Way

from colab_kernel.terms import KEEP_EVERY_MS

SLOW_LINES = """
import sys, time
for n in range({count}):
    print(n, flush=True)
    time.sleep({pause_s})
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A server, a network that can fail, and the folder with the registry."""

    server: JupyterServer
    network: TcpProxy
    folder: Path

    @property
    def runtime_dir(self) -> Path:
        return self.folder / "runtime"

    @contextlib.contextmanager
    def kernel(self, name: str = "kernel") -> Iterator[ProxyProcess]:
        with proxy_process(self.folder, self.runtime_dir, name=name) as proxy:
            yield proxy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server"), options=UNLIMITED) as one:
        yield one


@pytest.fixture
def scene(server: JupyterServer, tmp_path: Path) -> Iterator[Scene]:
    with TcpProxy(server.port) as network:
        one = Scene(server, network, tmp_path)
        register(one.runtime_dir, network.port)
        yield one
    for kernel_id in server.kernel_ids():
        server.api("DELETE", f"/api/kernels/{kernel_id}")


@pytest.fixture
def own_scene(tmp_path: Path) -> Iterator[Scene]:
    """A scene whose server may be killed, and is given up after two seconds."""
    with jupyter_server(tmp_path / "server") as server, TcpProxy(server.port) as network:
        one = Scene(server, network, tmp_path)
        register(one.runtime_dir, network.port, gone_after_s=2)
        yield one


@contextlib.contextmanager
def doomed(proxy: ProxyProcess) -> Iterator[Frontend]:
    """A frontend whose kernel will not live to answer everything."""
    with contextlib.closing(Frontend(proxy.connection)) as frontend:
        frontend.connect()
        yield frontend


def lines_of(stdout: str) -> list[int]:
    return [int(line) for line in stdout.split()]


def fails_and_ends(proxy: ProxyProcess, frontend: Frontend, request: Request, *, saying: str) -> None:
    """The request ends with an error and its idle, and the process with 1 and one line."""
    done = frontend.done(request)
    assert done.reply["status"] == "error"
    assert saying in done.reply["evalue"]
    assert done.of_type("error")[0]["evalue"] == done.reply["evalue"]
    last = proxy.ends_with(1)
    assert last == f"colab_kernel: {done.reply['evalue']}"


# --- somebody dies -----------------------------------------------------------------------------------------


def test_a_killed_proxy_leaves_a_kernel_that_the_next_one_deletes(scene: Scene) -> None:
    with scene.kernel("first") as first, doomed(first) as frontend:
        frontend.run("1")
        [left_behind] = scene.server.kernel_ids()
        first.process.kill()
        first.process.wait(10)
    with scene.kernel("second") as second, Frontend(second.connection) as again:
        again.run("1")
        assert left_behind not in scene.server.kernel_ids()


def test_a_remote_kernel_that_is_killed_ends_its_cells_and_the_process(scene: Scene) -> None:
    with scene.kernel() as proxy, doomed(proxy) as frontend:
        frontend.run("1")
        request = frontend.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        fails_and_ends(proxy, frontend, request, saying="died")
    # The server started another in its place, which nobody wants.
    harness.wait_until(lambda: not scene.server.kernel_ids(), timeout_s=20, what="the kernel's deletion")


def test_a_kernel_that_somebody_restarts_ends_the_cells_and_the_process(scene: Scene) -> None:
    with scene.kernel() as proxy, doomed(proxy) as frontend:
        request = frontend.execute("print('on', flush=True)\nimport time; time.sleep(600)")
        frontend.published(request, "stream")
        [kernel_id] = scene.server.kernel_ids()
        scene.server.api("POST", f"/api/kernels/{kernel_id}/restart")
        fails_and_ends(proxy, frontend, request, saying="restarted by somebody else")


def test_a_kernel_that_somebody_deletes_ends_the_cells_and_the_process(scene: Scene) -> None:
    with scene.kernel() as proxy, doomed(proxy) as frontend:
        request = frontend.execute("print('on', flush=True)\nimport time; time.sleep(600)")
        frontend.published(request, "stream")
        [kernel_id] = scene.server.kernel_ids()
        scene.server.api("DELETE", f"/api/kernels/{kernel_id}")
        fails_and_ends(proxy, frontend, request, saying="Restart the kernel")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_started_again_has_lost_its_kernels(own_scene: Scene, how: signal.Signals) -> None:
    with own_scene.kernel() as proxy, doomed(proxy) as frontend:
        request = frontend.execute("print('on', flush=True)\nimport time; time.sleep(600)")
        frontend.published(request, "stream")
        own_scene.server.restart(how=how)
        done = frontend.done(request)
        assert done.reply["status"] == "error"
        proxy.ends_with(1)


def test_a_server_that_is_gone_ends_the_cells_and_the_process(own_scene: Scene) -> None:
    with own_scene.kernel() as proxy, doomed(proxy) as frontend:
        request = frontend.execute("print('on', flush=True)\nimport time; time.sleep(600)")
        frontend.published(request, "stream")
        own_scene.network.refuse()
        own_scene.network.abort()
        fails_and_ends(proxy, frontend, request, saying=str(own_scene.network.port))


def test_sigterm_deletes_the_remote_kernel(scene: Scene) -> None:
    with scene.kernel() as proxy:
        with Frontend(proxy.connection) as frontend:
            frontend.run("1")
            assert len(scene.server.kernel_ids()) == 1
        proxy.process.terminate()
        proxy.ends_with(0)
        assert scene.server.kernel_ids() == []


def test_an_end_while_the_remote_kernel_is_being_made_leaves_none_behind(scene: Scene) -> None:
    with scene.kernel() as proxy, doomed(proxy):
        proxy.process.terminate()
        proxy.ends_with(0)
    harness.wait_until(lambda: not scene.server.kernel_ids(), timeout_s=20, what="the kernel's deletion")


def test_sigint_interrupts_the_cell(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        request = frontend.execute("print('on', flush=True)\nimport time; time.sleep(600)")
        frontend.published(request, "stream")
        proxy.process.send_signal(signal.SIGINT)
        assert frontend.done(request).reply["ename"] == "KeyboardInterrupt"


# --- the connection breaks, and both ends notice -----------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "abort"])
def test_a_connection_that_breaks_loses_nothing(scene: Scene, how: str) -> None:
    """From when the server knows of it: what it had written just before, no server writes again."""
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        mark = scene.folder / "go"
        request = frontend.execute(
            f"import os, time\nprint(0, flush=True)\n"
            f"while not os.path.exists({str(mark)!r}): time.sleep(0.01)\n"
            "for n in range(1, 100):\n    print(n, flush=True)\n    time.sleep(0.02)"
        )
        frontend.published(request, "stream")
        [kernel_id] = scene.server.kernel_ids()
        scene.network.refuse()
        getattr(scene.network, how)()
        harness.wait_until(lambda: scene.server.connections(kernel_id) == 0, what="the server to notice")
        mark.touch()
        scene.network.accept()
        assert lines_of(frontend.done(request).stdout) == list(range(100))


def test_what_ends_while_nobody_can_come_back_is_there_afterwards(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        mark = scene.folder / "go"
        request = frontend.execute(
            f"import os, time\nprint(0, flush=True)\n"
            f"while not os.path.exists({str(mark)!r}): time.sleep(0.01)\n"
            "for n in range(1, 20): print(n, flush=True)"
        )
        frontend.published(request, "stream")
        scene.network.refuse()
        scene.network.abort()
        waiting = frontend.execute("print('after')")
        mark.touch()
        [kernel_id] = scene.server.kernel_ids()
        harness.wait_until(
            lambda: scene.server.api("GET", f"/api/kernels/{kernel_id}")["execution_state"] == "idle",
            what="the end of the cell",
        )
        scene.network.accept()
        assert lines_of(frontend.done(request).stdout) == list(range(20))
        assert frontend.done(waiting).stdout == "after\n"


def test_a_break_between_reply_and_idle_is_healed(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        frontend.run("1")
        scene.network.when(b"execute_reply", Way.DOWN, scene.network.abort)
        assert frontend.done(frontend.execute("print(2)")).stdout == "2\n"


def test_a_question_is_asked_and_answered_across_a_break(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        request = frontend.execute("print('you said', input('?'))")
        question = frontend.question()
        scene.network.abort()
        frontend.send("stdin", "input_reply", {"value": "yes"}, parent=question["header"])
        assert frontend.done(request).stdout.endswith("you said yes\n")


def test_a_debugger_that_is_paused_goes_on_after_a_break(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        debugger = Debugger(frontend)
        cell = "x = 20\ny = x + 1\nprint(y * 2)"
        debugger.body("initialize", clientID="vscode", adapterID="x", pathFormat="path")
        attach = debugger.ask("attach", {"justMyCode": True})
        frontend.event("initialized")
        debugger.success(attach)
        path = debugger.body("dumpCell", code=cell)["sourcePath"]
        debugger.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}], lines=[2])
        debugger.body("configurationDone")
        request = frontend.execute(cell)
        thread = debugger.stopped("breakpoint")
        scene.network.abort()
        frame = debugger.frames(thread)[0]
        assert debugger.locals(frame)["x"] == "20"
        debugger.body("continue", threadId=thread)
        assert frontend.done(request).stdout == "42\n"
        debugger.body("disconnect", restart=False)


# --- the network goes silent -------------------------------------------------------------------------------


def test_a_silence_that_ends_loses_nothing(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        request = frontend.execute(SLOW_LINES.format(count=50, pause_s=0.02))
        frontend.published(request, "stream")
        scene.network.hold()
        [kernel_id] = scene.server.kernel_ids()
        harness.wait_until(
            lambda: scene.server.api("GET", f"/api/kernels/{kernel_id}")["execution_state"] == "idle",
            what="the end of the cell",
        )
        scene.network.release()
        assert lines_of(frontend.done(request).stdout) == list(range(50))


def test_a_dead_connection_that_nobody_reports_loses_its_output_and_no_more(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        frontend.run("before = 1")
        mark = scene.folder / "go"
        request = frontend.execute(
            f"import os, time\nprint(0, flush=True)\nwhile not os.path.exists({str(mark)!r}):\n"
            "    print('lost?', flush=True)\n    time.sleep(0.1)\nprint('end')"
        )
        frontend.published(request, "stream")
        scene.network.swallow()
        scene.network.let_go()
        later = frontend.execute("print(before + 1)")
        came = len(frontend.published(request, "stream"))
        frontend.patience_s = 90
        frontend.wait(
            lambda: len(frontend.published(request, "stream")) > came + 3, unmet=Unmet("no output came again")
        )
        mark.touch()
        done = frontend.done(request)
        assert done.reply["status"] == "ok", done.reply
        assert done.stdout.endswith("end\n")
        notices = [one["text"] for one in done.of_type("stream") if one["name"] == "stderr"]
        assert len(notices) == 1
        assert "messages of the remote kernel" in notices[0]
        assert frontend.done(later).stdout == "2\n"


def test_a_reply_in_a_dead_connection_ends_its_cell_with_an_error(scene: Scene) -> None:
    with scene.kernel() as proxy, doomed(proxy) as frontend:
        frontend.run("runs = 0")
        scene.network.swallow(Way.DOWN)
        request = frontend.execute("runs += 1")
        [kernel_id] = scene.server.kernel_ids()
        later = frontend.execute("print(runs)")
        frontend.patience_s = 90
        scene.network.let_go()
        done = frontend.done(request)
        assert done.reply["status"] == "error"
        assert "was lost with the connection" in done.reply["evalue"]
        outcome = frontend.done(later)
        assert outcome.reply["status"] in {"ok", "error"}
        assert frontend.run("print(runs)").stdout == "1\n"
        assert scene.server.kernel_ids() == [kernel_id]
        frontend.settle()


# --- too much ----------------------------------------------------------------------------------------------


def test_forty_megabytes_of_output_arrive_whole(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        done = frontend.run("line = 'x' * 999\nfor _ in range(40_000): print(line)")
        assert len(done.stdout) == 40_000_000


def test_a_frontend_that_does_not_read_holds_up_the_kernel_and_not_our_memory(scene: Scene) -> None:
    with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
        frontend.run("1")
        before = proxy.resident_bytes
        request = frontend.execute(
            "import sys\nfor n in range(800):\n    sys.stdout.write('x' * 250_000); sys.stdout.flush()"
        )
        # Nothing is read here, and 200 MB come, in fewer messages than ZeroMQ keeps for the server.
        [kernel_id] = scene.server.kernel_ids()
        harness.wait_until(
            lambda: scene.server.api("GET", f"/api/kernels/{kernel_id}")["execution_state"] == "idle",
            timeout_s=120,
            what="the end of the cell",
        )
        grown = proxy.resident_bytes - before
        assert grown < 120 * 2**20, f"{grown / 2**20:.0f} MiB"
        frontend.patience_s = 120
        assert len(frontend.done(request).stdout) == 800 * 250_000


# --- a server that does not keep up ------------------------------------------------------------------------

ON_COLABS_PINS = [pytest.mark.colab_pins, pytest.mark.timeout(1800)]

LINES = 20_000
"""Ten times and more what ipykernel, the server and TCP between them keep by themselves."""

MANY_LINES = """
import os, time
print("on", flush=True)
while not os.path.exists({go!r}): time.sleep(0.01)
for n in range({count}):
    print(n, flush=True)
open({end!r}, "x").close()
"""

TWO_TURNS_OF_THE_KERNELS_CLOCK = f"""
import threading
from tornado.ioloop import PeriodicCallback
turns = threading.Semaphore(0)
loop = get_ipython().kernel.iopub_thread.io_loop
loop.add_callback(lambda: PeriodicCallback(turns.release, {KEEP_EVERY_MS}).start())
for _ in range(2): turns.acquire()
"""
"""In the thread that owns the kernel's socket, at its pace: whatever it does every so often is done then."""


def prints_while_it_stands_still(server: JupyterServer, frontend: Frontend, folder: Path) -> None:
    """A cell prints LINES lines for a server that is stopped meanwhile, and all of them arrive."""
    go, end = folder / "go", folder / "end"
    request = frontend.execute(MANY_LINES.format(count=LINES, go=str(go), end=str(end)))
    frontend.published(request, "stream")
    server.freeze()
    try:
        go.touch()
        harness.wait_until(end.exists, timeout_s=120, what="the last line")
    finally:
        server.thaw()
    frontend.patience_s = 120
    assert lines_of(frontend.done(request).stdout.removeprefix("on\n")) == list(range(LINES))


@pytest.mark.parametrize(
    "stack",
    [Stack.NEWEST, pytest.param(Stack.COLAB, marks=[pytest.mark.colab_pins, pytest.mark.timeout(1800)])],
)
def test_what_is_printed_while_the_server_stands_still_arrives_whole(tmp_path: Path, stack: Stack) -> None:
    kernel_environments.write_ipykernel_spec(tmp_path / "specs", name="remote", stack=stack)
    with (
        jupyter_server(
            tmp_path / "server",
            python=kernel_environments.python_of(stack),
            options=[*UNLIMITED, "--MappingKernelManager.default_kernel_name=remote"],
            env={"JUPYTER_PATH": str(tmp_path / "specs")},
        ) as server,
        TcpProxy(server.port) as network,
    ):
        scene = Scene(server, network, tmp_path)
        register(scene.runtime_dir, network.port)
        with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
            prints_while_it_stands_still(server, frontend, tmp_path)


def test_so_it_does_over_a_connection_of_the_servers_that_is_newer(tmp_path: Path) -> None:
    """A server that buffers nothing connects to the kernel again for every websocket."""
    options = [*UNLIMITED, "--MappingKernelManager.buffer_offline_messages=False"]
    with jupyter_server(tmp_path / "server", options=options) as server, TcpProxy(server.port) as network:
        scene = Scene(server, network, tmp_path)
        register(scene.runtime_dir, network.port)
        with scene.kernel() as proxy, Frontend(proxy.connection) as frontend:
            frontend.run("1")
            network.abort()
            frontend.run(TWO_TURNS_OF_THE_KERNELS_CLOCK)
            prints_while_it_stands_still(server, frontend, tmp_path)
