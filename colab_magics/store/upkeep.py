"""When the clone of a worker is compacted, and what must not go away with the rest."""

from __future__ import annotations

from collections.abc import Mapping

from colab_magics.store.git import Repository

LOOSE_OBJECTS = 5000
"""Each sign of life leaves three. git's own limit is 6,700 (git-gc, gc.auto)."""

GRACE_S = 900.0
"""Longer than anything takes from writing an object to its ref, or to the end of its push."""

COMPACT_S = 1800.0


def compact_clone(repository: Repository, pins: Mapping[str, str | None]) -> bool:
    """Remove what no ref reaches, if that is much; whether it was.

    Args:
        pins: refs to be set before, for commits that are needed and have no other; None removes one.
    """
    repository.set_refs(pins)
    return repository.compact(loose=LOOSE_OBJECTS, grace_s=GRACE_S, timeout_s=COMPACT_S)
