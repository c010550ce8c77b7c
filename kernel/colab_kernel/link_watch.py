"""When to ping a link, ask after its server, open it again, give it up: a policy on numbers.

A websocket that somebody closed says so; one whose network went away says nothing at all, and the two want
opposite things. A Jupyter Server keeps what a kernel says once it knows that nobody listens: after a close, a
new socket with the same `session_id` gets all of it, the sooner the better. In a silence the server knows
nothing; what it sent is held by TCP, which delivers it when the network is back, and a new socket would throw
that away. So a silence is waited out for as long as it lasts, and only an old socket that stays silent
although the server can be reached is replaced: whoever carried it has forgotten it.

Given up is a link whose kernel is gone, and one whose server does nothing but refuse for `gone_after_s`.
"""

from __future__ import annotations

import enum

from colab_kernel.errors import KernelGoneError, RemoteError, UnreachableError

PING_EVERY_S = 5.0

SILENT_AFTER_S = 10.0
"""So long after a ping without a sign of life the server itself is asked, over a connection of its own.

What a kernel says from the moment a socket is forgotten until it is replaced is lost; by itself a Jupyter
Server finds out after 90 s and more.
Source: https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/base/websocket.py, in 2.21
"""

ASK_EVERY_S = 3.0

GRACE_S = (2.0, 20.0)
"""So long, at least and at most, the old socket of a reachable server may stay silent: as long as the silence
itself was, since TCP doubles its pauses and so comes back within that time after the network has.

Source: https://www.rfc-editor.org/rfc/rfc6298#section-5
"""

BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""How long after the n-th failure in a row the next try comes; the last for all further ones."""

STEADY_AFTER_S = 5.0
"""A link that ends sooner counts as a failure too, or a server that takes and drops it would be hammered."""

LATE_S = 10.0
"""Whoever calls so late did not read meanwhile: a machine that slept, which is no silence of the peer."""


class Reach(enum.StrEnum):
    """What came of asking whether a server can be reached."""

    REACHABLE = "it answers"
    REFUSED = "something is there, and says at once that the server is not"
    SILENT = "nobody answers"


class Act(enum.StrEnum):
    """What is to be done."""

    PING = "send a ping on the link"
    ASK = "ask whether the server can be reached; say it by `reach`"
    REOPEN = "drop the link, open a new one with the same session_id; say it by `opened` or `open_failed`"
    GIVE_UP = "there is nothing to go on with"


class _State(enum.Enum):
    OPENING = enum.auto()  # somebody is at it
    OPEN = enum.auto()
    CLOSED = enum.auto()  # the next try is due at `_due_at`
    GIVING_UP = enum.auto()  # not said yet
    GIVEN_UP = enum.auto()


class LinkWatch:
    """The policy for one link after another to the same kernel.

    Call `tick` after each of the other verbs, and at `deadline()` at the latest, and do what it returns.
    `now` is in seconds and never goes back.
    """

    def __init__(self, *, gone_after_s: float) -> None:
        """Begin while the first link is being opened: `opened` or `open_failed` is the first to come."""
        self._gone_after_s = gone_after_s
        self._state = _State.OPENING
        self._due_at = 0.0
        # The link that is open:
        self._opened_at = 0.0
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._awaited_since: float | None = None
        self._paused = False
        # The question whether the server can be reached:
        self._asking = False
        self._asked_in_this_silence = False
        self._ask_at = 0.0
        self._grace_until: float | None = None
        # What failed since a link was steady:
        self._failures = 0
        self._lost_at: float | None = None
        self._refused_at: float | None = None
        self._refused_for = 0.0

    # --- what happened -----------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """There is a new link."""
        if self._state is _State.OPENING:
            self._state = _State.OPEN
            self._opened_at = self._pinged_at = now
            self._lost_at = None
            self._forget_refusals()
            self._hear(now)

    def open_failed(self, error: RemoteError, now: float) -> None:
        """No new link came to be."""
        if self._state is not _State.OPENING:
            return
        self._failures += 1
        self._close(now)
        if isinstance(error, KernelGoneError):
            self._give_up(now)
        elif isinstance(error, UnreachableError) and not error.refused:
            self._forget_refusals()
        else:
            self._count_refusal(now)

    def heard(self, now: float) -> None:
        """Something arrived on the link: a message, a pong, half of one."""
        if self._state is _State.OPEN:
            self._forget_refusals()
            self._hear(now)

    def closed(self, now: float) -> None:
        """The link has ended: closed by the peer, reset, or by an error on it."""
        if self._state is _State.OPEN:
            steady = now - self._opened_at >= STEADY_AFTER_S
            self._failures = 0 if steady else self._failures + 1
            self._lost_at = now
            self._close(now)

    def reach(self, reach: Reach, now: float) -> None:
        """The answer to ASK; void if something was heard since, or the link has ended."""
        self._asking = False
        if self._state is not _State.OPEN or not self._asked_in_this_silence:
            return
        self._ask_at = now + ASK_EVERY_S
        if reach is Reach.REFUSED:
            self._count_refusal(now)
        else:
            self._forget_refusals()
        if reach is Reach.REACHABLE:
            self._wait_with_grace(now)
        else:
            self._grace_until = None

    def paused(self, paused: bool, now: float) -> None:
        """Whether we ourselves do not read at present: then nothing can be heard, which is no silence."""
        if self._paused and not paused:
            self._hear(now)
        self._paused = paused

    # --- what is due -------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Act]:
        """What is to be done now. It is taken as done: asked again at the same moment, nothing is due."""
        match self._state:
            case _State.GIVING_UP:
                self._state = _State.GIVEN_UP
                return [Act.GIVE_UP]
            case _State.CLOSED if now >= self._due_at:
                self._state = _State.OPENING
                return [Act.REOPEN]
            case _State.OPEN if not self._paused:
                return self._look_at_the_link(now)
        return []

    def deadline(self) -> float | None:
        """When something will be due though nothing happens; None: nothing will."""
        if self._state in (_State.CLOSED, _State.GIVING_UP):
            return self._due_at
        if self._state is not _State.OPEN or self._paused:
            return None
        asking_at = self._next_question()
        pinging_at = self._pinged_at + PING_EVERY_S
        return pinging_at if asking_at is None else min(pinging_at, asking_at)

    def silent_for(self, now: float) -> float:
        """For how many seconds there has been no link, or no answer on it; 0 while all is well."""
        since = self._awaited_since if self._state is _State.OPEN else self._lost_at
        return 0.0 if since is None else max(0.0, now - since)

    # --- inside ------------------------------------------------------------------------------------------

    def _look_at_the_link(self, now: float) -> list[Act]:
        due_at = self.deadline()
        if due_at is not None and now > due_at + LATE_S:
            self._hear(now)
        acts = []
        asking_at = self._next_question()
        if asking_at is not None and now >= asking_at:
            self._asking = self._asked_in_this_silence = True
            acts.append(Act.ASK)
        if now >= self._pinged_at + PING_EVERY_S:
            self._pinged_at = now
            if self._awaited_since is None:
                self._awaited_since = now
            acts.append(Act.PING)
        return acts

    def _next_question(self) -> float | None:
        if self._awaited_since is None or self._asking:
            return None
        first = self._awaited_since + SILENT_AFTER_S
        again = self._ask_at if self._grace_until is None else min(self._ask_at, self._grace_until)
        return max(first, again)

    def _hear(self, now: float) -> None:
        self._heard_at = now
        self._awaited_since = None
        self._asked_in_this_silence = False
        self._ask_at = now
        self._grace_until = None

    def _wait_with_grace(self, now: float) -> None:
        """A server that answers twice, with the grace in between, has a link that is forgotten."""
        if self._grace_until is None:
            least, most = GRACE_S
            self._grace_until = now + min(max(now - self._heard_at, least), most)
        elif now >= self._grace_until:
            self._lost_at = self._awaited_since
            self._failures = 0
            self._close(now)

    def _close(self, now: float) -> None:
        self._state = _State.CLOSED
        self._due_at = now + BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]

    def _give_up(self, now: float) -> None:
        self._state = _State.GIVING_UP
        self._due_at = now

    def _count_refusal(self, now: float) -> None:
        """Add the time since the last refusal, though never more than tries are apart: machines sleep."""
        if self._refused_at is not None:
            self._refused_for += min(now - self._refused_at, LATE_S)
        self._refused_at = now
        if self._refused_for >= self._gone_after_s:
            self._give_up(now)

    def _forget_refusals(self) -> None:
        self._refused_at = None
        self._refused_for = 0.0
