"""Where in the ledger goes what an attempt leaves: only one that ends its job is among the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from colab_magics.daemon.assignment import Outcome
from colab_magics.jobs.paths import RECORD, attempt_file, environment_file, job_file, superseded_file
from colab_magics.jobs.record import to_json
from colab_magics.jobs.state import FINAL, TRANSITIONS, State, Verb

Files = dict[str, bytes | Path]


def place(verb: Verb, job_id: str, attempt: int, name: str) -> str:
    """The path of a file of an attempt that ended with `verb`."""
    if TRANSITIONS[State.RUNNING][verb] in FINAL:
        return job_file(job_id, name)
    return attempt_file(job_id, attempt, name)


def files_of(job_id: str, attempt: int, outcome: Outcome) -> Files:
    """What an attempt leaves, by path in the ledger."""
    record, after = outcome.record, TRANSITIONS[State.RUNNING][outcome.verb]
    if after not in FINAL:
        record = replace(record, state=after.value, notes=(outcome.reason, *record.notes))
    files: Files = {place(outcome.verb, job_id, attempt, name): path for name, path in outcome.files.items()}
    files[place(outcome.verb, job_id, attempt, RECORD)] = to_json(record)
    if outcome.environment_text is not None and record.environment:
        files[environment_file(record.environment)] = outcome.environment_text
    return files


def superseded_files(job_id: str, attempt: int, outcome: Outcome) -> Mapping[str, bytes | Path]:
    """The same of an attempt that was overtaken: beside the official results, never in their place."""
    files: Files = {superseded_file(job_id, attempt, name): data for name, data in outcome.files.items()}
    files[superseded_file(job_id, attempt, RECORD)] = to_json(outcome.record)
    return files
