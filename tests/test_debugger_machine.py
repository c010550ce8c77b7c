"""The debugger's guard between frontends that press every key and a kernel that must get one resume a stop.

The kernel is ipykernel as far as it matters: one request on control at a time; a resume is answered before
its thread is heard to move; replies and events come by two ways of which either may be late; a server may
drop events; a link may swallow a request, or its reply.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from colab_kernel.debugger import RESUMES, Answer, DebugGuard, Forward, Hold

Content = dict[str, Any]

SETTINGS = settings(max_examples=150, stateful_step_count=40, deadline=None)

THREADS = [1, 2, 3, 6]
"""What ipykernel lists for one stop."""


@dataclass
class Kernel:
    """ipykernel and debugpy. What leaves it has debugpy's number, in the order in which it leaves."""

    replies: deque[tuple[Content, Content]] = field(default_factory=deque)
    events: deque[Content] = field(default_factory=deque)
    asked: deque[Content] = field(default_factory=deque)
    is_stopped: bool = False
    moves: bool = False  # a resume was taken on, and it has not been heard that the thread moved
    is_slow: bool = False  # nor had it when the relay asked, which it does once a second
    number: int = 0

    def handle(self) -> None:
        request = self.asked.popleft()
        command = request["command"]
        body: Content = {}
        if command in RESUMES:
            assert self.is_stopped, f"{command} came while the cell ran: control is dead from here on"
            assert not self.moves, f"{command} came on top of another resume"
            self.moves, self.is_slow = True, False
        if command == "debugInfo":
            if request["seq"] == 0 and self.moves:
                if self.is_slow:
                    self.move()
                self.is_slow = True
            body = {"isStarted": True, "stoppedThreads": THREADS if self.is_stopped else []}
        elif command == "pause" and self.is_stopped and not self.moves:
            self.stop("pause")
        self.number += 1
        self.replies.append(
            (
                request,
                {
                    "type": "response",
                    "seq": self.number,
                    "request_seq": request["seq"],
                    "command": command,
                    "success": True,
                    "body": body,
                },
            )
        )

    def publish(self, event: str, body: Content) -> None:
        self.number += 1
        self.events.append({"type": "event", "seq": self.number, "event": event, "body": body})

    def stop(self, reason: str) -> None:
        self.is_stopped = True
        self.publish("stopped", {"reason": reason, "threadId": 1, "allThreadsStopped": True})

    def move(self) -> None:
        self.is_stopped = self.moves = False
        self.publish("continued", {"threadId": 1, "allThreadsContinued": True})


