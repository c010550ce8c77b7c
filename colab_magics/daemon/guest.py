"""Our code inside a job's kernel: load its inputs, save its outputs, describe its failure and its memory.

It is loaded from its file by the path, before the cell, so that nothing in the job's folder can stand in its
place; it imports what it needs when it needs it, since its time is the job's time.
"""

from __future__ import annotations

import atexit
import json
import linecache
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

CELL = "<cell>"
SETTINGS = "settings.json"
REPORT = "report.json"
CRASH = "crash.txt"
SAVED = "saved.json"
LOOK = "look"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_FLUSH_S = 0.05
_THREAD_S = 1.0
_WAY_OUT = (
    "bring back a part of it, or write it to $COLAB_OUTPUT_DIR: a file that is too large to come back stays "
    "on the daemon's machine under kept/"
)
_LEAVING = "To exit: use 'exit', 'quit', or Ctrl-D."


class Guest:
    """What is known inside the kernel about the job that runs in it."""

    def __init__(self, shell: Any, folder: Path) -> None:
        self._shell, self._folder = shell, folder
        self._settings = json.loads((folder / SETTINGS).read_text())

    def prepare(self) -> None:
        """Make the kernel ready for the cell.

        Raises:
            VariableError: an input cannot be opened.
        """
        shell = self._shell
        _append_path(str(Path(__file__).resolve().parents[2]))
        checkout = self._settings["checkout"]
        if checkout not in sys.path:
            sys.path.insert(1 if sys.path[:1] == [""] else 0, checkout)
        # In a notebook `exit()` lets the cell go on and then ends the kernel; here it means what it says.
        shell.user_ns["exit"] = shell.user_ns["quit"] = _leave
        warnings.filterwarnings("ignore", message=_LEAVING)
        shell.events.register("post_run_cell", self.report)
        self._copy_to_log()
        self._leave_quickly()
        self._watch_for_crashes()
        self._can_be_looked_at()
        for name, kind, path in self._settings["inputs"]:
            shell.user_ns[name] = _load(name, kind, Path(path), self._settings["allow_pickle"])

    def report(self, result: Any) -> None:
        """Write how the cell went: called by IPython after each cell that is not silent."""
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            # IPython 7's `%%time` shows an error and goes on as if there had been none.
            error = getattr(sys, "last_value", None)
        told: dict[str, Any] = {"memory": _memory()}
        if isinstance(error, SystemExit):
            told["leaving"] = _exit_code(error.code)
        if error is not None:
            told["failure"] = self._describe(error)
        _write(self._folder / REPORT, told)

    def save(self) -> None:
        """Pack the variables that are asked for into files, and write what became of each."""
        from colab_magics.errors import ColabError
        from colab_magics.store.variables import pack

        saved: dict[str, Any] = {}
        for name in self._settings["outputs"]:
            if name not in self._shell.user_ns:
                saved[name] = {"error": f"the cell did not set {name}"}
                continue
            try:
                packed = pack(
                    name,
                    self._shell.user_ns[name],
                    allow_pickle=self._settings["allow_pickle"],
                    max_bytes=self._settings["variable_bytes"],
                    way_out=_WAY_OUT,
                )
                path = self._folder / f"{name}{packed.suffix}"
                path.write_bytes(packed.data)
                saved[name] = {"kind": packed.kind.value, "path": str(path)}
            except ColabError as error:
                saved[name] = {"error": str(error)}
            except Exception as error:
                saved[name] = {"error": f"{name} could not be saved: {type(error).__name__}: {error}"}
        _write(self._folder / SAVED, {"saved": saved, "memory": _memory()})

    def _copy_to_log(self) -> None:
        """Write what the cell prints and displays to the log at once: a crash a moment later keeps it."""
        # The log is read through the daemon's own descriptor, a job may remove the file.
        log = os.open(self._settings["log"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        for stream in (sys.stdout, sys.stderr):
            # By its class: IPython 9 puts another `write` on the object around each cell, and leaves one.
            vars(stream).pop("write", None)
            stream.__class__ = _logging_class(type(stream), log)
            stream.flush_interval = _FLUSH_S  # type: ignore[union-attr]
        publisher = self._shell.display_pub
        publish = publisher.publish

        def publish_and_log(data: Any, *args: Any, **kwargs: Any) -> Any:
            text = data.get("text/plain") if isinstance(data, Mapping) else None
            if text and WIDGET_VIEW not in data and not kwargs.get("update"):
                _write_all(log, f"{text}\n")
            return publish(data, *args, **kwargs)

        publisher.publish = publish_and_log

    def _leave_quickly(self) -> None:
        """Have the kernel end its threads in the order that works, after what the cell registers with atexit.

        It ends the thread that sends output before the one that answered the request to shut down, which may
        have something to send yet: now and then both wait for ten seconds, or for ever.
        Source: ipykernel 7.4, kernelapp.IPKernelApp.close (once in 30 kernels on a busy machine, 2026-11).
        """
        thread = getattr(getattr(self._shell, "kernel", None), "control_thread", None)

        def end() -> None:
            try:
                Path.cwd()
            except OSError:
                os.chdir("/")  # the cell removed its folder, and IPython asks where it is when it ends
            if thread is not None and thread.is_alive():
                thread.stop()
                thread.join(_THREAD_S)

        atexit.register(end)

    def _watch_for_crashes(self) -> None:
        """Have the interpreter write where it was when it crashes; the file stays open for that."""
        import faulthandler

        self._crash_file = (self._folder / CRASH).open("w")
        faulthandler.enable(file=self._crash_file)

    def _can_be_looked_at(self) -> None:
        # By its path, as this module: the job's folder may have a colab_magics of its own.
        import importlib.util

        path = Path(__file__).with_name("guest_look.py")
        spec = importlib.util.spec_from_file_location("_colab_guest_look", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["_colab_guest_look"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.begin(self._folder / LOOK)

    def _describe(self, error: BaseException) -> dict[str, Any]:
        memory_error = _memory_error(error)
        described = memory_error or error
        place = self._persons_place(described) or self._persons_place(error) or {}
        return {
            "type": _type_name(error),
            "message": _message(error),
            "out_of_memory": memory_error is not None,
            "allocator_summary": _allocator_summary(memory_error) if memory_error is not None else None,
            **place,
        }

    def _persons_place(self, error: BaseException) -> dict[str, Any] | None:
        """The innermost line of the traceback that is in the cell or in the checkout."""
        if isinstance(error, SyntaxError) and error.lineno and self._place_of(error.filename or "", None):
            file = self._place_of(error.filename or "", None)
            return {"file": file, "line": error.lineno, "source": (error.text or "").strip() or None}
        found = None
        step: TracebackType | None = error.__traceback__
        while step is not None:
            code, namespace = step.tb_frame.f_code, step.tb_frame.f_globals
            file = self._place_of(code.co_filename, namespace)
            if file is not None:
                line = step.tb_lineno
                source = linecache.getline(code.co_filename, line, namespace).strip()
                if file == CELL and not source:
                    line, source = self._line_behind_a_magic(line)
                found = {
                    "file": file,
                    "line": line,
                    "source": source or None,
                    "function": _function(code.co_name),
                }
            step = step.tb_next
        return found

    def _place_of(self, filename: str, namespace: Mapping[str, Any] | None) -> str | None:
        path = Path(filename)
        if path.is_absolute() and path.is_file() and "ipykernel_" not in path.parent.name:
            checkout = Path(self._settings["checkout"])
            for root in {checkout, checkout.resolve()}:
                if path.is_relative_to(root):
                    relative = path.relative_to(root)
                    return relative.as_posix() if _is_own(relative) else None
            return None
        of_cell = "ipykernel_" in filename or filename.startswith(("<ipython-input", "<cell", "<timed"))
        return CELL if of_cell and (namespace is None or namespace is self._shell.user_ns) else None

    def _line_behind_a_magic(self, line: int) -> tuple[int, str]:
        """`%%time` and its kin run what follows as a text of its own, one line further down in the cell."""
        lines = self._settings["cell"].split("\n")
        return (line + 1, lines[line].strip()) if line < len(lines) else (line, "")


def install(shell: Any, folder: str) -> None:
    """Begin: called once, in the kernel, before the cell."""
    shell.user_ns.pop("_colab_install", None)
    shell.colab_guest = Guest(shell, Path(folder))
    shell.colab_guest.prepare()


def _append_path(path: str) -> None:
    if path not in sys.path:
        sys.path.append(path)


def _logging_class(kind: Any, log: int) -> Any:
    def write(self: Any, text: str) -> Any:
        if isinstance(text, str):
            _write_all(log, text)
        return kind.write(self, text)

    return type(kind.__name__, (kind,), {"write": write, "__module__": kind.__module__})


def _write_all(log: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "replace"))
    try:
        while data:
            data = data[os.write(log, data) :]
    except OSError:
        return  # a full disk must not end the cell


def _leave(code: object = None) -> NoReturn:
    raise SystemExit(code)


def _exit_code(code: object) -> int:
    """As the interpreter itself takes it: text is an error."""
    return 0 if code is None else code if isinstance(code, int) else 1


def _load(name: str, kind: str, path: Path, allow_pickle: bool) -> object:
    from colab_magics.store.variables import Kind, Packed, unpack

    return unpack(name, Packed(kind=Kind(kind), data=path.read_bytes()), allow_pickle=allow_pickle)


def _is_own(relative: Path) -> bool:
    return {"site-packages", "dist-packages"}.isdisjoint(relative.parts)


def _function(name: str) -> str | None:
    return None if name.startswith(("<module>", "<cell line")) else name


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _message(error: BaseException) -> str:
    try:
        if isinstance(error, SyntaxError):
            return str(error.msg)  # the whole has the made-up name of the cell's file
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _memory_error(error: BaseException) -> BaseException | None:
    """The error in the chain that says that memory ran out."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        if (
            isinstance(step, MemoryError)
            or type(step).__name__ == "OutOfMemoryError"
            or _says_so(_message(step))
        ):
            return step
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return None


def _says_so(message: str) -> bool:
    marks = (
        "CUDA out of memory",
        "CUDA error: out of memory",
        "DefaultCPUAllocator: can't allocate memory",
        "DefaultCPUAllocator: not enough memory",
        "RESOURCE_EXHAUSTED",
    )
    return any(mark in message for mark in marks)


def _allocator_summary(error: BaseException) -> str | None:
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            return str(torch.cuda.memory_summary())
    except Exception as failed:
        return f"torch.cuda.memory_summary() failed: {failed}"
    return _message(error) or None


def _memory() -> dict[str, int | None]:
    """Peak bytes of this process on the host, and of torch's allocator on all GPUs."""
    told: dict[str, int | None] = {"host": _peak_host_bytes(), "gpu": None, "gpu_reserved": None}
    torch = sys.modules.get("torch")
    try:
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            devices = range(torch.cuda.device_count())
            told["gpu"] = sum(torch.cuda.max_memory_allocated(device) for device in devices)
            told["gpu_reserved"] = sum(torch.cuda.max_memory_reserved(device) for device in devices)
    except Exception:
        return told
    return told


def _peak_host_bytes() -> int | None:
    # VmHWM, because ru_maxrss begins with the memory of the process that this one was forked from.
    # Source: https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def _write(path: Path, told: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        print(f"colab-magics could not write what it knows of this job: {error}", file=sys.stderr)  # noqa: T201
