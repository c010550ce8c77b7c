"""Checkpoints of jobs that are not over: one overwritten ref a job, so that history does not grow."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from colab_magics.errors import StoreError
from colab_magics.jobs.codec import SKIP_CI
from colab_magics.jobs.paths import checkpoint_ref
from colab_magics.store.git import ABSENT, PushOutcome, PushUpdate, Refspec, Repository

logger = logging.getLogger(__name__)


class Checkpoints:
    """Saves and loads the checkpoint folders of jobs; the attempt's number decides who may overwrite."""

    def __init__(self, repository: Repository, *, remote: str, tracking: str) -> None:
        self._repository, self._remote, self._tracking = repository, remote, tracking

    def save(self, job_id: str, attempt: int, files: Mapping[str, Path], *, date_s: int) -> None:
        """Overwrite the job's checkpoint, unless a later attempt has written it."""
        commit = self._repository.build_commit(
            dict(files),
            message=f"Checkpoint {SKIP_CI}\n\n{json.dumps({'attempt': attempt})}\n",
            date_s=date_s,
        )
        for known in (self._repository.resolve(self._track(job_id)), None):
            # What is known here may be old: a push that was not answered may have landed all the same.
            before = known or self._look(job_id)
            if before is not None and self._attempt(before) > attempt:
                return
            update = PushUpdate(commit, checkpoint_ref(job_id), before or ABSENT, self._track(job_id))
            if self._repository.push(self._remote, [update]) is PushOutcome.LANDED:
                return
        logger.warning("the checkpoint of %s was not saved: another worker writes it too", job_id)

    def load(self, job_id: str, folder: Path) -> bool:
        """Write the files of the job's checkpoint into `folder`; whether there was one."""
        commit = self._look(job_id)
        if commit is None:
            return False
        entries = self._repository.ls_tree(commit, recursive=True)
        blobs = self._repository.read_many([entry.sha for entry in entries])
        for entry in entries:
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(blobs[entry.sha] or b"")
        return True

    def drop(self, job_id: str) -> None:
        """Remove the job's checkpoint from the remote, if this clone knows of one."""
        if self._repository.resolve(self._track(job_id)) is not None:
            self._repository.push(self._remote, [PushUpdate(None, checkpoint_ref(job_id))])
            self._repository.set_refs({self._track(job_id): None})

    def _track(self, job_id: str) -> str:
        return self._tracking + job_id

    def _look(self, job_id: str) -> str | None:
        self._repository.fetch(self._remote, [Refspec(checkpoint_ref(job_id), self._track(job_id))])
        return self._repository.resolve(self._track(job_id))

    def _attempt(self, commit: str) -> int:
        message = self._repository.commit_info(commit).message
        try:
            return int(json.loads(message.splitlines()[-1])["attempt"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise StoreError(f"the checkpoint {commit} does not say which attempt wrote it") from error
