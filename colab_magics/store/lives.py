"""A worker's sign of life as a push: one commit without a parent, which takes the place of the one before."""

from __future__ import annotations

from colab_magics.jobs import paths
from colab_magics.jobs.codec import SKIP_CI, Live, serialize_live
from colab_magics.store.git import PushUpdate, Repository


def live_update(repository: Repository, live: Live, *, date_s: int) -> PushUpdate:
    """What to push for a worker to be seen so; its commit is written here."""
    files = {paths.LIVE: serialize_live(live)}
    commit = repository.build_commit(files, message=f"Alive {SKIP_CI}\n", date_s=date_s)
    return PushUpdate(commit, paths.live_ref(live.worker))
