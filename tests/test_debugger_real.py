"""The debugger's guard before a real ipykernel and its debugpy: what it prevents, and that the rest works."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import kernel_environments
import pytest
from debug_cell import INITIALIZE
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from kernel_client import Debugger, Frontend, Json, NoReply, Request
from kernel_environments import Stack

from colab_kernel.debugger import NEEDS_CAPABILITY, Answer, DebugGuard, Forward
from colab_kernel.messages import JsonObject
from colab_kernel.path_mapping import PathMapping

LINES = "a = 1\nb = 2\nc = 3\nd = 4\nprint('end', a + b + c + d)\n"
SEVERAL_S = 2.0
"""How long what is known to fail is waited for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what it became: one to the kernel, or a reply at once."""

    content: Json
    sent: Request | None
    answer: JsonObject


class Guarded:
    """A frontend whose debugger goes through a guard.

    Attributes:
        answered_here: the commands that the guard answered, in order.
    """

    def __init__(self, frontend: Frontend, *mappings: PathMapping) -> None:
        self.frontend = frontend
        self.guard = DebugGuard(mappings=mappings)
        self.answered_here: list[str] = []
        self.prefix = ""
        self._seq = 0
        self._heard = 0

    def ask(self, command: str, arguments: Json | None = None) -> Asked:
        """Send a request and do not wait."""
        self._hear()
        self._seq += 1
        content = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments or {}}
        decision = self.guard.request(content, shell_busy=False)
        if isinstance(decision, Answer):
            self.answered_here.append(command)
            return Asked(content, None, decision.content)
        assert isinstance(decision, Forward)
        sent = dict(content if decision.content is None else decision.content)
        return Asked(content, self.frontend.send("control", "debug_request", sent), {})

    def reply(self, asked: Asked) -> Json:
        """Wait until a request is done."""
        if asked.sent is None:
            return dict(asked.answer)
        reply = self.frontend.done(asked.sent).reply
        self._hear()
        repaired = self.guard.reply(asked.content, reply)
        passed = dict(reply if repaired is None else repaired)
        assert passed["request_seq"] == asked.content["seq"]
        return passed

    def body(self, command: str, **arguments: Any) -> Json:
        """Send a request that must succeed; return the response's body."""
        reply = self.reply(self.ask(command, arguments))
        assert reply["success"] is True, reply
        return reply.get("body") or {}

    def stopped(self, reason: str) -> int:
        """Wait until the cell is stopped; return the thread."""
        event = self.frontend.event("stopped")
        self._hear()
        assert event["reason"] == reason
        assert self.guard.is_stopped
        thread: int = event["threadId"]
        return thread

    def begin(self) -> None:
        """Start a session."""
        self.body("initialize", **INITIALIZE)
        self.prefix = self.body("debugInfo")["tmpFilePrefix"]
        self.body("attach", justMyCode=False)
        self.body("configurationDone")

    def dump(self, code: str, *lines: int) -> str:
        """Give a cell its file, and breakpoints that must be taken; return the file's path."""
        path: str = self.body("dumpCell", code=code)["sourcePath"]
        assert all(self.set(path, *lines))
        return path

    def set(self, path: str, *lines: int) -> list[bool]:
        """Set breakpoints; return which are verified."""
        breakpoints = [{"line": line} for line in lines]
        body = self.body("setBreakpoints", source={"path": path}, breakpoints=breakpoints)
        assert all(one["source"]["path"] == path for one in body["breakpoints"])
        return [one["verified"] for one in body["breakpoints"]]

    def resume(self, command: str) -> None:
        """Let the cell go on, and wait until it does."""
        self.body(command, threadId=1)
        self.goes_on()

    def goes_on(self) -> None:
        """Wait until the cell goes on. ipykernel learns of that after debugpy's reply."""
        self.frontend.event("continued")
        self._hear()

    def top(self) -> tuple[str, int, int]:
        """The innermost frame: path, line, reference of its source."""
        frame = self.body("stackTrace", threadId=1, startFrame=0, levels=20)["stackFrames"][0]
        return frame["source"]["path"], frame["line"], frame["source"]["sourceReference"]

    def step(self, command: str) -> tuple[str, int, int]:
        """Step, and say where that leads."""
        self.resume(command)
        self.stopped("step")
        return self.top()

    def text(self, path: str, reference: int) -> str:
        """What a frontend shows of a source."""
        source = {"path": path, "sourceReference": reference}
        text: str = self.body("source", source=source, sourceReference=reference)["content"]
        return text

    def _hear(self) -> None:
        for message in self.frontend.iopub[self._heard :]:
            if message["header"]["msg_type"] == "debug_event":
                self.guard.event(message["content"])
        self._heard = len(self.frontend.iopub)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Json]:
    kernel_environments.write_ipykernel_spec(tmp_path, name="real", stack=Stack.NEWEST)
    folders = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    manager = KernelManager(kernel_name="real", kernel_spec_manager=folders)
    manager.start_kernel()
    try:
        yield json.loads(Path(manager.connection_file).read_text(encoding="utf-8"))
    finally:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def frontend(connection: Json) -> Iterator[Frontend]:
    with Frontend(connection) as frontend:
        yield frontend


