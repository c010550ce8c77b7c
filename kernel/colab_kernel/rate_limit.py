"""A Jupyter Server that drops output: what it says of it, and for how long it must be reckoned with.

It drops everything but statuses on iopub, a debugger's `stopped` included, above 1,000 messages or 1 MB of
text a second, and says so at each onset under the running cell.
Source: https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/services/kernels/connection/channels.py
(limit_rate, iopub_msg_rate_limit, rate_limit_window), read in 2.21
"""

from __future__ import annotations

from collections import deque

from colab_kernel.messages import Message

LASTS_S = 10.0
"""How long after its last word of it a server is taken to drop messages: its window is 3 s."""

_NOTICE_BYTES = 4000
"""No notice is longer. Output that quotes one and is longer is not taken for one."""


class RateLimit:
    """What a server has said about dropping messages."""

    def __init__(self) -> None:
        self._told: deque[str | None] = deque(maxlen=100)
        self._until = 0.0

    @staticmethod
    def is_notice(message: Message) -> bool:
        """Whether this stream message is the server's word."""
        content = message.content
        return len(content) < _NOTICE_BYTES and b"IOPub" in content and b"rate exceeded" in content

    def note(self, message: Message, *, now: float) -> bool:
        """Take down a notice; whether the frontends have not seen it under this cell yet."""
        self._until = now + LASTS_S
        parent = message.parent_msg_id
        is_new = parent not in self._told
        if is_new:
            self._told.append(parent)
        return is_new

    def drops(self, *, now: float) -> bool:
        """Whether output, and a debugger's events, are to be reckoned lost."""
        return now < self._until
