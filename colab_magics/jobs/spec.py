"""A job's immutable specification, read from and written to one entry of experiments.json."""

from __future__ import annotations

import hashlib
import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

from colab_magics.errors import SpecError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

DEFAULT_TIMEOUT_S = 3600.0
MAX_TIMEOUT_S = 30 * 24 * 3600.0
DEFAULT_RETRIES = 2
MAX_NAME_LENGTH = 200
MAX_UNIX_S = 253_402_300_800.0
"""The end of the year 9999, where calendars end."""
MAX_CELL_BYTES = 1_000_000
"""A larger cell is data, not code. GitHub recommends objects of at most 1 MB.
Source: https://docs.github.com/en/repositories/creating-and-managing-repositories/repository-limits"""

KINDS = frozenset({"json", "numpy", "safetensors", "parquet", "pickle"})
"""The kinds of inputs: the formats of store/variables.py."""

NOT_PART_OF_THE_JOB = frozenset({"id", "cancel", "queued_at"})
"""Keys of an entry that can change, or differ, without making it another job."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNENCODABLE = re.compile(r"[\0\ud800-\udfff]")
"""What no command line, environment or UTF-8 file can hold: NUL, and halves of characters (`"\\ud800"`)."""
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_SHA = re.compile(r"[0-9a-f]{40}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLOB_PATH = re.compile(r"(cells|inputs)/[0-9a-f]{12}\.[a-z]{1,12}")


@dataclass(frozen=True, slots=True)
class Input:
    """A variable sent with a job: its name, the path of its bytes beside experiments.json, their kind."""

    name: str
    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs queued together as a grid: the id and the name that they share, and the grid's axes in order."""

    batch_id: str
    name: str
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is. Nothing in it changes once it is queued.

    Exactly one of `command` (a shell command line) and `cell` (the path of a cell's source beside
    experiments.json) is what runs; a cell's entry carries a `command` for people to read, dropped here.
    `code` is the commit whose files the job runs in (40 hex digits), or None where the entry does not
    name one and the commit that introduced the entry counts. `timeout_s` is in seconds, `queued_at` is
    Unix seconds UTC. `retries` is how often the job may run again after its session died under it.
    `retry_of` is the id of the job that a person had repeated as this one. `debuggable` is None where the
    daemon decides; `hold_s` is how long the job may stand still, at its failure or under a debugger. `magic`
    is the line above the cell in the notebook, by which a frontend's debugger finds the cell again.
    """

    job_id: str
    name: str
    command: str | None
    cell: str | None
    timeout_s: float
    code: str | None
    params: tuple[tuple[str, Json], ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    requirements: str | None = None
    retries: int = DEFAULT_RETRIES
    env: tuple[tuple[str, str], ...] = ()
    allow_pickle: bool = False
    queued_at: float | None = None
    batch: Batch | None = None
    retry_of: str | None = None
    debuggable: bool | None = None
    hold_s: float = 0.0
    magic: str = ""


def slug(text: str) -> str:
    """`text` as a part of an id: lower-case ASCII letters, digits and single dashes, at most 48 of them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-") or "job"


def check_name(name: object) -> str:
    """The name, if it is one: one line of at most 200 characters; `/`, `..` and emoji are fine.

    Raises:
        SpecError: it is not text, empty, too long, or has a line break or another control character.
    """
    if not isinstance(name, str) or not name.strip():
        raise SpecError(f"a job needs a name, a text of one line; found {_show(name)}")
    if _CONTROL.search(name):
        raise SpecError(f"the name {_show(name)} has a line break or control character; a name is one line")
    if _UNENCODABLE.search(name):
        raise SpecError(f"the name {_show(name)} has half of a character; a name is text that UTF-8 can hold")
    if len(name) > MAX_NAME_LENGTH:
        raise SpecError(
            f"the name starting {name[:40]!r} has {len(name)} characters; {MAX_NAME_LENGTH} is the most"
        )
    return name


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job's id (it goes into paths, so nothing else may)."""
    return _ID.fullmatch(text) is not None


def content_name(data: bytes) -> str:
    """The 12 hex digits that name a content-addressed file."""
    return hashlib.sha256(data).hexdigest()[:12]