class EveryKey(RuleBasedStateMachine):
    """Frontends, guard and kernel. `shows_stopped` is what a frontend shows, from all that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel()
        self.guard = DebugGuard()
        self.shows_stopped = False
        self.seq = 0
        self.unanswered: dict[int, int] = {}  # seq → how many `stopped` had been shown when it was sent
        self.stops_shown = 0
        self.asks = False
        self.must_ask = False

    @initialize()
    def begin(self) -> None:
        request = {"type": "request", "seq": 0, "command": "initialize"}
        assert self.guard.request(request, shell_busy=False) == Forward(None)
        self.guard.reply(
            request, {"type": "response", "request_seq": 0, "command": "initialize", "success": True}
        )

    # --- frontends

    @precondition(lambda self: not self.must_ask)
    @rule(command=st.sampled_from([*sorted(RESUMES), "pause", "debugInfo", "stackTrace"]))
    def press(self, command: str) -> None:
        self.seq += 1
        request = {"type": "request", "seq": self.seq, "command": command, "arguments": {"threadId": 1}}
        decision = self.guard.request(request, shell_busy=True)
        if isinstance(decision, Answer):
            assert decision.content["request_seq"] == self.seq
            self.shows_stopped = False
        else:
            assert decision == Forward(None)
            self.unanswered[self.seq] = self.stops_shown
            self.kernel.asked.append(request)

    # --- the kernel

    @precondition(lambda self: self.kernel.asked)
    @rule()
    def the_kernel_takes_a_request(self) -> None:
        self.kernel.handle()

    @precondition(lambda self: self.kernel.moves)
    @rule()
    def the_thread_moves(self) -> None:
        self.kernel.move()

    @precondition(lambda self: not self.kernel.is_stopped)
    @rule()
    def the_cell_stops(self) -> None:
        self.kernel.stop("breakpoint")

    # --- what is between

    @precondition(lambda self: self.kernel.replies)
    @rule()
    def a_reply_arrives(self) -> None:
        request, reply = self.kernel.replies.popleft()
        assert self.guard.reply(request, reply) is None
        if request["seq"] == 0:
            self.asks = False
            for event in self.guard.reconcile(reply["body"]):
                self.show(event)
            self.must_ask = self.must_ask and self.guard.is_in_doubt
            return
        stops_before = self.unanswered.pop(request["seq"])
        if request["command"] in RESUMES and stops_before == self.stops_shown:
            self.shows_stopped = False

    @precondition(lambda self: self.kernel.events)
    @rule()
    def an_event_arrives(self) -> None:
        event = self.kernel.events.popleft()
        assert self.guard.event(event) is None
        self.show(event)

    def show(self, event: Content) -> None:
        self.shows_stopped = event["event"] == "stopped"
        self.stops_shown += self.shows_stopped

    @precondition(lambda self: not self.asks)
    @rule()
    def ask(self) -> None:
        self.asks = True
        self.kernel.asked.append(dict(self.guard.own_debug_info(seq=0)))

    # --- the end

    def settle(self) -> None:
        """Everything arrives, and the guard asks as long as it is in doubt."""
        for _ in range(6):
            if self.kernel.moves:
                self.kernel.move()
            while self.kernel.asked:
                self.kernel.handle()
            if self.kernel.moves:
                self.kernel.move()
            while self.kernel.replies:
                self.a_reply_arrives()
            while self.kernel.events:
                self.an_event_arrives()
            if not self.guard.is_in_doubt:
                return
            self.ask()
        raise AssertionError("the guard cannot make up its mind")

    def teardown(self) -> None:
        self.settle()
        assert not self.unanswered
        assert self.guard.is_stopped is self.kernel.is_stopped
        assert self.shows_stopped is self.kernel.is_stopped
        if self.kernel.is_stopped:
            self.press("continue")
            assert self.kernel.asked, "a resume was swallowed"
            self.settle()
        assert self.guard.is_stopped is self.kernel.is_stopped is False

    @invariant()
    def the_guard_says_where_it_is_stopped(self) -> None:
        assert bool(self.guard.stopped_threads) is self.guard.is_stopped


class EveryKeyAndAServerThatDrops(EveryKey):
    """A server that drops events says so: then the guard asks."""

    @precondition(lambda self: self.kernel.events)
    @rule()
    def an_event_is_dropped(self) -> None:
        self.kernel.events.popleft()
        self.drops = True

    drops = False

    def settle(self) -> None:
        super().settle()
        for _ in range(2 * self.drops):
            self.ask()
            super().settle()


class EveryKeyAndALinkThatBreaks(EveryKey):
    """A link that swallows requests or replies: the relay asks before it lets anything through."""

    @precondition(lambda self: self.kernel.asked and self.kernel.asked[0]["seq"])
    @rule()
    def a_request_is_lost(self) -> None:
        self.lose(self.kernel.asked.popleft())

    @precondition(lambda self: self.kernel.replies and self.kernel.replies[0][0]["seq"])
    @rule()
    def a_reply_is_lost(self) -> None:
        self.lose(self.kernel.replies.popleft()[0])

    def lose(self, request: Content) -> None:
        """It shows only when there is a link again; our own question is asked anew then."""
        own = dict(self.guard.own_debug_info(seq=0))
        self.kernel.asked = deque(one for one in self.kernel.asked if one != own)
        self.kernel.replies = deque(one for one in self.kernel.replies if one[0] != own)
        self.guard.failed(own)
        self.guard.failed(request)
        del self.unanswered[request["seq"]]
        if self.kernel.moves:
            self.kernel.move()
        self.must_ask = True
        self.ask()


class Sessions(RuleBasedStateMachine):
    """Frontends that begin and end sessions as they like, and a kernel silent to one end too many."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = DebugGuard()
        self.asked: deque[Content] = deque()
        self.replies: deque[tuple[Content, Content]] = deque()
        self.held: deque[Content] = deque()
        self.is_started = False
        self.seq = 0

    @rule(
        command=st.sampled_from(
            ["initialize", "attach", "disconnect", "terminate", "debugInfo", "continue", "x"]
        ),
        shell_busy=st.booleans(),
    )
    def press(self, command: str, shell_busy: bool) -> None:
        self.seq += 1
        request = {"type": "request", "seq": self.seq, "command": command, "arguments": {}}
        if self.held and command != "debugInfo":
            self.held.append(request)
        else:
            self.decide(request, shell_busy=shell_busy)

    def decide(self, request: Content, *, shell_busy: bool) -> None:
        match self.guard.request(request, shell_busy=shell_busy):
            case Hold():
                assert request["command"] == "initialize"
                assert shell_busy
                self.held.append(request)
            case Answer(content=content):
                assert content["request_seq"] == request["seq"]
                assert request["command"] in {"continue", "disconnect", "terminate"}
            case Forward(content=content):
                assert content is None
                self.asked.append(request)

    @precondition(lambda self: self.held)
    @rule()
    def shell_is_idle(self) -> None:
        waiting, self.held = self.held, deque()
        for request in waiting:
            self.decide(request, shell_busy=False)

    @precondition(lambda self: self.asked)
    @rule()
    def the_kernel_takes_a_request(self) -> None:
        request = self.asked.popleft()
        command, was_started = request["command"], self.is_started
        if command == "initialize":
            self.is_started = True
        elif command == "disconnect":
            assert self.is_started, "ipykernel raises, and answers nothing"
            self.is_started = False
        elif command == "continue":
            raise AssertionError("nothing was ever stopped")
        self.replies.append((request, self.answer(request, is_empty=not (was_started or self.is_started))))

    def answer(self, request: Content, *, is_empty: bool) -> Content:
        command = request["command"]
        if is_empty and command != "debugInfo":
            return {}
        head = {"type": "response", "request_seq": request["seq"], "command": command, "success": True}
        return {**head, "body": {"isStarted": self.is_started, "stoppedThreads": []}}

    @precondition(lambda self: self.replies)
    @rule()
    def a_reply_arrives(self) -> None:
        request, reply = self.replies.popleft()
        passed = self.guard.reply(request, reply)
        assert (passed is None) is bool(reply)
        assert passed is None or (passed["success"], passed["request_seq"]) == (False, request["seq"])

    def teardown(self) -> None:
        self.shell_is_idle()
        while self.asked:
            self.the_kernel_takes_a_request()
        while self.replies:
            self.a_reply_arrives()
        assert self.guard.is_active is self.is_started


@pytest.mark.parametrize(
    "machine",
    [EveryKey, EveryKeyAndAServerThatDrops, EveryKeyAndALinkThatBreaks],
    ids=lambda machine: machine.__name__,
)
def test_one_resume_a_stop_and_none_swallowed(machine: type[EveryKey]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


def test_a_session_is_ended_once_and_every_request_is_forwarded_answered_or_held() -> None:
    run_state_machine_as_test(Sessions, settings=SETTINGS)
