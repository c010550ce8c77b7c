"""The relay between a machine's frontends and one remote kernel: what goes where, and what is owed to whom.

It does no I/O and reads no clock. What arrives is handed in by verbs; what is due is drained by
`to_frontend()`, `next_to_remote()` and `events()` after each of them. `now` is Unix seconds that never jump
back.

What passes, passes byte for byte. Three things are its own: it answers what no remote kernel can answer yet
or any more; it holds and guards the debugger's requests (`debugger.DebugGuard`); and it sees to it that every
request ends with one reply and one idle, whatever happens to the link.
"""

from __future__ import annotations

from dataclasses import replace

from colab_kernel import sentences
from colab_kernel.debts import Debts
from colab_kernel.debug_gate import DebugGate
from colab_kernel.debugger import DebugGuard
from colab_kernel.frontend_outbox import FrontendOutbox, ToFrontend
from colab_kernel.gaps import MessageCounter
from colab_kernel.interrupts import Interrupts
from colab_kernel.made_messages import WITHOUT_KERNEL, MessageMaker, dump, silent_code
from colab_kernel.messages import Channel, JsonObject, Message
from colab_kernel.rate_limit import RateLimit
from colab_kernel.relay_events import Connect, Dropped, Event, InterruptKernel, KernelDied, Phase, Shutdown
from colab_kernel.requests import Lane, Request
from colab_kernel.runtime import MAX_MESSAGE_BYTES
from colab_kernel.terms import Terms
from colab_kernel.upward_queue import UpwardQueue

FRAMING_BYTES = 1024
"""What a websocket's framing adds to a message, generously."""

SHELL: Lane = (Channel.SHELL, "")
CONTROL: Lane = (Channel.CONTROL, "")