def derive_id(entry: Mapping[str, object], *, code_id: str) -> str:
    """The id of an entry that carries none: the same entry on the same code is the same job.

    Args:
        entry: the entry as it stands in experiments.json; any JSON object.
        code_id: what tells the code of the entry apart from other code.
    """
    said = {key: value for key, value in entry.items() if key not in NOT_PART_OF_THE_JOB}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(f"{canonical}\0{code_id}".encode()).hexdigest()[:10]
    name = entry.get("name")
    return f"{slug(name if isinstance(name, str) else 'entry')}-{digest}"


def parse_entry(entry: object, *, job_id: str | None = None) -> JobSpec:
    """The job that one entry of experiments.json describes.

    Args:
        entry: the parsed JSON of the entry.
        job_id: the id to give it where the entry carries none.

    Raises:
        SpecError: the entry does not describe a job; the message names the key, what was found, and
            what belongs there.
    """
    if not isinstance(entry, dict):
        raise SpecError(f"an entry is an object {{name, command, timeout}}; found {_show(entry)}")
    name = check_name(entry.get("name"))
    cell = _optional_path(entry, "cell")
    command = entry.get("command")
    if cell is None and (not isinstance(command, str) or not command.strip()):
        raise SpecError(f'"command" is the shell command line to run; found {_show(command)}')
    if isinstance(command, str) and _UNENCODABLE.search(command):
        raise SpecError('"command" has a NUL or half of a character; a command line cannot')
    own_id = entry.get("id", job_id)
    if not isinstance(own_id, str) or not is_job_id(own_id):
        raise SpecError(f'"id" is lower-case letters, digits and dashes, at most 80; found {_show(own_id)}')
    return JobSpec(
        job_id=own_id,
        name=name,
        command=None if cell else str(command),
        cell=cell,
        timeout_s=_seconds(entry.get("timeout", DEFAULT_TIMEOUT_S)),
        code=_code(entry.get("code")),
        params=_params(_object(entry, "params"), variables=cell is not None),
        inputs=_inputs(_object(entry, "in")),
        outputs=_texts(entry, "out", identifiers=True),
        artifacts=_texts(entry, "artifacts"),
        requirements=_optional_path(entry, "requirements"),
        retries=_count(entry.get("retries", DEFAULT_RETRIES)),
        env=_env(_object(entry, "env")),
        allow_pickle=_flag(entry, "pickle"),
        queued_at=_time(entry.get("queued_at")),
        batch=_batch(entry.get("batch")),
        retry_of=_retry_of(entry.get("retry_of")),
        debuggable=_flag(entry, "debuggable") if "debuggable" in entry else None,
        magic=str(entry.get("magic") or ""),
        hold_s=_seconds(entry["hold"], key="hold") if entry.get("hold") else 0.0,
    )


def to_entry(spec: JobSpec) -> dict[str, Json]:
    """The entry that `parse_entry` reads back as `spec`; keys at their defaults are left out."""
    entry: dict[str, Json] = {
        "name": spec.name,
        "command": spec.command if spec.cell is None else f"ipython {spec.cell}",
        "timeout": spec.timeout_s if spec.timeout_s % 1 else int(spec.timeout_s),
        "id": spec.job_id,
    }
    optional: dict[str, Json] = {
        "code": spec.code,
        "cell": spec.cell,
        "params": dict(spec.params),
        "in": {each.name: {"path": each.path, "kind": each.kind} for each in spec.inputs},
        "out": list(spec.outputs),
        "artifacts": list(spec.artifacts),
        "requirements": spec.requirements,
        "env": dict(spec.env),
        "pickle": spec.allow_pickle,
        "batch": _told_batch(spec.batch),
        "retry_of": spec.retry_of,
        "magic": spec.magic,
        "hold": spec.hold_s if spec.hold_s % 1 else int(spec.hold_s),
    }
    entry.update({key: value for key, value in optional.items() if value})
    if spec.debuggable is not None:
        entry["debuggable"] = spec.debuggable
    if spec.queued_at is not None:
        entry["queued_at"] = spec.queued_at
    if spec.retries != DEFAULT_RETRIES:
        entry["retries"] = spec.retries
    return entry


