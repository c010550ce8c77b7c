"""Gets a remote kernel and a link to it, and keeps the link: watches it, opens another where it must.

What carries the bytes is a `Carrier`: today a Jupyter Server's websocket (`remote.Link`). Whatever has these
few verbs can take its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from colab_kernel import orphans, sessions
from colab_kernel.background import Background
from colab_kernel.errors import AccessError, KernelError, KernelGoneError, RemoteError
from colab_kernel.link_watch import Act, LinkWatch, Reach
from colab_kernel.messages import Message
from colab_kernel.path_mapping import PathMapping
from colab_kernel.remote import Link
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime
from colab_kernel.terms import Terms

_log = logging.getLogger(__name__)

CLEAN_UP_S = 5.0
"""How long the deletion of one kernel that a killed process left behind may take."""

START_S = 1.0
"""How long the end waits for a kernel that is being started, so as to delete it."""

AGAIN_S = 0.25
"""How soon a deletion that failed is tried again: while a server restarts a dead kernel, it refuses."""


class Carrier(Protocol):
    """A way to and from one remote kernel. None of its verbs blocks."""

    closed: str | None
    unsent_bytes: int
    wants_write: bool
    has_more: bool

    def fileno(self) -> int: ...
    def receive(self) -> list[Message]: ...
    def take_heard(self) -> bool: ...
    def send(self, message: Message) -> None: ...
    def flush(self) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """There is a link. `terms`: what the first one brings; None for one that takes an earlier one's place."""

    terms: Terms | None


@dataclass(frozen=True, slots=True)
class Closed:
    """The link is gone, and another one is being sought."""


@dataclass(frozen=True, slots=True)
class NoKernel:
    """No remote kernel could be had."""

    sentence: str


@dataclass(frozen=True, slots=True)
class KernelLost:
    """There is no remote kernel any more."""

    sentence: str


Event = Opened | Closed | NoKernel | KernelLost


