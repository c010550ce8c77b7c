"""Which commit introduced a hand-written entry: its job runs in the code of that commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from colab_magics.errors import CorruptError
from colab_magics.jobs.board import Origin, canonical
from colab_magics.jobs.intent import FILE, parse_intent
from colab_magics.store.git import Repository

AT_A_TIME = 32
QUEUE_FILES = frozenset({FILE, "cells", "inputs"})


def find_origins(
    repository: Repository,
    head: str,
    wanted: Iterable[str],
    *,
    known: Mapping[str, Origin],
    known_head: str | None,
) -> dict[str, Origin]:
    """For each entry of the queue's branch as of `head`, the commit that introduced it.

    Walks back along first parents only as far as needed: to `known_head`, where `known` already tells.

    Args:
        repository: where the branch's history is.
        head: the branch's tip; its experiments.json parses.
        wanted: the canonical texts (`board.canonical`) of entries in it.
        known: what this function returned for `known_head`.
        known_head: a commit of the branch's history, or None.
    """
    pending, found = set(wanted), {}
    introduced: str | None = None
    known_head = known_head if known_head and repository.is_ancestor(known_head, head) else None
    commits = repository.log_first_parent(head, old=known_head, path=FILE) if pending else []
    for commit, data in read_versions(repository, commits):
        present = _entries(data)
        if present is None:
            continue  # broken at that moment: it neither brought nor removed an entry
        if introduced is not None and (gone := pending - present):
            found.update(dict.fromkeys(gone, _origin(repository, introduced)))
            pending -= gone
        introduced = commit
        if not pending:
            break
    if known_head is not None:
        found.update({text: known[text] for text in pending if text in known})
        pending -= found.keys()
    if pending:
        found.update(dict.fromkeys(pending, _origin(repository, introduced or head)))
    return found


def holds_only_the_queue(repository: Repository, commit: str) -> bool:
    """Whether a commit's tree has no code, as on a branch that the magic itself began."""
    return all(entry.path in QUEUE_FILES for entry in repository.ls_tree(commit, recursive=False))


def read_versions(repository: Repository, commits: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """The file as of each commit, read a number at a time: a process for each would take minutes."""
    for start in range(0, len(commits), AT_A_TIME):
        some = commits[start : start + AT_A_TIME]
        found = repository.read_many([f"{commit}:{FILE}" for commit in some])
        yield from ((commit, found[f"{commit}:{FILE}"]) for commit in some)


def _entries(data: bytes | None) -> set[str] | None:
    try:
        return {canonical(entry.value) for entry in parse_intent(data)}
    except CorruptError:
        return None


def _origin(repository: Repository, commit: str) -> Origin:
    code = [f"{entry.mode} {entry.sha} {entry.path}" for entry in repository.ls_tree(commit, recursive=False)]
    listing = "\n".join(line for line in code if line.split(" ", 2)[2] not in QUEUE_FILES)
    return Origin(commit=commit, code_id=hashlib.sha256(listing.encode()).hexdigest() if listing else "")
