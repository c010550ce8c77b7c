"""What is due to the frontends: the remote kernel's messages, and the answers that are made here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from colab_kernel.made_messages import MessageMaker
from colab_kernel.messages import JsonObject, Message
from colab_kernel.requests import Request

SUBSCRIPTION_S = 0.5
"""How long the first answer waits for somebody to listen on iopub, where its statuses go."""


@dataclass(frozen=True, slots=True)
class ToFrontend:
    """A message for one frontend, or on iopub for all."""

    message: Message
    identities: tuple[bytes, ...] = ()


class FrontendOutbox:
    """Messages for the frontends, in order; drained after each of the relay's verbs.

    Args:
        make: makes what is made here.
    """

    def __init__(self, make: MessageMaker) -> None:
        self._make = make
        self._due: list[ToFrontend] = []
        self._has_listener = False
        self._listener_by: float | None = None
        self._idled: deque[str] = deque(maxlen=1000)

    def subscribed(self) -> None:
        """Somebody listens on iopub."""
        self._has_listener = True

    def drain(self, *, now: float) -> list[ToFrontend]:
        """What is to be sent; the caller sends all of it.

        Before anybody listens, answers are kept for a moment: a client that has the reply and not the status
        asks again, or waits for ever.
        """
        if self._due and not self._has_listener:
            if self._listener_by is None:
                self._listener_by = now + SUBSCRIPTION_S
            if now < self._listener_by:
                return []
            self._has_listener = True
        due, self._due = self._due, []
        return due

    def pass_on(self, message: Message, *, identities: tuple[bytes, ...] = ()) -> None:
        """A message of the remote kernel, as it came."""
        self._due.append(ToFrontend(message, identities))

    def busy(self, request: Request, *, now: float) -> None:
        """Say that `request` is being worked on."""
        request.busy = True
        self._due.append(ToFrontend(self._make.status(request.message, "busy", now=now)))

    def reply(self, request: Request, content: JsonObject, *, now: float) -> None:
        """Answer `request`."""
        reply = self._make.reply(request.message, content, now=now)
        self._due.append(ToFrontend(reply, request.identities or ()))

    def idle(self, request: Request, *, now: float) -> None:
        """Say that `request` is over. If the kernel says so too, later, that is one idle too many."""
        if not request.busy:
            self.busy(request, now=now)
        self._idled.append(request.message.msg_id)
        self._due.append(ToFrontend(self._make.status(request.message, "idle", now=now)))

    def has_idled(self, msg_id: str) -> bool:
        """Whether the idle for this request was made here."""
        return msg_id in self._idled

    def answer(self, request: Request, content: JsonObject, *, now: float) -> None:
        """Meet a request here, from busy to idle."""
        self.busy(request, now=now)
        self.reply(request, content, now=now)
        self.idle(request, now=now)

    def fail(self, request: Request, sentence: str, *, debug_reply: JsonObject | None, now: float) -> None:
        """Whatever `request` is still owed, as a failure.

        Args:
            debug_reply: the content of the reply to a debug_request, which has a form of its own.
        """
        if not request.busy and not request.idle:
            self.busy(request, now=now)
        if request.answers and not request.replied:
            if request.message.msg_type == "execute_request":
                self._due.append(ToFrontend(self._make.error(request.message, sentence, now=now)))
            if debug_reply is None:
                reply = self._make.error_reply(request.message, sentence, now=now)
                self._due.append(ToFrontend(reply, request.identities or ()))
            else:
                self.reply(request, debug_reply, now=now)
        if not request.idle:
            self.idle(request, now=now)
        request.replied = request.idle = True

    def notice(self, parent: Message | None, sentence: str, *, now: float) -> None:
        """A line on stderr under the cell of `parent`."""
        self._due.append(ToFrontend(self._make.notice(parent, sentence, now=now)))

    def debug_event(self, content: JsonObject, *, now: float) -> None:
        """A debugger's event that never arrived."""
        self._due.append(ToFrontend(self._make.debug_event(content, now=now)))

    def shutdown(self, request: Request, *, restart: bool, now: float) -> None:
        """Agree to end, and tell the other clients."""
        content: JsonObject = {"status": "ok", "restart": restart}
        self.busy(request, now=now)
        self.reply(request, content, now=now)
        self._due.append(ToFrontend(self._make.shutdown_broadcast(request.message, content, now=now)))
        self.idle(request, now=now)
