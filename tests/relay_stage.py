"""A stage for the relay: scripted frontends on one side, a scripted remote kernel on the other, and no clock.

Each `…_gets` demands the next message of its channel; leaving the stage asserts that nothing is left over.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any

from colab_kernel.messages import Channel, Message
from colab_kernel.relay import Relay
from colab_kernel.relay_events import Event
from colab_kernel.terms import Terms

SHELL, CONTROL, STDIN, IOPUB = Channel.SHELL, Channel.CONTROL, Channel.STDIN, Channel.IOPUB
OURS = "ours"
TERMS = Terms(max_message_bytes=10 * 2**20)


def make(
    channel: Channel,
    msg_type: str,
    content: object = None,
    *,
    msg_id: str,
    parent: Message | None = None,
    buffers: tuple[bytes, ...] = (),
    session: str = "client",
    **header: object,
) -> Message:
    """A message as somebody else would make it."""
    full = {"msg_id": msg_id, "msg_type": msg_type, "session": session, "username": "u", **header}
    return Message(
        channel=channel,
        header=json.dumps(full).encode(),
        parent_header=parent.header if parent else b"{}",
        metadata=b"{}",
        content=json.dumps(content or {}).encode(),
        buffers=buffers,
    )


class Stage:
    """A relay between two scripts. `now` is whatever the script says."""

    def __init__(self) -> None:
        self.relay = Relay(session=OURS)
        self.now = 1000.0
        self._numbers = count(1)
        self._kernel_numbers = count(1)
        self._due: dict[Channel, deque[tuple[tuple[bytes, ...], Message]]] = {
            channel: deque() for channel in (SHELL, CONTROL, STDIN, IOPUB)
        }
        self._up: deque[Message] = deque()
        self._events: deque[Event] = deque()
        self.relay.subscribed()

    # --- frontends ---------------------------------------------------------------------------------------

    def send(
        self,
        msg_type: str,
        content: object = None,
        *,
        channel: Channel = SHELL,
        client: bytes = b"A",
        buffers: tuple[bytes, ...] = (),
        msg_id: str | None = None,
        **header: object,
    ) -> Message:
        """A frontend sends; a copy of what it sent is returned."""
        msg_id = msg_id or f"client_{next(self._numbers)}"
        message = make(channel, msg_type, content, msg_id=msg_id, buffers=buffers, **header)
        self.relay.receive_frontend(message, identities=(client,), now=self.now)
        return message

    def send_execute(self, code: str = "1", **options: Any) -> Message:
        return self.send("execute_request", {"code": code}, **options)

    def send_debug(self, command: str, seq: int = 1, arguments: object = None, **options: Any) -> Message:
        content = {"type": "request", "command": command, "seq": seq, "arguments": arguments or {}}
        return self.send("debug_request", content, channel=CONTROL, **options)

    def gets(self, channel: Channel, msg_type: str, *, of: Message | None = None) -> Message:
        """The next message for the frontends on `channel`; `of`: the request that it belongs to."""
        self._pump()
        assert self._due[channel], f"nothing came on {channel}; {msg_type} was expected"
        _, message = self._due[channel].popleft()
        assert message.msg_type == msg_type, f"{channel}: {message.msg_type} {message.content!r}"
        if of is not None:
            assert message.parent_msg_id == of.msg_id
        return message

    def gets_status(self, state: str, *, of: Message | None = None) -> None:
        message = self.gets(IOPUB, "status", of=of)
        assert message.parsed_content == {"execution_state": state}

    def gets_busy(self, *, of: Message | None = None) -> None:
        self.gets_status("busy", of=of)

    def gets_idle(self, *, of: Message | None = None) -> None:
        self.gets_status("idle", of=of)

    def next_is_for(self, channel: Channel) -> bytes:
        """The client that the next message on `channel` goes to."""
        self._pump()
        return self._due[channel][0][0][0]

    def fails(self, request: Message, *, saying: str, is_busy: bool = False) -> None:
        """The request ends with an error and its idle; `is_busy`: its busy came before."""
        if not is_busy:
            self.gets_busy(of=request)
        reply_type = request.msg_type.replace("_request", "_reply")
        if request.msg_type == "execute_request":
            self.gets(IOPUB, "error", of=request)
        content = self.gets(request.channel, reply_type, of=request).parsed_content
        if request.msg_type == "debug_request":
            assert content["success"] is False
            assert saying in str(content["message"])
        else:
            assert content["status"] == "error"
            assert saying in str(content["evalue"])
        self.gets_idle(of=request)

    # --- the remote kernel -------------------------------------------------------------------------------

    def remote_gets(self, msg_type: str) -> Message:
        self._pump()
        assert self._up, f"nothing reached the remote kernel; {msg_type} was expected"
        message = self._up.popleft()
        assert message.msg_type == msg_type, message.msg_type
        return message

    def remote_sends(
        self,
        channel: Channel,
        msg_type: str,
        content: object = None,
        *,
        of: Message | None = None,
        kernel: str = "kernel_7",
        number: int | None = None,
        buffers: tuple[bytes, ...] = (),
    ) -> Message:
        number = next(self._kernel_numbers) if number is None else number
        msg_id = f"{kernel}_{number}"
        message = make(channel, msg_type, content, msg_id=msg_id, parent=of, buffers=buffers, session=kernel)
        self.relay.receive_remote(message, now=self.now)
        return message

    def remote_status(self, state: str, *, of: Message | None) -> None:
        self.remote_sends(IOPUB, "status", {"execution_state": state}, of=of)

    def remote_replies(self, request: Message, content: object = None) -> Message:
        reply_type = request.msg_type.replace("_request", "_reply")
        return self.remote_sends(request.channel, reply_type, content or {"status": "ok"}, of=request)

    def remote_answers(self, request: Message, content: object = None) -> None:
        """Busy, reply, idle, as a kernel does."""
        self.remote_status("busy", of=request)
        self.remote_replies(request, content)
        self.remote_status("idle", of=request)

    def remote_answers_probe(self, msg_type: str = "kernel_info_request") -> None:
        """The relay's own next question is answered; no frontend notices."""
        probe = self.remote_gets(msg_type)
        assert probe.parsed_header["session"] == OURS
        self.remote_answers(probe)

    def skips_numbers(self, how_many: int) -> None:
        """So many of the kernel's messages are lost."""
        for _ in range(how_many):
            next(self._kernel_numbers)

    # --- the link and time -------------------------------------------------------------------------------

    def opens(self, terms: Terms = TERMS) -> None:
        """The first link, and what the relay itself asks then: a sign of life, and the startup."""
        self.relay.link_opened(terms=terms, now=self.now)
        self._pump()
        ours = [message for message in self._up if message.parsed_header["session"] == OURS]
        assert [message.msg_type for message in ours] == ["kernel_info_request", "execute_request"]
        for message in ours:
            self._up.remove(message)
            self.remote_answers(message)

    def breaks(self) -> None:
        self.relay.link_closed()

    def reopens(self) -> None:
        self.relay.link_opened(now=self.now)

    def passes_time(self, seconds: float) -> None:
        self.now += seconds
        self.relay.tick(now=self.now)

    def event(self, kind: type[Any]) -> Any:
        """The next thing that the relay asks the loop to do."""
        self._pump()
        assert self._events, f"{kind.__name__} was expected"
        event = self._events.popleft()
        assert isinstance(event, kind), event
        return event

    def _pump(self) -> None:
        for item in self.relay.to_frontend(now=self.now):
            self._due[item.message.channel].append((item.identities, item.message))
        while (message := self.relay.next_to_remote()) is not None:
            self._up.append(message)
        self._events.extend(self.relay.events())

    def assert_empty(self) -> None:
        """Nothing is left that nobody asked for."""
        self._pump()
        left = [
            f"{channel}: {m.msg_type} {m.content!r}" for channel, due in self._due.items() for _, m in due
        ]
        left += [f"to the remote kernel: {m.msg_type} {m.content!r}" for m in self._up]
        left += [repr(event) for event in self._events]
        assert left == []


@contextlib.contextmanager
def stage(*, opened: bool = True) -> Iterator[Stage]:
    """A stage whose link is open already, unless told otherwise."""
    one = Stage()
    if opened:
        one.opens()
    yield one
    one.assert_empty()
