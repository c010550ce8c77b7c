"""Where the remote kernel is stopped, and that each stop is good for one resume.

A resume that reaches debugpy while nothing is stopped is answered only when something resumes, and until then
ipykernel handles nothing else of the control channel: it is dead, for ever if the cell has ended.
Source: pydevd_process_net_command_json.py (on_continue_request) in debugpy 1.8.22, and
https://github.com/ipython/ipykernel/issues/1255; tried with ipykernel 6.17.1 and 7.4

What is known comes by two ways, replies on control and events on iopub, of which either may be late: events
by seconds, behind a flood of output. So what a reply told of leaves an event to be expected, and such an
event, when it comes, is old news.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Phase(enum.StrEnum):
    """Whether a thread is stopped, as far as is known."""

    RUNNING = "running"
    STOPPED = "stopped"
    RESUMING = "resuming"  # a resume was let through; it has no reply
    STOPPED_AGAIN = "stopped again"  # as before, and a `stopped` came: of this stop or of the next one


class Sign(enum.StrEnum):
    """What tells about that."""

    EVENT = "event"  # a `stopped`
    CONTINUED = "continued"  # a `continued`, or `debugInfo` lists no stopped threads
    RESUME = "resume"  # we let one through
    ACCEPTED = "accepted"  # its reply is a success
    REFUSED = "refused"  # its reply is none, or there is none
    SEEN = "seen"  # `debugInfo` lists stopped threads


TRANSITIONS: Mapping[Phase, Mapping[Sign, Phase]] = {
    Phase.RUNNING: {
        Sign.EVENT: Phase.STOPPED,
        Sign.CONTINUED: Phase.RUNNING,
        Sign.SEEN: Phase.STOPPED,
    },
    Phase.STOPPED: {
        Sign.EVENT: Phase.STOPPED,
        Sign.CONTINUED: Phase.RUNNING,
        Sign.RESUME: Phase.RESUMING,
        Sign.SEEN: Phase.STOPPED,
    },
    Phase.RESUMING: {
        Sign.EVENT: Phase.STOPPED_AGAIN,
        Sign.CONTINUED: Phase.RUNNING,
        Sign.ACCEPTED: Phase.RUNNING,
        Sign.REFUSED: Phase.STOPPED,
        Sign.SEEN: Phase.RESUMING,
    },
    Phase.STOPPED_AGAIN: {
        Sign.EVENT: Phase.STOPPED_AGAIN,
        Sign.CONTINUED: Phase.RUNNING,
        Sign.ACCEPTED: Phase.STOPPED,
        Sign.REFUSED: Phase.STOPPED,
        Sign.SEEN: Phase.STOPPED_AGAIN,
    },
}
"""Only a stop in STOPPED takes a RESUME. What becomes of one is asked until it is known."""

LOOKS = 2
"""How often `debugInfo` must list a thread whose resume was accepted, until it counts as stopped anew.

The reply to a step comes before the thread moves, and the reply to `continue` before ipykernel hears of it.
"""


@dataclass(slots=True)
class _Expected:
    """An event that tells what a reply has told. One whose number is above `before`, if known, is another."""

    kind: Sign
    before: int = 0


@dataclass(slots=True)
class _Stop:
    """One thread, or all. A number is debugpy's, which counts its replies and events as it sends them."""

    threads: tuple[int, ...] = ()
    phase: Phase = Phase.RUNNING
    ticket: int = 0  # of the resume that is on its way
    accepted_at: int = 0  # the number of the last resume's reply
    stopped_at: int = 0  # the number of the last `stopped`
    looks_due: int = 0
    expected: list[_Expected] = field(default_factory=list)

    def take(self, sign: Sign) -> None:
        self.phase = TRANSITIONS[self.phase][sign]
        if self.phase in {Phase.RUNNING, Phase.STOPPED}:
            self.ticket = 0

    def is_old_news(self, kind: Sign, number: int) -> bool:
        """Whether an event is known already. With it go those that should have come before, and did not."""
        expected = [one for one in self.expected if not 0 < one.before < number]
        kinds = [one.kind for one in expected]
        is_expected, is_late = kind in kinds, 0 < number < self.accepted_at
        if is_expected or not is_late:
            self.expected = expected[kinds.index(kind) + 1 :] if is_expected else []
        if not self.expected:
            self.looks_due = 0
        return is_expected or (is_late and kind is Sign.EVENT)

    def stopped(self, thread: int, number: int) -> None:
        self.threads = (thread,)
        if not self.is_old_news(Sign.EVENT, number):
            self.stopped_at = number
            self.take(Sign.EVENT)

    def continued(self, number: int) -> None:
        if not self.is_old_news(Sign.CONTINUED, number):
            self.take(Sign.CONTINUED)

    def seen_stopped(self) -> None:
        self.looks_due = max(self.looks_due - 1, 0)
        if not self.looks_due:
            if self.phase is Phase.RUNNING:
                self.expected.append(_Expected(Sign.EVENT))
            self.take(Sign.SEEN)

    def seen_running(self) -> None:
        self.looks_due = 0
        if self.phase is not Phase.RUNNING:
            self.expected.append(_Expected(Sign.CONTINUED))
            self.take(Sign.CONTINUED)

    def accept(self, number: int) -> None:
        """A `stopped` that was sent before the reply to the resume is one of the stop that it ended."""
        if self.phase is Phase.STOPPED_AGAIN and self.stopped_at < number:
            self.phase = Phase.RESUMING
        if self.phase is Phase.RESUMING:
            for one in self.expected:
                one.before = one.before or number
            self.expected.append(_Expected(Sign.CONTINUED))
            self.looks_due = LOOKS
        self.accepted_at = number
        self.take(Sign.ACCEPTED)


