"""What a finished job left, read from a store: its variables, its cell's outputs, its log, why it failed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from colab_magics.errors import ColabError, CorruptError, VariableError
from colab_magics.jobs.paths import ATTEMPTS, LOG, NOTEBOOK, OUT, RECORD
from colab_magics.jobs.record import Record, from_json
from colab_magics.store.base import Store
from colab_magics.store.variables import Packed, kind_of, unpack


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables that a job sent back. `refused` says, for each that cannot be opened here, why."""

    values: dict[str, object]
    refused: dict[str, str]

    def or_raise(self) -> dict[str, object]:
        """The values.

        Raises:
            VariableError: some cannot be opened.
        """
        if self.refused:
            raise VariableError("; ".join(self.refused.values()))
        return self.values


def read_packed(store: Store, job_id: str) -> dict[str, Packed]:
    """The variables that the job sent back, not opened."""
    found = {}
    for name, path in sorted(_variable_files(store, job_id).items()):
        kind, data = kind_of(path), store.read(job_id, path)
        if kind is not None and data is not None:
            found[name] = Packed(kind=kind, data=data)
    return found


def read_variables(
    store: Store, job_id: str, *, allow_pickle: bool, only: Iterable[str] | None = None
) -> Variables:
    """The variables that the job sent back, or those of `only` among them."""
    wanted = None if only is None else set(only)
    values: dict[str, object] = {}
    refused: dict[str, str] = {}
    for name, path in _variable_files(store, job_id).items():
        kind = kind_of(path)
        data = store.read(job_id, path) if wanted is None or name in wanted else None
        if kind is None or data is None:
            continue
        try:
            values[name] = unpack(name, Packed(kind=kind, data=data), allow_pickle=allow_pickle)
        except ColabError as error:
            refused[name] = str(error)
    return Variables(values, refused)


def read_outputs(store: Store, job_id: str) -> list[dict[str, Any]]:
    """The outputs of the job's cell in nbformat's form, in their order; none for a command.

    Raises:
        CorruptError: its notebook does not parse.
    """
    data = store.read(job_id, NOTEBOOK)
    if data is None:
        return []
    try:
        cells = json.loads(data)["cells"]
        return [dict(output) for cell in cells for output in cell.get("outputs", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"the notebook of {job_id} does not parse: {error!r}") from error


def read_log(store: Store, job_id: str) -> str:
    """What the job wrote, as of the last look; empty where nothing is there."""
    return (store.read(job_id, LOG) or b"").decode("utf-8", errors="replace")


def read_record(store: Store, job_id: str) -> Record | None:
    """Everything that is known about the job's last attempt; None where no attempt ended.

    Raises:
        CorruptError: it does not parse.
    """
    data = store.read(job_id, RECORD)
    return None if data is None else from_json(data)


def read_earlier(store: Store, job_id: str) -> list[Record]:
    """What is known about the attempts after which the job went back to the queue, the first one first.

    Raises:
        CorruptError: a record does not parse.
    """
    parts = (name.split("/") for name in store.files(job_id))
    numbers = [int(part[1]) for part in parts if part[0] == ATTEMPTS and part[2:] == [RECORD]]
    found = (store.read(job_id, f"{ATTEMPTS}/{number}/{RECORD}") for number in sorted(numbers))
    return [from_json(data) for data in found if data is not None]


def _variable_files(store: Store, job_id: str) -> dict[str, str]:
    """Variable → its file, for those whose kind is known."""
    found = {}
    for path in store.files(job_id):
        folder, _, file = path.partition("/")
        name = file.partition(".")[0]
        if folder == OUT and name.isidentifier() and kind_of(file) is not None:
            found[name] = path
    return found
