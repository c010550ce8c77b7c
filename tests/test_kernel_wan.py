"""The proxy kernel and its server on two hosts with a bad line between them: real TCP, real loss."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import pytest
from debug_cell import Cell, NotebookDebugger
from jupyter_servers import TOKEN, UNLIMITED, JupyterServer, jupyter_server
from kernel_client import Done, Frontend, Request, Unmet
from proxy_process import ProxyProcess, proxy_process
from wan_link import WanLink

PATIENCE_S = 120.0

IMPATIENT = "--ServerApp.tornado_settings={'ws_ping_interval': 1000, 'ws_ping_timeout': 3000}"
"""An option: ping a websocket every second, and give it up after three. Both are in milliseconds.

Source: https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/base/websocket.py, in 2.21
"""

PRINTING = """
import os, time
n = 0
while not os.path.exists({mark!r}):
    print(n, flush=True)
    n += 1
    time.sleep(0.05)
print(n)
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A line, a server at its far end, and a folder with the registry of the near one."""

    wan: WanLink
    server: JupyterServer
    folder: Path

    @contextlib.contextmanager
    def kernel(self) -> Iterator[tuple[ProxyProcess, Frontend]]:
        """A proxy kernel at the near end, and a frontend beside it."""
        with contextlib.ExitStack() as ends:
            with self.wan.here.entered():
                harness.run(
                    [sys.executable, "-m", "colab_kernel", "connect", self.server.url, "--token", TOKEN],
                    env={"JUPYTER_RUNTIME_DIR": str(self.folder / "runtime")},
                )
                proxy = ends.enter_context(proxy_process(self.folder, self.folder / "runtime"))
                frontend = Frontend(proxy.connection, patience_s=PATIENCE_S)
            yield proxy, ends.enter_context(frontend)

    @property
    def websockets(self) -> int:
        """How many have been opened in the server's life."""
        return self.server.log.count("Connecting to kernel")

    def listeners(self) -> int:
        """How many websockets the server believes to be open to its one kernel."""
        with self.wan.there.entered():
            [kernel_id] = self.server.kernel_ids()
            return self.server.connections(kernel_id)

    def wait_until_it_is_missed(self) -> None:
        """Wait until the proxy kernel asks in vain for the server: that takes more than ten seconds."""
        harness.wait_until(lambda: self.wan.lost_openings, what="a try to connect")


@contextlib.contextmanager
def remote(wan: WanLink, folder: Path, *options: str) -> Iterator[JupyterServer]:
    """A server at the far end."""
    with contextlib.ExitStack() as ends:
        with wan.there.entered():
            server = ends.enter_context(
                jupyter_server(
                    folder,
                    ip=wan.there.address,
                    options=["--ServerApp.allow_remote_access=True", *UNLIMITED, *options],
                )
            )
        yield server


@pytest.fixture(scope="module")
def line() -> Iterator[WanLink]:
    with WanLink() as wan:
        yield wan


@pytest.fixture
def wan(line: WanLink) -> Iterator[WanLink]:
    yield line
    line.mend()


