"""A kernel of a job's own: started apart from the machine's configuration, spoken to without a fixed wait.

A cell runs in its own; a script has one that stands before its debugger, so that both are met in one way.

Its connection file is `<folder>/connection.json` (0600), its sockets are files in a folder that only we may
enter: iopub has no authentication of its own, so a TCP port would let anybody on the machine read along.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.session import Session

from colab_magics.daemon.processes import Alarm, Child, start

CONNECTION = "connection.json"
SAID = "said.txt"
_CHANNELS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
_MAX_SOCKET_PATH = 95  # sun_path has 104 bytes on macOS, 108 on Linux, its number and a zero included
_RECONNECT_MS = 10
_KNOCK_S = 0.05

# Colab's /etc/ipython/ipython_config.py names Google's kernel class and extension for every kernel on the
# machine, and turns the capture of subprocesses' output off. (docs: COLAB, trap 1; ipykernel 6.17.1 and 7)
_FLAGS = (
    "--IPKernelApp.kernel_class=ipykernel.ipkernel.IPythonKernel",
    "--InteractiveShellApp.extensions=[]",
    "--IPKernelApp.capture_fd_output=True",
    "--HistoryManager.hist_file=:memory:",
)

Message = dict[str, Any]


class NoAnswer(Exception):
    """The kernel did not come up."""


def ipykernel(python: Path) -> tuple[str | Path, ...]:
    """The command of an ordinary kernel, short of its connection file."""
    return (python, "-m", "ipykernel_launcher", *_FLAGS)


class Kernel:
    """A running kernel process and this side's sockets. One thread uses it; `close` ends all of it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        folder: Path,
        token: str,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the process. It is not ready until it answers.

        Args:
            command: what to start; `-f` and the connection file are put behind it.
            folder: where its connection file and sockets are to be.
            pass_fds: descriptors that it inherits.

        Raises:
            OSError: the interpreter or `cwd` is not there, or the disk refuses.
        """
        self.folder = folder
        self._sockets_folder: Path | None = None
        prefix = folder / "k"
        if len(os.fsencode(prefix)) > _MAX_SOCKET_PATH:
            self._sockets_folder = Path(tempfile.mkdtemp(prefix="colab-"))
            prefix = self._sockets_folder / "k"
        key = secrets.token_hex(32)
        connection: dict[str, Any] = {f"{name}_port": number for name, number in _CHANNELS.items()}
        connection |= {"ip": str(prefix), "transport": "ipc", "key": key, "signature_scheme": "hmac-sha256"}
        path = folder / CONNECTION
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(connection, file)
        with (folder / SAID).open("wb") as said:
            self.child: Child = start(
                [*command, "-f", path],
                cwd=cwd,
                # The kernel ends by itself when this process is gone.
                environment={**environment, "JPY_PARENT_PID": str(os.getpid())},
                output=said,
                token=token,
                pass_fds=pass_fds,
            )
        self._session = Session(key=key.encode(), username="colab-magics")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets = {
            name: self._connect(kind, f"ipc://{prefix}-{_CHANNELS[name]}")
            for name, kind in (("shell", zmq.DEALER), ("control", zmq.DEALER), ("iopub", zmq.SUB))
        }

    def send(self, msg_type: str, content: Mapping[str, Any], *, channel: str = "shell") -> str:
        """Send a request; return its msg_id."""
        message: Any = self._session.send(self._sockets[channel], msg_type, dict(content))
        return str(message["header"]["msg_id"])

    def knock(self, receive: Callable[[float], list[tuple[str, Message]]], *, within_s: float) -> None:
        """Ask until both channels answer: what iopub says before it is subscribed to is lost.

        Args:
            receive: what comes within so many seconds, as `receive`.

        Raises:
            NoAnswer: nothing came in that time.
        """
        deadline = time.monotonic() + within_s
        asked: set[str] = {self.send("kernel_info_request", {})}
        answered = heard = False
        while not (answered and heard):
            if time.monotonic() > deadline:
                raise NoAnswer(f"the kernel did not answer within {within_s:g} s")
            for channel, message in receive(_KNOCK_S):
                ours = message["parent_header"].get("msg_id") in asked
                answered = answered or (channel == "shell" and ours)
                heard = heard or (channel == "iopub" and ours)
            if answered and not heard:
                asked.add(self.send("kernel_info_request", {}))

    def receive(
        self, *, timeout_s: float, alarm: Alarm, child: Child | None = None
    ) -> Iterator[tuple[str, Message]]:
        """Yield (channel, message) of everything that is there.

        If nothing is, wait until something comes, the process ends, `alarm` rings or `timeout_s` have passed.
        The process is the kernel's, or `child`.
        """
        child = child or self.child
        poller = zmq.Poller()
        for name in ("iopub", "shell", "control"):
            poller.register(self._sockets[name], zmq.POLLIN)
        poller.register(alarm.fileno(), zmq.POLLIN)
        if child.exit_fd is not None and child.process.returncode is None:
            poller.register(child.exit_fd, zmq.POLLIN)
        elif child.exit_fd is None:
            timeout_s = min(timeout_s, 0.02)
        ready = dict(poller.poll(max(0, int(timeout_s * 1000))))
        if alarm.fileno() in ready:
            alarm.clear()
        for name in ("iopub", "shell", "control"):
            if self._sockets[name] in ready:
                yield from ((name, message) for message in self._drain(name))

    def close(self) -> None:
        """Kill the process and all that it started; let go of the sockets and their files."""
        self.child.end()
        self.child.close()
        for socket in self._sockets.values():
            socket.close(linger=0)
        self._context.term()
        if self._sockets_folder is not None:
            shutil.rmtree(self._sockets_folder, ignore_errors=True)
        for number in _CHANNELS.values():
            (self.folder / f"k-{number}").unlink(missing_ok=True)

    def said(self, limit_bytes: int) -> bytes:
        """The end of what the process wrote beside its channels: why it could not start, where it crashed."""
        try:
            with (self.folder / SAID).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - limit_bytes))
                return file.read()
        except OSError:
            return b""

    def _connect(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        # The kernel is not there yet: its answer must not wait for the default of 100 ms.
        socket.reconnect_ivl = _RECONNECT_MS
        socket.rcvhwm = 0  # what we are slow to read must wait, not be lost
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(address)
        return socket

    def _drain(self, channel: str) -> Iterator[Message]:
        """What is there, but not for ever: a flood must not keep us from looking at the clock."""
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            try:
                _, message = self._session.recv(self._sockets[channel], mode=zmq.NOBLOCK, copy=True)
            except ValueError:
                continue  # not signed with our key: somebody else's
            if message is None:
                return
            yield message
