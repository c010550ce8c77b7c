"""What this clone has brought home already (`seen.json`), so that a sync tells only what is new."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from colab_magics.errors import CorruptError, StoreError

FORMAT = 1
FILE = "seen.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """The versions of both branches at the last sync, and the ids of the jobs whose results were brought."""

    intent: str | None = None
    ledger: str | None = None
    jobs: frozenset[str] = frozenset()


def load_seen(folder: Path) -> Seen:
    """What is remembered in `folder`. Absent is empty; corrupt raises.

    Raises:
        CorruptError: it does not parse; the message says what removing it means.
        StoreError: the disk refuses.
    """
    path = folder / FILE
    try:
        told = json.loads(path.read_bytes())
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r} is of another version of colab-magics")
        jobs = [str(each) for each in told["jobs"]]
        return Seen(told["intent"], told["ledger"], frozenset(jobs))
    except FileNotFoundError:
        return Seen()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{path} does not parse ({error}): remove it, and the next sync brings all results once more"
        ) from error


def save_seen(folder: Path, seen: Seen) -> Seen:
    """Remember `seen`, together with the jobs that another process remembered meanwhile; returns both.

    Raises:
        StoreError: the disk refuses; what was remembered before still is.
    """
    both = replace(seen, jobs=seen.jobs | load_seen(folder).jobs)
    told = {"format": FORMAT, "intent": both.intent, "ledger": both.ledger, "jobs": sorted(both.jobs)}
    draft = folder / f"{FILE}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(told, separators=(",", ":")) + "\n")
        draft.replace(folder / FILE)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StoreError(
            f"{folder / FILE} cannot be written ({error.strerror}): the next sync brings the same again"
        ) from error
    return both
