"""A connection that is kept: what its keeper was told, and how it is, in files of their owner's. No secret.

They are in `colab-kept/NAME/` of Jupyter's runtime directory: `kept.json` is the order, `state.json` what the
keeper says, `ssh.log` what ssh said last. The control socket is apart, since its path must be short.

Source: https://man7.org/linux/man-pages/man7/unix.7.html (sun_path has 108 bytes; ssh wants 17 of them)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from colab_kernel import private_files, sessions
from colab_magics.errors import TunnelError
from colab_magics.tunnel.private_server import started
from colab_magics.tunnel.ssh_link import SshLink

OPEN, RECONNECTING, GONE = "open", "reconnecting", "gone"

_END_S = 20.0
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a keeper keeps.

    Attributes:
        link: the connection.
        server: the private server's name there, empty if what is there is none of ours.
        python: the interpreter that was asked for, empty for any.
        local_port, remote_port: the forward; 0 before there is one.
        may_ask: whether ssh may ask at the keeper's terminal, the first time.
    """

    link: SshLink
    server: str
    python: str = ""
    local_port: int = 0
    remote_port: int = 0
    may_ask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a connection is, and which process keeps it. `reason`: why it is not open."""

    pid: int
    started: str
    state: str
    reason: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether that process runs."""
        return bool(self.started) and started(self.pid) == self.started


class Folder:
    """The files of one kept connection."""

    def __init__(self, path: Path) -> None:
        """Take a folder that may not be there."""
        self.path = path
        self.log = path / "ssh.log"

    @classmethod
    def of(cls, name: str) -> Folder:
        """The folder of a session."""
        return cls(sessions.registry_path().with_name("colab-kept") / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who opens or closes it. TunnelError: somebody else is at it for too long."""
        path = self.path.with_suffix(".lock")
        try:
            private_files.make_folder_of(path)
            with private_files.locked(path):
                yield
        except TimeoutError as error:
            raise TunnelError(
                f"{self.path.name} is being opened or closed by another process: try again when it is done"
            ) from error
        except OSError as error:
            raise TunnelError(f"{path} cannot be made ({error.strerror})") from error

    def make(self) -> None:
        """Have it, for its owner alone. TunnelError: it cannot be."""
        try:
            private_files.make_folder_of(self.path / "any")
            self.path.chmod(0o700)
        except OSError as error:
            raise TunnelError(f"{self.path} cannot be made ({error.strerror})") from error

    def kept(self) -> Kept | None:
        """The order, if there is one. TunnelError: it cannot be read."""
        found = self._read("kept.json")
        if found is None:
            return None
        link = found.pop("link")
        control = Path(link["control"])
        known = SshLink(destination=tuple(link["destination"]), config=link["config"], control=control)
        return Kept(link=known, **found)

    def write_kept(self, kept: Kept) -> None:
        """Note the order."""
        plain = asdict(kept)
        plain["link"]["control"] = str(kept.link.control)
        self._write("kept.json", plain)

    def state(self) -> State:
        """How it is; gone, if nobody keeps it. TunnelError: that cannot be read."""
        found = self._read("state.json")
        if found is None:
            return State(pid=0, started="", state=GONE)
        state = State(**found)
        if state.state != GONE and not state.is_kept:
            state = replace(state, state=GONE, reason="the process that kept it has ended")
        return state

    def write_state(self, state: str, reason: str = "") -> None:
        """Note how it is, and that it is this process that keeps it."""
        pid = os.getpid()
        self._write("state.json", asdict(State(pid=pid, started=started(pid), state=state, reason=reason)))

    def put_back(self, kept: Kept, reason: str) -> None:
        """Have an order here again that nobody keeps now: what it names can still be closed, or opened."""
        self.make()
        self.write_kept(kept)
        self._write("state.json", asdict(State(pid=0, started="", state=GONE, reason=reason)))

    def end(self) -> None:
        """End the keeper and the connection; take away every file. It is no error if there is nothing.

        Raises:
            TunnelError: the keeper does not end.
        """
        state = self.state()
        if state.is_kept:
            _end_process(state)
        kept = self.kept()
        if kept is not None:
            kept.link.end()  # a keeper that was killed could not
            drop_control(kept.link.control)
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            data = private_files.read(path, most_bytes=_MOST_BYTES)
            return None if data is None else dict(json.loads(data))
        except OSError as error:
            raise TunnelError(f"{path} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError) as error:
            raise TunnelError(f"{path} was not used: {error}. It was left as it is: move it away") from error

    def _write(self, name: str, content: dict[str, Any]) -> None:
        private_files.replace(self.path / name, json.dumps(content).encode())


def make_control() -> Path:
    """A path for a control socket, in a new folder of this user's alone."""
    return Path(tempfile.mkdtemp(prefix="colab-ssh-", dir="/tmp")) / "s"


def drop_control(control: Path) -> None:
    """Take that folder away."""
    control.unlink(missing_ok=True)
    if control.parent.is_dir():
        control.parent.rmdir()


def _end_process(state: State) -> None:
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while state.is_kept:
        if time.monotonic() > deadline:
            os.kill(state.pid, signal.SIGKILL)
            deadline = time.monotonic() + _END_S
        time.sleep(0.02)