def is_cancelled(entry: object) -> bool:
    """Whether a person asked for the entry's job to end."""
    return isinstance(entry, dict) and bool(entry.get("cancel", False))


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=repr).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _optional_path(entry: Mapping[str, object], key: str) -> str | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not _BLOB_PATH.fullmatch(value):
        raise SpecError(
            f'"{key}" is a path like cells/0123456789ab.py beside experiments.json; found {_show(value)}'
        )
    return value


def _seconds(value: object, *, key: str = "timeout") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_TIMEOUT_S:
        raise SpecError(
            f'"{key}" is a number of seconds above 0 and at most {MAX_TIMEOUT_S:.0f}; found {_show(value)}'
        )
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise SpecError(f'"retries" is a whole number from 0 to 100; found {_show(value)}')
    return value


def _code(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _SHA.fullmatch(value):
        raise SpecError(f'"code" is the 40 hex digits of a commit; found {_show(value)}')
    return value


def _flag(entry: Mapping[str, object], key: str) -> bool:
    value = entry.get(key, False)
    if not isinstance(value, bool):
        raise SpecError(f'"{key}" is true or false; found {_show(value)}')
    return value


def _time(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_UNIX_S:
        raise SpecError(f'"queued_at" is Unix seconds; found {_show(value)}')
    return float(value)


def _batch(value: object) -> Batch | None:
    """What the magic wrote. Anything else under that key is the person's own and says nothing to us."""
    match value:
        case {"id": str(batch_id), "name": str(name), "axes": [*axes]}:
            return Batch(batch_id, name, tuple(str(axis) for axis in axes))
        case _:
            return None


def _retry_of(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not is_job_id(value)):
        raise SpecError(f'"retry_of" is the id of the job that this one repeats; found {_show(value)}')
    return value


def _told_batch(batch: Batch | None) -> dict[str, Json] | None:
    return {"id": batch.batch_id, "name": batch.name, "axes": list(batch.axes)} if batch else None


def _object(entry: Mapping[str, object], key: str) -> dict[str, Json]:
    value = entry.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SpecError(f'"{key}" is an object of names and values; found {_show(value)}')
    return value


def _texts(entry: Mapping[str, object], key: str, *, identifiers: bool = False) -> tuple[str, ...]:
    value = entry.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise SpecError(f'"{key}" is a list of texts; found {_show(value)}')
    for each in value:
        if identifiers and not _is_variable(each):
            raise SpecError(f'"{key}" names variables; {_show(each)} is not a name that Python allows')
    return tuple(value)


def _is_variable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _params(value: Mapping[str, Json], *, variables: bool) -> tuple[tuple[str, Json], ...]:
    for name in value:
        if variables and not _is_variable(name):
            raise SpecError(
                f'"params" of a cell names variables; {_show(name)} is not a name that Python allows'
            )
    return tuple(value.items())


def _inputs(value: Mapping[str, Json]) -> tuple[Input, ...]:
    inputs = []
    for name, what in value.items():
        if not _is_variable(name):
            raise SpecError(f'"in" names variables; {_show(name)} is not a name that Python allows')
        if not isinstance(what, dict) or not isinstance(what.get("kind"), str):
            raise SpecError(f'"in" gives each variable a path and a kind; found {_show(what)} for {name}')
        if what["kind"] not in KINDS:
            kinds = ", ".join(sorted(KINDS))
            raise SpecError(
                f'"in" gives each variable one of the kinds {kinds}; found {_show(what["kind"])} for {name}'
            )
        path = _optional_path(what, "path")
        if path is None:
            raise SpecError(f'"in" gives each variable a path and a kind; {name} has no path')
        inputs.append(Input(name=name, path=path, kind=str(what["kind"])))
    return tuple(inputs)


def _env(value: Mapping[str, Json]) -> tuple[tuple[str, str], ...]:
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name) or not isinstance(text, str) or _UNENCODABLE.search(text):
            raise SpecError(f'"env" maps names to texts; found {_show(name)}: {_show(text)}')
    return tuple((name, str(text)) for name, text in value.items())
