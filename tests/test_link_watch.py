"""When a link is pinged, asked after, opened again, given up. Time is a number here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from colab_kernel import link_watch
from colab_kernel.errors import (
    AccessError,
    KernelGoneError,
    RemoteError,
    UnreachableError,
)
from colab_kernel.link_watch import Act, LinkWatch, Reach

SILENT = UnreachableError("no answer")
REFUSED = UnreachableError("nobody listens", refused=True)
GONE_AFTER_S = 60.0


class Story:
    """A watch, its clock, and what it wanted so far."""

    def __init__(self) -> None:
        self.watch = LinkWatch(gone_after_s=GONE_AFTER_S)
        self.now = 1_000.0

    def opened(self) -> Story:
        self.watch.opened(self.now)
        assert self.watch.tick(self.now) == []
        return self

    def wait(self, duration_s: float) -> list[tuple[float, Act]]:
        """Let time pass, tick at each deadline; return what was due, with how long after the start."""
        start, end, done = self.now, self.now + duration_s, []
        for _ in range(10_000):
            due = self.watch.deadline()
            self.now = end if due is None else min(end, max(due, self.now))
            done += [(round(self.now - start, 3), act) for act in self.watch.tick(self.now)]
            if self.now == end:
                return done
        raise AssertionError(f"it asks to be called again and again at {self.now}")

    def until(self, wanted: Act, *, at_most_s: float = 100.0) -> float:
        """Let time pass until `wanted` is due; return how long it took."""
        start = self.now
        while self.now - start <= at_most_s:
            due = self.watch.deadline()
            assert due is not None, f"nothing will be due, {wanted} included"
            self.now = max(due, self.now)
            if wanted in self.watch.tick(self.now):
                return self.now - start
        raise AssertionError(f"no {wanted} in {at_most_s} s")

    def hears(self) -> None:
        self.watch.heard(self.now)

    def answers(self, reach: Reach) -> list[Act]:
        self.watch.reach(reach, self.now)
        return self.watch.tick(self.now)

    def fails(self, error: RemoteError) -> list[Act]:
        self.watch.open_failed(error, self.now)
        return self.watch.tick(self.now)

    def closes(self) -> list[Act]:
        self.watch.closed(self.now)
        return self.watch.tick(self.now)


def test_before_the_first_link_nothing_is_due() -> None:
    story = Story()
    assert story.watch.deadline() is None
    assert story.wait(1_000) == []
    assert story.watch.silent_for(story.now) == 0


def test_a_ping_goes_out_every_five_seconds_however_much_is_heard() -> None:
    story = Story().opened()
    pings = []
    for _ in range(30):
        pings += story.wait(1)
        story.hears()
    assert [act for _, act in pings] == [Act.PING] * 6


def test_a_ping_that_is_answered_is_no_silence() -> None:
    story = Story().opened()
    for _ in range(10):
        story.until(Act.PING)
        story.now += 9.9
        story.hears()
        assert story.watch.silent_for(story.now) == 0
    assert story.watch.tick(story.now) == [Act.PING]


def test_ten_seconds_without_an_answer_make_it_ask_and_pings_go_on() -> None:
    story = Story().opened()
    assert story.wait(17) == [(5, Act.PING), (10, Act.PING), (15, Act.ASK), (15, Act.PING)]
    assert story.watch.silent_for(story.now) == 12


def test_an_unreachable_server_is_asked_after_for_as_long_as_it_takes() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    for _ in range(1_000):
        assert story.answers(Reach.SILENT) == []
        assert story.until(Act.ASK) == link_watch.ASK_EVERY_S
    assert story.watch.silent_for(story.now) > 2_000


def test_a_question_is_not_asked_twice_at_a_time() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    assert {act for _, act in story.wait(60)} == {Act.PING}


def test_what_is_heard_after_the_hole_ends_the_matter() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    story.answers(Reach.REACHABLE)
    story.hears()
    assert story.watch.silent_for(story.now) == 0
    story.until(Act.PING)
    story.hears()
    assert story.answers(Reach.REACHABLE) == []  # late, and nobody asked in this silence
    assert story.until(Act.ASK) >= link_watch.SILENT_AFTER_S


@pytest.mark.parametrize(("asked_again", "grace_s"), [(0, 15.0), (1, 18.0), (10, 20.0)])
def test_a_link_that_stays_silent_with_its_server_in_reach_is_replaced_after_a_grace(
    asked_again: int, grace_s: float
) -> None:
    story = Story().opened()
    story.until(Act.ASK)
    for _ in range(asked_again):
        story.answers(Reach.SILENT)
        story.until(Act.ASK)
    began = story.now
    while not (acts := story.answers(Reach.REACHABLE)):
        story.until(Act.ASK)
    assert acts == [Act.REOPEN]
    assert story.now - began == grace_s
    assert story.watch.deadline() is None


def test_a_server_out_of_reach_again_begins_the_grace_anew() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    story.answers(Reach.REACHABLE)
    story.wait(14.9)
    story.answers(Reach.SILENT)
    story.until(Act.ASK)
    story.answers(Reach.REACHABLE)
    assert story.until(Act.ASK) == link_watch.ASK_EVERY_S
    assert story.answers(Reach.REACHABLE) == []


def test_a_closed_link_is_opened_again_at_once() -> None:
    story = Story().opened()
    story.wait(30)
    story.hears()
    story.now += 1
    assert story.closes() == [Act.REOPEN]
    assert story.closes() == []
    story.opened()
    assert story.until(Act.PING) == link_watch.PING_EVERY_S


def test_tries_that_fail_come_further_and_further_apart() -> None:
    story = Story().opened()
    story.wait(6)
    story.closes()
    pauses = []
    for _ in range(6):
        assert story.fails(SILENT) == []
        pauses.append(story.until(Act.REOPEN))
    assert pauses == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0]


def test_a_server_that_takes_a_link_and_drops_it_is_not_hammered() -> None:
    story = Story().opened()
    pauses = []
    for _ in range(6):
        story.closes()
        pauses.append(story.until(Act.REOPEN))
        story.opened()
    assert pauses == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    story.wait(6)
    assert story.closes() == [Act.REOPEN]


def test_silence_is_waited_out_without_limit() -> None:
    story = Story()
    story.fails(SILENT)
    for _ in range(1_000):
        story.until(Act.REOPEN)
        story.now += 75
        assert story.fails(SILENT) == []
    assert story.until(Act.REOPEN) == 5


def test_a_kernel_that_is_gone_is_given_up_at_once_and_for_good() -> None:
    story = Story().opened()
    story.wait(6)
    story.closes()
    assert story.fails(KernelGoneError("gone")) == [Act.GIVE_UP]
    assert story.wait(1_000) == []
    story.watch.opened(story.now)
    story.watch.closed(story.now)
    story.watch.heard(story.now)
    story.watch.reach(Reach.REACHABLE, story.now)
    story.watch.open_failed(SILENT, story.now)
    assert story.wait(1_000) == []


@pytest.mark.parametrize("error", [REFUSED, AccessError("no"), RemoteError("500")], ids=repr)
def test_a_server_that_only_refuses_is_given_up_in_the_end(error: RemoteError) -> None:
    story = Story().opened()
    story.wait(6)
    start = story.now
    story.closes()
    while (acts := story.fails(error)) == []:
        story.until(Act.REOPEN)
    assert acts == [Act.GIVE_UP]
    assert GONE_AFTER_S <= story.now - start <= GONE_AFTER_S + 5


@pytest.mark.parametrize("between", ["silence", "a link"])
def test_refusals_with_something_else_in_between_count_anew(between: str) -> None:
    story = Story()
    for _ in range(5):
        for _ in range(10):
            assert story.fails(REFUSED) == []
            story.until(Act.REOPEN)
        if between == "silence":
            story.fails(SILENT)
        else:
            story.opened()
            story.closes()
        story.until(Act.REOPEN)


def test_a_silent_link_to_a_server_that_is_refused_is_given_up_in_the_end() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    start = story.now
    while (acts := story.answers(Reach.REFUSED)) == []:
        story.until(Act.ASK)
    assert acts == [Act.GIVE_UP]
    assert GONE_AFTER_S <= story.now - start <= GONE_AFTER_S + link_watch.ASK_EVERY_S


def test_what_we_do_not_read_is_not_the_peers_silence() -> None:
    story = Story().opened()
    story.until(Act.PING)
    story.watch.paused(True, story.now)
    assert story.watch.deadline() is None
    assert story.wait(1_000) == []
    story.watch.paused(False, story.now)
    assert story.watch.silent_for(story.now) == 0
    assert story.wait(9) == [(0, Act.PING), (5, Act.PING)]


def test_a_machine_that_slept_takes_nobody_for_silent() -> None:
    story = Story().opened()
    story.until(Act.PING)
    story.now += 3_600
    assert story.watch.tick(story.now) == [Act.PING]
    assert story.until(Act.ASK) == link_watch.SILENT_AFTER_S


def test_a_machine_that_slept_between_two_refusals_gives_nothing_up() -> None:
    story = Story().opened()
    story.wait(6)
    story.closes()
    story.fails(REFUSED)
    story.now += 3_600
    assert story.watch.tick(story.now) == [Act.REOPEN]
    assert story.fails(REFUSED) == []


def test_a_question_answered_after_the_link_ended_does_nothing() -> None:
    story = Story().opened()
    story.until(Act.ASK)
    assert story.closes() == [Act.REOPEN]
    assert story.answers(Reach.REACHABLE) == []
    story.opened()
    story.wait(6)
    assert story.answers(Reach.REACHABLE) == []
    assert story.until(Act.ASK) > 0


def test_without_a_link_the_silence_grows_from_its_end() -> None:
    story = Story().opened()
    story.wait(6)
    story.hears()
    story.closes()
    story.now += 30
    assert story.watch.silent_for(story.now) == 30
    story.opened()
    assert story.watch.silent_for(story.now) == 0


@given(st.floats(0, 4.9), st.floats(0, 1e6))
def test_the_clock_may_begin_anywhere(gap: float, start: float) -> None:
    watch = LinkWatch(gone_after_s=1)
    watch.opened(start)
    assert watch.tick(start + gap) == []
    assert watch.deadline() == start + link_watch.PING_EVERY_S


ERRORS = st.sampled_from([SILENT, REFUSED, AccessError("x"), RemoteError("x"), KernelGoneError("x")])


class AnyLife(RuleBasedStateMachine):
    """Whatever happens in whatever order: each act where it makes sense, and always a way on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.watch = LinkWatch(gone_after_s=GONE_AFTER_S)
        self.link, self.opening, self.asked, self.given_up = False, True, False, False
        self.heard_at = 0.0
        self.ended = False

    def tick(self) -> list[Act]:
        acts = self.watch.tick(self.now)
        assert len(acts) == len(set(acts))
        assert not (self.given_up and acts)
        for act in acts:
            match act:
                case Act.PING:
                    assert self.link
                case Act.ASK:
                    assert self.link
                    assert not self.asked
                    assert self.now - self.heard_at >= link_watch.SILENT_AFTER_S
                    self.asked = True
                case Act.REOPEN:
                    assert not self.opening
                    assert not self.link or self.now - self.heard_at >= link_watch.SILENT_AFTER_S
                    self.link, self.opening = False, True
                case Act.GIVE_UP:
                    self.given_up, self.link, self.opening = True, False, False
        assert self.watch.tick(self.now) == []
        return acts

    @initialize(start=st.floats(0, 1e9))
    def begin(self, start: float) -> None:
        self.now = start

    @rule(seconds=st.floats(0, 100) | st.sampled_from([2.0, 3.0, 5.0, 10.0, 20.0, 3_600.0]))
    def time_passes(self, seconds: float) -> None:
        for _ in range(1_000):
            due = self.watch.deadline()
            if due is None or due > self.now + seconds:
                break
            seconds -= max(0.0, due - self.now)
            self.now = max(self.now, due)
            self.tick()
        else:
            raise AssertionError("no end of deadlines")
        self.now += max(0.0, seconds)
        self.tick()

    @rule(seconds=st.floats(0, 1e5))
    def the_machine_sleeps(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    @precondition(lambda self: self.opening)
    @rule()
    def opens(self) -> None:
        self.watch.opened(self.now)
        self.link, self.opening, self.heard_at = True, False, self.now
        self.tick()

    @precondition(lambda self: self.opening)
    @rule(error=ERRORS)
    def does_not_open(self, error: RemoteError) -> None:
        self.watch.open_failed(error, self.now)
        self.opening = False
        self.tick()
        assert self.given_up or not isinstance(error, KernelGoneError)

    @precondition(lambda self: self.link)
    @rule()
    def says_something(self) -> None:
        self.watch.heard(self.now)
        self.heard_at = self.now
        assert self.watch.silent_for(self.now) == 0
        self.tick()

    @precondition(lambda self: self.link)
    @rule()
    def ends(self) -> None:
        self.watch.closed(self.now)
        self.link = False
        self.tick()

    @precondition(lambda self: self.asked)
    @rule(reach=st.sampled_from(Reach))
    def answers(self, reach: Reach) -> None:
        self.asked = False
        self.watch.reach(reach, self.now)
        self.tick()

    @rule(for_s=st.floats(0, 100))
    def does_not_read(self, for_s: float) -> None:
        self.watch.paused(True, self.now)
        self.now += for_s
        assert not set(self.tick()) & {Act.PING, Act.ASK}
        self.watch.paused(False, self.now)
        self.heard_at = self.now
        self.tick()

    @invariant()
    def somebody_is_at_it_or_something_will_be_due(self) -> None:
        waits = self.watch.deadline() is not None
        assert waits or self.opening or self.given_up


TestAnyLife = AnyLife.TestCase
