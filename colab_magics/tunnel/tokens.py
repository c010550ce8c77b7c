"""The token of a server that somebody else started: registered, in the environment, or asked for."""

from __future__ import annotations

import os
from dataclasses import replace

from colab_kernel import sessions
from colab_kernel.errors import AccessError, KernelError, RegistryError
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.tunnel.plan import Plan
from colab_magics.tunnel.servers import server_of
from colab_magics.tunnel.targets import Target

TOKEN_VARIABLE = "COLAB_RUNTIME_TOKEN"  # noqa: S105


def with_token(runtime: Runtime, plan: Plan, *, target: Target) -> Runtime:
    """The runtime with a token that lets in: its own, the environment's, or one that the person types.

    Where nobody is let in and nobody can be asked, it is the runtime as it was: what refuses it says so.
    """
    if _lets_in(runtime):
        return runtime
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given and _lets_in(found := replace(runtime, token=TokenSource(value=given))):
        return found
    typed = plan.ask(f"The token of {target}: ").strip()
    return replace(runtime, token=TokenSource(value=typed)) if typed else runtime


def _lets_in(runtime: Runtime) -> bool:
    """Whether a server lets in; where it cannot be told, it does: whoever looks next says what is wrong."""
    try:
        server_of(sessions.checked(runtime)).probe()
    except (AccessError, RegistryError):
        return False
    except KernelError:
        return True
    return True