@pytest.fixture(scope="module")
def server(line: WanLink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with remote(line, tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def scene(wan: WanLink, server: JupyterServer, tmp_path: Path) -> Scene:
    return Scene(wan, server, tmp_path)


@pytest.fixture
def impatient(wan: WanLink, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose server gives up a websocket that has not answered it for three seconds."""
    with remote(wan, tmp_path / "server", IMPATIENT) as server:
        yield Scene(wan, server, tmp_path)


def numbers(done: Done) -> list[int]:
    return [int(line) for line in done.stdout.split()]


def notices(frontend: Frontend) -> list[str]:
    """What the proxy kernel itself has said about the line, under whatever cell."""
    frontend.done(frontend.send("control", "kernel_info_request"))
    ours = [one["content"] for one in frontend.iopub if one["metadata"].get("colab_kernel")]
    return [content["text"] for content in ours if content.get("name") == "stderr"]


# --- far away ----------------------------------------------------------------------------------------------


def test_a_cell_prints_over_a_bad_line(scene: Scene) -> None:
    scene.wan.delay_s, scene.wan.loss = 0.06, 0.02
    with scene.kernel() as (_, frontend):
        done = frontend.run("import time\nfor n in range(200): print(n, flush=True); time.sleep(0.01)")
        assert numbers(done) == list(range(200))
        assert notices(frontend) == []


def test_a_cell_is_debugged_over_a_bad_line(scene: Scene) -> None:
    scene.wan.delay_s, scene.wan.loss = 0.06, 0.02
    cell = Cell("x = 20\ny = x + 1\nz = y * 2\nprint(z)", "cell")
    with scene.kernel() as (_, frontend):
        notebook = NotebookDebugger(frontend, (cell,))
        request = notebook.debug(cell, [{"line": 2}])
        debugger = notebook.debugger
        thread = debugger.stopped("breakpoint")
        [frame, *_] = debugger.frames(thread)
        assert frame["line"] == 2
        assert debugger.locals(frame)["x"] == "20"
        debugger.body("next", threadId=thread)
        thread = debugger.stopped("step")
        [frame, *_] = debugger.frames(thread)
        assert frame["line"] == 3
        assert debugger.locals(frame)["y"] == "21"
        debugger.body("continue", threadId=thread)
        assert frontend.done(request).stdout == "42\n"
        notebook.close()


def test_what_a_narrow_line_cannot_take_at_once_comes_later(scene: Scene) -> None:
    with scene.kernel() as (_, frontend):
        scene.wan.delay_s, scene.wan.bytes_per_s = 0.03, 400_000
        done = frontend.run("for n in range(2000): print(str(n).zfill(999))")
        assert numbers(done) == list(range(2000))
        assert notices(frontend) == []


# --- the cable is pulled, and plugged in again -------------------------------------------------------------


def test_a_cell_that_prints_loses_no_line_while_the_cable_is_out(scene: Scene) -> None:
    with scene.kernel() as (_, frontend):
        scene.wan.delay_s = 0.03
        mark = scene.folder / "enough"
        request = frontend.execute(PRINTING.format(mark=str(mark)))
        frontend.published(request, "stream")
        before = scene.websockets
        scene.wan.unplug()
        later = frontend.execute("print(n + 1)")
        scene.wait_until_it_is_missed()
        mark.touch()
        scene.wan.plug()
        done = frontend.done(request)
        assert numbers(done) == list(range(len(numbers(done))))
        assert notices(frontend) == []
        assert numbers(frontend.done(later)) == [len(numbers(done))]
        # A new websocket would have thrown away what the old one's TCP still held.
        assert scene.websockets == before


def test_a_debugger_that_is_paused_goes_on_after_the_cable_was_out(scene: Scene) -> None:
    cell = Cell("x = 20\ny = x + 1\nprint(y * 2)", "cell")
    with scene.kernel() as (_, frontend):
        scene.wan.delay_s = 0.03
        notebook = NotebookDebugger(frontend, (cell,))
        request = notebook.debug(cell, [{"line": 2}])
        debugger = notebook.debugger
        thread = debugger.stopped("breakpoint")
        scene.wan.unplug()
        stepping = debugger.ask("next", {"threadId": thread})
        scene.wait_until_it_is_missed()
        scene.wan.plug()
        debugger.success(stepping)
        thread = debugger.stopped("step")
        [frame, *_] = debugger.frames(thread)
        assert debugger.locals(frame)["y"] == "21"
        debugger.body("continue", threadId=thread)
        assert frontend.done(request).stdout == "42\n"
        notebook.close()


# --- … after the old connection has died -------------------------------------------------------------------


def test_a_server_that_gave_up_meanwhile_keeps_what_is_printed_from_then_on(impatient: Scene) -> None:
    with impatient.kernel() as (_, frontend):
        mark = impatient.folder / "enough"
        request = frontend.execute(PRINTING.format(mark=str(mark)))
        frontend.published(request, "stream")
        impatient.wan.unplug()
        later = frontend.execute("print(n + 1)")
        harness.wait_until(lambda: not impatient.listeners(), what="the server's giving up")
        impatient.wait_until_it_is_missed()
        impatient.wan.plug()
        wait_for_more(frontend, request)
        mark.touch()
        done = frontend.done(request)
        frontend.done(later)
        assert len(notices(frontend)) == len(holes(done))


def test_a_connection_that_a_router_forgot_costs_its_own_time(scene: Scene) -> None:
    with scene.kernel() as (_, frontend):
        mark = scene.folder / "enough"
        request = frontend.execute(PRINTING.format(mark=str(mark)))
        frontend.published(request, "stream")
        before = scene.websockets
        scene.wan.forget()
        later = frontend.execute("print(n + 1)")
        wait_for_more(frontend, request)
        mark.touch()
        done = frontend.done(request)
        frontend.done(later)
        assert len(holes(done)) == 1
        [notice] = notices(frontend)
        assert "messages of the remote kernel" in notice
        assert scene.websockets == before + 1


def wait_for_more(frontend: Frontend, request: Request) -> None:
    """Wait until some more is printed than what is here."""
    came = len(frontend.published(request, "stream"))
    frontend.wait(
        lambda: len(frontend.published(request, "stream")) > came + 3, unmet=Unmet("nothing came again")
    )


def holes(done: Done) -> list[tuple[int, int]]:
    """Between which numbers some are missing: in one place at most, and what is there is in order."""
    assert done.reply["status"] == "ok", done.reply
    came = numbers(done)
    found = [(one, other) for one, other in itertools.pairwise(came) if other != one + 1]
    assert came[0] == 0
    assert all(one < other for one, other in found)
    assert len(found) <= 1
    return found
