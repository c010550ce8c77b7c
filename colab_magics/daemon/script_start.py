"""Our code in a command's Python: connects it to its debugger, then runs its script as Python itself would.

    python [OPTION …] script_start.py PORT LOOK script.py [ARG …]
    python [OPTION …] script_start.py PORT LOOK -m module [ARG …]

PORT is where the debugger waits on loopback, LOOK the path of the socket where the stacks are told. What the
script finds (`sys.argv`, `sys.path`, `__main__`, its environment) and how it ends (its traceback, its exit
code) are as without. It runs in the job's interpreter, so it imports nothing of ours. Without debugpy the
script runs all the same. A process that the script forks is left alone: nobody could let it go on.

Source: https://docs.python.org/3/using/cmdline.html#interface-options; debugpy 1.8.15 and 1.8.22,
server/api.py (connect) and server/cli.py (run_file), read 2026-11
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # this file's folder: the script's modules are not to be looked for in it

import contextlib
import importlib.util
import json
import socket
import threading
import types
from pathlib import Path
from typing import Any

NO_DEBUGGER = "colabNoDebugger"
"""The event by which is said that there is no debugger here; its body has a `reason`."""

OURS = 3
"""How many words of `sys.argv` are not the script's: this file, PORT, LOOK."""


def main() -> None:
    port, look = int(sys.argv[1]), Path(sys.argv[2])
    begin = len(sys.orig_argv) - len(sys.argv)
    del sys.orig_argv[begin : begin + OURS], sys.argv[:OURS]
    before = dict(os.environ)
    try:
        run_code = _connect(port)
    except Exception as error:
        run_code = _run_code
        _refuse(port, str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}")
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    _can_be_looked_at(look)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        if sys.argv[0] == "-m":
            _run_module()
        else:
            _run_script(run_code)
    except BaseException:
        _hide_our_frames(run_code)
        raise


def _connect(port: int) -> Any:
    """Attach this process to its debugger; return what runs a script's code.

    It is debugpy's own, since its debugger takes for unhandled what leaves the frame below that.
    """
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or it warns about Python's frozen modules
    if importlib.util.find_spec("debugpy") is None:
        raise ImportError(f"debugpy is not installed for {sys.executable}")
    import debugpy.server  # which has pydevd found
    import pydevd  # type: ignore[import-not-found]
    from _pydevd_bundle import pydevd_runpy  # type: ignore[import-not-found]

    hidden = (str(Path(debugpy.__file__).parent), __file__)
    pydevd.settrace(
        host="127.0.0.1",
        port=port,
        suspend=False,
        wait_for_ready_to_run=False,
        patch_multiprocessing=False,
        notify_stdin=False,
        dont_trace_start_patterns=hidden,
    )
    debugger = pydevd.get_global_debugger()
    debugger.block_until_configuration_done(cancel=_Gone(debugger))

    def leave_alone() -> None:
        debugger.pydb_disposed = True
        pydevd.settrace_forked(setup_tracing=False)
        sys.settrace(None)
        threading.settrace(None)

    os.register_at_fork(after_in_child=leave_alone)
    return pydevd_runpy._run_code


class _Gone:
    """Stands in for an event that is set when the debugger's other end is gone."""

    def __init__(self, debugger: Any) -> None:
        self._debugger = debugger

    def is_set(self) -> bool:
        return bool(self._debugger.pydb_disposed)

    def set(self) -> None:
        """The debugger says so when nobody has to wait any longer."""


def _refuse(port: int, reason: str) -> None:
    """Say that there is no debugger; the other end closes the line when that is in the job's log."""
    body = json.dumps({"type": "event", "event": NO_DEBUGGER, "body": {"reason": reason}}).encode()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        line.recv(1)


def _can_be_looked_at(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "_colab_guest_look", Path(__file__).with_name("guest_look.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["_colab_guest_look"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.begin(path, what="the script")


def _run_script(run_code: Any) -> None:
    path = Path(sys.argv[0]).absolute()
    try:
        source = path.read_bytes()
    except OSError as error:
        said = f"can't open file {str(path)!r}: [Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.orig_argv[0]}: {said}\n")
        sys.exit(2)
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, str(path.resolve().parent))
    code = compile(source, str(path), "exec", dont_inherit=True)
    run_code(code, sys.modules["__main__"].__dict__, mod_name="__main__", script_name=str(path))


def _run_code(code: Any, names: dict[str, Any], *, mod_name: str, script_name: str) -> None:
    """As debugpy's own, where there is none."""
    names.update(__name__=mod_name, __file__=script_name, __cached__=None)
    exec(code, names)  # noqa: S102 - it is what was asked to be run


def _run_module() -> None:
    import runpy

    module = sys.argv.pop(1)
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, str(Path.cwd()))
    runpy._run_module_as_main(module)  # type: ignore[attr-defined]


def _hide_our_frames(run_code: Any) -> None:
    """Have an error that leaves the script shown as if nothing had stood around it."""
    shown = sys.excepthook
    ours = {__file__, run_code.__code__.co_filename}

    def show(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename in ours:
            trace = trace.tb_next
        shown(kind, error.with_traceback(trace), trace)

    sys.excepthook = show


if __name__ == "__main__":
    main()
