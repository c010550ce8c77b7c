"""Outcomes on disk, so that a daemon killed after a job's end and before the push still brings it home."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from colab_magics.daemon.assignment import Outcome
from colab_magics.errors import CorruptError
from colab_magics.jobs.record import from_json, to_json
from colab_magics.jobs.state import Verb

_MARK = "outcome.json"
_FILES = "files"


def save_outcome(folder: Path, outcome: Outcome) -> Outcome:
    """Put an outcome and its files into `folder`, on the disk for good; return it with the paths there.

    Raises:
        OSError: the disk is full or refuses. `folder` then holds no outcome.
    """
    drop_outcome(folder)
    files = {}
    for name, source in outcome.files.items():
        target = folder / _FILES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        _sync(target)
        files[name] = target
    told = {
        "verb": outcome.verb.value,
        "reason": outcome.reason,
        "record": to_json(outcome.record).decode(),
        "files": sorted(files),
        "environment": None if outcome.environment_text is None else outcome.environment_text.decode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_MARK}.draft"
    draft.write_text(json.dumps(told, ensure_ascii=True), encoding="utf-8")
    _sync(draft)
    draft.replace(folder / _MARK)
    _sync(folder)
    return replace(outcome, files=files)


def drop_outcome(folder: Path) -> None:
    """Remove an outcome, at whatever moment this process may die: without its mark there is none."""
    (folder / _MARK).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def load_outcome(folder: Path) -> Outcome | None:
    """The outcome in `folder`, None where none was saved to its end.

    Raises:
        CorruptError: one was, and it does not parse or a file of it is missing.
    """
    try:
        data = (folder / _MARK).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        told = json.loads(data)
        files = {name: folder / _FILES / name for name in told["files"]}
        missing = [name for name, path in files.items() if not path.is_file()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        environment = told["environment"]
        return Outcome(
            verb=Verb(told["verb"]),
            reason=str(told["reason"]),
            record=from_json(told["record"].encode()),
            files=files,
            environment_text=None if environment is None else environment.encode(),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"the outcome in {folder} does not parse: {error!r}; remove the folder") from error


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
