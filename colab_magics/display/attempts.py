"""An attempt's record in a person's words: where it ran, what it took, why it failed, what it left."""

from __future__ import annotations

from datetime import UTC, datetime

from colab_magics.display.formats import format_bytes, format_count, format_duration
from colab_magics.jobs.record import CELL, Failure, Record

SUMMARY_LINES = 30
"""How much of an allocator's summary is shown; all of it is in record.json."""


def describe_record(record: Record) -> tuple[str, ...]:
    """The lines below a job's name that say what its last attempt was."""
    return (
        *_where(record),
        *_cost(record),
        *(describe_failure(record.failure) if record.failure else ()),
        *_left(record),
        *record.notes,
    )


def describe_earlier(record: Record) -> str:
    """An attempt after which the job went back to the queue, in one line."""
    why = f": {record.notes[0]}" if record.notes else ""
    took = f", {format_duration(record.duration_s)}" if record.duration_s else ""
    return f"attempt {record.attempt} on {record.machine.get('hostname') or record.worker}{took}{why}"


def describe_failure(failure: Failure) -> tuple[str, ...]:
    """The person's own line that raised the error, and what the allocator said beyond the message."""
    lines = []
    if failure.line is not None:
        where = "the cell" if failure.file == CELL else failure.file
        named = failure.function is not None and not failure.function.startswith("<")
        within = f" in {failure.function}" if named else ""
        lines.append(f"at {where}, line {failure.line}{within}: {failure.source}")
    if failure.allocator_summary and failure.allocator_summary.strip() not in failure.message:
        lines += failure.allocator_summary.splitlines()[:SUMMARY_LINES]
    return tuple(lines)


def _where(record: Record) -> list[str]:
    gpu = f", {record.gpu['name']} (driver {record.gpu.get('driver')})" if record.gpu else ""
    python = record.machine.get("python")
    host = record.machine.get("hostname") or record.worker
    ended = datetime.fromtimestamp(record.ended_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        [f"attempt {record.attempt} on {host}{gpu}, Python {python}, ended {ended}"] if record.machine else []
    )


def _cost(record: Record) -> list[str]:
    parts = [format_duration(record.duration_s)]
    if record.peak_host_bytes:
        parts.append(f"{format_bytes(record.peak_host_bytes)} of memory at most")
    if record.peak_gpu_bytes:
        parts.append(f"{format_bytes(record.peak_gpu_bytes)} of GPU memory at most")
    if record.exit_code is not None:
        parts.append(f"exit code {record.exit_code}")
    return [", ".join(parts)]


def _left(record: Record) -> list[str]:
    lines = []
    if record.outputs:
        sizes = (f"{each.name} ({format_bytes(each.size_bytes)})" for each in record.outputs)
        lines.append(f"variables: {', '.join(sizes)}")
    stored = [each for each in record.artifacts if each.stored]
    if stored:
        size = format_bytes(sum(each.size_bytes for each in stored))
        lines.append(
            f"{format_count(len(stored), 'file')} ({size}): {', '.join(each.path for each in stored[:8])}"
        )
    return lines
