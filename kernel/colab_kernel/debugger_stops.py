"""Where the remote kernel is stopped, and that each stop is good for one resume.

A resume that reaches debugpy while nothing is stopped is answered only when something resumes, and until then
ipykernel handles nothing else of the control channel: it is dead, for ever if the cell has ended.
Source: pydevd_process_net_command_json.py (on_continue_request) in debugpy 1.8.22, and
https://github.com/ipython/ipykernel/issues/1255; tried with ipykernel 6.17.1 and 7.4
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class Phase(enum.StrEnum):
    """What has become of one stop. One that is over by all accounts is forgotten."""

    STOPPED = "stopped"
    RESUMING = "resuming"  # a resume was let through; it has no reply
    STOPPED_AGAIN = "stopped again"  # as before, and a `stopped` came: of this stop or of the next one
    RESUMED = "resumed"  # the reply was a success; no `continued` has come
    DOUBTED = "doubted"  # as before, and the kernel was seen stopped: still, or again


class Sign(enum.StrEnum):
    """What tells about a stop. A `continued` is not among them: after it, the stop is over."""

    EVENT = "event"  # a `stopped`
    RESUME = "resume"  # we let one through
    ACCEPTED = "accepted"  # its reply is a success
    REFUSED = "refused"  # its reply is none, or there is none
    SEEN = "seen"  # `debugInfo` lists stopped threads


TRANSITIONS: Mapping[Phase, Mapping[Sign, Phase]] = {
    Phase.STOPPED: {
        Sign.EVENT: Phase.STOPPED,
        Sign.RESUME: Phase.RESUMING,
        Sign.ACCEPTED: Phase.STOPPED,
        Sign.REFUSED: Phase.STOPPED,
        Sign.SEEN: Phase.STOPPED,
    },
    Phase.RESUMING: {
        Sign.EVENT: Phase.STOPPED_AGAIN,
        Sign.ACCEPTED: Phase.RESUMED,
        Sign.REFUSED: Phase.STOPPED,
        Sign.SEEN: Phase.RESUMING,
    },
    Phase.STOPPED_AGAIN: {
        Sign.EVENT: Phase.STOPPED_AGAIN,
        Sign.ACCEPTED: Phase.STOPPED,
        Sign.REFUSED: Phase.STOPPED,
        Sign.SEEN: Phase.STOPPED_AGAIN,
    },
    Phase.RESUMED: {
        Sign.EVENT: Phase.STOPPED,
        Sign.ACCEPTED: Phase.RESUMED,
        Sign.REFUSED: Phase.RESUMED,
        Sign.SEEN: Phase.DOUBTED,
    },
    Phase.DOUBTED: {
        Sign.EVENT: Phase.STOPPED,
        Sign.ACCEPTED: Phase.DOUBTED,
        Sign.REFUSED: Phase.DOUBTED,
        Sign.SEEN: Phase.STOPPED,
    },
}
"""Only a stop in STOPPED takes a RESUME. A step's reply comes before the thread moves, so that `debugInfo`
may list it for a moment longer: hence two looks after RESUMED."""

_HELD = frozenset({Phase.STOPPED, Phase.RESUMING, Phase.STOPPED_AGAIN})


@dataclass(slots=True)
class _Stop:
    """`number`s are debugpy's, which counts its replies and events as it sends them; 0 is none."""

    threads: tuple[int, ...]
    phase: Phase = Phase.STOPPED
    ticket: int = 0  # of the resume that was let through last
    accepted_at: int = 0  # the number of its reply
    stopped_at: int = 0  # the number of the last `stopped`
    # Known from debugInfo only: these may still be on their way, behind a flood of output.
    continued_is_due: bool = False
    stopped_is_due: bool = False

    def take(self, sign: Sign) -> None:
        self.phase = TRANSITIONS[self.phase][sign]

    def see(self) -> None:
        """`debugInfo` lists it."""
        if self.phase is Phase.DOUBTED:
            self.continued_is_due = self.stopped_is_due = True
            self.accepted_at = 0
        self.take(Sign.SEEN)

    def accept(self, number: int) -> None:
        """Its resume is carried out. A `stopped` that was sent before that is one of the same stop."""
        self.accepted_at = number
        if self.phase is Phase.STOPPED_AGAIN and self.stopped_at < number:
            self.phase = Phase.RESUMING
        self.take(Sign.ACCEPTED)

    def is_old_news(self, number: int, *, is_due: bool) -> bool:
        """Whether an event tells of what is known: it was due, and sent before the resume was accepted."""
        return is_due and not 0 < self.accepted_at < number


class Stops:
    """The stops that are not over: one for all threads, or one for each where threads stop one by one.

    debugpy stops all threads at once unless `attach` asked it for the other.
    """

    def __init__(self) -> None:
        self._stops: dict[int | None, _Stop] = {}  # None: all threads
        self._tickets = 0
        self.version = 0  # changes with each event and each resume: what was asked before is stale

    @property
    def is_held(self) -> bool:
        """Whether, as far as is known, a thread is stopped: one whose resume has no reply yet is."""
        return any(stop.phase in _HELD for stop in self._stops.values())

    @property
    def are_known(self) -> bool:
        """Whether there is a stop that is not over."""
        return bool(self._stops)

    @property
    def is_open(self) -> bool:
        """Whether a resume would be let through."""
        return any(stop.phase is Phase.STOPPED for stop in self._stops.values())

    @property
    def is_unsettled(self) -> bool:
        """Whether a thread should be going on, and has not been heard of."""
        return any(stop.phase in {Phase.RESUMED, Phase.DOUBTED} for stop in self._stops.values())

    @property
    def threads(self) -> tuple[int, ...]:
        """The threads that are stopped: the one that an event names, or all that `debugInfo` lists."""
        held = (stop.threads for stop in self._stops.values() if stop.phase in _HELD)
        return tuple(dict.fromkeys(thread for threads in held for thread in threads))

    # --- what is heard of the kernel ---------------------------------------------------------------------

    def stopped(self, thread: int, *, all_threads: bool, number: int) -> None:
        """A `stopped` event, which has this number."""
        self.version += 1
        key = None if all_threads else thread
        stop = self._stops.setdefault(key, _Stop((thread,)))
        stop.threads, stop.stopped_at = (thread,), number
        is_stale = 0 < number < stop.accepted_at
        if not is_stale and not stop.is_old_news(number, is_due=stop.stopped_is_due):
            stop.take(Sign.EVENT)
        stop.stopped_is_due = stop.continued_is_due = False

    def continued(self, thread: int, *, all_threads: bool, number: int) -> None:
        """A `continued` event, which has this number."""
        self.version += 1
        for key, stop in list(self._stops.items()):
            if not all_threads and key not in {None, thread}:
                continue
            if stop.is_old_news(number, is_due=stop.continued_is_due):
                stop.continued_is_due = False
            else:
                del self._stops[key]

    def seen(self, threads: Sequence[int]) -> None:
        """`debugInfo`, asked since the last event and the last resume, lists `threads` as stopped."""
        if not threads:
            self._stops.clear()
        elif not self._stops:
            self._stops[None] = _Stop(tuple(threads), stopped_is_due=True)
        else:
            for stop in self._stops.values():
                stop.see()

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
            The resume's ticket, for `settle`. None: it must not reach the kernel.
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
