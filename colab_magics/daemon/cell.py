"""A cell, run in a kernel of its own; what it showed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colab_magics.daemon import guest
from colab_magics.daemon.assignment import Phase
from colab_magics.daemon.cell_job import CellJob
from colab_magics.daemon.debugging import JobDebugger
from colab_magics.daemon.endings import CellEnd, End
from colab_magics.daemon.kernel import Kernel, Message, NoAnswer, ipykernel
from colab_magics.daemon.log import Log
from colab_magics.daemon.processes import Notice, Watch
from colab_magics.daemon.shown import CellOutputs, Output, result_text
from colab_magics.daemon.standing import Standing
from colab_magics.daemon.telemetry import MemoryMeter
from colab_magics.jobs.record import Progress

_IDLE_S = 5.0
_LEAVE_S = 5.0
_SAID_BYTES = 20_000

_INSTALL = """
def _colab_install():
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("_colab_guest", {file!r})
    module = sys.modules["_colab_guest"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install(get_ipython(), {folder!r})
"""
# As an expression beside the code, because IPython 9 puts streams of its own in place while code runs.
_INSTALL_EXPRESSION = "_colab_install()"
_SAVE = "__import__('IPython').get_ipython().colab_guest.save()"


class CellView:
    """What a cell has shown so far; one thread folds, any thread looks."""

    def __init__(self, *, mask: Callable[[str], str]) -> None:
        self._lock = threading.Lock()
        self._outputs = CellOutputs(mask=mask)

    def fold(self, message: Message) -> None:
        with self._lock:
            self._outputs.fold(message)

    def last_outputs(self, *, limit_bytes: int) -> list[Output]:
        """The last outputs that fit, a copy."""
        with self._lock:
            found: list[Output] = json.loads(json.dumps(self._outputs.last_outputs(limit_bytes=limit_bytes)))
            return found

    def progress(self) -> Progress | None:
        with self._lock:
            return self._outputs.progress()

    def all(self) -> tuple[list[Output], int | None, Output | None]:
        """All outputs, the execution count, and the state of the widgets."""
        with self._lock:
            return self._outputs.outputs(), self._outputs.execution_count, self._outputs.widget_state()


@dataclass(slots=True)
class _Talk:
    """The exchange about one request."""

    msg_id: str
    shown: bool
    reply: Mapping[str, Any] | None = None
    idle: bool = False


class _Interrupted(Exception):
    """The talk has to end: the process died, or its time is up and it did not let go."""


class CellRun:
    """One run of a cell from start to end, in the calling thread."""

    def __init__(
        self,
        job: CellJob,
        *,
        log: Log,
        view: CellView,
        watch: Watch,
        meter: MemoryMeter,
        entered: Callable[[Phase, str, float], None],
    ) -> None:
        self._job, self._log, self._view = job, log, view
        self._watch, self._meter, self._entered = watch, meter, entered
        self._notice = Notice(watch)
        self._phase = Phase.STARTING
        self._talk = _Talk("", shown=False)
        self._standing = Standing(door=job.door, log=log)

    def stood_s(self) -> float:
        """For how long the cell has stood still under its debugger; any thread may ask."""
        return self._standing.stood_s()

    def run(self, *, python: Path, environment: Mapping[str, str], token: str) -> CellEnd:
        """Start a kernel, run the cell, save its variables, end the kernel and all that it started.

        Raises:
            OSError: the interpreter or the checkout is not there.
        """
        job = self._job
        settings = {
            "checkout": str(job.checkout),
            "cell": job.source,
            "log": str(job.log_path),
            "inputs": [[name, kind, str(path)] for name, kind, path in job.inputs],
            "outputs": list(job.outputs),
            "allow_pickle": job.allow_pickle,
            "variable_bytes": job.variable_bytes,
        }
        (job.guest_folder / guest.SETTINGS).write_text(json.dumps(settings))
        self._enter(Phase.STARTING)
        kernel = Kernel(
            ipykernel(python),
            cwd=job.checkout,
            environment=environment,
            folder=job.kernel_folder,
            token=token,
        )
        try:
            return self._converse(kernel)
        finally:
            kernel.close()

    def _converse(self, kernel: Kernel) -> CellEnd:
        job, reply, problem, died_while = self._job, None, "", None
        try:
            kernel.knock(lambda wait_s: self._messages(kernel, timeout_s=wait_s), within_s=job.kernel_start_s)
            problem = self._install(kernel)
            if not problem:
                self._enter(Phase.RUNNING)
                if job.parameters:
                    talk = self._request(kernel, job.parameters, shown=False)
                    reply = talk.reply
                if job.debuggable and not self._notice.ending:
                    self._make_ready(kernel)
                if not self._notice.ending:
                    with self._standing.door():
                        reply = self._request(kernel, job.source, shown=True).reply
                if job.outputs and not self._notice.ending and self._went_well(reply):
                    self._enter(Phase.SAVING)
                    self._request(kernel, _SAVE, silent=True, shown=False)
        except _Interrupted:
            died_while = self._phase
            self._drain(kernel)
        except NoAnswer as error:
            problem = str(error)
        self._leave(kernel, politely=not died_while and not self._notice.ending and not problem)
        code = kernel.child.poll()
        left_over = kernel.child.end(stuck_s=self._watch.stuck_s)
        self._meter.finish(kernel.child)
        crash = _read_text(job.guest_folder / guest.CRASH, _SAID_BYTES) if died_while else ""
        if problem or died_while is Phase.STARTING:
            self._log.append(kernel.said(_SAID_BYTES))
        self._log.append(crash.encode())
        code = kernel.child.poll() if code is None else code
        return CellEnd(
            end=End(
                exit_code=-signal.SIGKILL if code is None else code,
                ending=self._notice.ending or (self._watch.ending_of(code) if died_while else None),
                ignored_interrupt=self._notice.is_ignored,
                left_over=left_over,
                stuck=kernel.child.stuck,
            ),
            reply=None if self._phase is Phase.RUNNING and died_while else reply,
            report=_read(job.guest_folder / guest.REPORT),
            saved=_read(job.guest_folder / guest.SAVED),
            problem=problem,
            died_while=died_while,
            crash=crash,
        )

    def _install(self, kernel: Kernel) -> str:
        """Load guest.py into the kernel; return what is wrong, empty for nothing."""
        code = _INSTALL.format(file=guest.__file__, folder=str(self._job.guest_folder))
        expressions = {"installed": _INSTALL_EXPRESSION}
        reply = self._request(kernel, code, silent=True, shown=False, expressions=expressions).reply
        if reply is None:
            return ""
        answer = reply.get("user_expressions", {}).get("installed", reply)
        if answer["status"] == "ok":
            return ""
        if answer.get("ename") in ("VariableError", "CorruptError"):
            return f"an input could not be opened: {answer.get('evalue')}"
        return f"the job could not be prepared: {answer.get('ename')}: {answer.get('evalue')}"

    def _make_ready(self, kernel: Kernel) -> None:
        debugger = JobDebugger(kernel, hold_s=self._job.hold_s, receive=self._messages, take=self._take)
        self._standing.begin(debugger, debugger.make_ready(self._job.source))

    def _request(
        self,
        kernel: Kernel,
        code: str,
        *,
        shown: bool,
        silent: bool = False,
        expressions: Mapping[str, str] | None = None,
    ) -> _Talk:
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": dict(expressions or {}),
            "allow_stdin": False,
            "stop_on_error": False,  # or ipykernel 6 would refuse what is asked next
        }
        talk = self._talk = _Talk(kernel.send("execute_request", content), shown=shown)
        idle_by: float | None = None
        while talk.reply is None or not talk.idle:
            if talk.reply is not None:
                idle_by = idle_by or time.monotonic() + _IDLE_S
                if time.monotonic() > idle_by:
                    break
            for channel, message in self._messages(kernel, timeout_s=0.5):
                self._take(channel, message)
            self._standing.follow(self._phase, is_ending=self._notice.ending is not None, enter=self._enter)
        return talk

    def _take(self, channel: str, message: Message) -> None:
        talk = self._talk
        ours = message["parent_header"].get("msg_id") == talk.msg_id
        kind = message["header"]["msg_type"]
        if channel == "shell" and ours and kind == "execute_reply":
            talk.reply = message["content"]
        if channel != "iopub":
            return
        debugger = self._standing.debugger
        if kind == "debug_event" and debugger is not None:
            debugger.stops.event(message["content"], now=time.monotonic())
        if ours and kind == "status":
            talk.idle = talk.idle or message["content"]["execution_state"] == "idle"
        if kind in ("status", "debug_event") or (kind == "execute_input" and not ours):
            return
        # What threads of the cell print while something else is asked of the kernel is for the log alone.
        if talk.shown and (ours or kind.startswith("comm_")):
            self._view.fold(message)
        # Streams and displays are written to the log inside the kernel (guest.py).
        text = result_text(message) if talk.shown and ours else ""
        if text:
            self._log.append(text.encode("utf-8", "replace"))

    def _messages(self, kernel: Kernel, *, timeout_s: float) -> list[tuple[str, Message]]:
        """What the kernel says next.

        Raises:
            _Interrupted: the process is gone, or was given its time to end and did not.
        """
        next_tick_s = self._watch.tick(kernel.child)
        if self._notice.is_given():
            if self._phase is Phase.STARTING:
                raise _Interrupted
            kernel.child.interrupt()
        if self._notice.is_over():
            raise _Interrupted
        wait_s = max(0.0, min(timeout_s, next_tick_s, self._notice.left_s()))
        found = list(kernel.receive(timeout_s=wait_s, alarm=self._watch.alarm))
        if not found and kernel.child.poll() is not None:
            raise _Interrupted
        return found

    def _drain(self, kernel: Kernel) -> None:
        """Take what a process said before it died."""
        for _ in range(100):
            found = list(kernel.receive(timeout_s=0.05, alarm=self._watch.alarm))
            if not found:
                return
            for channel, message in found:
                self._take(channel, message)

    def _leave(self, kernel: Kernel, *, politely: bool) -> None:
        """Let the kernel end by itself, so that what is registered with atexit runs; not for ever."""
        if not politely or kernel.child.poll() is not None:
            return
        kernel.send("shutdown_request", {"restart": False}, channel="control")
        deadline = time.monotonic() + min(_LEAVE_S, self._watch.left_s())
        while kernel.child.poll() is None and time.monotonic() < deadline and not self._watch.is_stopped():
            for channel, message in kernel.receive(timeout_s=0.1, alarm=self._watch.alarm):
                self._take(channel, message)

    def _went_well(self, reply: Mapping[str, Any] | None) -> bool:
        if reply is None:
            return False
        return reply["status"] == "ok" or _read(self._job.guest_folder / guest.REPORT).get("leaving") == 0

    def _enter(self, phase: Phase, held: str = "", left_s: float = 0.0) -> None:
        self._phase = phase
        self._entered(phase, held, left_s)


def _read_text(path: Path, limit: int) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-limit:]
    except OSError:
        return ""


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}
