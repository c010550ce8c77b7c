"""One job, and a hundred: what `%colab_queue --command` takes, beside git by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.queue.report import Row
from benchmarks.queue.stage import PLAIN, clone, git, make_project, notebook, shell, work
from benchmarks.queue.timing import ratio, take_turns

HAND = 0.5
MANY = 1.3
GIT = " ".join(("git", *PLAIN))
_BY_HAND = {"plain": "`add`, `commit`, `push`", "beside": "`stash` …"}
ONE_JOB = "--command 'python train.py' --name bench"


def measure_one(folder: Path, *, remote: str, where: str, files: int, rounds: int) -> list[Row]:
    """One job with uncommitted work in the tree, against two ways by hand in clones of their own."""
    mine = make_project(folder / "mine", remote=remote, files=files)
    plain, branch = clone(remote, folder / "plain"), _with_branch(clone(remote, folder / "branch"))
    pushed = clone(remote, folder / "pushed")
    ipython, numbers = notebook(mine), count()

    def edit() -> None:
        for old in mine.glob("new*_*.py"):
            old.unlink()
        number = next(numbers)
        for project in (mine, plain, branch, pushed):
            work(project, number)
        git(pushed, "add", "--all")
        git(pushed, "commit", "-qm", "job")

    def by_hand() -> None:
        shell(plain, f"{GIT} add -A && {GIT} commit -qm job && {GIT} push -q origin HEAD:main")

    def by_hand_beside() -> None:
        shell(branch, f"{GIT} stash push -q -u && {GIT} checkout -q gpu-hand && {GIT} stash apply -q")
        _append(branch / "experiments.json")
        shell(branch, f"{GIT} add -A && {GIT} commit -qm job && {GIT} push -q origin gpu-hand")
        shell(branch, f"{GIT} checkout -q main && {GIT} stash pop -q")

    def reset() -> None:
        # The third way keeps its work uncommitted, so the next one would find conflicts in the stash.
        git(branch, "checkout", "-q", "main", "--", ".")
        git(branch, "clean", "-qfd")
        git(branch, "push", "-qf", "origin", "main:gpu-hand")
        git(branch, "branch", "-qf", "gpu-hand", "main")
        edit()

    taken = take_turns(
        {
            "ours": lambda: ipython.run_line_magic("colab_queue", ONE_JOB),
            "plain": by_hand,
            "beside": by_hand_beside,
            "push": lambda: shell(pushed, f"{GIT} push -q origin HEAD:refs/heads/pushed"),
        },
        rounds=rounds,
        before=reset,
    )
    told = f"{files:,} files, {where}"
    return [
        _against(taken["ours"], taken["plain"], "`git add`, `commit`, `push`", told),
        _against(taken["ours"], taken["beside"], "the same without losing one's place (`stash` …)", told),
        _floor(taken, told),
    ]


def measure_many(folder: Path, *, remote: str, where: str, jobs: int, rounds: int) -> Row:
    """A grid of so many jobs against one job, in one project."""
    project = make_project(folder / "mine", remote=remote, files=300)
    ipython, numbers = notebook(project), count()
    grid = f"{ONE_JOB} --grid seed={','.join(map(str, range(jobs)))}"
    taken = take_turns(
        {
            "one": lambda: ipython.run_line_magic("colab_queue", ONE_JOB),
            "many": lambda: ipython.run_line_magic("colab_queue", grid),
        },
        rounds=rounds,
        before=lambda: work(project, next(numbers)),
    )
    times = ratio(taken["many"], taken["one"])
    return Row(
        f"enqueue {jobs} jobs in one push",
        f"300 files, {where}",
        f"{_ms(taken['many'])} against {_ms(taken['one'])} for one: **{times:.2f}×**",
        f"≤ {MANY:g}×",
        times <= MANY,
    )


def _floor(taken: Mapping[str, list[float]], where: str) -> Row:
    """What a push of a commit that is made already takes, and what each way takes beyond it."""
    shares = [f"{ratio(taken['push'], taken[way]):.2f}× of {name}" for way, name in _BY_HAND.items()]
    beyond = {way: _ms(_beyond(taken[way], taken["push"])) for way in ("ours", *_BY_HAND)}
    measured = f"{_ms(taken['push'])}: {' and '.join(shares)}; beyond it an enqueue takes {beyond['ours']}, "
    measured += ", ".join(f"{name} {beyond[way]}" for way, name in _BY_HAND.items())
    return Row("the floor: `git push` of a commit made before", where, measured)


def _beyond(taken: Sequence[float], push: Sequence[float]) -> list[float]:
    return [mine - floor for mine, floor in zip(taken, push, strict=True)]


def _against(ours: Sequence[float], peer: Sequence[float], name: str, where: str) -> Row:
    times = ratio(list(ours), list(peer))
    measured = f"{_ms(ours)} against {_ms(peer)}: **{times:.2f}×**"
    return Row(f"enqueue one job, against {name}", where, measured, f"≤ {HAND:g}×", times <= HAND)


def _ms(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1000:.0f} ms"


def _with_branch(project: Path) -> Path:
    git(project, "branch", "gpu-hand", "main")
    git(project, "push", "-q", "origin", "gpu-hand")
    return project


def _append(path: Path) -> None:
    entries = json.loads(path.read_text()) if path.exists() else []
    entries.append({"name": "bench", "command": "python train.py", "timeout": 3600})
    path.write_text(json.dumps(entries, indent=1))
