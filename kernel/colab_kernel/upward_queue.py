"""What waits to be sent to the remote kernel, a line a channel."""

from __future__ import annotations

from collections import deque

from colab_kernel.messages import Channel, Message


class UpwardQueue:
    """First in, first out on each channel; control never stands behind the rest."""

    def __init__(self) -> None:
        order = (Channel.CONTROL, Channel.STDIN, Channel.SHELL)
        self._lines = {channel: deque[Message]() for channel in order}
        self.size_bytes = 0

    def put(self, message: Message) -> None:
        """Append a message to its channel's line."""
        self._lines[message.channel].append(message)
        self.size_bytes += message.size_bytes

    def pop(self) -> Message | None:
        """The next one to send; None if nothing waits."""
        for line in self._lines.values():
            if line:
                message = line.popleft()
                self.size_bytes -= message.size_bytes
                return message
        return None

    def clear(self) -> None:
        """Forget all of it."""
        for line in self._lines.values():
            line.clear()
        self.size_bytes = 0
