"""Any Jupyter Server whose address is known: nothing is started, and nothing is ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from colab_kernel import sessions
from colab_kernel.errors import AccessError, KernelError
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.targets import Url


def open(target: Url, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Take the address as it is; the token moves into the registry, or is there already, or is asked for."""
    if not target.token:
        for known in sessions.load().runtimes:
            if (known.name, known.url) == (name, target.url):
                return known, {}
    runtime = Runtime(name=name, url=target.url, auth=target.auth)
    token = target.token
    if not token and _wants_a_token(runtime):
        token = plan.ask(f"The token of {target.url}: ").strip()
    return replace(runtime, token=TokenSource(value=token) if token else TokenSource()), {}


def close(reached: Reached) -> None:
    """Nothing is ours there."""


def state(reached: Reached) -> str:
    """Whoever runs it knows."""
    return "registered"


def _wants_a_token(runtime: Runtime) -> bool:
    try:
        Server(runtime, read_token=lambda: "").probe()
    except AccessError:
        return True
    except KernelError:
        pass  # it will be told when it is looked at
    return False
