"""What the queue's refs say, read only as far as it is new since the last look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from colab_magics.errors import CorruptError
from colab_magics.jobs import paths
from colab_magics.jobs.board import Origin, broken_file, canonical, needs_origin, read_entries
from colab_magics.jobs.codec import Live, parse_live, parse_state
from colab_magics.jobs.intent import FILE, Entry, parse_intent
from colab_magics.jobs.plan import Job
from colab_magics.jobs.state import JobState
from colab_magics.store.git import Repository
from colab_magics.store.origins import find_origins


@dataclass(frozen=True, slots=True)
class Intent:
    """experiments.json as of one commit.

    `note` says what is wrong with a newer version, if it is broken.
    """

    head: str | None = None
    jobs: tuple[Job, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The states of all jobs as of one commit."""

    head: str | None = None
    states: Mapping[str, JobState] = field(default_factory=dict)


def read_intent(repository: Repository, head: str | None, *, before: Intent) -> Intent:
    """The jobs of experiments.json as of `head`; of the latest version that parses, if that one does not."""
    if head == before.head:
        return before
    if head is None:
        return Intent()
    broken: Job | None = None
    for commit in _versions(repository, head):
        data = repository.read(commit, FILE)
        try:
            entries = parse_intent(data)
        except CorruptError as error:
            broken = broken or broken_file(data or b"", str(error))
            continue
        origins = origins_of(repository, commit, entries, before=before)
        jobs = read_entries([entry.value for entry in entries], origins)
        note = broken.rejection or "" if broken else ""
        return Intent(head, (*([broken] if broken else []), *jobs), origins, note)
    return Intent(head, (broken,) if broken else (), note=broken.rejection or "" if broken else "")


def origins_of(
    repository: Repository, head: str, entries: Sequence[Entry], *, before: Intent
) -> Mapping[str, Origin]:
    """Where the entries that carry no id or code of their own come from."""
    wanted = [canonical(entry.value) for entry in entries if needs_origin(entry.value)]
    return find_origins(repository, head, wanted, known=before.origins, known_head=before.head)


def read_ledger(repository: Repository, head: str | None, *, before: Ledger) -> Ledger:
    """The states of all jobs as of `head`, which continues `before`.

    Raises:
        CorruptError: a state does not parse, or another version wrote it.
    """
    if head == before.head:
        return before
    if head is None or before.head is None:
        entries = repository.ls_tree(head, paths.JOBS, suffix=f"/{paths.STATE}") if head else []
        # By their ids: a path costs git a walk down the tree, for each of ten thousand.
        states, known = [entry.sha for entry in entries if _is_state(entry.path)], {}
    else:
        changes = repository.changed(before.head, head, prefix=paths.JOBS)
        kept = [change.path for change in changes if change.status != "D" and _is_state(change.path)]
        states, known = [f"{head}:{path}" for path in kept], dict(before.states)
    for data in repository.read_many(states).values():
        if data is not None:
            state = parse_state(data)
            known[state.job_id] = state
    return Ledger(head, known)


def read_lives(
    repository: Repository, refs: Mapping[str, str], *, before: Mapping[str, tuple[str, Live]]
) -> dict[str, tuple[str, Live]]:
    """The workers' signs of life: worker → (commit, what it says).

    One that does not parse is passed over: what such a worker holds is in the ledger.
    """
    known = {
        worker: before[worker]
        for worker, sha in refs.items()
        if worker in before and before[worker][0] == sha
    }
    names = {f"{sha}:{paths.LIVE}": worker for worker, sha in refs.items() if worker not in known}
    for name, data in repository.read_many(names).items() if names else ():
        try:
            known[names[name]] = (name.split(":")[0], parse_live(data or b""))
        except CorruptError:
            continue
    return known


def _is_state(path: str) -> bool:
    return path.count("/") == 3 and path.endswith(f"/{paths.STATE}")


def _versions(repository: Repository, head: str) -> Iterable[str]:
    """The tip, then the commits before it that changed experiments.json, newest first."""
    yield head
    yield from (commit for commit in repository.log_first_parent(head, path=FILE) if commit != head)
