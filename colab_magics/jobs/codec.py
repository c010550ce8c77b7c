"""The ledger's bytes: states, the events in a commit's message, and a worker's live file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from colab_magics.errors import CorruptError
from colab_magics.jobs.spec import Json
from colab_magics.jobs.state import Event, JobState, State, Verb

FORMAT = 1
SKIP_CI = "[skip ci]"
"""Keeps a push of results from starting the repository's workflows.
Source: https://docs.github.com/en/actions/managing-workflow-runs/skipping-workflow-runs"""


@dataclass(frozen=True, slots=True)
class Live:
    """What a worker says of itself while it lives; overwritten, never history.

    `counter` grows with every push and is the heartbeat. `jobs` maps the ids of the jobs in its hands to
    what can be seen of them: phase, elapsed_s, progress, log_tail, outputs. `machine` names the host and
    its GPU. Times are Unix seconds, for people.
    """

    worker: str
    counter: int
    at: float
    poll_s: float
    stopping: bool = False
    machine: Mapping[str, Json] = field(default_factory=dict)
    jobs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def serialize_state(state: JobState) -> bytes:
    """`state.json`: one line, keys at their defaults left out."""
    told: dict[str, object] = {
        "format": FORMAT,
        "id": state.job_id,
        "name": state.name,
        "state": state.state.value,
        "attempt": state.attempt,
    }
    optional = {
        "worker": state.worker,
        "expirations": state.expirations,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "reason": state.reason,
        "summary": dict(state.summary),
    }
    told.update({key: value for key, value in optional.items() if value})
    return (json.dumps(told, ensure_ascii=False) + "\n").encode()


def parse_state(data: bytes) -> JobState:
    """The state that `serialize_state` wrote.

    Raises:
        CorruptError: not that; also a state that this version does not know, which is never guessed at.
    """
    try:
        told = json.loads(data)
        _check_format(told)
        return JobState(
            job_id=str(told["id"]),
            name=str(told["name"]),
            state=State(told["state"]),
            attempt=int(told["attempt"]),
            worker=str(told.get("worker", "")),
            expirations=int(told.get("expirations", 0)),
            started_at=told.get("started_at"),
            ended_at=told.get("ended_at"),
            reason=str(told.get("reason", "")),
            summary=tuple(told.get("summary", {}).items()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(
            f"a job's state in the ledger does not parse: {error!r} in {data[:80]!r}"
        ) from error


def serialize_events(events: Sequence[Event]) -> str:
    """A ledger commit's message: a subject for people, then the events, one JSON object a line."""
    shown = "; ".join(f"{event.verb} {event.job_id}" for event in events[:3])
    more = f" and {len(events) - 3} more" if len(events) > 3 else ""
    lines = []
    for event in events:
        told: dict[str, Json] = {
            "event": event.verb.value,
            "job": event.job_id,
            "attempt": event.attempt,
            "worker": event.worker,
        }
        told["at"] = event.at
        if event.reason:
            told["reason"] = event.reason
        lines.append(json.dumps(told, ensure_ascii=False))
    return f"{shown}{more} {SKIP_CI}\n\n" + "\n".join(lines) + "\n"


def parse_events(message: str) -> list[Event]:
    """The events that a ledger commit records; none for a commit that records none.

    Raises:
        CorruptError: a line that starts like an event and is not one.
    """
    events = []
    for line in message.splitlines():
        if not line.startswith('{"event"'):
            continue
        try:
            told = json.loads(line)
            verb, job_id, attempt = Verb(told["event"]), str(told["job"]), int(told["attempt"])
            events.append(
                Event(
                    verb, job_id, attempt, str(told["worker"]), float(told["at"]), str(told.get("reason", ""))
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"an event in the ledger does not parse: {error!r} in {line[:80]!r}"
            ) from error
    return events


def serialize_live(live: Live) -> bytes:
    """`live.json`."""
    return (json.dumps({"format": FORMAT} | asdict(live), ensure_ascii=False) + "\n").encode()


def parse_live(data: bytes) -> Live:
    """What `serialize_live` wrote.

    Raises:
        CorruptError: not that.
    """
    try:
        told = json.loads(data)
        _check_format(told)
        jobs = {str(key): dict(value) for key, value in told["jobs"].items()}
        return Live(
            worker=str(told["worker"]),
            counter=int(told["counter"]),
            at=float(told["at"]),
            poll_s=float(told["poll_s"]),
            stopping=bool(told["stopping"]),
            machine=dict(told["machine"]),
            jobs=jobs,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"a worker's live file does not parse: {error!r} in {data[:80]!r}") from error


def _check_format(told: Mapping[str, object]) -> None:
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']!r}: written by another version; upgrade colab-magics")
