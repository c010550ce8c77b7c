"""RESULTS.md: the ledger as a table that the hosting site shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from colab_magics.jobs.paths import LOG, NOTEBOOK, job_folder
from colab_magics.jobs.spec import MAX_NAME_LENGTH
from colab_magics.jobs.state import JobState, State

SHOWN = 100
"""Rows: the table is written anew with every commit, so it must not grow with the queue."""

_MARKS = re.compile(r"([\\|`*_\[\]<>&~$])")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HEAD = "| job | state | attempt | ended (UTC) | duration | peak memory | |\n|---|---|---|---|---|---|---|\n"


def results_markdown(states: Iterable[JobState]) -> str:
    """The latest 100 jobs as a table with links to what each left, and all of them as counts."""
    known = list(states)
    counts = Counter(state.state.value for state in known)
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    latest = sorted(
        known, key=lambda state: (state.ended_at or state.started_at or 0, state.job_id), reverse=True
    )
    rows = "".join(_row(state) for state in latest[:SHOWN])
    rest = f"\n… and {len(known) - SHOWN} older ones under `jobs/`.\n" if len(known) > SHOWN else ""
    jobs = "job" if len(known) == 1 else "jobs"
    return f"# Results\n\n{len(known)} {jobs}: {told or 'none yet'}.\n\n{_HEAD}{rows}{rest}"


def _row(state: JobState) -> str:
    summary = dict(state.summary)
    folder = job_folder(state.job_id)
    ended = (
        datetime.fromtimestamp(state.ended_at, UTC).strftime("%Y-%m-%d %H:%M")
        if state.ended_at is not None
        else ""
    )
    duration = summary.get("duration_s")
    memory = summary.get("peak_gpu_bytes") or summary.get("peak_host_bytes")
    links = [f"[files]({folder})"] if state.attempt else []
    if state.is_final and state.state is not State.LOST and summary:
        links.append(
            f"[notebook]({folder}/{NOTEBOOK})" if summary.get("notebook") else f"[log]({folder}/{LOG})"
        )
    said = state.state.value.replace("_", " ")
    return (
        f"| {_cell(state.name or state.job_id)} | {said} | {state.attempt} | {ended} "
        f"| {f'{duration:.1f} s' if isinstance(duration, int | float) else ''} "
        f"| {_size(memory) if isinstance(memory, int | float) else ''} | {' '.join(links)} |\n"
    )


def _size(size_bytes: float) -> str:
    """In the unit of 1000 bytes, or of a power of it, that leaves a number under 1000."""
    if size_bytes < 999_500:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes < 999.5e6 else f"{size_bytes / 1e9:.2f} GB"


def _cell(text: str) -> str:
    """Text that cannot end a table's cell, start a link or a tag, or fill the page."""
    text = text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}…"
    return _MARKS.sub(r"\\\1", _NO_TEXT.sub(" ", text))