class Relay:
    """The core of the proxy kernel.

    Args:
        session: unique to this process, for the messages that it makes itself.
    """

    def __init__(self, *, session: str) -> None:
        self.phase = Phase.CONNECTING
        self._max_message_bytes = MAX_MESSAGE_BYTES
        self._make = MessageMaker(session)
        self._front = FrontendOutbox(self._make)
        self._up = UpwardQueue()
        self._guard = DebugGuard()
        self._debts = Debts(front=self._front, guard=self._guard)
        self._gate = DebugGate(self._guard, front=self._front, forward=self._forward, ask=self._ask_debugger)
        self._counter = MessageCounter()
        self._kernel_info: JsonObject = WITHOUT_KERNEL
        self._why = ""
        self._events: list[Event] = []
        self._interrupts = Interrupts(self._front)
        self._rate_limit = RateLimit()
        self._asking: Request | None = None
        self._resumed: Request | None = None

    # --- what is due -------------------------------------------------------------------------------------

    def to_frontend(self, *, now: float) -> list[ToFrontend]:
        """What is to be sent to frontends, in order; the caller sends all of it."""
        return self._front.drain(now=now)

    def next_to_remote(self) -> Message | None:
        """The next message for the remote kernel; the caller hands it to the link. None: nothing, or no link.

        Call it while the link has room: what the link has taken is sent before anything that comes later,
        the control channel's included.
        """
        message = self._up.pop() if self.phase is Phase.OPEN else None
        request = self._debts.table.get(message.msg_id) if message else None
        if request is not None:
            request.sent = True
        return message

    def events(self) -> list[Event]:
        """What the caller must do, in order."""
        due, self._events = self._events, []
        return due

    @property
    def queued_bytes(self) -> int:
        """How much waits to be sent to the remote kernel."""
        return self._up.size_bytes

    @property
    def in_flight(self) -> int:
        """How many requests are not over."""
        return len(self._debts.table) + self._gate.held

    # --- from the frontends ------------------------------------------------------------------------------

    def unsendable(self, message: Message, why: str, *, now: float) -> None:
        """What `next_to_remote` gave last cannot be framed for this link; its request fails."""
        request = self._debts.table.get(message.msg_id)
        if request is not None:
            self._debts.fail(request, why, now=now)

    def subscribed(self) -> None:
        """Somebody listens on iopub."""
        self._front.subscribed()

    def receive_frontend(self, message: Message, *, identities: tuple[bytes, ...], now: float) -> None:
        """A message of a frontend.

        Raises:
            MalformedError: what it is cannot be read from it; nothing happened.
        """
        request = Request.of(message, identities=identities, now=now)
        if message.channel is Channel.STDIN:
            self._receive_stdin(message)
            return
        match message.msg_type:
            case "interrupt_request":
                self._interrupt(request, now=now)
            case "shutdown_request":
                restart = message.parsed_content.get("restart") is True
                self.phase = Phase.OVER
                self._front.shutdown(request, restart=restart, now=now)
                self._events.append(Shutdown())
            case "kernel_info_request" if self._answers_kernel_info(message.channel):
                self._front.answer(request, self._kernel_info, now=now)
            case "debug_request":
                self._gate.receive(request, phase=self.phase, shell_busy=lambda: self._is_busy, now=now)
            case "execute_request" if self.phase is Phase.UNREACHABLE:
                self.phase = Phase.CONNECTING
                self._events.append(Connect())
                self._forward(request, now=now)
            case _:
                self._forward(request, now=now)

    def _receive_stdin(self, message: Message) -> None:
        """An `input_reply`. The kernel confirms it by nothing, so it is kept as long as its cell asks.

        One that comes a second time does no harm: a kernel empties the channel before it asks.
        Source: https://github.com/ipython/ipykernel/blob/main/ipykernel/kernelbase.py (_input_request)
        """
        if self._asking is not None:
            self._asking.stdin_reply = message
        self._up.put(message)

    def _answers_kernel_info(self, channel: Channel) -> bool:
        """On shell it also tells that the kernel has come so far; where there is one, it is its to say."""
        if self.phase is Phase.BROKEN:
            return channel is Channel.CONTROL
        return self.phase in {Phase.CONNECTING, Phase.UNREACHABLE}

    def _forward(self, request: Request, *, now: float) -> None:
        size = request.message.size_bytes + FRAMING_BYTES
        if self.phase in {Phase.UNREACHABLE, Phase.OVER}:
            self._debts.fail(request, self._why, now=now)
        elif size > self._max_message_bytes:
            sentence = sentences.too_large(size, limit_bytes=self._max_message_bytes)
            if not request.answers:
                self._front.notice(request.message, sentence, now=now)
            self._debts.fail(request, sentence, now=now)
        else:
            self._gate.note_cell(request.message)
            self._debts.table.add(request)
            self._up.put(request.message)

    def _ask(self, msg_type: str, content: JsonObject, *, lane: Lane, now: float) -> Request:
        """A request of our own."""
        channel, subshell = lane
        more: JsonObject = {"subshell_id": subshell} if subshell else {}
        message = self._make.request(msg_type, content, channel=channel, now=now, more_header=more)
        request = Request.of(message, identities=None, now=now)
        self._debts.table.add(request)
        self._up.put(message)
        return request

    def _ask_debugger(self, content: JsonObject, *, now: float) -> None:
        """A request of our own to the debugger, unless the same is on its way."""
        command = content["command"]
        if not any(request.is_own and request.command == command for request in self._debts.table):
            self._ask("debug_request", content, lane=CONTROL, now=now)

    @property
    def _is_busy(self) -> bool:
        return self._debts.table.is_busy(SHELL)

    def _release_held(self, *, now: float) -> None:
        self._gate.release(shell_busy=lambda: self._is_busy, now=now)

    # --- interrupts: past the kernel's control channel, which may be dead ----------------------------------

    def interrupt(self, *, now: float) -> None:
        """Interrupt as an `interrupt_request` would, with nobody to answer."""
        self._interrupt(None, now=now)

    def _interrupt(self, request: Request | None, *, now: float) -> None:
        self._interrupts.add(request, now=now)
        if self.phase in {Phase.CONNECTING, Phase.UNREACHABLE}:
            self._fail_all(sentences.INTERRUPTED_EARLY, now=now)
            self._interrupts.finish(None, now=now)
        elif not self._guard.is_stopped or self.phase is not Phase.OPEN:
            self._events.append(InterruptKernel())
        elif self._interrupts.begin_farewell(now=now):
            self._ask_debugger(self._guard.own_disconnect(seq=0), now=now)

    def interrupted(self, error: str | None, *, now: float) -> None:
        """What came of `InterruptKernel`: `error` says why it failed."""
        self._interrupts.finish(error, now=now)

    # --- the link ----------------------------------------------------------------------------------------

    def link_opened(self, *, terms: Terms | None = None, now: float) -> None:
        """There is a link to the remote kernel: the first, with its terms, or another after `link_closed`.

        What has no reply goes (again), byte for byte, in the order in which it came: a kernel refuses what it
        had already. Behind it goes a question of our own in each lane, which tells a request that was lost
        from a reply that was.
        """
        resumed = terms is None
        self.phase = Phase.OPEN
        if terms is not None:
            self._agree(terms, now=now)
        self._up.clear()
        lanes = dict.fromkeys([*self._debts.table.lanes(), CONTROL]) if resumed else [CONTROL]
        for request in self._debts.table:
            if request.is_probe:
                self._debts.table.remove(request)
                continue
            if not request.is_done:
                self._up.put(request.message)
            if request.stdin_reply is not None:
                self._up.put(request.stdin_reply)
        for lane in lanes:
            probe = self._ask("kernel_info_request", {}, lane=lane, now=now)
            if lane == CONTROL and resumed:
                self._resumed = probe
        if resumed:
            self._counter.take_missing()
            if self._guard.is_active:
                self._ask_debugger(self._guard.own_debug_info(seq=0), now=now)
        self._release_held(now=now)

    def _agree(self, terms: Terms, *, now: float) -> None:
        self._max_message_bytes = terms.max_message_bytes
        self._guard.use(terms.mappings)
        waiting = list(self._debts.table)
        for request in waiting:
            self._debts.table.remove(request)
        self._ask("execute_request", silent_code(terms.startup_code), lane=SHELL, now=now)
        for request in waiting:
            self._forward(request, now=now)

    def link_closed(self) -> None:
        """The link is gone, and another one is being sought: requests wait."""
        if self.phase is Phase.OPEN:
            self.phase = Phase.BROKEN

    def unreachable(self, sentence: str, *, now: float) -> None:
        """No remote kernel could be had. All requests fail; the next cell asks for another try."""
        self.phase = Phase.UNREACHABLE
        self._why = sentence
        self._fail_all(sentence, now=now)

    def kernel_died(self, sentence: str, *, now: float) -> None:
        """There was a remote kernel, and there is none any more: all requests fail, and this process ends."""
        if self.phase is Phase.OVER:
            return
        self.phase = Phase.OVER
        self._why = sentence
        self._fail_all(sentence, now=now)
        self._interrupts.finish(sentence, now=now)
        self._events.append(KernelDied(sentence))

    def _fail_all(self, sentence: str, *, now: float) -> None:
        self._up.clear()
        self._debts.fail_all(sentence, now=now)
        for request in self._gate.take_held():
            self._debts.fail(request, sentence, now=now)

    # --- from the remote kernel --------------------------------------------------------------------------

    def receive_remote(self, message: Message, *, now: float) -> None:
        """A message of the remote kernel, or of the server before it.

        Raises:
            MalformedError: what it is cannot be read from it; nothing happened.
        """
        is_reply = message.channel is not Channel.IOPUB and message.channel is not Channel.STDIN
        if not self._counter.note(message.msg_id, from_kernel=is_reply):
            self.kernel_died(sentences.REPLACED, now=now)
            return
        match message.channel:
            case Channel.IOPUB:
                self._receive_iopub(message, now=now)
            case Channel.STDIN:
                self._receive_question(message)
            case _:
                self._receive_reply(message, now=now)

    def _receive_question(self, message: Message) -> None:
        request = self._debts.table.get(message.parent_msg_id)
        if request is None or request.identities is None:
            self._events.append(Dropped(f"a {message.msg_type} came for a request that is not in flight"))
            return
        self._asking, request.stdin_reply = request, None
        self._front.pass_on(message, identities=request.identities)

    def _receive_reply(self, message: Message, *, now: float) -> None:
        request = self._debts.take_reply(message, now=now)
        if request is None:
            self._events.append(Dropped(f"a {message.msg_type} came for a request that is not in flight"))
            return
        if request is self._asking:
            self._asking, request.stdin_reply = None, None
        if message.msg_type == "kernel_info_reply":
            self._kernel_info = message.parsed_content
        repaired = None
        if message.msg_type == "debug_reply":
            repaired = self._guard.reply(request.message.parsed_content, message.parsed_content)
        if request.identities is not None:
            if repaired is not None:
                message = replace(message, content=dump(repaired))
            self._front.pass_on(message, identities=request.identities)
        elif request.command == "disconnect" and self._interrupts.end_farewell():
            self._events.append(InterruptKernel())
        elif request.command == "debugInfo":
            self._reconcile(message.parsed_content, now=now)
        self._release_held(now=now)

    def _reconcile(self, reply: JsonObject, *, now: float) -> None:
        body = reply.get("body")
        if isinstance(body, dict):
            for event in self._guard.reconcile(body):
                self._front.debug_event(event, now=now)

    def _receive_iopub(self, message: Message, *, now: float) -> None:
        match message.msg_type:
            case "status":
                self._receive_status(message, now=now)
            case "shutdown_reply":
                self.kernel_died(sentences.REPLACED, now=now)
            case "debug_event":
                changed = self._guard.event(message.parsed_content)
                self._front.pass_on(message if changed is None else replace(message, content=dump(changed)))
            case "stream" if self._rate_limit.is_notice(message):
                if self._rate_limit.note(message, now=now):
                    self._front.pass_on(message)
            case _ if self._is_own(message):
                pass
            case _:
                self._front.pass_on(message)

    def _receive_status(self, message: Message, *, now: float) -> None:
        status = message.parsed_content
        parent = message.parent_msg_id
        request = self._debts.table.get(parent)
        if status.get("execution_state") in {"restarting", "dead"}:
            self.kernel_died(sentences.DIED, now=now)
        elif request is not None:
            # What this proves of older requests goes out before it.
            self._debts.take_status(request, status, now=now)
            if not request.is_own:
                self._front.pass_on(message)
            elif request is self._resumed and request.idle:
                self._tell_what_is_missing(now=now)
            if request.idle:
                self._release_held(now=now)
        elif self._is_own(message) or (parent and self._front.has_idled(parent)):
            return
        else:
            asked = message.parsed_parent_header.get("msg_type") == "kernel_info_request"
            if asked and status.get("execution_state") == "idle":
                self._counter.note_reply_to_another()
            self._front.pass_on(message)

    def _is_own(self, message: Message) -> bool:
        """Whether it is about a request of our own. Of most output one sees unparsed that it is not."""
        session = self._make.session
        is_named = session.encode() in message.parent_header
        return is_named and message.parsed_parent_header.get("session") == session

    def _tell_what_is_missing(self, *, now: float) -> None:
        self._resumed = None
        missing = self._counter.take_missing()
        if missing:
            running = self._debts.table.oldest(SHELL)
            self._front.notice(running.message if running else None, sentences.missing(missing), now=now)

    # --- time --------------------------------------------------------------------------------------------

    def tick(self, *, now: float) -> None:
        """Let what is overdue happen; to be called a few times a second."""
        if self.phase is not Phase.OPEN:
            return
        for lane in self._debts.overdue_lanes(now=now):
            self._ask("kernel_info_request", {}, lane=lane, now=now)
        if self._interrupts.is_overdue(now=now) and self._interrupts.end_farewell():
            self._events.append(InterruptKernel())
        self._gate.tick(events_are_dropped=self._rate_limit.drops(now=now), now=now)
