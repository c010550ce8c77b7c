"""The queue as both branches together show it: intent joined with ledger."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from colab_magics.errors import SpecError
from colab_magics.jobs.codec import serialize_state
from colab_magics.jobs.paths import RESULTS, STATE, job_file
from colab_magics.jobs.plan import Job
from colab_magics.jobs.record import Record
from colab_magics.jobs.report import results_markdown
from colab_magics.jobs.spec import content_name, derive_id, is_cancelled, is_job_id, parse_entry
from colab_magics.jobs.state import Event, JobState, Verb, advance

Summary = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry without an id or code of its own comes from.

    `commit` is what its job runs in; `code_id` tells that commit's code from other code.
    """

    commit: str | None
    code_id: str


NOWHERE = Origin(commit=None, code_id="")


def needs_origin(value: object) -> bool:
    """Whether an entry leaves its id or its code to the commit that introduced it."""
    return not isinstance(value, dict) or "id" not in value or "code" not in value


def canonical(value: object) -> str:
    """An entry's text with keys sorted and nothing that may differ between two spellings of the same."""
    said = {k: v for k, v in value.items() if k != "cancel"} if isinstance(value, dict) else value
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def read_entries(values: Sequence[object], origins: Mapping[str, Origin]) -> list[Job]:
    """The jobs of an experiments.json, in its order, all of them still queued; what is not a job is rejected.

    Args:
        values: the parsed entries.
        origins: for the canonical text of an entry that `needs_origin`, where it comes from.
    """
    jobs: list[Job] = []
    known: dict[str, object] = {}
    for value in values:
        origin = origins.get(canonical(value), NOWHERE) if needs_origin(value) else NOWHERE
        job = _read_entry(value, origin)
        if job.job_id in known:
            if canonical(known[job.job_id]) == canonical(value):
                continue
            job = _not_a_second(value, job.job_id)
            if job.job_id in known:
                continue
        known[job.job_id] = value
        jobs.append(job)
    return jobs


def broken_file(data: bytes, message: str) -> Job:
    """What stands for an experiments.json that does not parse: a job that fails with the reason."""
    job_id = f"experiments-json-{content_name(data)[:10]}"
    return Job(job_id=job_id, spec=None, state=JobState(job_id, name="experiments.json"), rejection=message)


def join(
    entries: Sequence[Job],
    states: Mapping[str, JobState],
    *,
    removal_counts: bool = True,
    spared: Collection[str] = (),
) -> tuple[Job, ...]:
    """The jobs of both branches: those of the intent in its order, then those that only the ledger knows.

    Args:
        entries: what `read_entries` made.
        states: the ledger's.
        removal_counts: whether a running job whose entry is gone is taken as cancelled. Not so where the
            file is broken: that proves no wish.
        spared: ids of jobs whose entries vanished when the branch was rewound rather than edited.
    """
    named = {job.job_id for job in entries}
    joined = [replace(job, state=states[job.job_id]) if job.job_id in states else job for job in entries]
    gone = (state for state in states.values() if state.job_id not in named)
    return (
        *joined,
        *(Job(each.job_id, None, each, wanted=not removal_counts or each.job_id in spared) for each in gone),
    )


def fold(
    jobs: Iterable[Job], events: Sequence[Event], summaries: Mapping[str, Summary]
) -> dict[str, JobState]:
    """The states that the events change.

    Raises:
        TransitionError: an event is not legal.
    """
    wanted = {event.job_id for event in events}
    before = {job.job_id: replace(job.state, name=job.name) for job in jobs if job.job_id in wanted}
    for event in events:
        before[event.job_id] = advance(before.get(event.job_id, JobState(event.job_id)), event)
        if event.verb is Verb.LEASE:
            before[event.job_id] = replace(before[event.job_id], summary=())
    return {
        job_id: replace(state, summary=tuple(summaries[job_id].items())) if job_id in summaries else state
        for job_id, state in before.items()
    }


def summarize(record: Record, *, has_notebook: bool) -> dict[str, str | int | float | None]:
    """What a job's row in a table says of its latest attempt."""
    return {
        "duration_s": round(record.duration_s, 3),
        "exit_code": record.exit_code,
        "peak_host_bytes": record.peak_host_bytes,
        "peak_gpu_bytes": record.peak_gpu_bytes,
        "machine": str(record.machine.get("hostname", "")),
        "gpu": str(record.gpu.get("name", "")) if record.gpu else None,
        "notebook": has_notebook,
    }


def ledger_files(changed: Mapping[str, JobState], states: Mapping[str, JobState]) -> dict[str, bytes]:
    """The files that a ledger commit writes for states that changed: one each, and the table of all."""
    if not changed:
        return {}
    files = {job_file(job_id, STATE): serialize_state(state) for job_id, state in changed.items()}
    files[RESULTS] = results_markdown({**states, **changed}.values()).encode()
    return files


def _read_entry(value: object, origin: Origin) -> Job:
    entry = value if isinstance(value, dict) else {"entry": value}
    own = entry.get("id")
    has_id = isinstance(own, str) and is_job_id(own)
    job_id = own if has_id and isinstance(own, str) else derive_id(entry, code_id=origin.code_id)
    name = entry.get("name")
    state = JobState(job_id, name=name if isinstance(name, str) else "")
    try:
        spec = parse_entry(value, job_id=job_id)
    except SpecError as error:
        return Job(job_id, None, state, rejection=str(error), wanted=not is_cancelled(value))
    spec = spec if spec.code else replace(spec, code=origin.commit)
    return Job(job_id, spec, state, wanted=not is_cancelled(value))


def _not_a_second(value: object, taken: str) -> Job:
    entry = value if isinstance(value, dict) else {"entry": value}
    job_id = derive_id({**entry, "copy_of": taken}, code_id="")
    told = f'the id {taken} belongs to an earlier entry: remove "id" from this one to queue it as a new job'
    name = entry.get("name")
    state = JobState(job_id, name=name if isinstance(name, str) else "")
    return Job(job_id, None, state, rejection=told, wanted=not is_cancelled(value))
