"""`tunnel` for magics and terminal alike: words in, something that displays itself out."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from colab_kernel import sessions
from colab_magics import job_commands, project_commands, tunnel_files
from colab_magics.commands import Desk, no_more
from colab_magics.display.hints import typed
from colab_magics.display.live import in_notebook
from colab_magics.display.tunnels import TunnelCard, TunnelRow, TunnelTable
from colab_magics.display.watching import Lines
from colab_magics.errors import UsageError
from colab_magics.project_commands import plan_of, sync_view
from colab_magics.tunnel.session import (
    Session,
    close_session,
    open_session,
    open_sessions,
    state_of,
    the_session,
    usual_target,
)
from colab_magics.tunnel.targets import parse_target

Verb = Callable[[Desk, argparse.Namespace, list[str]], Any]


def run_tunnel(desk: Desk, arguments: argparse.Namespace) -> Any:
    """Do what the words say: a verb with what it needs, or a target to open.

    Raises:
        ColabError: it could not be done; the sentence says what to do.
    """
    first, *rest = arguments.words or [""]
    verb = VERBS.get(first)
    if verb is not None:
        return verb(desk, arguments, rest)
    if rest:
        raise UsageError(f"there is no verb {first!r}: one of {', '.join(VERBS)}, or a single target")
    return _open(desk, arguments, first)


def _open(desk: Desk, arguments: argparse.Namespace, target: str) -> TunnelCard:
    screen = desk.screen()
    said = [""]

    def say(sentence: str) -> None:
        screen.update(Lines((sentence,)))
        said.append(sentence)

    plan = replace(
        plan_of(desk, arguments, say),
        name=arguments.name,
        ask=_ask,
        python=arguments.python,
        ssh_config=desk.settings.ssh_config,
        remote=arguments.remote or desk.settings.remote,
        branch=desk.settings.branch,
    )
    try:
        return _card(open_session(parse_target(target) if target else usual_target(plan), plan))
    finally:
        if in_notebook() and said[-1].endswith("…"):  # what was going on is over
            screen.update(Lines(()))
        screen.close()


def _ask(question: str) -> str:
    """Ask for a secret: in a terminal, or by a field of the notebook, which does not keep what is typed."""
    if not in_notebook() and not sys.stdin.isatty():
        return ""
    try:
        return getpass.getpass(question)
    except (EOFError, NotImplementedError):  # the frontend cannot ask
        return ""


def _card(session: Session) -> TunnelCard:
    return TunnelCard(
        name=session.name,
        target=session.reached.target,
        display_name=session.display_name,
        facts=session.facts,
        close=f"{typed('tunnel')} close {session.name}",
        notes=(
            *session.reached.held.get("notes", ()),
            *(sync_view(session.synced).lines if session.synced else ()),
        ),
    )


def _status(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> TunnelTable:
    no_more(rest, after="status")
    runtimes = {runtime.name: runtime for runtime in sessions.load().runtimes}
    rows = []
    for one in open_sessions():
        runtime = runtimes.get(one.name)
        roots = f"{runtime.local_root} ↔ {runtime.remote_root}" if runtime and runtime.local_root else ""
        url = runtime.url if runtime else "its runtime was forgotten"
        rows.append(TunnelRow(one.name, one.target, state_of(one), url, roots))
    return TunnelTable(rows, hint=f"{typed('tunnel')} local opens one with this machine.")


def _close(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Lines:
    name = rest[0] if rest else None
    no_more(rest[1:], after="close")
    reached, _ = the_session(name)
    note = close_session(reached)
    closed = f"{reached.name} ({reached.target}) is closed."
    return Lines((closed, f"{note}.") if note else (closed,))


VERBS: Mapping[str, Verb] = {
    "status": _status,
    "close": _close,
    **job_commands.VERBS,
    **project_commands.VERBS,
    **tunnel_files.VERBS,
}
