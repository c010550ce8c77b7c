"""Any Jupyter Server whose address is known: nothing is started, and nothing is ended."""

from __future__ import annotations

from typing import Any

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.targets import Url
from colab_magics.tunnel.tokens import with_token


def open(target: Url, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Take the address as it is; the token moves into the registry, is there already, or is asked for."""
    if target.token:
        token = TokenSource(value=target.token)
        return Runtime(name=name, url=target.url, token=token, auth=target.auth), {}
    for known in sessions.load().runtimes:
        if (known.name, known.url) == (name, target.url):
            return with_token(known, plan, target=target), {}
    return with_token(Runtime(name=name, url=target.url, auth=target.auth), plan, target=target), {}


def close(reached: Reached) -> None:
    """Nothing is ours there."""


def state(reached: Reached) -> str:
    """Whoever runs it knows."""
    return "registered"
