"""A job that runs at an open session: it was not begun here, and is not ended here."""

from __future__ import annotations

from typing import Any

from colab_kernel.runtime import Runtime
from colab_magics.tunnel.plan import Plan, Reached


def open(target: Any, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
    """Never: `jobs.open_job` does."""
    raise NotImplementedError


def close(reached: Reached) -> None:
    """The job is the daemon's."""


def state(reached: Reached) -> str:
    """The table of jobs knows."""
    return "a job"
