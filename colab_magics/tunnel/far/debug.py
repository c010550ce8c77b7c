"""Runs over there: one script under debugpy, which waits for a client; what it writes, and how it ends.

It needs `forward` to be there. What is said here by itself: `ready` (the port that a client connects to, on
loopback), `output` (held back until the other side has passed on what it got), `ended` (the exit code).
"""

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

COLAB_OUTPUT_WINDOW_BYTES = 1024 * 1024
COLAB_READY_S = 60
COLAB_OUTPUT_END_S = 2
COLAB_ADAPTER_END_S = 10
COLAB_RUN_DEBUGPY = """
import debugpy, runpy, sys
debugpy.configure(python=sys.argv.pop(1))
runpy.run_module("debugpy", run_name="__main__", alter_sys=True)
"""
"""`python -m debugpy`, with another Python for its adapter: that has no option of the command line."""
COLAB_RUN_ADAPTER = """
import fcntl, os, sys
import loopback_peers
folder = os.path.dirname(os.path.abspath(__file__))
def stand_alone():
    global file
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    file = open(os.path.join(folder, "adapter.pid"), "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    print(os.getpid(), file=file, flush=True)
os.register_at_fork(after_in_child=stand_alone)
loopback_peers.main(sys.argv[1:])
"""
"""The adapter with guarded ports, which after its fork has a file with its number, locked while it lives.

It lets go of the script's pipes there: until it ends, they would not be at their end either.
"""


class ColabScript:
    def __init__(self, content, guard):
        self.unpassed = 0
        self.changed = threading.Condition()
        self.folder = tempfile.mkdtemp(prefix="colab-debug-")
        self.endpoints = os.path.join(self.folder, "endpoints.json")
        command = [sys.executable]
        command += ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []
        command += ["-c", COLAB_RUN_DEBUGPY, self.adapter_python(guard)]
        command += ["--listen", "127.0.0.1:0", "--wait-for-client"]
        self.process = subprocess.Popen(
            [*command, content["script"], *content["arguments"]],
            cwd=content["folder"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=self.die_with_parent if sys.platform == "linux" else None,
        )
        pipes = (("stdout", self.process.stdout), ("stderr", self.process.stderr))
        self.readers = [
            threading.Thread(target=self.read, args=(name, pipe), daemon=True) for name, pipe in pipes
        ]
        for work in (*self.readers, threading.Thread(target=self.watch, daemon=True)):
            work.start()

    def adapter_python(self, guard):
        """What debugpy starts its adapter with: Python, with a guard on its ports where the system allows it.

        Source: https://github.com/microsoft/debugpy/wiki/API-Reference (debugpy.configure, `python`)
        """
        with open(os.path.join(self.folder, "loopback_peers.py"), "wb") as file:
            file.write(guard)
        program = os.path.join(self.folder, "adapter.py")
        with open(program, "w") as file:
            file.write(COLAB_RUN_ADAPTER)
        start = os.path.join(self.folder, "python")
        with open(start, "w") as file:
            file.write('#!/bin/sh\nexec "%s" "%s" "$@"\n' % (sys.executable, program))
        os.chmod(start, 0o700)
        try:
            subprocess.run([start, os.devnull], check=True)
        except (OSError, subprocess.CalledProcessError):
            return sys.executable  # programs may not be started from that folder
        return start

    def environment(self):
        env = {name: text for name, text in os.environ.items() if not name.startswith(("JPY_", "PYDEVD_"))}
        if env.get("MPLBACKEND", "").startswith("module://"):
            del env["MPLBACKEND"]  # the kernel's own, for notebooks
        env.update(PYTHONUNBUFFERED="1", DEBUGPY_ADAPTER_ENDPOINTS=self.endpoints)
        env.update(PYDEVD_DISABLE_FILE_VALIDATION="1")
        return env

    @staticmethod
    def die_with_parent():
        """Source: https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    def say(self, what, buffers=(), **more):
        colab_pace.wait()
        colab_far.tell({"debug": what, **more}, buffers)

    def read(self, name, pipe):
        while True:
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                return
            with self.changed:
                self.changed.wait_for(lambda: self.unpassed < COLAB_OUTPUT_WINDOW_BYTES)
                self.unpassed += len(piece)
            self.say("output", [piece], stream=name)

    def passed(self, count):
        with self.changed:
            self.unpassed -= count
            self.changed.notify_all()

    def watch(self):
        deadline = time.monotonic() + COLAB_READY_S
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                with open(self.endpoints) as file:
                    port = json.load(file)["client"]["port"]
            except (OSError, ValueError, KeyError):
                time.sleep(0.02)
                continue
            self.say("ready", port=port)
            break
        else:
            self.kill()
        code = self.process.wait()
        for reader in self.readers:  # its children may hold the pipes for longer than it lives
            while reader.is_alive() and self.unpassed >= COLAB_OUTPUT_WINDOW_BYTES:
                time.sleep(0.05)
            reader.join(COLAB_OUTPUT_END_S)
        self.say("ended", code=code)
        deadline = time.monotonic() + COLAB_ADAPTER_END_S
        while self.adapter() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.close()

    def send(self, number):
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def kill(self):
        self.send(signal.SIGKILL)

    def adapter(self):
        """The number of the debugger's adapter, while it lives.

        It ends after its script; but not by itself if that ended before it had connected to it.
        """
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "adapter.pid")) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
        return 0

    def close(self):
        """End what still runs, and leave nothing."""
        self.kill()
        adapter = self.adapter()
        if adapter:
            with contextlib.suppress(ProcessLookupError):
                os.kill(adapter, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


colab_scripts = []


@colab_far.verb
def debug_start(content, buffers):
    """Start a script that waits for a client."""
    import importlib.util

    if importlib.util.find_spec("debugpy") is None:
        raise RuntimeError("debugpy is not installed there: `%s -m pip install debugpy`" % sys.executable)
    if not os.path.isfile(content["script"]):
        raise RuntimeError("%s is not there: does Git ignore it?" % content["script"])
    if not os.path.isdir(content["folder"]):
        content["folder"] = os.path.dirname(content["script"])
    script = ColabScript(content, bytes(buffers[0]))
    colab_scripts.append(script)
    atexit.register(script.close)
    return {"pid": script.process.pid}, []


@colab_far.verb
def debug_passed(content, buffers):
    """The other side has shown so much output."""
    colab_scripts[-1].passed(content["count"])
    return {}, []


@colab_far.verb
def debug_signal(content, buffers):
    """Interrupt the script, or end it."""
    colab_scripts[-1].send(signal.SIGKILL if content["kill"] else signal.SIGINT)
    return {}, []
