"""An official runtime of google-colab-cli: Google's own way in, with a token that ends after an hour.

The token is read from that program's state file whenever it is needed, and that program is asked to write a
newer one when it is near its end, or was refused. Nothing is allocated here, and nothing given back.
"""

from __future__ import annotations

import time
from typing import Any

from colab_kernel import sessions, token_files
from colab_kernel.errors import KernelError
from colab_kernel.runtime import Runtime
from colab_magics.errors import ColabError, TunnelError
from colab_magics.tunnel.official_state import COMMAND_VARIABLE, INSTALL, Tool, find_tool
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.targets import Official
from colab_magics.tunnel.terms import TERMS


def open(target: Official, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Take the session as google-colab-cli has it; its token stays in that program's file."""
    plan.say(TERMS)
    tool = find_tool()
    session = tool.session(target.session)
    source = tool.token_source(session.name)
    if token_files.is_due(source, now=time.time()):
        plan.say(f"Asking google-colab-cli for a newer token of {session.name} …")
    try:
        sessions.read_token(source)
    except KernelError:  # it was dropped while its token was asked for: `session` says so
        pass
    session = tool.session(session.name)
    if token_files.has_ended(source, now=time.time()):
        raise TunnelError(_advice(tool, session.name))
    stop = f"The runtime stays, and costs, until {tool.typed('stop', '--session', session.name)}."
    return tool.runtime(session, name=name), {
        "official": session.name,
        "notes": [TERMS, stop],
    }


def close(reached: Reached) -> None:
    """Nothing is ours there: `colab stop` gives the machine back."""


def state(reached: Reached) -> str:
    """What the state file says."""
    tool = find_tool()
    try:
        name = str(reached.held["official"])
        if name not in tool.sessions():
            return "gone"
        has_ended = token_files.has_ended(tool.token_source(name), now=time.time())
        return "its token has ended" if has_ended else "open"
    except ColabError:
        return "unknown"


def _advice(tool: Tool, name: str) -> str:
    if not tool.command:
        return (
            f"the token of {name} has ended, and google-colab-cli, which could get another one, is not on "
            f"the PATH: {INSTALL}, or name it in {COMMAND_VARIABLE}"
        )
    return (
        f"the token of {name} has ended, and google-colab-cli got no other one: "
        f"{tool.typed('status', '--session', name)} in a terminal says why; it may want you to log in"
    )
