"""This machine: a private Jupyter Server of this interpreter, in the background."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError
from colab_magics.posix import need_posix
from colab_magics.tunnel.plan import Plan, Reached
from colab_magics.tunnel.server_facts import PROGRAM, parse_facts
from colab_magics.tunnel.targets import Local

WHERE = "this machine"
OPEN_S = 90.0


def open(target: Local, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Find or start it; its folder is the home folder. UsageError: this machine is Windows."""
    need_posix("a private server on this machine", instead="name a Jupyter Server of yours by its address")
    plan.say("Starting a private Jupyter Server on this machine …")
    printed = _run("open", "--name", name, "--root", str(Path.home()))
    return parse_facts(printed, where=WHERE).runtime(name), {}


def close(reached: Reached) -> None:
    """End it, and its kernels with it."""
    _run("close", "--name", reached.name)


def state(reached: Reached) -> str:
    """Whether it runs."""
    return "gone" if '"pid": null' in _run("status", "--name", reached.name) else "open"


def _run(*words: str) -> str:
    try:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=OPEN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TunnelError(f"{WHERE}: the private server did not start in {OPEN_S:g} s") from error
    return done.stdout
