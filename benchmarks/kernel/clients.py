"""Clients of a kernel, each as lean as it can be, so that what is measured is the way and not its end.

All of them send and receive the same: `send` a message on a channel, `receive` the next one of a channel.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import zmq
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol as Offer
from websockets.uri import parse_uri

from colab_kernel import ws_wire, zmq_wire
from colab_kernel.connection_file import ConnectionFile
from colab_kernel.messages import Channel, Message

PATIENCE_S = 60.0
QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Heard(Protocol):
    """What is read of a message."""

    @property
    def msg_type(self) -> str: ...
    @property
    def parent_msg_id(self) -> str | None: ...
    @property
    def parsed_content(self) -> Mapping[str, Any]: ...
    @property
    def buffers(self) -> Sequence[Any]: ...


class Client(Protocol):
    """One frontend of one kernel."""

    def send(self, channel: str, msg_type: str, content: Any, *, buffers: Sequence[bytes] = ()) -> str:
        """Send; returns the msg_id."""
        ...

    def receive(self, channel: str, *, patience_s: float = PATIENCE_S) -> Heard:
        """Wait for the next message; raises TimeoutError."""
        ...

    def close(self) -> None: ...


def make_message(
    channel: str, msg_type: str, content: Any, *, session: str, buffers: Sequence[bytes] = ()
) -> Message:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": session,
        "username": "bench",
        "date": "2026-01-01T00:00:00Z",
        "version": "5.4",
    }
    return Message(
        channel=Channel(channel),
        header=json.dumps(header).encode(),
        parent_header=b"{}",
        metadata=b"{}",
        content=json.dumps(content).encode(),
        buffers=tuple(buffers),
    )


class ZmqClient:
    """A frontend's ZMQ sockets, as of jupyter_client, without its layers above them."""

    def __init__(self, connection: ConnectionFile) -> None:
        self._signer = connection.signer
        self._session = uuid.uuid4().hex
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel in ("shell", "control", "iopub"):
            made = self._context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            made.linger = 0
            made.rcvhwm = 0
            if channel == "iopub":
                made.subscribe(b"")
            else:
                made.routing_id = self._session.encode()
            made.connect(connection.address(Channel(channel)))
            self._sockets[channel] = made

    def send(self, channel: str, msg_type: str, content: Any, *, buffers: Sequence[bytes] = ()) -> str:
        message = make_message(channel, msg_type, content, session=self._session, buffers=buffers)
        frames = zmq_wire.serialize(message, signer=self._signer)
        self._sockets[channel].send_multipart(frames, copy=not buffers)
        return message.msg_id

    def receive(self, channel: str, *, patience_s: float = PATIENCE_S) -> Heard:
        here = self._sockets[channel]
        here.rcvtimeo = round(1000 * patience_s)
        try:
            frames = here.recv_multipart(copy=False)
        except zmq.Again:
            raise TimeoutError(f"nothing on {channel}") from None
        data = [frame.bytes if len(frame) < 65536 else frame.buffer for frame in frames]
        return zmq_wire.parse(data, channel=Channel(channel), signer=self._signer)[1]

    def close(self) -> None:
        self._context.destroy(linger=0)


class WebsocketClient:
    """A websocket of a Jupyter Server on a blocking socket, by `websockets` without its I/O.

    A delayed acknowledgement is asked not to be after every read: tornado holds a reply back until then.
    """

    def __init__(self, url: str, *, token: str, kernel_id: str, newest: bool = True) -> None:
        """Args: newest: offer the newest subprotocol."""
        self._session = uuid.uuid4().hex
        at = f"{url.replace('http', 'ws', 1)}/api/kernels/{kernel_id}/channels?session_id={self._session}"
        uri = parse_uri(f"{at}&token={token}")
        self._protocol = ClientProtocol(
            uri, subprotocols=[Offer(ws_wire.Subprotocol.V1)] if newest else None, max_size=None
        )
        self._socket = socket.create_connection((uri.host, uri.port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(1 << 20))
        self._frames: list[bytes] = []
        self._is_text = False
        self._heard: defaultdict[str, deque[Message]] = defaultdict(deque)
        self._protocol.send_request(self._protocol.connect())
        self._write()
        while self._protocol.handshake_exc is None and self._protocol.state.name == "CONNECTING":
            self._read()
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc
        self._subprotocol = ws_wire.Subprotocol(self._protocol.subprotocol or "")

    def send(self, channel: str, msg_type: str, content: Any, *, buffers: Sequence[bytes] = ()) -> str:
        message = make_message(channel, msg_type, content, session=self._session, buffers=buffers)
        payload = ws_wire.serialize(message, subprotocol=self._subprotocol)
        if isinstance(payload, str):
            self._protocol.send_text(payload.encode())
        else:
            self._protocol.send_binary(payload)
        self._write()
        return message.msg_id

    def receive(self, channel: str, *, patience_s: float = PATIENCE_S) -> Heard:
        waiting = self._heard[channel]
        deadline = time.monotonic() + patience_s
        while not waiting:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"nothing on {channel}")
            self._socket.settimeout(left_s)
            self._read()
        return waiting.popleft()

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        count = self._socket.recv_into(self._buffer)
        if QUICKACK is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)
        if not count:
            raise ConnectionError("the websocket was closed")
        self._protocol.receive_data(bytes(self._buffer[:count]))
        self._write()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        self._frames.append(bytes(frame.data))
        if frame.fin:
            whole, self._frames = b"".join(self._frames), []
            message = ws_wire.parse(whole.decode() if self._is_text else whole, subprotocol=self._subprotocol)
            self._heard[message.channel].append(message)

    def _write(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)


