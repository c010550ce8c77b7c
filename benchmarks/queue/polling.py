"""A daemon's look at a queue in which nothing is new, with few and with many other refs on the remote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.queue.report import Row
from benchmarks.queue.server import Wire
from benchmarks.queue.stage import cli, git, make_project, make_remote
from benchmarks.queue.timing import take_turns
from colab_magics.jobs.codec import Live
from colab_magics.store import git_process
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.git_names import split_credentials

ONE_KB = 1500
"""What "about 1 KB" still is, in bytes."""


def measure(folder: Path, *, server: Any, refs: Sequence[int], rounds: int) -> list[Row]:
    """One row for each number of other refs; over HTTP where there is a server, else over file://."""
    stores: dict[int, BranchStore] = {}
    wires: dict[int, Wire | None] = {}
    for number in refs:
        name = f"poll{number}"
        bare = server.create(name) if server else make_remote(folder / f"{name}.git")
        direct = server.url(name, user="writer") if server else bare.as_uri()
        project = make_project(folder / name, remote=bare.as_uri(), files=20)
        cli("queue", "--command", "true", cwd=project)
        cli("daemon", "--repo", bare.as_uri(), "--once", "--workdir", folder / f"home{number}", cwd=folder)
        main = git(bare, "rev-parse", "main")
        others = "".join(f"create refs/heads/other/{each} {main}\n" for each in range(number))
        git(bare, "update-ref", "--stdin", stdin=others)
        git(bare, "pack-refs", "--all")
        wire = wires[number] = Wire(direct) if server else None
        url, token = split_credentials(wire.url if wire else direct)
        cache = Repository.init_bare(folder / f"cache{number}.git", isolated=True, token=token)
        stores[number] = BranchStore(cache, remote=url, label="queue", hears_asks=True)
        stores[number].publish(Live(worker="bench", counter=1, at=0.0, poll_s=5.0, machine={}, jobs={}))
        stores[number].refresh()
    taken = take_turns({str(number): stores[number].refresh for number in refs}, rounds=rounds)
    rows = []
    for number in refs:
        wire = wires[number]
        if wire:
            wire.reset()
        with _counted() as commands:
            stores[number].refresh()
        fetches = sum("fetch" in command for command in commands)
        told = f"{len(commands)} git commands ({fetches} fetch), {median(taken[str(number)]) * 1000:.0f} ms"
        met = fetches == 1
        if wire:
            # The first is refused: git gives the password only when it is asked for.
            (asked_up, asked_down), *poll = wire.exchanges
            up, down = sum(each[0] for each in poll), sum(each[1] for each in poll)
            told += (
                f", {up:,} bytes up, {down:,} down (and {asked_up:,} / {asked_down:,} to be asked to log in)"
            )
            met = met and max(up, down) <= ONE_KB
            wire.close()
        rows.append(
            Row(
                "idle poll of a daemon",
                f"{number:,} other refs, {'HTTP' if server else 'file://'}",
                told,
                "one fetch, about 1 KB each way",
                met,
            )
        )
    return rows


@contextmanager
def _counted() -> Iterator[list[list[str]]]:
    """The git commands that the product runs inside."""
    commands: list[list[str]] = []
    usual = git_process.run_git

    def counting(arguments: Sequence[str], **more: Any) -> Any:
        commands.append(list(arguments))
        return usual(arguments, **more)

    git_process.run_git = counting
    try:
        yield commands
    finally:
        git_process.run_git = usual
