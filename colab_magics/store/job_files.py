"""The files that a job left in the ledger, read from the object store without a checkout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from colab_magics.jobs.paths import job_folder
from colab_magics.store.git import Repository, TreeEntry

READ_AHEAD_BYTES = 1_000_000
"""Files up to this size are read along with the first of their job: one process for all of them."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """One job's folder in the ledger, with what was read of it: id → content."""

    head: str | None
    path: str
    entries: Mapping[str, TreeEntry]
    contents: dict[str, bytes | None]


class JobFiles:
    """Reads; remembers the last job's folder, since who reads one file of a job usually reads them all."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._folder: _Folder | None = None

    def read(self, head: str | None, job_id: str, name: str) -> bytes | None:
        """One of a job's files as of a commit of the ledger; None where there is none."""
        folder = self._open(head, job_id)
        if name not in folder.entries:
            return None
        sha = folder.entries[name].sha
        if sha not in folder.contents:
            small = [
                each.sha for each in folder.entries.values() if (each.size_bytes or 0) <= READ_AHEAD_BYTES
            ]
            folder.contents.update(self._repository.read_many({sha, *small}))
        return folder.contents[sha]

    def sizes(self, head: str | None, job_id: str) -> dict[str, int]:
        """The job's files and their sizes in bytes."""
        return {name: entry.size_bytes or 0 for name, entry in self._open(head, job_id).entries.items()}

    def _open(self, head: str | None, job_id: str) -> _Folder:
        path = job_folder(job_id)
        if self._folder is None or (self._folder.head, self._folder.path) != (head, path):
            entries = self._repository.ls_tree(head, path, recursive=True, sizes=True) if head else []
            named = {entry.path.removeprefix(f"{path}/"): entry for entry in entries}
            self._folder = _Folder(head, path, named, {})
        return self._folder
