"""Our code inside a job's process: tells where the job is, without a debugger and without stopping it.

Whoever connects to the socket gets the stacks as text: all frames of the main thread, its innermost ones
with their variables, and the innermost frame of each other thread. The socket is in a folder that only the
job's user may enter.
"""

from __future__ import annotations

import linecache
import os
import reprlib
import socket
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType

INNERMOST = 3
_VARIABLES = 40
_IPYTHONS = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open", "debugpy"})
_LAUNCHERS = frozenset({"ipykernel_launcher", "script_start"})
_DEBUGGERS = frozenset({"pydevd", "_pydevd_bundle", "_pydevd_sys_monitoring"})
_MACHINERY = frozenset(
    {
        "ipykernel",
        "ipykernel_launcher",
        "IPython",
        "tornado",
        "asyncio",
        "zmq",
        "traitlets",
        "runpy",
        "history",
    }
    | {"_colab_guest", "threading", "selectors", "debugpy", "concurrent"}
    | _DEBUGGERS
)


def begin(path: Path, *, what: str = "the cell") -> None:
    """Answer from now on, in a thread that the debugger leaves alone. A path too long for a socket: never.

    Args:
        what: what the main thread runs.
    """
    listener = socket.socket(socket.AF_UNIX)
    # By the folder's descriptor, since a socket's path may have 104 bytes on some systems, and 108 on others.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        listener.listen(4)
    except OSError:
        listener.close()
        return
    finally:
        os.close(folder)
    thread = threading.Thread(target=_answer, args=(listener, what), name="colab-look", daemon=True)
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
    thread.start()


def _answer(listener: socket.socket, what: str) -> None:
    while True:
        line, _ = listener.accept()
        with line:
            try:
                line.sendall(describe(threading.main_thread(), what=what).encode("utf-8", "replace"))
            except OSError:
                continue


def describe(main: threading.Thread, *, what: str) -> str:
    """The stacks of all threads; of the main one with variables."""
    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = []
    if main.ident in frames:
        told += [f"{what}:", *_stack(frames[main.ident])]
    for ident, frame in frames.items():
        name = names.get(ident, "?")
        if ident != main.ident and not _is_kernel_s(frame):
            told += [f"thread {name}:", f"  {_place(frame)}"]
    return "\n".join(told) + "\n"


def _stack(innermost: FrameType) -> list[str]:
    frames: list[FrameType] = []
    step: FrameType | None = innermost
    while step is not None:
        frames.append(step)
        step = step.f_back
    held = _held(frames)
    frames = held + [frame for frame in frames if frame not in held]
    own = [frame for frame in frames if not _is_kernel_s(frame)] or frames[:INNERMOST]
    told = []
    for depth, frame in reversed(list(enumerate(own))):
        told.append(f"  {_place(frame)}")
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals).strip()
        told += [f"    {source}"] if source else []
        if depth < INNERMOST:
            told += _variables(frame)
    return told


def _held(frames: list[FrameType]) -> list[FrameType]:
    """Those of an error that a debugger holds, innermost first: some may have left the stack already.

    pydevd has (type, error, traceback) in its hands then.
    """
    own = (frame for frame in frames if _module(frame) in _DEBUGGERS)
    for value in (value for frame in own for value in frame.f_locals.values()):
        if isinstance(value, tuple) and len(value) == 3 and isinstance(value[2], TracebackType):
            held: list[FrameType] = []
            trace: TracebackType | None = value[2]
            while trace is not None:
                held.insert(0, trace.tb_frame)
                trace = trace.tb_next
            return held
    return []


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _variables(frame: FrameType) -> list[str]:
    # At the cell's own level they are the notebook's: those that people made, not what IPython keeps there.
    shown = [name for name in frame.f_locals if not name.startswith("_")]
    at_top = frame.f_code.co_name.startswith(("<module>", "<cell line"))
    kept = _IPYTHONS if at_top else frozenset()
    return [
        f"      {name} = {_brief(frame.f_locals[name])}" for name in shown[:_VARIABLES] if name not in kept
    ]


def _brief(value: object) -> str:
    """A value in a few words; what could take long, or touch a GPU, by its type and shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__}, shape {tuple(shape)}, {getattr(value, 'dtype', '')}"
    if isinstance(value, bool | int | float | complex | str | bytes | list | tuple | dict | set | None):
        return reprlib.repr(value)
    return f"<{type(value).__name__}>"


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_name}, line {frame.f_lineno} of {code.co_filename}"


def _is_kernel_s(frame: FrameType) -> bool:
    """Whether it is the kernel's own machinery."""
    is_launcher = Path(frame.f_code.co_filename).stem in _LAUNCHERS
    return _module(frame) in _MACHINERY or is_launcher or frame.f_globals is globals()