class LinkKeeper:
    """One remote kernel and the link to it.

    Args:
        session_id: the websocket's. A server keeps what it could not deliver under it, for the next link.
        background: runs what blocks.
        clock: Unix seconds that never jump back.
    """

    def __init__(self, *, session_id: str, background: Background, clock: Callable[[], float]) -> None:
        self.link: Carrier | None = None
        self._session_id = session_id
        self._background = background
        self._clock = clock
        self._server: Server | None = None
        self._runtime: Runtime | None = None
        self._kernel_id: str | None = None
        self._starting = threading.Event()  # not set while a kernel is being started
        self._starting.set()
        self._watch: LinkWatch | None = None
        self._is_opening = False
        self._error: RemoteError | None = None
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """What happened since it was last asked."""
        due, self._events = self._events, []
        return due

    # --- the first link ----------------------------------------------------------------------------------

    def connect(self, runtime_name: str | None, *, folder: Path) -> None:
        """Get a kernel of that runtime (None: the current one) and a link to it.

        Args:
            folder: where the frontend's notebook is; its place over there, if it has one, is where the kernel
                works.
        """
        if not self._is_opening:
            self._is_opening = True
            self._background.start(lambda: self._first(runtime_name), lambda got: self._opened(got, folder))

    def _first(self, runtime_name: str | None) -> Carrier:
        runtime = sessions.load().get(runtime_name)
        server = Server(
            runtime,
            read_token=lambda: sessions.read_token(_newest(runtime).token),
            read_proxy_token=lambda: sessions.read_token(_newest(runtime).proxy_token),
            renew_token=lambda: sessions.renew_tokens(_newest(runtime)),
        )
        _delete_orphans(server, runtime)
        self._starting.clear()
        try:
            kernel_id = server.start_kernel(kernel_name=runtime.kernel_name)
            self._runtime, self._server, self._kernel_id = runtime, server, kernel_id
        finally:
            self._starting.set()
        try:
            orphans.record(kernel_id, runtime.name, os.getpid())
        except KernelError as error:  # it can do its work without
            _log.warning("%s", error)
        try:
            return self._open()
        except KernelError:
            _delete(server, kernel_id)
            raise

    def _open(self) -> Carrier:
        assert self._runtime is not None
        assert self._server is not None
        assert self._kernel_id is not None
        runtime, kernel_id, session_id = self._runtime, self._kernel_id, self._session_id
        access = self._server.access()
        try:
            return Link.open(runtime, access, kernel_id=kernel_id, session_id=session_id)
        except AccessError:
            newer = self._server.newer_access(access)
            if newer is None:
                raise
            return Link.open(runtime, newer, kernel_id=kernel_id, session_id=session_id)

    def _opened(self, got: Carrier | Exception, folder: Path) -> None:
        self._is_opening = False
        if isinstance(got, Exception):
            self._events.append(NoKernel(f"{_sentence(got)}; then run the cell again"))
            return
        runtime = self._runtime
        assert runtime is not None
        self.link = got
        self._watch = LinkWatch(gone_after_s=runtime.gone_after_s)
        self._watch.opened(self._clock())
        self._events.append(Opened(_terms(runtime, folder)))

    # --- the link as it is -------------------------------------------------------------------------------

    def receive(self) -> Sequence[Message]:
        """What has come over the link."""
        if self.link is None or self._watch is None:
            return ()
        messages = self.link.receive()
        if self.link.take_heard():
            self._watch.heard(self._clock())
        if self.link.closed is not None:
            _log.info("the link closed: %s", self.link.closed)
            self._drop()
            self._watch.closed(self._clock())
        return messages

    def pause(self, is_paused: bool) -> None:
        """Whether we ourselves do not read for now, so that silence means nothing."""
        if self._watch is not None:
            self._watch.paused(is_paused, self._clock())

    def tick(self) -> None:
        """Do what the watch finds due."""
        if self._watch is None:
            return
        for act in self._watch.tick(self._clock()):
            match act:
                case Act.PING:
                    if self.link is not None:
                        self.link.ping()
                case Act.ASK:
                    self._ask()
                case Act.REOPEN:
                    self._reopen()
                case Act.GIVE_UP:
                    self._give_up()

    def _drop(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
            self._events.append(Closed())

    def _ask(self) -> None:
        server, watch = self._server, self._watch
        assert server is not None
        assert watch is not None
        self._background.start(
            lambda: server.is_reachable(timeout_s=5),
            lambda reach: watch.reach(Reach.SILENT if isinstance(reach, Exception) else reach, self._clock()),
        )

    def _reopen(self) -> None:
        if not self._is_opening:
            self._is_opening = True
            self._background.start(self._open, self._reopened)

    def _reopened(self, got: Carrier | Exception) -> None:
        self._is_opening = False
        assert self._watch is not None
        if isinstance(got, RemoteError):
            self._error = got
            self._watch.open_failed(got, self._clock())
        elif isinstance(got, Exception):
            self._error = RemoteError(_sentence(got))
            self._watch.open_failed(self._error, self._clock())
        else:
            self._drop()
            self.link, self._error = got, None
            self._watch.opened(self._clock())
            self._events.append(Opened(None))

    def _give_up(self) -> None:
        runtime, error = self._runtime, self._error
        assert runtime is not None
        self._drop()
        self._watch = None
        if isinstance(error, KernelGoneError):
            self._events.append(KernelLost(str(error)))
            return
        why = str(error) if error else f"{runtime.url} lets nobody through to a Jupyter Server any more"
        lost = "The connection to the remote kernel was lost, and did not come back within"
        self._events.append(KernelLost(f"{lost} {runtime.gone_after_s:g} s: {why}; then restart the kernel"))

    # --- past the link -----------------------------------------------------------------------------------

    def interrupt(self, then: Callable[[str | None], None]) -> None:
        """Interrupt the kernel by REST; `then` gets None, or why it failed."""
        server, kernel_id = self._server, self._kernel_id
        if server is None or kernel_id is None:
            then(None)
            return
        self._background.start(
            lambda: server.interrupt(kernel_id),
            lambda outcome: then(_sentence(outcome) if isinstance(outcome, Exception) else None),
        )

    def end(self, *, timeout_s: float) -> None:
        """Close the link and delete the kernel; blocks, at most `timeout_s` and START_S."""
        self._watch = None
        if self.link is not None:
            self.link.close()
            self.link = None
        # One that is being started would stay for good: nobody else will ever know of it.
        self._starting.wait(START_S)
        server, kernel_id = self._server, self._kernel_id
        if server is None or kernel_id is None:
            return

        deadline = time.monotonic() + timeout_s

        def delete() -> None:
            while (left := deadline - time.monotonic()) > 0 and not _delete(
                server, kernel_id, timeout_s=left
            ):
                time.sleep(min(AGAIN_S, left))

        self._background.start(delete, lambda outcome: None).join(timeout_s)


def _newest(runtime: Runtime) -> Runtime:
    """The runtime as the registry has it now: it may have a newer token than at start.

    An entry that has come to name another address is another runtime's: its token is not for this one.
    """
    with contextlib.suppress(KernelError):  # forgotten meanwhile: what was known must do
        registered = sessions.load().get(runtime.name)
        return registered if registered.url == runtime.url else runtime
    return runtime


def _delete(server: Server, kernel_id: str, *, timeout_s: float = CLEAN_UP_S) -> bool:
    """Delete a kernel; whether it is gone. If not, the note about it stays, for the next process to try."""
    try:
        server.delete_kernel(kernel_id, timeout_s=timeout_s)
    except KernelGoneError:
        pass
    except KernelError as error:
        _log.info("a kernel could not be deleted: %s", error)
        return False
    _forget(kernel_id)
    return True


def _forget(kernel_id: str) -> None:
    try:
        orphans.forget(kernel_id)
    except KernelError as error:
        _log.warning("%s", error)


def _delete_orphans(server: Server, runtime: Runtime) -> None:
    for kernel_id, runtime_name in orphans.abandoned():
        if runtime_name == runtime.name and not _delete(server, kernel_id):
            return  # whoever does not let this one be ended would refuse the others too, or not answer


def _terms(runtime: Runtime, folder: Path) -> Terms:
    if not runtime.local_root or not runtime.remote_root:
        return Terms(max_message_bytes=runtime.max_message_bytes)
    try:
        inside = folder.resolve().relative_to(Path(runtime.local_root).resolve()).as_posix()
    except ValueError:
        inside = "."
    return Terms(
        max_message_bytes=runtime.max_message_bytes,
        mappings=(PathMapping(local_root=runtime.local_root, remote_root=runtime.remote_root),),
        folders=(f"{runtime.remote_root.rstrip('/')}/{inside}", runtime.remote_root),
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, KernelError):
        return str(error)
    _log.error("an error of the proxy kernel itself", exc_info=error)
    return f"The proxy kernel failed ({type(error).__name__}); its log on stderr has the details"
