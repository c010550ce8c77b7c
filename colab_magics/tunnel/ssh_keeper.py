"""The process that keeps an ssh connection: it opens it, opens it again when it drops, and ends it.

`python -m colab_magics.tunnel.ssh_keeper FOLDER`, started by `ways/ssh.py`, which it outlives: a session goes
on when the notebook's kernel, or the command, that opened it ends. It tells on standard output, a JSON object
a line, that the connection is there, or what went wrong; then it waits on standard input for the ports. Until
it has them, the end of standard input, that of who asked, ends it too. From then on `state.json` says how it
is; SIGTERM ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from colab_magics.errors import ColabError, TunnelError
from colab_magics.tunnel.kept import GONE, OPEN, RECONNECTING, Folder, Kept, drop_control
from colab_magics.tunnel.ssh_link import LinkLostError, Master, answers
from colab_magics.tunnel.ssh_script import script
from colab_magics.tunnel.ssh_sentences import HostKeyError

BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""How long after the n-th failure in a row the next try comes; the last for all further ones."""

GIVE_UP_S = 24 * 3600.0
"""A machine that was out of reach for so long is gone: a free one lives half of that at most."""

LOOK_S = 30.0
"""How often it looks whether somebody still answers at the forward's other end."""

ASK_S = 20.0
REAP_S = 2.0
_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str]) -> int:
    """Keep the connection of one folder until told to end, or until there is nothing to keep."""
    if os.fork():  # whoever started it need not wait for it later
        os._exit(0)
    _adopt_orphans()
    folder = Folder(Path(argv[0]))
    kept = folder.kept()
    if kept is None:
        return 1
    _on(*_SIGNALS, do=_leave)
    keeper = Keeper(folder, kept)
    try:
        if keeper.begin():
            keeper.keep()
    except ColabError as error:
        _say(error=str(error))
        return 1
    finally:
        _on(*_SIGNALS, do=_do_nothing)
        keeper.end()
    return 0


class Keeper:
    """One connection, from its first opening to its end."""

    def __init__(self, folder: Folder, kept: Kept) -> None:
        """Take an order; nothing is opened yet."""
        self._folder, self._kept = folder, kept
        self._link = kept.link
        self._master: Master | None = None
        self._is_told = False

    def begin(self) -> bool:
        """Connect, and be told the ports by whoever asked; False: they went away instead."""
        threading.Thread(target=self._end_with_who_asked, daemon=True).start()
        self._master = self._link.connect(log=self._folder.log, may_ask=self._kept.may_ask)
        os.setsid()
        _on(signal.SIGINT, signal.SIGHUP, do=_do_nothing)
        _say(connected=True)
        told = sys.stdin.readline()
        if not told:
            return False
        self._kept = replace(self._kept, may_ask=False, **json.loads(told))
        self._folder.write_kept(self._kept)
        self._folder.write_state(OPEN)
        self._is_told = True
        _say(kept=True)
        with open(os.devnull, "r+b") as nothing:
            for descriptor in (0, 1, 2):
                os.dup2(nothing.fileno(), descriptor)
        return True

    def _end_with_who_asked(self) -> None:
        """As if told to, if they go away before they have said the ports: nobody waits for the connection."""
        watch = select.poll()
        watch.register(sys.stdin, 0)  # only its end is of interest, and that is always told
        watch.poll()
        if not self._is_told:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def keep(self) -> None:
        """Until there is nothing to keep: wait for the connection's end, then open it again."""
        while True:
            self._folder.write_state(OPEN)
            reason = self._watch()
            if reason is None:
                self._folder.write_state(RECONNECTING, "the connection was lost")
                reason = self._reconnect()
            if reason is not None:
                self._folder.write_state(GONE, reason)
                return

    def end(self) -> None:
        """End the connection, and leave nothing behind."""
        self._link.end(self._master)
        drop_control(self._link.control)
        _reap()

    def _watch(self) -> str | None:
        """Wait until the connection is lost, which is None, or there is nothing to keep, and why."""
        try:
            with self._link.watched() as line:
                while True:
                    if select.select([line], [], [], LOOK_S)[0]:
                        if not line.recv(4096):
                            return None
                        continue
                    reason = self._why_not_mine() or self._why_silent()
                    if reason is not None:
                        return reason
        except (OSError, LinkLostError):
            return None

    def _reconnect(self) -> str | None:
        """Try until there is a connection, which is None, or there is nothing to keep, and why."""
        failures = 0
        lost_at = time.monotonic()
        while time.monotonic() - lost_at < GIVE_UP_S:
            self._link.end(self._master)
            _reap()
            time.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
            failures += 1
            reason = self._why_not_mine()
            if reason is not None:
                return reason
            try:
                self._master = self._link.connect(log=self._folder.log)
                reason = self._why_gone()
                if reason is None:
                    self._link.forward(self._kept.local_port, to=self._kept.remote_port)
                return reason
            except HostKeyError as error:
                return str(error)
            except TunnelError as error:
                self._folder.write_state(RECONNECTING, str(error))
        return f"the machine was out of reach for {GIVE_UP_S / 3600:g} h"

    def _why_not_mine(self) -> str | None:
        """Why this is not for us to keep, if it is not: somebody has taken the order away."""
        return None if self._folder.kept() == self._kept else "it was taken out of the keeper's hands"

    def _why_silent(self) -> str | None:
        """Why nobody answers at the forward's other end, if the server there has ended."""
        if answers(self._kept.local_port):
            return None
        try:
            return self._why_gone()
        except LinkLostError:
            raise
        except TunnelError:
            return None  # nobody could be asked in time; ssh itself will notice if the link is dead

    def _why_gone(self) -> str | None:
        """Ask there whether the server still runs: None, if it does.

        Raises:
            LinkLostError: the connection is not there.
            TunnelError: there was no answer in time.
        """
        if not self._kept.server:
            return None  # what is there is not ours to ask about
        asked = script("status", name=self._kept.server, python=self._kept.python)
        printed = self._link.run(asked, timeout_s=ASK_S)
        try:
            facts: Any = json.loads(printed.strip().splitlines()[-1])
            is_there = facts["pid"] is not None and facts["port"] == self._kept.remote_port
        except (ValueError, LookupError, TypeError):
            return None  # it cannot be told: then it is not said
        return None if is_there else "the private server there has ended: open the session again"


def _say(**content: Any) -> None:
    with contextlib.suppress(OSError):
        print(json.dumps(content), flush=True)  # noqa: T201 - this is what it is for


def _on(*numbers: int, do: Callable[[int, Any], None]) -> None:
    for number in numbers:
        signal.signal(number, do)


def _leave(number: int, frame: Any) -> None:
    _on(*_SIGNALS, do=_do_nothing)  # it is on its way
    raise SystemExit(0)


def _do_nothing(number: int, frame: Any) -> None:
    """In place of SIG_IGN, which ssh and its ProxyCommand would inherit."""


def _adopt_orphans() -> None:
    """Become the parent of what ssh puts into the background, on Linux, so that it can be reaped.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    """Let go of what has ended, and wait a moment for what is about to."""
    deadline = time.monotonic() + REAP_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
