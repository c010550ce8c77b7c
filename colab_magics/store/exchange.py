"""A project in two places: commits that both agree on, and packs of what one side lacks.

The index, HEAD, branches and stash stay as they are. The work tree is written in `write_files` alone, with
what the person has accepted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from colab_magics.errors import StoreError
from colab_magics.store import git_index
from colab_magics.store.git import Repository
from colab_magics.store.git_import import IDENTITY
from colab_magics.store.git_index import Staged
from colab_magics.store.git_names import check_path, check_sha

Content = Staged | None
"""What is at a path; None: nothing."""


def contents(repository: Repository, commit: str | None) -> dict[str, Staged]:
    """Everything that is in a commit, by its path. Without a commit: nothing."""
    if commit is None:
        return {}
    return {entry.path: Staged(entry.mode, entry.sha) for entry in repository.ls_tree(commit)}


def amend(repository: Repository, commit: str, changes: Mapping[str, Content]) -> str:
    """The commit with other contents at some paths; the same arguments give the same id."""
    if not changes:
        return commit
    tree = _tree(repository, commit, changes)
    lines = [f"tree {tree}", f"author {IDENTITY} 0 +0000", f"committer {IDENTITY} 0 +0000"]
    return git_index.write_commit(
        repository.runner, os.fsencode("\n".join([*lines, "", "What both sides have", ""]))
    )


def pack(repository: Repository, *, want: str, have: str | None, into: Path) -> int:
    """Write a pack of what a commit needs beyond another one; its size in bytes."""
    asked = f"{check_sha(want)}\n" + (f"^{check_sha(have)}\n" if have else "")
    data = repository.runner.run("pack-objects", "--revs", "--thin", "--stdout", "-q", stdin=asked.encode())
    into.write_bytes(data.stdout)
    return len(data.stdout)


def unpack(repository: Repository, file: Path) -> None:
    """Take a pack's objects in. StoreError: it is damaged; nothing of it was taken."""
    with file.open("rb") as stream:
        repository.runner.run("index-pack", "--stdin", "--fix-thin", stdin=stream)


def diff(repository: Repository, commit: str, changes: Mapping[str, Content]) -> str:
    """What changes of a commit are, as text for a person."""
    if not changes:
        return ""
    tree = _tree(repository, commit, changes)
    flags = ("-r", "-p", "--stat", "--no-renames", "--no-ext-diff", "--no-textconv")
    return repository.runner.run("diff-tree", *flags, check_sha(commit), tree).stdout.decode(errors="replace")


def write_files(repository: Repository, files: Mapping[str, Content]) -> None:
    """Put contents into the work tree, the index left as it is. What is there is overwritten.

    Raises:
        StoreError: a file cannot be written; those before it are.
    """
    work_tree = repository.work_tree
    assert work_tree is not None
    for path, content in files.items():
        if content is None:
            (work_tree / check_path(path)).unlink(missing_ok=True)
    there = {check_path(path): content for path, content in files.items() if content is not None}
    if not there:
        return
    with _index(repository) as index:
        git_index.put(repository.runner, index=index, entries=there)
        environment = {"GIT_INDEX_FILE": str(index)}
        names = os.fsencode("".join(f"{path}\0" for path in there))
        arguments = ("checkout-index", "--force", "-z", "--stdin")
        repository.runner.run(*arguments, stdin=names, environment=environment)


def on_disk(repository: Repository, paths: Iterable[str]) -> dict[str, str | None]:
    """The id that each file of the work tree would have at this moment; None where there is none."""
    assert repository.work_tree is not None
    found: dict[str, str | None] = {}
    for path in paths:
        full = repository.work_tree / check_path(path)
        found[path] = None
        if full.is_symlink():
            link = os.fsencode(full.readlink())
            found[path] = repository.runner.run("hash-object", "--stdin", stdin=link).stdout.decode().strip()
        elif full.is_file():
            found[path] = repository.runner.text("hash-object", "--", path)
    return found


def missing(repository: Repository, objects: Iterable[str]) -> list[str]:
    """Those objects that are not here, each once."""
    asked = list(dict.fromkeys(map(check_sha, objects)))
    if not asked:
        return []
    stdin = "\n".join([*asked, ""]).encode()
    listed = repository.runner.run("cat-file", "--batch-check=%(objectname)", stdin=stdin).stdout.decode()
    return [line.split(" ")[0] for line in listed.splitlines() if line.endswith(" missing")]


def free_name(repository: Repository, path: str, taken: Sequence[str] = ()) -> str:
    """A name beside a file that no file has: `model.py.there`, `model.py.there2`, …"""
    assert repository.work_tree is not None
    for number in range(1, 1000):
        name = f"{path}.there{number if number > 1 else ''}"
        if name not in taken and not os.path.lexists(repository.work_tree / name):
            return name
    raise StoreError(f"{path}.there and a thousand more are taken: remove those that you have looked at")


def _tree(repository: Repository, commit: str, changes: Mapping[str, Content]) -> str:
    with _index(repository) as index:
        environment = {"GIT_INDEX_FILE": str(index)}
        repository.runner.run("read-tree", check_sha(commit), environment=environment)
        git_index.put(repository.runner, index=index, entries=changes)
        return git_index.write_tree(repository.runner, index=index)


@contextmanager
def _index(repository: Repository) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=repository.colab_dir) as folder:
        yield Path(folder) / "index"
