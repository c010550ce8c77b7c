"""A daemon in a notebook's cell: a live table while it runs, a clean end when the cell is stopped."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

from colab_magics.daemon.service import Order, run_daemon
from colab_magics.daemon.status import Status
from colab_magics.display.live import LiveDisplay
from colab_magics.display.rows import job_rows
from colab_magics.display.tables import JobTable
from colab_magics.errors import UsageError
from colab_magics.jobs.paths import INTENT_BRANCH


def run_in_notebook(
    *,
    repo: str,
    branch: str = INTENT_BRANCH,
    poll_s: float | None = None,
    idle_stop_min: float | None = None,
    once: bool = False,
    token: str | None = None,
    workdir: str | None = None,
    expose: str | None = None,
    expose_port: int | None = None,
    release_runtime: bool = False,
) -> None:
    """Work on a queue until it is drained (`once`), idle for long enough, or the cell is stopped.

    Args:
        repo: the repository's address.
        branch: where people queue.
        poll_s: seconds between two looks; None for what suits the repository.
        idle_stop_min: minutes without anything to do after which it ends; None never.
        once: end as soon as everything is done.
        token: how to log in; None looks in the environment.
        workdir: the daemon's folder; None for one of its own.
        expose: how a session with this machine is reached, as `--expose` of `jupyter colab daemon`; None: it
            offers none.
        expose_port: the port of this machine that your tunnel leads to, for `url:…`.
        release_runtime: give Colab's machine back after an end that nobody asked for, since an idle one
            goes on costing.

    Raises:
        UsageError: no repository is named.
        RefusedError: the remote says no.
    """
    if not repo:
        raise UsageError("say which repository to work on: fill in REPO above and run its cell again")
    order = Order(
        repo=repo,
        branch=branch,
        poll_s=poll_s,
        idle_stop_min=idle_stop_min,
        once=once,
        workdir=Path(workdir) if workdir else None,
        token=token,
        expose=expose,
        expose_port=expose_port,
    )
    logging.getLogger("colab_magics").setLevel(logging.WARNING)
    board = Board()
    try:
        ended = run_daemon(order, on_status=board.show)
    finally:
        board.close()
        if release_runtime and not once and not board.was_stopped:
            give_machine_back()
    if board.was_stopped:
        print(f"Stopped. {ended} attempts ended here; what was running went back to the queue.")  # noqa: T201
    else:
        print(f"Done. {ended} attempts ended here.")  # noqa: T201


class Board:
    """One display, updated in place, of what a daemon sees and does."""

    def __init__(self) -> None:
        self.was_stopped = False
        self._display = LiveDisplay()

    def show(self, status: Status) -> None:
        """Show the queue as the daemon sees it now."""
        self.was_stopped = status.stopping
        table = JobTable(
            rows=job_rows(status.view),
            title=f"{status.worker}: {status.doing}",
            notes=(status.view.note,) * bool(status.view.note),
        )
        self._display.update(table)

    def close(self) -> None:
        """Leave the last state on show."""
        self._display.close()


def give_machine_back() -> None:
    """Give the machine back, where it is Colab's.

    Not tried on a live runtime.
    Source: google.colab.runtime.unassign, https://github.com/googlecolab/colabtools
    """
    try:
        runtime = importlib.import_module("google.colab.runtime")
    except ImportError:
        return
    runtime.unassign()
