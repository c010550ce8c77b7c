"""A copy of a clone's index, to build a tree with: the clone's own is read once and never written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from colab_magics.errors import SnapshotError
from colab_magics.store.git_answers import advice
from colab_magics.store.git_names import ABSENT
from colab_magics.store.git_runner import ANY_CODE, GitRunner

GITLINK = "160000"


@dataclass(frozen=True, slots=True)
class Staged:
    """What the index has at a path. More than one of them at one path: a merge is not finished."""

    mode: str
    sha: str


@dataclass(slots=True)
class Scan:
    """What git sees in a work tree. Paths are relative to its top, folders of other repositories end in /."""

    staged: dict[str, Staged] = field(default_factory=dict)
    modified: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    untracked: list[str] = field(default_factory=list)


def scan(runner: GitRunner, *, index: Path | None = None) -> Scan:
    """Compare a work tree with an index, the clone's own unless another is given, in one process.

    Source: git-ls-files(1), "OUTPUT"; a path with edits comes twice, once as it is staged.
    """
    arguments = ("-z", "-t", "--stage", "--modified", "--deleted", "--others", "--exclude-standard")
    environment = {} if index is None else {"GIT_INDEX_FILE": str(index)}
    listed = runner.run("ls-files", *arguments, environment=environment).stdout
    found = Scan()
    modified: dict[str, None] = {}
    for record in os.fsdecode(listed).split("\0")[:-1]:
        tag, rest = record[0], record[2:]
        if tag == "?":
            found.untracked.append(rest)
            continue
        entry, _, path = rest.partition("\t")
        mode, sha, _ = entry.split(" ")
        if tag == "R":
            found.deleted.add(path)
        elif tag == "C":
            modified[path] = None
        else:
            found.staged[path] = Staged(mode, sha)
    found.modified = [path for path in modified if path not in found.deleted]
    return found


def copy_index(runner: GitRunner, target: Path) -> None:
    """Copy the clone's index with its time: git trusts a file's entry only if the file is older.

    A new time would make git believe entries of files that were edited in the same tick
    (https://git-scm.com/docs/racy-git). Without an index there is nothing to copy, and git starts a new one.
    """
    try:
        with (runner.git_dir / "index").open("rb") as source, target.open("wb") as copy:
            # The time of the file that was opened: another git may put a new one in its place meanwhile.
            times = os.fstat(source.fileno())
            shutil.copyfileobj(source, copy)
    except FileNotFoundError:
        return
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def update(runner: GitRunner, *, index: Path, paths: Iterable[str]) -> None:
    """Take paths into an index as they are on disk; those that vanished meanwhile are removed.

    A path inside a submodule takes the submodule's place: its files become plain ones.

    Raises:
        SnapshotError: a file cannot be read, or a filter of the project fails on it.
    """
    asked = os.fsencode("".join(f"{path}\0" for path in paths))
    if not asked:
        return
    arguments = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")
    answer = runner.run(*arguments, stdin=asked, environment=_environment(index), ok=ANY_CODE)
    if answer.returncode == 0:
        return
    if advice(answer):
        raise runner.failure("reading the work tree", answer)
    raise SnapshotError(
        f"the code on disk cannot be sent: {runner.say(answer)}; make the file readable, or list it in"
        " .gitignore."
    )


def put(runner: GitRunner, *, index: Path, entries: Mapping[str, Staged | None]) -> None:
    """Set entries of an index to what they were elsewhere; None removes one, in all its stages."""
    asked = "".join(
        f"0 {ABSENT}\t{path}\0" + (f"{entry.mode} {entry.sha}\t{path}\0" if entry else "")
        for path, entry in entries.items()
    )
    if asked:
        environment = _environment(index)
        runner.run("update-index", "-z", "--index-info", stdin=os.fsencode(asked), environment=environment)


def write_tree(runner: GitRunner, *, index: Path) -> str:
    """Write the tree of an index and return its id."""
    return runner.run("write-tree", environment=_environment(index)).stdout.decode().strip()


def write_commit(runner: GitRunner, content: bytes) -> str:
    """Write a raw commit object and return its id."""
    return runner.run("hash-object", "-w", "-t", "commit", "--stdin", stdin=content).stdout.decode().strip()


def _environment(index: Path) -> dict[str, str]:
    return {"GIT_INDEX_FILE": str(index)}
