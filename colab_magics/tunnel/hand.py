"""A hand on the machine: a kernel of our own there, which runs pieces of our code and talks with them.

It goes through the Jupyter Server and its authentication, so whatever it does there needs no other port. What
it runs is in `far/`: each piece registers verbs, which `Hand.ask` calls over a comm, with binary buffers.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#custom-messages (comm_open, comm_msg)
"""

from __future__ import annotations

import getpass
import itertools
import queue
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from colab_kernel.errors import KernelError, MalformedError, UnframeableError
from colab_kernel.made_messages import MessageMaker
from colab_kernel.messages import Buffer, Channel, Json, JsonObject, Message
from colab_kernel.remote import Link
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime
from colab_magics.errors import FullDiskError, TunnelError
from colab_magics.tunnel.servers import server_of

FAR = Path(__file__).with_name("far")
TARGET = "colab"
ASK_S = 60.0
PING_S = 5.0
SILENT_S = 20.0
"""After so long without a sign of life the link counts as broken."""

T = TypeVar("T")
Event = Callable[[Mapping[str, Any], Sequence[Buffer]], None]
DebugMessage = Callable[[str, Mapping[str, Any]], None]
"""Takes `debug_reply` or `debug_event`, and its content."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb returned: JSON values, and bytes beside them."""

    content: Mapping[str, Any]
    buffers: tuple[Buffer, ...] = ()


@dataclass(slots=True)
class _Run:
    """Code that runs there. Its reply and its idle come in either order, on two channels."""

    outcome: Future[str] = field(default_factory=Future)
    printed: list[str] = field(default_factory=list)
    is_replied: bool = False
    is_idle: bool = False


