"""The process that keeps an ssh connection: it opens it, opens it again when it drops, and ends it.

`python -m colab_magics.tunnel.ssh_keeper FOLDER`, started by `ways/ssh.py`, which it outlives: a session goes
on when the notebook's kernel, or the command, that opened it ends. It tells on standard output, a JSON object
a line, that the connection is there, or what went wrong; then it waits on standard input for the ports, or
for the end of who asked, which ends it too. From then on `state.json` says how it is; SIGTERM ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from colab_magics.errors import ColabError, TunnelError
from colab_magics.tunnel.kept import GONE, OPEN, RECONNECTING, Folder, Kept, drop_control
from colab_magics.tunnel.ssh_link import LinkLostError, answers
from colab_magics.tunnel.ssh_script import script
from colab_magics.tunnel.ssh_sentences import HostKeyError

BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""How long after the n-th failure in a row the next try comes; the last for all further ones."""

GIVE_UP_S = 24 * 3600.0
"""A machine that was out of reach for so long is gone: a free one lives half of that at most."""

LOOK_S = 30.0
"""How often it looks whether somebody still answers at the forward's other end."""

ASK_S = 60.0
REAP_S = 2.0
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Keep the connection of one folder until told to end, or until there is nothing to keep."""
    if os.fork():  # whoever started it need not wait for it later
        os._exit(0)
    _adopt_orphans()
    folder = Folder(Path(argv[0]))
    kept = folder.kept()
    if kept is None:
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    _say(pid=os.getpid())
    try:
        kept = _begin(folder, kept)
        if kept is not None:
            _keep(folder, kept)
    except ColabError as error:
        _say(error=str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _do_nothing)
        link = folder.kept() or kept
        if link is not None:
            link.link.end()
            drop_control(link.link.control)
            _reap()
    return 0


def _begin(folder: Folder, kept: Kept) -> Kept | None:
    """Connect, let go of whoever asked, and be told the ports; None: they went away instead."""
    kept.link.connect(log=folder.log, may_ask=kept.may_ask)
    os.setsid()
    signal.signal(signal.SIGINT, _do_nothing)
    signal.signal(signal.SIGHUP, _do_nothing)
    _say(connected=True)
    told = sys.stdin.readline()
    if not told:
        return None
    kept = replace(kept, may_ask=False, **json.loads(told))
    folder.write_kept(kept)
    folder.write_state(OPEN)
    _say(kept=True)
    with open(os.devnull, "r+b") as nothing:
        for descriptor in (0, 1, 2):
            os.dup2(nothing.fileno(), descriptor)
    return kept


def _keep(folder: Folder, kept: Kept) -> None:
    """Until the server there is gone: wait for the connection's end, then open it again."""
    while True:
        folder.write_state(OPEN)
        reason = _watch(kept)
        if reason is None:
            folder.write_state(RECONNECTING, "the connection was lost")
            reason = _reconnect(folder, kept)
        if reason is not None:
            folder.write_state(GONE, reason)
            return


def _watch(kept: Kept) -> str | None:
    """Wait until the connection is lost, which is None, or the server there is gone, and why."""
    try:
        with kept.link.watched() as line:
            while True:
                if not select.select([line], [], [], LOOK_S)[0]:
                    reason = None if answers(kept.local_port) else _why_gone(kept)
                    if reason is not None:
                        return reason
                elif not line.recv(4096):
                    return None
    except (OSError, LinkLostError):
        return None


def _reconnect(folder: Folder, kept: Kept) -> str | None:
    """Try until there is a connection, which is None, or nothing to connect to, and why."""
    failures = 0
    lost_at = time.monotonic()
    while time.monotonic() - lost_at < GIVE_UP_S:
        _reap()
        time.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
        failures += 1
        try:
            kept.link.end()
            kept.link.connect(log=folder.log)
            reason = _why_gone(kept)
            if reason is None:
                kept.link.forward(kept.local_port, to=kept.remote_port)
            return reason
        except HostKeyError as error:
            return str(error)
        except TunnelError as error:
            folder.write_state(RECONNECTING, str(error))
    return f"the machine was out of reach for {GIVE_UP_S / 3600:g} h"


def _why_gone(kept: Kept) -> str | None:
    """Ask there whether the server still runs: None, if it does. LinkLostError: nobody could be asked."""
    printed = kept.link.run(script("status", name=kept.server, python=kept.python), timeout_s=ASK_S)
    try:
        facts: Any = json.loads(printed.strip().splitlines()[-1])
        is_there = facts["pid"] is not None and facts["port"] == kept.remote_port
    except (ValueError, LookupError, TypeError):
        return None  # it cannot be told: then it is not said
    return None if is_there else "the private server there has ended: open the session again"


def _say(**content: Any) -> None:
    with contextlib.suppress(OSError):
        print(json.dumps(content), flush=True)  # noqa: T201 - this is what it is for


def _leave(number: int, frame: Any) -> None:
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
