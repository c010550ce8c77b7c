"""A frontend without a face: its sockets, and what a notebook's debugger sends through them.

    with Frontend(connection) as ada:
        done = ada.run("print(6 * 7)")
        assert done.stdout == "42\\n"
        debugger = Debugger(ada)
        debugger.body("initialize", **INITIALIZE)

A request is *done* when its reply and, on iopub, its `idle` are there, in whatever order: that is what both
VS Code and JupyterLab wait for. Everything waits for messages. Leaving the block without an error asks the
kernel once more on shell and control, waits for that, and demands that all is told exactly once: each request
one reply, one `busy` and one `idle`, no message of iopub twice, no reply to something that nobody asked here.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html;
vscode-jupyter, src/kernels/raw/session/rawSocket.node.ts (one routing id for shell, control and stdin).
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq
from jupyter_client.session import Session

T = TypeVar("T")
Json = dict[str, Any]

PATIENCE_S = 30.0
ASKED = ("shell", "control")
STATES = {"starting", "busy", "idle"}
"""What JupyterLab takes as the state of a kernel that lives."""


class Unmet(AssertionError):
    """What was waited for did not come."""


class NoReply(Unmet):
    """A request got no reply."""


class NoIdle(Unmet):
    """A request got its reply, but no `idle`."""


class NoOutput(Unmet):
    """Nothing of a kind was published for a request."""


class NoEvent(Unmet):
    """The debugger did not tell of something."""


class NoEnd(Unmet):
    """A process did not end."""


class Malformed(AssertionError):
    """The reply to a `debug_request` is no DAP response to it."""


@dataclass(frozen=True, slots=True)
class Request:
    """Something sent that is to be answered. `content` is what was sent."""

    channel: str
    msg_type: str
    msg_id: str
    content: Json = field(repr=False)

    def __str__(self) -> str:
        command = self.content.get("command")
        return (
            f"{self.msg_type} {command} on {self.channel}"
            if command
            else f"{self.msg_type} on {self.channel}"
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What came for one request: the reply's content, and the messages of iopub except `status`."""

    reply: Json
    outputs: list[Json]

    def of_type(self, msg_type: str) -> list[Json]:
        """The contents of the messages of iopub that have this type."""
        return [message["content"] for message in self.outputs if message["header"]["msg_type"] == msg_type]

    @property
    def stdout(self) -> str:
        return "".join(one["text"] for one in self.of_type("stream") if one["name"] == "stdout")


