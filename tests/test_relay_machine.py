"""Whatever is lost, in whatever order things come: a request runs once, and has one reply and one idle."""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from relay_stage import CONTROL, IOPUB, OURS, SHELL, TERMS, Stage, make

from colab_kernel.messages import Channel, Message
from colab_kernel.relay_events import Phase


class RemoteKernel:
    """A kernel that works through each lane in order, and refuses what it has had; what it says is queued."""

    def __init__(self) -> None:
        self.inbox: dict[Channel, deque[Message]] = {SHELL: deque(), CONTROL: deque()}
        self.said: deque[Message] = deque()
        self.runs: Counter[str] = Counter()
        self._seen: set[bytes] = set()
        self._numbers = 0

    def takes(self, message: Message) -> None:
        if message.header not in self._seen:
            self._seen.add(message.header)
            self.inbox[message.channel].append(message)

    def works(self, channel: Channel) -> None:
        request = self.inbox[channel].popleft()
        self.runs[request.msg_id] += 1
        self._says(IOPUB, "status", {"execution_state": "busy"}, of=request)
        self._says(IOPUB, "stream", {"name": "stdout", "text": "."}, of=request)
        if request.msg_type.endswith("_request"):
            reply_type = request.msg_type.replace("_request", "_reply")
            self._says(channel, reply_type, {"status": "ok"}, of=request)
        self._says(IOPUB, "status", {"execution_state": "idle"}, of=request)

    def _says(self, channel: Channel, msg_type: str, content: object, *, of: Message) -> None:
        self._numbers += 1
        msg_id = f"kernel_1_{self._numbers}"
        self.said.append(make(channel, msg_type, content, msg_id=msg_id, parent=of, session="kernel"))


class RelayMachine(RuleBasedStateMachine):
    """Frontends ask, the kernel works, the link breaks with notice or without, messages vanish."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.relay = self.stage.relay
        self.kernel = RemoteKernel()
        self.asked: dict[str, Message] = {}
        self.replies: Counter[str] = Counter()
        self.idles: Counter[str] = Counter()
        self.is_linked = False

    def _pump(self) -> None:
        while (message := self.relay.next_to_remote()) is not None:
            self.kernel.takes(message)
        for item in self.relay.to_frontend(now=self.stage.now):
            message = item.message
            parent = message.parent_msg_id or ""
            assert message.parsed_parent_header.get("session") != OURS, "a frontend saw a question of ours"
            if message.channel is not IOPUB:
                self.replies[parent] += 1
            elif message.parsed_content.get("execution_state") == "idle":
                self.idles[parent] += 1
        assert all(count == 1 for count in self.replies.values())
        assert all(count == 1 for count in self.idles.values())

    @rule(
        kind=st.sampled_from(["execute_request", "comm_msg", "complete_request"]),
        on_control=st.booleans(),
    )
    def a_frontend_asks(self, kind: str, on_control: bool) -> None:
        if on_control:
            request = self.stage.send("list_subshell_request", channel=CONTROL)
        else:
            request = self.stage.send(kind, {"code": "1"})
        self.asked[request.msg_id] = request
        self._pump()

    @precondition(lambda self: not self.is_linked)
    @rule()
    def the_link_opens(self) -> None:
        terms = TERMS if self.relay.phase is Phase.CONNECTING else None
        self.relay.link_opened(terms=terms, now=self.stage.now)
        self.is_linked = True
        self._pump()

    @rule(channel=st.sampled_from([SHELL, CONTROL]))
    def the_kernel_works(self, channel: Channel) -> None:
        if self.kernel.inbox[channel]:
            self.kernel.works(channel)

    @precondition(lambda self: self.is_linked)
    @rule(how_many=st.integers(1, 20))
    def what_it_said_arrives(self, how_many: int) -> None:
        for _ in range(min(how_many, len(self.kernel.said))):
            self.relay.receive_remote(self.kernel.said.popleft(), now=self.stage.now)
            self._pump()

    @precondition(lambda self: self.is_linked)
    @rule()
    def the_link_breaks_with_notice(self) -> None:
        """The server keeps what the kernel says meanwhile."""
        self.relay.link_closed()
        self.is_linked = False

    @precondition(lambda self: self.is_linked)
    @rule(
        keep=st.lists(st.booleans(), max_size=30),
        lost_upward=st.integers(0, 3),
        channel=st.sampled_from([SHELL, CONTROL]),
    )
    def the_link_breaks_in_silence(self, keep: list[bool], lost_upward: int, channel: Channel) -> None:
        """Any part of what was on its way is lost, both ways."""
        self.kernel.said = deque(
            message for at, message in enumerate(self.kernel.said) if at < len(keep) and keep[at]
        )
        for _ in range(min(lost_upward, len(self.kernel.inbox[channel]))):
            lost = self.kernel.inbox[channel].pop()
            self.kernel._seen.discard(lost.header)
        self.relay.link_closed()
        self.is_linked = False

    @rule(seconds=st.floats(0.1, 5))
    def time_passes(self, seconds: float) -> None:
        self.stage.passes_time(seconds)
        self._pump()

    def teardown(self) -> None:
        if not self.is_linked:
            self.the_link_opens()
        for _ in range(6):
            for channel in (CONTROL, SHELL):
                while self.kernel.inbox[channel]:
                    self.kernel.works(channel)
            self.what_it_said_arrives(10**6)
            self.time_passes(2.0)
        assert self.relay.in_flight == 0
        for msg_id, request in self.asked.items():
            assert self.idles[msg_id] == 1
            assert self.replies[msg_id] == (1 if request.msg_type.endswith("_request") else 0)
            assert self.kernel.runs[msg_id] == 1


RelayMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestTheRelay = RelayMachine.TestCase
