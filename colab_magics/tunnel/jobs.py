"""Jobs that run on a session's machine: one of them as a kernel to pick, or a look at it in passing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colab_kernel import install, sessions
from colab_kernel.errors import KernelError
from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel import book
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.plan import Reached

LOOK_S = 20.0
RUNS_S = 2.0
"""How often it is seen whether a job still runs."""
FOUND_S = 5.0
"""How long a job may take from running to being found here."""
AGAIN_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A job that can be stepped into: the kernel to pick, the session it is, and how it is reached."""

    reached: Reached
    runtime: Runtime
    job_id: str
    name: str
    kernel_name: str
    display_name: str


def open_job(reached: Reached, runtime: Runtime, job: str, *, project: Path, pause: bool) -> Visit:
    """Make a job that runs there a kernel in every kernel picker.

    Args:
        reached, runtime: the session with the job's machine.
        job: its id, or the beginning of one.
        project: the folder here that its code came from: the two are the same files to the debugger.
        pause: whether to stop it wherever it is.

    Raises:
        UsageError: no such job runs there, or nobody can step into it.
        TunnelError: the machine does not answer.
    """
    with Hand.open(runtime) as hand:
        found = _find(hand, job)
        kernel = _kernelspec(hand, found, project=project, pause=pause)
    job_id, display_name = found["job_id"], f"Colab job — {found['name']}"
    name = f"job-{job_id}"[:64]
    visited = replace(runtime, name=name, kernel_name=kernel)
    try:
        sessions.save_runtime(visited, make_current=False)
        install.install(f"colab-{name}", display_name=display_name, runtime_name=name)
    except KernelError as error:
        raise TunnelError(str(error)) from error
    target, held = f"job {job_id} at {reached.name}", {"session": reached.name}
    known = Reached(name=name, target=target, kind="job", held=held)
    book.remember(known)
    return Visit(
        reached=known,
        runtime=visited,
        job_id=job_id,
        name=found["name"],
        kernel_name=f"colab-{name}",
        display_name=display_name,
    )


class JobWatch:
    """Sees now and then whether a job still runs there, through a hand of its own.

    Args:
        runtime: the session with the job's machine.
    """

    def __init__(self, runtime: Runtime, job_id: str) -> None:
        """Nothing is asked before `runs`."""
        self._runtime, self._job_id = runtime, job_id
        self._hand: Hand | None = None
        self._asked_at, self._runs = -RUNS_S, True

    def runs(self) -> bool:
        """As of a moment ago. While the machine does not answer, it does."""
        now = time.monotonic()
        if now - self._asked_at >= RUNS_S:
            self._asked_at = now
            with contextlib.suppress(TunnelError):
                found = self._reached().ask("jobs", timeout_s=LOOK_S).content["jobs"]
                self._runs = any(each["job_id"] == self._job_id for each in found)
        return self._runs

    def close(self) -> None:
        """End the hand."""
        if self._hand is not None:
            self._hand.close()

    def _reached(self) -> Hand:
        if self._hand is None or self._hand.is_over:
            self.close()
            self._hand = Hand.open(self._runtime)
            self._hand.load("jobs")
        return self._hand


def evaluate(runtime: Runtime, job: str, expression: str) -> str:
    """What an expression is in the innermost frame of a job that stands still. Raises as `open_job`."""
    with Hand.open(runtime) as hand:
        found = _find(hand, job)
        kernel_name = _kernelspec(hand, found, project=None, pause=False)
    with Hand.open(replace(runtime, kernel_name=kernel_name), bare=True) as visitor:
        return visitor.run(expression)


def look_at(runtime: Runtime, job: str) -> str:
    """The stacks of a job, the innermost frames with their variables. Raises as `open_job`."""
    with Hand.open(runtime) as hand:
        found = _find(hand, job)
        answer = hand.ask("look", look=found["look"], patience_s=LOOK_S, timeout_s=2 * LOOK_S)
        return str(answer.content["text"])


def _kernelspec(hand: Hand, found: Mapping[str, Any], *, project: Path | None, pause: bool) -> str:
    """Have the machine's server know the job as a kernel; return its name there."""
    if not found["is_ready"]:
        raise UsageError(
            f"nobody can step into {found['job_id']}: it was queued without --debuggable or --hold; "
            "--look shows where it is"
        )
    folders = [[f"{project}/", f"{found['checkout']}/"]] if project else []
    asked = {key: found[key] for key in ("job_id", "name", "door", "python")}
    return str(hand.ask("open_job", folders=folders, pause=pause, **asked).content["kernel_name"])


def _find(hand: Hand, job: str) -> Mapping[str, Any]:
    hand.load("jobs")
    deadline = time.monotonic() + FOUND_S
    while True:
        known = hand.ask("jobs").content["jobs"]
        found = [each for each in known if each["job_id"].startswith(job) or each["name"] == job]
        if found or time.monotonic() > deadline:
            break
        time.sleep(AGAIN_S)
    if len(found) != 1:
        listed = ", ".join(each["job_id"] for each in known) or "none"
        several = f"{job!r} means several jobs" if found else f"no job {job!r} runs there"
        raise UsageError(f"{several} that can be looked into; these can: {listed}")
    only: Mapping[str, Any] = found[0]
    return only