class Frontend:
    """The sockets of one frontend and everything that came through them.

    Attributes:
        patience_s: how long it waits for each message.
        iopub: all that was published, in order.
    """

    def __init__(self, connection: Mapping[str, Any], *, patience_s: float = PATIENCE_S) -> None:
        """Connect.

        Args:
            connection: a connection file's content.
        """
        self.patience_s = patience_s
        self.iopub: list[Json] = []
        self._session = Session(
            key=connection["key"].encode(),
            signature_scheme=connection["signature_scheme"],
            session=uuid.uuid4().hex,
            username="ada",
        )
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        routing_id = uuid.uuid4().hex.encode()
        for channel in ("shell", "control", "stdin", "iopub"):
            socket = self._context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            socket.linger = 0
            socket.rcvhwm = 0
            if channel == "iopub":
                socket.subscribe(b"")
            else:
                socket.routing_id = routing_id
            socket.connect(f"{connection['transport']}://{connection['ip']}:{connection[f'{channel}_port']}")
            self._poller.register(socket, zmq.POLLIN)
            self._sockets[channel] = socket
        self._asked: dict[str, Request] = {}
        self._given_up: set[str] = set()
        self._replies: defaultdict[str, list[Json]] = defaultdict(list)
        self._states: defaultdict[str, list[str]] = defaultdict(list)
        self._outputs: defaultdict[str, list[Json]] = defaultdict(list)
        self._events: deque[Json] = deque()
        self._questions: deque[Json] = deque()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.settle()
        finally:
            self.close()

    def close(self) -> None:
        """Close the sockets; nothing is demanded."""
        self._context.destroy(linger=0)

    # --- asking ------------------------------------------------------------------------------------------

    def send(
        self,
        channel: str,
        msg_type: str,
        content: Json | None = None,
        *,
        parent: Json | None = None,
        metadata: Json | None = None,
        buffers: Sequence[bytes] = (),
    ) -> Request:
        """Send a message and do not wait."""
        sent = self._session.send(
            self._sockets[channel],
            msg_type,
            content or {},
            parent=parent,
            metadata=metadata,
            buffers=list(buffers),
        )
        request = Request(channel, msg_type, sent["header"]["msg_id"], content or {})
        self._asked[request.msg_id] = request
        return request

    def execute(self, code: str, *, hidden: bool = False, cell: str | None = None) -> Request:
        """Send a cell as VS Code does.

        Args:
            hidden: code that the person did not write: without a line in the history.
            cell: the cell's URI, if it is one of the notebook's.
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": not hidden,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": False,
        }
        return self.send(
            "shell", "execute_request", content, metadata=None if cell is None else {"cellId": cell}
        )

    def give_up(self, request: Request) -> None:
        """Take back a request: on leaving, nothing is demanded of its answer."""
        self._given_up.add(request.msg_id)

    # --- waiting -----------------------------------------------------------------------------------------

    def reply(self, request: Request) -> Json:
        """Wait for the reply; return its content."""
        replies = self._replies[request.msg_id]
        reply: Json = self.wait(lambda: replies, unmet=NoReply(f"no reply to {request}"))[0]["content"]
        return reply

    def done(self, request: Request) -> Done:
        """Wait for the reply and the `idle`."""
        reply, states = self.reply(request), self._states[request.msg_id]
        self.wait(lambda: "idle" in states, unmet=NoIdle(f"no idle for {request}"))
        return Done(reply, self._outputs[request.msg_id])

    def run(self, code: str, *, hidden: bool = False, cell: str | None = None) -> Done:
        """Run code that must succeed."""
        done = self.done(self.execute(code, hidden=hidden, cell=cell))
        assert done.reply["status"] == "ok", done.reply
        return done

    def published(self, request: Request, msg_type: str) -> list[Json]:
        """Wait for messages of iopub of this type that belong to a request; return those that have come."""

        def look() -> list[Json]:
            outputs = self._outputs[request.msg_id]
            return [message for message in outputs if message["header"]["msg_type"] == msg_type]

        return self.wait(look, unmet=NoOutput(f"no {msg_type} for {request}"))

    def is_replied(self, request: Request) -> bool:
        """Whether the reply is there, of what has arrived by now."""
        self._receive(timeout_s=0)
        return bool(self._replies[request.msg_id])

    def event(self, name: str) -> Json:
        """Wait for the next `debug_event` of this name, whoever is its parent; return its body."""

        def look() -> Json | None:
            found = next((event for event in self._events if event["event"] == name), None)
            if found is not None:
                self._events.remove(found)
            return found

        event = self.wait(look, unmet=NoEvent(f"no debug_event {name}; there were: {self.events_left}"))
        body: Json = event.get("body") or {}
        return body

    @property
    def events_left(self) -> Counter[str]:
        """How many events of each name have come that nobody has waited for."""
        return Counter(event["event"] for event in self._events)

    def question(self) -> Json:
        """Wait for the next `input_request`; return the message."""
        return self.wait(
            lambda: self._questions.popleft() if self._questions else None, unmet=NoReply("no input_request")
        )

    def wait(self, look: Callable[[], T], *, unmet: Unmet) -> T:
        """Receive until `look()` is true; return what it returned."""
        deadline = time.monotonic() + self.patience_s
        while not (found := look()):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise unmet
            self._receive(timeout_s=left_s)
        return found

    def connect(self) -> None:
        """Ask who is there until one answer and one message of iopub have come, as frontends do."""
        asked = []
        deadline = time.monotonic() + 2 * self.patience_s
        while not self.iopub or not any(self._replies[request.msg_id] for request in asked):
            assert time.monotonic() < deadline, "no kernel_info_reply and no iopub message"
            asked += [self.send(channel, "kernel_info_request") for channel in ("control", "shell")]
            self._receive(timeout_s=0.5)
        for request in asked:
            info = self.reply(request)
            assert info["status"] == "ok"
            assert info["language_info"]["name"] == "python"
            # A subscription takes its time: what was published before is lost, locally as anywhere.
            self.give_up(request)

    def settle(self) -> None:
        """Wait until the kernel has answered everything, and demand that it told all of it exactly once."""
        for channel in ASKED:
            self.done(self.send(channel, "kernel_info_request"))
        for request in list(self._asked.values()):
            if request.msg_id in self._given_up or request.channel == "stdin":
                continue
            states = self._states[request.msg_id]
            if request.msg_type.endswith("_request"):
                self.done(request)
                assert len(self._replies[request.msg_id]) == 1, f"more than one reply to {request}"
            self.wait(lambda states=states: "idle" in states, unmet=NoIdle(f"no idle for {request}"))
            assert states == ["busy", "idle"], f"{request}: {states}"
        twice = Counter(message["header"]["msg_id"] for message in self.iopub)
        assert not [msg_id for msg_id, count in twice.items() if count > 1], "published twice"
        strangers = self._replies.keys() - self._asked.keys()
        assert not strangers, f"replies to what nobody asked: {[self._replies[one] for one in strangers]}"

    # --- receiving ---------------------------------------------------------------------------------------

    def _receive(self, *, timeout_s: float) -> None:
        ready = {socket for socket, _ in self._poller.poll(timeout_s * 1000)}
        for channel, socket in self._sockets.items():
            while socket in ready:
                # A wrong signature, or one seen before, raises: to VS Code the channel would be dead.
                _, message = self._session.recv(socket)
                if message is None:
                    break
                self._file(channel, message)

    def _file(self, channel: str, message: Json) -> None:
        msg_type, parent = message["header"]["msg_type"], message["parent_header"].get("msg_id", "")
        if channel == "stdin":
            assert parent in self._asked, f"a question on behalf of nobody here: {message}"
            self._questions.append(message)
        elif channel != "iopub":
            self._replies[parent].append(message)
        else:
            self.iopub.append(message)
            if msg_type == "status":
                assert message["content"]["execution_state"] in STATES, message
                self._states[parent].append(message["content"]["execution_state"])
            elif msg_type == "debug_event":
                self._events.append(message["content"])
            else:
                self._outputs[parent].append(message)


class Debugger:
    """The requests of a debug session, numbered from 1 as DAP wants it."""

    def __init__(self, frontend: Frontend) -> None:
        self.frontend = frontend
        self._seq = itertools.count(1)

    def ask(self, command: str, arguments: Json | None = None, *, seq: int | None = None) -> Request:
        """Send a `debug_request` and do not wait."""
        content = {
            "type": "request",
            "seq": next(self._seq) if seq is None else seq,
            "command": command,
            "arguments": {} if arguments is None else arguments,
        }
        return self.frontend.send("control", "debug_request", content)

    def answer(self, request: Request) -> Json:
        """Wait until a request is done; return the response, whether it is a success or not.

        Raises:
            Malformed: it is no DAP response to this request.
        """
        response = self.frontend.done(request).reply
        wanted = {
            "type": "response",
            "command": request.content["command"],
            "request_seq": request.content["seq"],
        }
        if not wanted.items() <= response.items() or not isinstance(response.get("success"), bool):
            raise Malformed(f"{request} was answered with {response}")
        return response

    def success(self, request: Request) -> Json:
        """Wait until a request is done, which must succeed; return the response's body."""
        response = self.answer(request)
        assert response["success"], response
        body: Json = response.get("body") or {}
        return body

    def body(self, command: str, **arguments: Any) -> Json:
        """Send a request that must succeed; return the response's body."""
        return self.success(self.ask(command, arguments))

    def stopped(self, reason: str) -> int:
        """Wait until the program is held, for this reason; return the thread."""
        event = self.frontend.event("stopped")
        assert event["reason"] == reason, event
        assert event["allThreadsStopped"] is True
        thread: int = event["threadId"]
        return thread

    def frames(self, thread: int, *, levels: int = 20) -> list[Json]:
        """The stack of a thread that is held, the innermost frame first."""
        frames: list[Json] = self.body("stackTrace", threadId=thread, startFrame=0, levels=levels)[
            "stackFrames"
        ]
        return frames

    def locals(self, frame: Json) -> dict[str, str]:
        """The variables of a frame's first scope, name → representation."""
        scopes = self.body("scopes", frameId=frame["id"])["scopes"]
        assert [scope["name"] for scope in scopes] == ["Locals", "Globals"]
        found = self.body("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
        return {variable["name"]: variable["value"] for variable in found}
