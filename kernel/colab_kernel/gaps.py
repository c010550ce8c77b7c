"""Counts what the remote kernel sent and what never arrived, by the numbers in its messages' ids.

A kernel's ids end in a counter that is one for all its channels: `<session>_<pid>_<counter>`. Numbers come
slightly out of order between channels, and some are used up by replies to other clients.
Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/session.py (Session.msg_id), read
in 8.10; 310 messages without a gap on ipykernel 6.17.1 and 7.4, measured 2026-11.
"""

from __future__ import annotations

AT_MOST = 100_000
"""How many missing numbers are remembered one by one; beyond them there is only their sum."""

NUDGES = 3
"""How many numbers a server's own questions use up at each connection, measured 2026-11: 1 to 3."""


class MessageCounter:
    """Sees every message's id, and knows which numbers below the highest are still out."""

    def __init__(self) -> None:
        self._kernel: str | None = None
        self._highest = 0
        self._missing: set[int] = set()
        self._beyond = 0
        self._others = 0

    def note(self, msg_id: str, *, from_kernel: bool) -> bool:
        """Take down the id of one message.

        Args:
            from_kernel: surely the kernel's own: a reply. On iopub the server speaks too, under an id of its
                own; what comes there from somebody unknown is not counted.

        Returns:
            False if another kernel process than before sent a reply: the kernel was replaced.
        """
        kernel, _, number = msg_id.rpartition("_")
        if not number.isdecimal() or not kernel:
            return True
        if self._kernel is None and from_kernel:
            self._kernel, self._highest = kernel, int(number)
            return True
        if kernel != self._kernel:
            return not from_kernel
        self._take(int(number))
        return True

    def note_reply_to_another(self) -> None:
        """Somebody else's request was answered: its reply took a number and does not come here."""
        self._others += 1

    def take_missing(self) -> int:
        """How many are out that the kernel sent to us, and forget them: they are not counted again."""
        missing = len(self._missing) + self._beyond - self._others
        self._missing.clear()
        self._beyond = self._others = 0
        return missing if missing > NUDGES else 0

    def _take(self, number: int) -> None:
        if number <= self._highest:
            self._missing.discard(number)
            return
        gap = number - self._highest - 1
        if len(self._missing) + gap > AT_MOST:
            self._beyond += gap
        elif gap:
            self._missing.update(range(self._highest + 1, number))
        self._highest = number
