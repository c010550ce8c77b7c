"""Everything that is known about one attempt of a job, and its JSON (`record.json` in the ledger)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from colab_magics.errors import CorruptError
from colab_magics.jobs.json_text import serialize_indented
from colab_magics.jobs.spec import Json

FORMAT = 1
CELL = "<cell>"
"""`Failure.file` of a line in the job's own cell; any other is a path relative to the job's checkout."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` in one unit, total None where nobody knows it."""

    done: float
    total: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    `type` and `message` are the exception's, `traceback` its lines as they were shown (ANSI colours may be
    in them). `file`, `line` (from 1), `function` and `source` are the innermost line of the person's own
    code: in the cell (`file` is `<cell>`) or in the checkout, never in an installed package; None where there
    is none. `allocator_summary` is what torch's allocator said when memory ran out.
    """

    type: str
    message: str
    traceback: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None
    source: str | None = None
    function: str | None = None
    out_of_memory: bool = False
    allocator_summary: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that the job made: `path` relative to its folder; where it is not `stored`, `why_not` says why.

    `sha256` and `size_bytes` are those of what is stored; of a file that is not, its size and no digest.
    """

    path: str
    size_bytes: int
    sha256: str
    stored: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that came back: its kind (store/variables.py), and its file beside record.json."""

    name: str
    kind: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt. Times are Unix seconds UTC, for people; `duration_s` is from a monotonic clock.

    `state` is what the attempt came to (jobs/state.py; queued for one that was given back). `machine` has
    hostname, platform, python, cpus, memory_bytes; `gpu` has name, driver, memory_bytes, count. `environment`
    names `env/<it>.txt`, the list of packages. `peak_host_bytes` is of all the job's processes together,
    `peak_gpu_bytes` torch's allocator's figure where torch was loaded, else the driver's. `code` is the
    commit.
    """

    job_id: str
    name: str
    attempt: int
    worker: str
    state: str
    exit_code: int | None = None
    failure: Failure | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    machine: Mapping[str, Json] = field(default_factory=dict)
    gpu: Mapping[str, Json] | None = None
    environment: str | None = None
    peak_host_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    code: str = ""
    outputs: tuple[Variable, ...] = ()
    artifacts: tuple[Stored, ...] = ()
    log_bytes: int = 0
    notes: tuple[str, ...] = ()


def to_json(record: Record) -> bytes:
    """`record.json`: indented, because people read it on the hosting site; UTF-8 whatever a job said."""
    return f"{serialize_indented({'format': FORMAT} | asdict(record))}\n".encode()


def from_json(data: bytes) -> Record:
    """The record that `to_json` wrote.

    Raises:
        CorruptError: not that. Keys that a later version added are passed over.
    """
    try:
        told = json.loads(data)
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}: written by another version; upgrade colab-magics")
        failure = told.get("failure")
        told["failure"] = None if failure is None else _value(Failure, failure)
        told["outputs"] = tuple(_value(Variable, each) for each in told.get("outputs", ()))
        told["artifacts"] = tuple(_value(Stored, each) for each in told.get("artifacts", ()))
        record: Record = _value(Record, told)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"a job's record does not parse: {error!r} in {data[:80]!r}") from error
    return record


def _value(kind: type[Any], told: Mapping[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    return kind(
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in told.items()
            if key in known
        }
    )
