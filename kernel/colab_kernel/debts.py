"""What frontends are owed: a reply and an idle for each request, by the kernel or, failing it, from here."""

from __future__ import annotations

from collections.abc import Iterator

from colab_kernel import sentences
from colab_kernel.debugger import DebugGuard
from colab_kernel.frontend_outbox import FrontendOutbox
from colab_kernel.messages import JsonObject, Message
from colab_kernel.requests import Lane, Request, RequestTable

HALF_OVER_S = 1.0
"""How long after a reply its idle may take (or the other way round) before the kernel is asked about it."""


class Debts:
    """The requests in flight, and what is still owed for each.

    Args:
        front: where replies go.
        guard: knows how to fail a request of the debugger.
    """

    def __init__(self, *, front: FrontendOutbox, guard: DebugGuard) -> None:
        self.table = RequestTable()
        self._front = front
        self._guard = guard

    def take_reply(self, message: Message, *, now: float) -> Request | None:
        """The request that this reply is for, marked as replied; None if it is owed to nobody.

        That is one that came twice, in what a server sends again after a drop, or for a request of another
        client.
        """
        request = self.table.get(message.parent_msg_id)
        if request is None or request.replied or request.lane[0] is not message.channel:
            return None
        request.replied, request.since = True, now
        if request.is_own:
            self._settle_older(request, is_reply=True, now=now)
        self.table.settle(request)
        return request

    def take_status(self, request: Request, state: JsonObject, *, now: float) -> None:
        """A kernel's status for `request`: where it is `idle`, that is paid."""
        self._settle_older(request, is_reply=False, now=now)
        request.busy = True
        if state.get("execution_state") == "idle":
            request.idle, request.since = True, now
            self.table.settle(request)

    def fail(self, request: Request, sentence: str, *, now: float) -> None:
        """Pay with an error what `request` is still owed."""
        content = request.message.parsed_content
        is_debug = request.message.msg_type == "debug_request"
        if is_debug:
            self._guard.failed(content)
        if request.is_own:
            request.replied = request.idle = True
        else:
            reply = self._guard.missing_reply(content, why=sentence) if is_debug else None
            self._front.fail(request, sentence, debug_reply=reply, now=now)
        self.table.remove(request)

    def fail_all(self, sentence: str, *, now: float) -> None:
        """`fail` all that are in flight, the oldest first."""
        for request in self.table:
            self.fail(request, sentence, now=now)

    def overdue_lanes(self, *, now: float) -> Iterator[Lane]:
        """Lanes in which one half of an answer is out for too long, and nothing asks about it yet."""
        asked = set()
        for probe in self.table:
            if probe.is_probe:
                if probe.is_half_over and now - probe.since > HALF_OVER_S:
                    self.table.remove(probe)  # half of its own answer is lost
                else:
                    asked.add(probe.lane)
        overdue = (
            request.lane
            for request in self.table
            if request.is_half_over and not request.is_own and now - request.since > HALF_OVER_S
        )
        return iter(dict.fromkeys(lane for lane in overdue if lane not in asked))

    def _settle_older(self, request: Request, *, is_reply: bool, now: float) -> None:
        """What `request` proves about older ones of its lane: a reply about replies, a status about idles."""
        for older in self.table.before(request):
            if is_reply and older.answers and not older.replied:
                is_silent = older.idle and older.message.msg_type == "debug_request"
                self.fail(older, sentences.NO_REPLY if is_silent else sentences.LOST_REPLY, now=now)
            elif not is_reply and not older.idle and (older.replied or not older.answers):
                if not older.is_own:
                    self._front.idle(older, now=now)
                older.idle = True
                self.table.settle(older)
