"""The ledger's bytes: states, the events in a commit's message, and a worker's live file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from colab_magics.errors import CorruptError
from colab_magics.jobs.json_text import serialize_line
from colab_magics.jobs.spec import MAX_UNIX_S, Json
from colab_magics.jobs.state import Event, JobState, State, Verb

FORMAT = 1
_LARGEST = float.fromhex("0x1.fffffffffffffp+1023")
"""The largest number that a float holds."""
SKIP_CI = "[skip ci]"
"""Keeps a push of results from starting the repository's workflows.
Source: https://docs.github.com/en/actions/managing-workflow-runs/skipping-workflow-runs"""

_BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a value out of JSON that holds something else raises."""

# Not `int | float` where they are used: ten thousand states make that union a hundred thousand times.
_NUMBER = (int, float)
_ONE_VALUE = (str, int, float, type(None))


@dataclass(frozen=True, slots=True)
class Live:
    """What a worker says of itself while it lives; overwritten, never history.

    `counter` grows with every push and is the heartbeat. `jobs` maps the ids of the jobs in its hands to
    what can be seen of them: phase, elapsed_s, progress, log_tail, outputs. `machine` names the host and
    its GPU. `expose` is how a session with it is reached, empty if it offers none. Times are Unix seconds,
    for people.
    """

    worker: str
    counter: int
    at: float
    poll_s: float
    stopping: bool = False
    machine: Mapping[str, Json] = field(default_factory=dict)
    jobs: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    expose: str = ""


def serialize_state(state: JobState) -> bytes:
    """`state.json`: one line, keys at their defaults left out."""
    told: dict[str, object] = {
        "format": FORMAT,
        "id": state.job_id,
        "name": state.name,
        "state": state.state.value,
        "attempt": state.attempt,
    }
    optional: dict[str, object] = {
        "worker": state.worker or None,
        "expirations": state.expirations or None,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "reason": state.reason or None,
        "summary": dict(state.summary) or None,
    }
    told.update({key: value for key, value in optional.items() if value is not None})
    return f"{serialize_line(told)}\n".encode()


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
            attempt=_count(told["attempt"]),
            worker=str(told.get("worker", "")),
            expirations=_count(told.get("expirations", 0)),
            started_at=_time(told.get("started_at")),
            ended_at=_time(told.get("ended_at")),
            reason=str(told.get("reason", "")),
            summary=_summary(told.get("summary", {})),
        )
    except _BROKEN as error:
        raise CorruptError(
            f"a job's state in the ledger does not parse: {_why(error)} in {data[:80]!r}"
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
        lines.append(serialize_line(told))
    return f"{shown or 'files, no events'}{more} {SKIP_CI}\n\n" + "\n".join(lines) + "\n"


def parse_events(message: str) -> list[Event]:
    """The events that a ledger commit records; none for a commit that records none.

    Raises:
        CorruptError: a line that starts like an event and is not one.
    """
    events = []
    for line in message.split("\n"):
        if not line.startswith('{"event"'):
            continue
        try:
            told = json.loads(line)
            events.append(
                Event(
                    verb=Verb(told["event"]),
                    job_id=str(told["job"]),
                    attempt=_count(told["attempt"]),
                    worker=str(told["worker"]),
                    at=_number(told["at"]),
                    reason=str(told.get("reason", "")),
                )
            )
        except _BROKEN as error:
            raise CorruptError(
                f"an event in the ledger does not parse: {_why(error)} in {line[:80]!r}"
            ) from error
    return events


def serialize_live(live: Live) -> bytes:
    """`live.json`."""
    return f"{serialize_line({'format': FORMAT} | asdict(live))}\n".encode()


def parse_live(data: bytes) -> Live:
    """What `serialize_live` wrote. In what a worker says freely, null stands for numbers that are not finite.

    Raises:
        CorruptError: not that.
    """
    try:
        told = json.loads(data)
        _check_format(told)
        jobs = {str(key): _finite(dict(value)) for key, value in told["jobs"].items()}
        return Live(
            worker=str(told["worker"]),
            counter=_count(told["counter"]),
            at=_number(told["at"]),
            poll_s=_number(told["poll_s"]),
            stopping=bool(told["stopping"]),
            machine=_finite(dict(told["machine"])),
            jobs=jobs,
            expose=str(told.get("expose", "")),
        )
    except _BROKEN as error:
        raise CorruptError(f"a worker's live file does not parse: {_why(error)} in {data[:80]!r}") from error


def _check_format(told: Mapping[str, object]) -> None:
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']!r}: written by another version; upgrade colab-magics")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, _NUMBER) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _finite(value: Any) -> Any:
    """A JSON value with None for numbers that no float holds, or that are none."""
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case int() | float() if not abs(value) <= _LARGEST:
            return None
        case _:
            return value


def _time(value: object) -> float | None:
    if value is None:
        return None
    number = _number(value)
    if not 0 <= number < MAX_UNIX_S:
        raise ValueError(f"{value!r} is not a time in Unix seconds")
    return number


def _summary(value: Mapping[str, object]) -> tuple[tuple[str, str | int | float | None], ...]:
    told = []
    for key, each in value.items():
        if not isinstance(each, _ONE_VALUE):
            raise ValueError(f"{key} of a summary is {each!r}, not one value")
        told.append((key, each))
    return tuple(told)


def _why(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
