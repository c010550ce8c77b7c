"""What a daemon adds to a job: the wait until it starts, the time around it, the bytes it leaves."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.queue.report import Row
from benchmarks.queue.stage import cli, daemon, git, make_project, make_remote, people_store
from colab_magics.jobs.spec import JobSpec, content_name
from colab_magics.store.base import Submission
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository

COMMAND_S, CELL_S = 0.3, 1.0
PATIENCE_S = 120.0
SAYS_A_LITTLE = "seq 1 30"


@dataclass(frozen=True, slots=True)
class Lab:
    """A remote, a person's clone of it, and that person's queue."""

    bare: Path
    store: BranchStore
    code: str

    def submit(self, prefix: str, *, jobs: int, command: str | None = None, cell: str | None = None) -> None:
        """Queue so many equal jobs in one push."""
        blobs = {} if cell is None else {f"cells/{content_name(cell.encode())}.py": cell.encode()}
        path = next(iter(blobs), None)
        ids = [f"{prefix}-{number}" for number in range(jobs)]
        specs = [JobSpec(each, each, command, path, 600.0, self.code) for each in ids]
        self.store.submit(Submission(tuple(specs), blobs))


def make_lab(folder: Path, *, bare: Path | None = None, remote: str | None = None) -> Lab:
    """A small project with a remote of its own, over file:// unless an address is given."""
    bare = bare or make_remote(folder / "lab.git")
    project = make_project(folder / "lab", remote=remote or bare.as_uri(), files=50)
    return Lab(bare, people_store(project), git(project, "rev-parse", "HEAD"))


def measure_start(
    folder: Path, *, poll_s: float, rounds: int, bare: Path | None = None, remote: str | None = None
) -> Row:
    """From the moment a push lands to the first thing that its job does, at any moment of the poll."""
    lab = make_lab(folder, bare=bare, remote=remote)
    waits, dice = [], random.Random(1)  # the same phases of the poll in every run
    with daemon(remote or lab.bare.as_uri(), folder / "home", "--poll", f"{poll_s:g}"):
        for number in range(-1, rounds):
            mark = folder / f"started{number}"
            time.sleep(poll_s * dice.random())
            lab.submit(f"start{number}", jobs=1, command=f"touch {mark}")
            landed_at = (lab.bare / "refs/heads/gpu-experiments").stat().st_mtime
            _await(mark)
            if number >= 0:  # before the first one everything is cold
                waits.append(mark.stat().st_mtime - landed_at)
            _await_all_done(lab)
    limit_s = poll_s + 1
    return Row(
        "push → the job starts",
        f"poll every {poll_s:g} s, {'HTTP' if remote else 'file://'}",
        f"median {median(waits):.2f} s, longest {max(waits):.2f} s of {len(waits)}",
        f"≤ {limit_s:g} s",
        max(waits) <= limit_s,
    )


def measure_cost(folder: Path, *, jobs: int, rounds: int) -> list[Row]:
    """The slope between draining one job and many: the daemon's start and end fall out of it."""
    costs: dict[str, list[float]] = {"command": [], "cell": []}
    pushes: list[float] = []
    kernels: list[float] = []
    beside = make_project(folder / "beside", remote=make_remote(folder / "beside.git").as_uri(), files=50)
    whats = {"command": ("true", None, jobs), "cell": (None, "pass", max(jobs // 2, 2))}
    labs = {kind: make_lab(folder / kind) for kind in whats}
    for number in range(-1, rounds):
        for kind, (command, cell, many) in whats.items():
            took_s = []
            for size in (1, many):
                labs[kind].submit(f"{kind}{number}of{size}", jobs=size, command=command, cell=cell)
                took_s.append(_timed(partial(_drain, labs[kind].bare, folder / kind / "home")))
            if number >= 0:  # before, the list of packages is made, and everything is cold
                costs[kind].append((took_s[1] - took_s[0]) / (many - 1))
        pushes.append(_timed(partial(_push_by_hand, beside)))
        kernels.append(_timed(_bare_kernel))
    itself_s = median(_timed(partial(subprocess.run, ["bash", "-c", "true"])) for _ in range(10))
    beyond = [cost - itself_s for cost in costs["command"]]
    pushed = f"`git commit` and `push` by hand take {median(pushes):.2f} s"
    bare = f"a bare kernel through jupyter_client takes {median(kernels):.2f} s"
    return [
        _cost_row("a command (`true`)", beyond, COMMAND_S, pushed),
        _cost_row("a cell (`pass`), its kernel included", costs["cell"], CELL_S, bare),
    ]


def measure_growth(folder: Path, *, jobs: int) -> Row:
    """What each of many jobs leaves in the remote repository for ever."""
    lab = make_lab(folder)
    lab.submit("begin", jobs=1, command=SAYS_A_LITTLE)  # the branches, and the list of packages
    _drain(lab.bare, folder / "home")
    begun = _sizes(lab.bare)
    lab.submit("grow", jobs=jobs, command=SAYS_A_LITTLE)
    _drain(lab.bare, folder / "home")
    loose, packed = _sizes(lab.bare)
    commits = int(git(lab.bare, "rev-list", "--count", "gpu-results"))
    return Row(
        "bytes added to the remote per job",
        f"{jobs} commands with a log of 30 lines",
        f"{(packed - begun[1]) / jobs:,.0f} after `git gc`; "
        f"{(loose - begun[1]) / jobs:,.0f} before ({commits:,} commits)",
    )


def _sizes(bare: Path) -> tuple[int, int]:
    """The bytes of all objects as they are, and after `git gc`."""
    repository = Repository.init_bare(bare)
    before = repository.object_bytes()
    git(bare, "gc", "--quiet", "--prune=now")
    return before, repository.object_bytes()


def _cost_row(what: str, costs: Sequence[float], goal_s: float, peer: str) -> Row:
    cost_s = median(costs)
    told = f"{cost_s:.2f} s (of {len(costs)}: {min(costs):.2f} to {max(costs):.2f}); {peer}"
    return Row(f"the daemon's own cost of {what}", "file://", told, f"≤ {goal_s:g} s", cost_s <= goal_s)


def _drain(bare: Path, home: Path) -> None:
    cli("daemon", "--repo", bare.as_uri(), "--once", "--workdir", home, cwd=home.parent)


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _push_by_hand(project: Path) -> None:
    git(project, "commit", "--allow-empty", "--quiet", "--message", "By hand")
    git(project, "push", "--quiet", "origin", "main")


def _bare_kernel() -> None:
    """What the same cell takes without a queue, a log, a notebook, or anybody who watches it."""
    from jupyter_client.manager import run_kernel

    kernel: Any = run_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    with kernel as client:
        client.execute_interactive("pass", timeout=PATIENCE_S)


def _await(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE_S:g} s for {path.name}")
        time.sleep(0.01)


def _await_all_done(lab: Lab) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not all(job.state.is_final for job in lab.store.refresh().jobs):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {PATIENCE_S:g} s for the jobs to end")
        time.sleep(0.05)
