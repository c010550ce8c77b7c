"""The messages that the proxy kernel makes itself, all of them; each is marked as ours in its `metadata`.

Source for every content below: https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import count

from colab_kernel.messages import Channel, Json, JsonObject, Message

MARK = b'{"colab_kernel": true}'
"""The `metadata` of what came from here and not from the remote kernel."""

ERROR_NAME = "RemoteKernelError"
"""The `ename` of our errors."""

_PROTOCOL_VERSION = "5.3"
"""Below 5.5, where a kernel owes each subscriber an `iopub_welcome`."""

WITHOUT_KERNEL: JsonObject = {
    "status": "ok",
    "protocol_version": _PROTOCOL_VERSION,
    "implementation": "colab_kernel",
    "implementation_version": "0",
    "language_info": {
        "name": "python",
        "version": "3",
        "mimetype": "text/x-python",
        "file_extension": ".py",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "pygments_lexer": "ipython3",
        "nbconvert_exporter": "python",
    },
    "banner": "A kernel on another machine (colab_kernel)",
    "help_links": [],
}
"""`kernel_info_reply` as long as the remote kernel cannot be asked."""


def expects_reply(msg_type: str) -> bool:
    """Whether a kernel answers messages of this type; if not, its idle is all there is."""
    return msg_type.endswith("_request")


def reply_type(msg_type: str) -> str:
    """`execute_request` → `execute_reply`."""
    return msg_type.removesuffix("_request") + "_reply"


class MessageMaker:
    """Makes messages under one session of our own.

    Args:
        session: the header's `session`, unique to this process.
        username: who is said to have sent them.
    """

    def __init__(self, session: str, *, username: str = "colab_kernel") -> None:
        self.session = session
        self._username = username
        self._numbers = count(1)

    def request(
        self,
        msg_type: str,
        content: JsonObject,
        *,
        channel: Channel,
        now: float,
        more_header: JsonObject | None = None,
    ) -> Message:
        """A request of our own to the remote kernel. `more_header`: further fields, such as `subshell_id`."""
        header = {**self._header(msg_type, now), **(more_header or {})}
        return Message(
            channel=channel,
            header=dump(header),
            parent_header=b"{}",
            metadata=MARK,
            content=dump(content),
        )

    def reply(self, request: Message, content: JsonObject, *, now: float) -> Message:
        """The answer to a frontend's request, for the channel on which it came."""
        return self.child(request, reply_type(request.msg_type), content, channel=request.channel, now=now)

    def error_reply(self, request: Message, sentence: str, *, now: float) -> Message:
        """The answer to a request that cannot be met; the same error in whatever form its type has one."""
        content = error_content(sentence)
        match request.msg_type:
            case "execute_request":
                content |= {"execution_count": 0, "payload": [], "user_expressions": {}}
            case "is_complete_request":
                content = {"status": "unknown"}
        return self.reply(request, content, now=now)

    def error(self, request: Message, sentence: str, *, now: float) -> Message:
        """The `error` on iopub that a frontend shows under the cell."""
        content = error_content(sentence)
        del content["status"]
        return self.child(request, "error", content, channel=Channel.IOPUB, now=now)

    def status(self, parent: Message, state: str, *, now: float) -> Message:
        """`busy` or `idle` on iopub, as if the kernel had begun or ended work on `parent`."""
        return self.child(parent, "status", {"execution_state": state}, channel=Channel.IOPUB, now=now)

    def notice(self, parent: Message | None, sentence: str, *, now: float) -> Message:
        """A line on stderr, under the cell that runs if there is one."""
        content: JsonObject = {"name": "stderr", "text": f"[colab_kernel] {sentence}\n"}
        return self.child(parent, "stream", content, channel=Channel.IOPUB, now=now)

    def debug_event(self, content: JsonObject, *, now: float) -> Message:
        """A debugger's event that the remote side sent and that never arrived."""
        return self.child(None, "debug_event", content, channel=Channel.IOPUB, now=now)

    def shutdown_broadcast(self, request: Message, content: JsonObject, *, now: float) -> Message:
        """`shutdown_reply` on iopub, which tells the other clients."""
        return self.child(request, "shutdown_reply", content, channel=Channel.IOPUB, now=now)

    def child(
        self, parent: Message | None, msg_type: str, content: JsonObject, *, channel: Channel, now: float
    ) -> Message:
        """Any message that `parent` caused; None: nothing did."""
        return Message(
            channel=channel,
            header=dump(self._header(msg_type, now)),
            parent_header=parent.header if parent else b"{}",
            metadata=MARK,
            content=dump(content),
        )

    def _header(self, msg_type: str, now: float) -> dict[str, str]:
        return {
            "msg_id": f"{self.session}_{next(self._numbers)}",
            "msg_type": msg_type,
            "session": self.session,
            "username": self._username,
            "date": datetime.fromtimestamp(now, UTC).isoformat(),
            "version": _PROTOCOL_VERSION,
        }


def silent_code(code: str) -> JsonObject:
    """The content of an `execute_request` that leaves no trace in the history and no output."""
    return {
        "code": code,
        "silent": True,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": False,
    }


def error_content(sentence: str) -> dict[str, Json]:
    """The content of a reply that is an error."""
    traceback: list[Json] = [f"{ERROR_NAME}: {sentence}"]
    return {"status": "error", "ename": ERROR_NAME, "evalue": sentence, "traceback": traceback}


def dump(value: object) -> bytes:
    """JSON as a frontend can read it: without NaN."""
    return json.dumps(value, allow_nan=False).encode()
