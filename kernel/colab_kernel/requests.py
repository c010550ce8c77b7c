"""The requests in flight: who asked, what came back so far, and what can no longer come.

A kernel works on the messages of one *lane* in the order in which they were sent, and tells about each on
iopub, which is one line too: `busy`, output, `idle`. So what is behind something else proves that it is lost:

- a reply to a later request of the lane: no reply to an earlier one is to come any more;
- a `busy` or `idle` of a later request of the lane: nor is the `idle` of an earlier one.

Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#request-reply; held by experiment on
ipykernel 6.17.1 and 7.4 behind Jupyter Server 2.14, 2.20 and 2.21, 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from colab_kernel.made_messages import expects_reply
from colab_kernel.messages import Channel, Message

Lane = tuple[Channel, str]
"""A channel, and the id of the subshell on it; empty for the main one."""


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request, from its arrival to its reply and idle.

    Attributes:
        message: as it came, and as it is sent again.
        identities: whom to answer; None if it is the relay's own.
        lane: what it stands in line with.
        since: when it came, or when something last came for it.
        answers: whether a reply belongs to it; if not, its idle is all there is.
        sent: it was handed to the link at least once.
        busy: some status of it is through.
        replied: its reply is through.
        idle: its idle is through.
        stdin_reply: the last `input_reply` to a question of its, until it asks another.
    """

    message: Message
    identities: tuple[bytes, ...] | None
    lane: Lane
    since: float
    answers: bool
    sent: bool = False
    busy: bool = False
    replied: bool = False
    idle: bool = False
    stdin_reply: Message | None = field(default=None, repr=False)

    @classmethod
    def of(cls, message: Message, *, identities: tuple[bytes, ...] | None, now: float) -> Request:
        """The request that `message` is.

        Raises:
            MalformedError: it has no msg_id or no msg_type.
        """
        _ = message.msg_id
        return cls(
            message=message,
            identities=identities,
            lane=lane_of(message),
            since=now,
            answers=expects_reply(message.msg_type),
        )

    @property
    def is_own(self) -> bool:
        """The relay asks on its own account."""
        return self.identities is None

    @property
    def is_probe(self) -> bool:
        """The relay asks only to see what comes before the answer."""
        return self.is_own and self.message.msg_type == "kernel_info_request"

    @property
    def command(self) -> str:
        """Of a debug_request, what it asks the debugger for; empty for all else."""
        if self.message.msg_type != "debug_request":
            return ""
        command = self.message.parsed_content.get("command")
        return command if isinstance(command, str) else ""

    @property
    def is_done(self) -> bool:
        """The kernel has worked on it, and will not any more."""
        return self.replied if self.answers else self.idle

    @property
    def is_half_over(self) -> bool:
        """One of reply and idle is through, and the other must follow at once or is lost."""
        return self.answers and self.replied != self.idle

    @property
    def is_over(self) -> bool:
        return self.idle and (self.replied or not self.answers)


def lane_of(message: Message) -> Lane:
    """The lane of a request.

    Source: https://jupyter-client.readthedocs.io/en/stable/messaging.html#create-subshell (subshell_id)
    """
    subshell = message.parsed_header.get("subshell_id")
    return message.channel, subshell if isinstance(subshell, str) else ""


class RequestTable:
    """All requests that are not over, in the order in which they came."""

    def __init__(self) -> None:
        self._by_id: dict[str, Request] = {}

    def add(self, request: Request) -> None:
        """Take a request in. One whose id is in flight already takes the older one's place."""
        self._by_id.pop(request.message.msg_id, None)
        self._by_id[request.message.msg_id] = request

    def remove(self, request: Request) -> None:
        """Forget a request."""
        if self._by_id.get(request.message.msg_id) is request:
            del self._by_id[request.message.msg_id]

    def get(self, msg_id: str | None) -> Request | None:
        return None if msg_id is None else self._by_id.get(msg_id)

    def settle(self, request: Request) -> None:
        """Forget the request if it is over."""
        if request.is_over:
            self.remove(request)

    def __iter__(self) -> Iterator[Request]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def lanes(self) -> list[Lane]:
        """The lanes in which a request that was sent waits for something."""
        return list(dict.fromkeys(request.lane for request in self._by_id.values() if request.sent))

    def before(self, request: Request) -> list[Request]:
        """What was sent in this request's lane before it, and is not over; the oldest first."""
        earlier = takewhile(lambda other: other is not request, self._by_id.values())
        return [other for other in earlier if other.lane == request.lane and other.sent]

    def oldest(self, lane: Lane) -> Request | None:
        """A frontend's request that the kernel works on, by what is known here."""
        return next(
            (request for request in self._by_id.values() if request.lane == lane and not request.is_own), None
        )

    def is_busy(self, lane: Lane) -> bool:
        """Whether the kernel has, by what is known here, something to do in this lane."""
        return any(
            request.lane == lane and request.sent and not request.is_done for request in self._by_id.values()
        )