class Stops:
    """The threads that were stopped: all as one, or one by one if they stop so.

    debugpy stops all threads at once unless `attach` asked it for the other.
    """

    def __init__(self) -> None:
        self._stops: dict[int | None, _Stop] = {}  # None: all threads
        self._tickets = 0
        self.version = 0  # changes with each event and each resume: what was asked before is stale

    @property
    def is_held(self) -> bool:
        """Whether, as far as is known, a thread is stopped: one whose resume has no reply yet is."""
        return any(stop.phase is not Phase.RUNNING for stop in self._stops.values())

    @property
    def is_open(self) -> bool:
        """Whether a resume would be let through."""
        return any(stop.phase is Phase.STOPPED for stop in self._stops.values())

    @property
    def is_unsettled(self) -> bool:
        """Whether a thread should be going on, and has not been heard of."""
        return any(stop.looks_due for stop in self._stops.values())

    @property
    def threads(self) -> tuple[int, ...]:
        """The threads that are stopped: the one that an event names, or all that `debugInfo` lists."""
        held = (stop.threads for stop in self._stops.values() if stop.phase is not Phase.RUNNING)
        return tuple(dict.fromkeys(thread for threads in held for thread in threads))

    # --- what is heard of the kernel ---------------------------------------------------------------------

    def stopped(self, thread: int, *, all_threads: bool, number: int) -> None:
        """A `stopped` event, which has this number."""
        self.version += 1
        self._stops.setdefault(None if all_threads else thread, _Stop()).stopped(thread, number)

    def continued(self, thread: int, *, all_threads: bool, number: int) -> None:
        """A `continued` event, which has this number."""
        self.version += 1
        keys = self._stops.keys() if all_threads else {None, thread} & self._stops.keys()
        for key in keys:
            self._stops[key].continued(number)

    def seen(self, threads: Sequence[int]) -> None:
        """`debugInfo`, asked since the last event and the last resume, lists `threads` as stopped."""
        if not threads:
            for stop in self._stops.values():
                stop.seen_running()
            return
        if not self.is_held and not self.is_unsettled:
            self._stops.setdefault(None, _Stop()).threads = tuple(threads)
            self._stops[None].seen_stopped()
            return
        for stop in [one for one in self._stops.values() if one.phase is not Phase.RUNNING or one.looks_due]:
            stop.seen_stopped()

    def clear(self) -> None:
        """Nothing is stopped: no debugger, or a new one."""
        if self._stops:
            self.version += 1
            self._stops.clear()

    # --- resumes -----------------------------------------------------------------------------------------

    def resume(self, thread: int | None) -> int | None:
        """Let a resume through if there is a stop for it.

        Args:
            thread: the one that shall go on; None: all.

        Returns:
            The resume's ticket. None: it must not reach the kernel.
        """
        keys = {None, thread} if thread is not None else self._stops.keys()
        stops = [stop for key, stop in self._stops.items() if key in keys and stop.phase is Phase.STOPPED]
        if not stops:
            return None
        self.version += 1
        self._tickets += 1
        for stop in stops:
            stop.take(Sign.RESUME)
            stop.ticket = self._tickets
        return self._tickets

    def accept(self, ticket: int, *, number: int) -> None:
        """A resume is carried out; its reply has this number. If its stop is over, that changes nothing."""
        for stop in self._of(ticket):
            stop.accept(number)

    def refuse(self, ticket: int) -> None:
        """A resume was not carried out: there may be another one."""
        for stop in self._of(ticket):
            stop.take(Sign.REFUSED)

    def _of(self, ticket: int) -> list[_Stop]:
        return [stop for stop in self._stops.values() if stop.ticket == ticket]
