"""Of jobs whose entries are gone: did somebody take the entry out, or was the branch rewound past it?

Only the first is a wish. The branch's own history tells: a removal is a commit whose history has the entry.
So every worker comes to the same answer, also one that never saw the branch as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from colab_magics.errors import CorruptError
from colab_magics.jobs.board import read_entries
from colab_magics.jobs.intent import FILE, parse_intent
from colab_magics.jobs.state import JobState
from colab_magics.store.branch_reading import Intent, origins_of
from colab_magics.store.git import Repository
from colab_magics.store.origins import read_versions

LOOKED_AT = 1000
"""Versions of the file, newest first. An entry that went before them is taken for one that nobody removed."""


@dataclass(frozen=True, slots=True)
class Removals:
    """Jobs that are not over and have no entry as of `head`: `removed` by somebody, or `spared`."""

    head: str | None = None
    removed: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()

    @property
    def note(self) -> str:
        """What a person should know, empty for nothing."""
        if not self.spared:
            return ""
        told = ", ".join(sorted(self.spared)[:3]) + (" …" if len(self.spared) > 3 else "")
        return (
            f"the branch was rewound past {told}: nobody removed the entry, so the job goes on if it runs,"
            " and waits until the entry is pushed again if not"
        )


def find_removals(
    repository: Repository, intent: Intent, states: Mapping[str, JobState], *, before: Removals
) -> Removals:
    """What became of the entries of jobs that the ledger has and the intent lacks.

    Args:
        before: what this function returned last; the history that it saw is not read again.
    """
    named = {job.job_id for job in intent.jobs}
    unfinished = (state for state in states.values() if not state.is_final)
    gone = {state.job_id: state.name for state in unfinished if state.job_id not in named}
    if not gone or intent.head is None:
        return Removals(intent.head, spared=frozenset(gone))
    continues = before.head is not None and repository.is_ancestor(before.head, intent.head)
    removed = before.removed & gone.keys() if continues else frozenset()
    old = before.spared & gone.keys() if continues else frozenset()
    if old and before.head != intent.head:
        removed |= _find(repository, intent.head, {job_id: gone[job_id] for job_id in old}, after=before.head)
    new = {job_id: name for job_id, name in gone.items() if job_id not in removed | old}
    removed |= _find(repository, intent.head, new, after=None)
    return Removals(intent.head, removed, frozenset(gone) - removed)


def _find(
    repository: Repository, head: str, wanted: Mapping[str, str], *, after: str | None
) -> frozenset[str]:
    """Those of some jobs (id → name) whose entries are in the history of `head`, as far as it is new."""
    found: set[str] = set()
    commits = repository.log_first_parent(head, old=after, path=FILE)[:LOOKED_AT] if wanted else []
    for commit, data in read_versions(repository, commits):
        found |= _ids_in(repository, commit, data, {k: v for k, v in wanted.items() if k not in found})
        if len(found) == len(wanted):
            break
    return frozenset(found)


def _ids_in(
    repository: Repository, commit: str, data: bytes | None, wanted: Mapping[str, str]
) -> frozenset[str]:
    try:
        entries = parse_intent(data)
    except CorruptError:
        return frozenset()
    own = {entry.own_id for entry in entries}
    # An entry without an id of its own gets it from where it comes from, which takes a walk to find.
    names = {name for job_id, name in wanted.items() if job_id not in own}
    unnamed = [
        entry
        for entry in entries
        if entry.own_id is None and isinstance(entry.value, dict) and entry.value.get("name") in names
    ]
    origins = origins_of(repository, commit, unnamed, before=Intent()) if unnamed else {}
    derived = {job.job_id for job in read_entries([entry.value for entry in unnamed], origins)}
    return frozenset(job_id for job_id in wanted if job_id in own or job_id in derived)