@dataclass(frozen=True, slots=True)
class _Read:
    """A message that a library has read."""

    msg_type: str
    parent_msg_id: str | None
    parsed_content: Mapping[str, Any]
    buffers: Sequence[Any]


class LibraryClient:
    """jupyter-kernel-client's websocket, by its own threads and queues, with its own defaults.

    Source: https://github.com/datalayer/jupyter-kernel-client (wsclient.py), read in 1.0.2
    """

    def __init__(self, url: str, *, token: str, kernel_id: str) -> None:
        from jupyter_kernel_client.wsclient import KernelWebSocketClient

        at = f"{url.replace('http', 'ws', 1)}/api/kernels/{kernel_id}/channels"
        self._client = KernelWebSocketClient(at, token=token, username=os.environ.get("USER", "bench"))
        self._client.start_channels()

    def send(self, channel: str, msg_type: str, content: Any, *, buffers: Sequence[bytes] = ()) -> str:
        message = self._client.session.msg(msg_type, content)
        message["buffers"] = list(buffers)
        getattr(self._client, f"{channel}_channel").send(message)
        return str(message["header"]["msg_id"])

    def receive(self, channel: str, *, patience_s: float = PATIENCE_S) -> Heard:
        try:
            read = getattr(self._client, f"{channel}_channel").get_msg(timeout=patience_s)
        except queue.Empty:
            raise TimeoutError(f"nothing on {channel}") from None
        return _Read(
            read["msg_type"],
            read["parent_header"].get("msg_id"),
            read["content"],
            read.get("buffers") or (),
        )

    def close(self) -> None:
        with suppress(Exception):
            self._client.stop_channels()


class Conversation:
    """Questions and answers with a kernel. What is published meanwhile is kept until somebody asks for it.

    Attributes:
        outputs: what was published beside statuses and the debugger's events, since `take_outputs`.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._idle: set[str] = set()
        self._events: deque[Mapping[str, Any]] = deque()
        self._outputs: list[Heard] = []
        self._seq = 0

    def ask(self, channel: str, msg_type: str, content: Any = None) -> Mapping[str, Any]:
        """Send a request and wait for its reply and its idle; returns the reply's content."""
        msg_id = self.client.send(channel, msg_type, content or {})
        reply = self.reply(channel, msg_id)
        self.until_idle(msg_id)
        return reply

    def start(self, code: str) -> str:
        """Send an execute_request; returns its id."""
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        return self.client.send("shell", "execute_request", content)

    def run(self, code: str) -> None:
        """Execute code that must succeed."""
        msg_id = self.start(code)
        reply = self.reply("shell", msg_id)
        if reply["status"] != "ok":
            raise RuntimeError(f"{reply.get('ename')}: {reply.get('evalue')}")
        self.until_idle(msg_id)

    def reply(self, channel: str, msg_id: str) -> Mapping[str, Any]:
        while True:
            heard = self.client.receive(channel)
            if heard.parent_msg_id == msg_id:
                return heard.parsed_content

    def until_idle(self, msg_id: str, *, patience_s: float = PATIENCE_S) -> None:
        while msg_id not in self._idle:
            self.hear(patience_s=patience_s)
        self._idle.discard(msg_id)

    def hear(self, *, patience_s: float = PATIENCE_S) -> Heard:
        """Take the next message of iopub."""
        heard = self.client.receive("iopub", patience_s=patience_s)
        if heard.msg_type == "status":
            if heard.parsed_content["execution_state"] == "idle" and heard.parent_msg_id:
                self._idle.add(heard.parent_msg_id)
        elif heard.msg_type == "debug_event":
            self._events.append(heard.parsed_content)
        else:
            self._outputs.append(heard)
        return heard

    def take_outputs(self) -> list[Heard]:
        taken, self._outputs = self._outputs, []
        return taken

    def debug(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        """A DAP request that must succeed; returns its body."""
        self._seq += 1
        content = {"type": "request", "seq": self._seq, "command": command, "arguments": arguments}
        reply = self.ask("control", "debug_request", content)
        if not reply.get("success"):
            raise RuntimeError(f"{command}: {reply.get('message')}")
        return reply.get("body") or {}

    def event(self, name: str) -> Mapping[str, Any]:
        """Wait for an event of the debugger; returns its body. Others before it are passed over."""
        while True:
            while self._events:
                event = self._events.popleft()
                if event["event"] == name:
                    return event.get("body") or {}
            self.hear()