class Hand:
    """One helper kernel and the link to it. Its methods may be called from any thread.

    Args:
        on_event: called, in a thread of the hand's own, for what verbs say that nobody asked.
        on_debug: called there for what the kernel's debugger says.
    """

    def __init__(
        self,
        server: Server,
        kernel_id: str,
        link: Link,
        *,
        on_event: Event | None = None,
        on_debug: DebugMessage | None = None,
    ) -> None:
        """Take over a kernel and a link; see `open`."""
        self._server = server
        self._kernel_id = kernel_id
        self._link = link
        self._on_event, self._on_debug = on_event, on_debug
        self._make = MessageMaker(session=uuid.uuid4().hex, username=getpass.getuser())
        self._comm_id = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._loaded: set[str] = set()
        self._asked: dict[int, Future[Answer]] = {}
        self._running: dict[str, _Run] = {}
        self._outbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._reader, self._writer = socket.socketpair()
        self._is_over = False
        self._why_over = "the session was closed"
        self._thread = threading.Thread(target=self._pump, name="colab hand", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        runtime: Runtime,
        *,
        on_event: Event | None = None,
        on_debug: DebugMessage | None = None,
        bare: bool = False,
    ) -> Self:
        """Start a helper kernel at a runtime; blocks until it answers.

        Args:
            bare: leave the kernel as it is: only `run` and `debug` work.

        Raises:
            TunnelError: there is no kernel to be had.
        """
        server = server_of(runtime)
        try:
            kernel_id = server.start_kernel(kernel_name=runtime.kernel_name)
            link = Link.open(runtime, server.access(), kernel_id=kernel_id, session_id=uuid.uuid4().hex)
        except KernelError as error:
            raise TunnelError(str(error)) from error
        hand = cls(server, kernel_id, link, on_event=on_event, on_debug=on_debug)
        if bare:
            return hand
        try:
            hand.run((FAR / "base.py").read_text(encoding="utf-8"))
            content: JsonObject = {"comm_id": hand._comm_id, "target_name": TARGET, "data": {}}
            hand._put(hand._message("comm_open", content))
        except BaseException:
            hand.close()
            raise
        return hand

    @property
    def is_open(self) -> bool:
        """Whether the line holds: where it does not, what failed may be done again through a new hand."""
        return not self._is_over and self._link.closed is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_over(self) -> bool:
        """Whether the link is gone, or was closed: another hand is needed."""
        return self._is_over

    def run(self, code: str, *, timeout_s: float = ASK_S) -> str:
        """Run code there and return what it printed, and its result.

        Raises:
            TunnelError: it raised (the sentence has its error), the link broke, or `timeout_s` is over.
        """
        content: JsonObject = {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self._message("execute_request", content)
        run = self._running[message.msg_id] = _Run()
        self._put(message)
        return _wait(run.outcome, timeout_s)

    def load(self, *pieces: str) -> None:
        """Have the verbs of each `far/PIECE.py` there. TunnelError: as `run`."""
        with self._lock:
            new = [piece for piece in pieces if piece not in self._loaded]
            if new:
                self.run("\n\n".join((FAR / f"{piece}.py").read_text(encoding="utf-8") for piece in new))
                self._loaded.update(new)

    def ask(
        self, verb: str, *, buffers: Sequence[Buffer] = (), timeout_s: float = ASK_S, **content: Any
    ) -> Answer:
        """Call a verb there and wait for what it returns. TunnelError: as `run`."""
        return _wait(self.begin(verb, buffers=buffers, **content), timeout_s)

    def begin(self, verb: str, *, buffers: Sequence[Buffer] = (), **content: Any) -> Future[Answer]:
        """Call a verb there; its answer comes later. Answers come in the order of the calls."""
        number = next(self._numbers)
        outcome: Future[Answer] = Future()
        self._asked[number] = outcome
        data: dict[str, Json] = {"number": number, "verb": verb, "content": content}
        message = self._message("comm_msg", {"comm_id": self._comm_id, "data": data})
        self._put(replace(message, buffers=tuple(buffers)))
        return outcome

    def debug(self, content: JsonObject) -> None:
        """Send a request to the kernel's debugger; what it says goes to `on_debug`."""
        self._put(self._message("debug_request", content, channel=Channel.CONTROL))

    def close(self) -> None:
        """End the helper kernel. It is no error if the machine is gone."""
        self._is_over = True
        self._wake()
        self._thread.join()
        try:
            self._server.delete_kernel(self._kernel_id)
        except KernelError:
            pass

    # --- the thread that owns the link ---------------------------------------------------------------------

    def _message(self, msg_type: str, content: JsonObject, *, channel: Channel = Channel.SHELL) -> Message:
        return self._make.request(msg_type, content, channel=channel, now=time.time())

    def _put(self, message: Message) -> None:
        self._outbox.put(message)
        self._wake()
        if self._is_over:
            self._fail_all(self._why_over)

    def _wake(self) -> None:
        try:
            self._writer.send(b"!")
        except OSError:
            pass

    def _pump(self) -> None:
        heard_at = asked_at = time.monotonic()
        while not self._is_over and self._link.closed is None:
            readers: list[Link | socket.socket] = [self._link, self._reader]
            writers = [self._link] if self._link.wants_write else []
            patience_s = 0 if self._link.has_more else 1.0
            ready = select.select(readers, writers, [], patience_s)[0]
            if self._reader in ready:
                self._reader.recv(4096)
            self._send()
            for message in self._link.receive():
                self._take(message)
            now = time.monotonic()
            if self._link.take_heard():
                heard_at = now
            elif now - heard_at > SILENT_S:
                break
            elif now - max(heard_at, asked_at) > PING_S:
                asked_at = now
                self._link.ping()
        if not self._is_over:
            why = self._link.closed or "it has been silent for too long"
            self._why_over = (
                f"the connection to the machine was lost ({why}); what was begun can be done again"
            )
        self._is_over = True
        self._link.close()
        self._fail_all(self._why_over)
        self._reader.close()
        self._writer.close()

    def _send(self) -> None:
        while True:
            try:
                message = self._outbox.get_nowait()
            except queue.Empty:
                break
            try:
                self._link.send(message)
            except UnframeableError as error:
                self._fail_all(str(error))
        self._link.flush()

    def _fail_all(self, sentence: str) -> None:
        for number in list(self._asked):
            self._settle(self._asked.pop(number, None), TunnelError(sentence))
        for msg_id in list(self._running):
            run = self._running.pop(msg_id, None)
            self._settle(None if run is None else run.outcome, TunnelError(sentence))

    @staticmethod
    def _settle(outcome: Future[Any] | None, error: Exception) -> None:
        if outcome is not None and not outcome.done():
            outcome.set_exception(error)

    def _take(self, message: Message) -> None:
        try:
            content = message.parsed_content
            if message.msg_type == "comm_msg" and content.get("comm_id") == self._comm_id:
                self._take_comm(content["data"], message.buffers)  # type: ignore[arg-type]
                return
            if message.msg_type in ("debug_reply", "debug_event") and self._on_debug is not None:
                self._on_debug(message.msg_type, content)
                return
            run = self._running.get(message.parent_msg_id or "")
        except MalformedError:
            return
        if run is None:
            return
        match message.msg_type:
            case "stream" if content.get("name") == "stdout":
                run.printed.append(str(content["text"]))
            case "execute_result":
                data: Any = content.get("data") or {}
                run.printed.append(str(data.get("text/plain", "")))
            case "execute_reply" if content.get("status") != "ok":
                self._settle(run.outcome, TunnelError(f"{content.get('ename')}: {content.get('evalue')}"))
            case "execute_reply":
                run.is_replied = True
            case "status":
                run.is_idle = content.get("execution_state") == "idle"
        if run.is_replied and run.is_idle and not run.outcome.done():
            run.outcome.set_result("".join(run.printed))
        if run.outcome.done():
            self._running.pop(message.parent_msg_id or "", None)

    def _take_comm(self, data: Mapping[str, Any], buffers: tuple[Buffer, ...]) -> None:
        number = data.get("number")
        if number is None:
            if self._on_event is not None:
                self._on_event(data["content"], buffers)
            return
        outcome = self._asked.pop(number, None)
        if "error" in data:
            kind = FullDiskError if data.get("is_full") else TunnelError
            self._settle(outcome, kind(str(data["error"])))
        elif outcome is not None and not outcome.done():
            outcome.set_result(Answer(data["content"], buffers))


def _wait(outcome: Future[T], timeout_s: float) -> T:
    try:
        return outcome.result(timeout_s)
    except FutureTimeoutError:
        raise TunnelError(f"the machine did not answer in {timeout_s:g} s") from None