# --- what kills the control channel -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["continue", "restartFrame"])
def test_without_the_guard_a_request_too_many_is_the_end_of_control(connection: Json, command: str) -> None:
    ada = Frontend(connection)
    try:
        ada.connect()
        debugger = Debugger(ada)
        debugger.body("initialize", **INITIALIZE)
        debugger.body("attach")
        path = debugger.body("dumpCell", code=LINES)["sourcePath"]
        debugger.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])
        ada.execute(LINES)
        debugger.stopped("breakpoint")
        if command == "continue":
            debugger.body("continue", threadId=1)
        debugger.ask(command, {"threadId": 1, "frameId": 1})
        ada.patience_s = SEVERAL_S
        with pytest.raises(NoReply):
            debugger.body("debugInfo")
    finally:
        ada.close()


def test_with_the_guard_any_number_of_resumes_at_once_does_no_harm(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    ada.dump(LINES, 2, 4)
    cell = frontend.execute(LINES)
    for _ in range(2):
        ada.stopped("breakpoint")
        asked = [ada.ask(command, {"threadId": 1}) for command in ("continue", "continue", "next", "stepOut")]
        assert all(ada.reply(one)["success"] is True for one in asked)
        ada.goes_on()
    assert ada.answered_here == ["continue", "next", "stepOut"] * 2
    assert frontend.done(cell).stdout == "end 10\n"
    assert ada.body("debugInfo")["stoppedThreads"] == []
    assert not ada.guard.is_in_doubt
    ada.body("disconnect")


def test_steps_stop_and_go_and_nothing_of_them_is_swallowed(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    path = ada.dump(LINES, 1)
    cell = frontend.execute(LINES)
    ada.stopped("breakpoint")
    assert [ada.step("next") for _ in range(3)] == [(path, line, 0) for line in (2, 3, 4)]
    target = ada.body("gotoTargets", source={"path": path}, line=99)["targets"][0]["id"]
    assert ada.reply(ada.ask("goto", {"threadId": 1, "targetId": target}))["success"] is False
    ada.resume("continue")
    assert frontend.done(cell).stdout == "end 10\n"
    assert ada.answered_here == []
    assert not ada.guard.is_in_doubt
    ada.body("disconnect")


def test_with_the_guard_what_debugpy_does_not_know_is_refused_and_control_lives(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    ada.dump(LINES, 2)
    cell = frontend.execute(LINES)
    ada.stopped("breakpoint")
    for command in NEEDS_CAPABILITY:
        assert ada.reply(ada.ask(command, {"threadId": 1, "frameId": 1}))["success"] is False
    assert ada.answered_here == list(NEEDS_CAPABILITY)
    ada.resume("continue")
    frontend.done(cell)
    for command in ("exceptionInfo", "goto"):
        assert ada.reply(ada.ask(command, {"threadId": 1, "targetId": 0}))["success"] is False
    ada.body("disconnect")


def test_whatever_comes_outside_of_a_session_is_answered_and_sessions_follow_one_another(
    frontend: Frontend,
) -> None:
    ada = Guarded(frontend)
    for command in ("dumpCell", "setBreakpoints", "stackTrace", "attach", "configurationDone"):
        assert ada.reply(ada.ask(command, {"code": "", "source": {"path": "x"}}))["success"] is False
    for command in ("disconnect", "terminate", "continue", "next"):
        ada.body(command, threadId=1)
    assert ada.body("modules")["modules"]
    for _ in range(2):
        ada.begin()
        ada.dump(LINES, 2)
        cell = frontend.execute(LINES)
        ada.stopped("breakpoint")
        for thread in ada.body("debugInfo")["stoppedThreads"]:
            ada.body("continue", threadId=thread)
        frontend.done(cell)
        both = [ada.ask("disconnect", {"restart": False}) for _ in range(2)]
        assert all(ada.reply(one)["success"] is True for one in both)
        frontend.event("terminated")
        assert not ada.guard.is_active


# --- paths ------------------------------------------------------------------------------------------------

MODULE = "import library\n\n\ndef twice(x):\n    y = library.double(x)\n    return y\n"
LIBRARY = "def double(x):\n    z = 2 * x\n    return z\n"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A project on the runtime, beside a library that belongs to no project."""
    harness.write(tmp_path / "project/package/module.py", MODULE)
    harness.write(tmp_path / "project2/other.py", "x = 1\n")
    harness.write(tmp_path / "site/library.py", LIBRARY)
    return tmp_path


def cell_of(remote: Path) -> str:
    return textwrap.dedent(
        f"""\
        import sys
        sys.path[:0] = [{str(remote / "project")!r}, {str(remote / "site")!r}]
        from package.module import twice
        print(twice(21))
        """
    )


@pytest.mark.parametrize("local_root", ["/home/ada/project", "/home/ada/project/", "C:\\Users\\Ada\\project"])
def test_breakpoints_in_the_projects_modules_and_steps_into_a_library(
    frontend: Frontend, remote: Path, local_root: str
) -> None:
    mapping = PathMapping(local_root=local_root, remote_root=str(remote / "project"))
    slash = "\\" if mapping.is_local_windows else "/"
    module = slash.join([local_root.rstrip("/"), "package", "module.py"])
    ada = Guarded(frontend, mapping)
    ada.begin()
    code = cell_of(remote)
    path = ada.dump(code, 4)
    assert path.startswith(ada.prefix)
    assert ada.set(module, 5) == [True]
    assert ada.set(slash.join([local_root.rstrip("/") + "2", "other.py"]), 1) == [False]
    cell = frontend.execute(code)
    ada.stopped("breakpoint")
    assert ada.top() == (path, 4, 0)
    ada.resume("continue")
    ada.stopped("breakpoint")
    assert ada.top() == (module, 5, 0)
    assert ada.text(module, 0) == MODULE
    library, line, reference = ada.step("stepIn")
    assert (library, line) == (str(remote / "site/library.py"), 2)
    assert reference > 0
    assert ada.text(library, reference) == LIBRARY
    assert ada.step("stepOut")[0] == module
    assert ada.text(path, 0) == code
    ada.resume("continue")
    assert frontend.done(cell).stdout == "42\n"
    ada.body("disconnect")


def test_without_a_project_paths_are_those_of_the_runtime(frontend: Frontend, remote: Path) -> None:
    module = str(remote / "project/package/module.py")
    ada = Guarded(frontend)
    ada.begin()
    assert ada.set(module, 5) == [True]
    cell = frontend.execute(cell_of(remote))
    ada.stopped("breakpoint")
    assert ada.top() == (module, 5, 0)
    ada.resume("continue")
    frontend.done(cell)
    ada.body("disconnect")


def test_an_old_extension_on_windows_gets_its_separators_back(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    path = ada.dump(LINES).replace("/", "\\")
    assert ada.set(path, 2) == [True]
    cell = frontend.execute(LINES)
    ada.stopped("breakpoint")
    assert ada.top() == (path, 2, 0)
    ada.resume("continue")
    frontend.done(cell)
    ada.body("disconnect")


def test_breakpoints_taken_away_by_the_cells_name_are_gone(frontend: Frontend) -> None:
    uri = "vscode-notebook-cell:/home/ada/a.ipynb#W2sZmlsZQ%3D%3D"
    ada = Guarded(frontend)
    ada.begin()
    ada.dump(LINES, 2, 4)
    ada.guard.cell_executed(cell_id=uri, code=LINES)
    cell = frontend.execute(LINES, cell=uri)
    ada.stopped("breakpoint")
    ada.body("setBreakpoints", source={"path": uri}, breakpoints=[])
    ada.resume("continue")
    assert frontend.done(cell).stdout == "end 10\n"
    ada.body("disconnect")


# --- what was missed --------------------------------------------------------------------------------------


def test_a_stop_that_nobody_heard_of_is_found_and_resumed(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    ada.dump(LINES, 2)
    cell = frontend.execute(LINES)
    frontend.event("stopped")
    deaf = DebugGuard()
    content = dict(deaf.own_debug_info(seq=0))
    reply = frontend.done(frontend.send("control", "debug_request", content)).reply
    assert deaf.reply(content, reply) is None
    assert [event["event"] for event in deaf.reconcile(reply["body"])] == ["stopped"]
    resume = {"type": "request", "seq": 1, "command": "continue", "arguments": {"threadId": 1}}
    assert deaf.request(resume, shell_busy=True) == Forward(None)
    assert isinstance(deaf.request(resume, shell_busy=True), Answer)
    frontend.done(frontend.send("control", "debug_request", resume))
    assert frontend.done(cell).stdout == "end 10\n"


def test_our_own_disconnect_lets_a_cell_go(frontend: Frontend) -> None:
    ada = Guarded(frontend)
    ada.begin()
    ada.dump(LINES, 2)
    cell = frontend.execute(LINES)
    ada.stopped("breakpoint")
    content = dict(ada.guard.own_disconnect(seq=0))
    reply = frontend.done(frontend.send("control", "debug_request", content)).reply
    assert ada.guard.reply(content, reply) is None
    assert not ada.guard.is_active
    assert frontend.done(cell).stdout == "end 10\n"
    assert ada.reply(ada.ask("disconnect"))["success"] is True
    assert ada.answered_here == ["disconnect"]
