"""The table of jobs, as text for terminals and HTML for notebooks."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from colab_magics.display import formats, markup
from colab_magics.display.hints import in_ipython
from colab_magics.jobs import spec
from colab_magics.jobs.grid import describe_params

MAX_ROWS = 30
TEXT_WIDTH = 100
FINISHED = frozenset({"succeeded", "failed", "timed_out", "cancelled", "lost"})
NO_JOBS_IN_TERMINAL = (
    "No jobs yet. jupyter colab queue --command LINE queues one, then jupyter colab sync shows how it goes."
)
NO_JOBS = "No jobs yet. Put %%colab_queue on top of a cell to queue it, then %colab_sync to see how it goes."

_TEXT_BAR_WIDTH = 6


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` units, either unknown as None; `label` is what the job calls it."""

    done: float | None = None
    total: float | None = None
    label: str = ""

    @property
    def fraction(self) -> float | None:
        """0 … 1, None where it cannot be known."""
        if not _is_finite(self.done) or not _is_finite(self.total) or self.total <= 0:
            return None
        return min(max(self.done / self.total, 0.0), 1.0)

    def words(self) -> str:
        """`epoch 3/10`, `3/10`, `epoch 3`."""
        count = formats.format_number(self.done) if _is_finite(self.done) else ""
        if count and _is_finite(self.total) and self.total:
            count = f"{count}/{formats.format_number(self.total)}"
        return " ".join(part for part in (formats.one_line(self.label), count) if part)


@dataclass(frozen=True, slots=True)
class JobRow:
    """What the table says about one job. All texts may hold anything; they are escaped where they are shown.

    `attempt` counts from 1, 0 before the first. `reason` is why it ended as it did, or what it waits for.
    `queued_at_s` is Unix seconds UTC. `store` says where it is kept, empty where there is only one place.
    """

    job_id: str
    name: str
    state: str
    attempt: int = 0
    progress: Progress | None = None
    duration_s: float | None = None
    peak_host_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    worker: str = ""
    machine: str = ""
    params: tuple[tuple[str, spec.Json], ...] = ()
    reason: str = ""
    queued_at_s: float | None = None
    store: str = ""


@dataclass(frozen=True, slots=True)
class JobTable:
    """A table of jobs that displays itself. `rows` come in the order of queueing, the oldest first.

    `title` stands above, `notes` below, one a line, `footer` last: what the person may do next. Of more than
    30 jobs it shows those under way, those next in line and the latest that ended, and counts the others.
    """

    rows: tuple[JobRow, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    footer: str = ""

    def __str__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}

    def text(self, *, width: int = TEXT_WIDTH) -> str:
        """Plain text, at most `width` columns wide."""
        lines = [formats.ellipsis(formats.one_line(self.title), width=width)] if self.title else []
        if not self.rows:
            no_jobs = NO_JOBS if in_ipython() else NO_JOBS_IN_TERMINAL
            return "\n".join([*lines, no_jobs if not self.notes else "", *self.notes, self.footer]).strip(
                "\n"
            )
        shown = select(self.rows)
        lines += _text_lines(shown, width=width)
        lines += [line for text in _closing(self, shown) for line in formats.wrap_text(text, width=width)]
        return "\n".join(lines)

    def html(self) -> str:
        """One self-contained element for a notebook, with inline styles only."""
        title = (
            f'<div style="font-weight:600;margin:2px 0 4px">{markup.escape(self.title)}</div>'
            if self.title
            else ""
        )
        if not self.rows:
            texts = [*([] if self.notes else [NO_JOBS]), *self.notes, self.footer]
            return markup.wrap(title + "".join(f"<div>{markup.escape(text)}</div>" for text in texts if text))
        shown = select(self.rows)
        closing = "".join(
            f'<div style="margin:3px 0;{markup.FAINT}">{markup.escape(text)}</div>'
            for text in _closing(self, shown)
        )
        return markup.wrap(title + _html_table(shown) + closing)


def select(rows: Sequence[JobRow], *, limit: int = MAX_ROWS) -> tuple[JobRow, ...]:
    """At most `limit` of the rows, in their order: running, the latest that ended, the next in line.

    A third of the places is for jobs that ended and a third for those in line, as far as there are any.
    """
    if len(rows) <= limit:
        return tuple(rows)
    ended = [i for i, row in enumerate(rows) if row.state in FINISHED]
    running = [i for i, row in enumerate(rows) if row.state == "running"]
    in_line = [i for i, row in enumerate(rows) if row.state not in FINISHED and row.state != "running"]
    third = limit // 3
    running = running[: limit - min(third, len(ended)) - min(third, len(in_line))]
    free = limit - len(running)
    in_line = in_line[: max(free - min(third, len(ended)), 0)]
    ended = ended[len(ended) - min(free - len(in_line), len(ended)) :]
    return tuple(rows[i] for i in sorted([*running, *in_line, *ended]))


def count_states(rows: Sequence[JobRow]) -> str:
    """`2 running, 9,950 succeeded, 20 failed`, in the order of a job's life."""
    counts = Counter(row.state for row in rows)
    order = [*markup.STATES, *sorted(set(counts) - set(markup.STATES))]
    return ", ".join(
        f"{counts[state]:,} {markup.state_style(state).words}" for state in order if counts[state]
    )


def _is_finite(number: float | None) -> TypeGuard[float]:
    """Whether it is known and a number that can be shown; a job may say anything."""
    return number is not None and -sys.float_info.max <= number <= sys.float_info.max


def _closing(table: JobTable, shown: Sequence[JobRow]) -> list[str]:
    """The lines below the table."""
    lines = []
    if len(shown) < len(table.rows):
        ids = {id(row) for row in shown}
        hidden = [row for row in table.rows if id(row) not in ids]
        lines.append(f"… and {len(hidden):,} more: {count_states(hidden)}")
    elif len(shown) > 1:
        lines.append(f"{formats.format_count(len(shown), 'job')}: {count_states(shown)}")
    return [formats.one_line(text) for text in [*lines, *table.notes, table.footer] if text]


def _says_name(row: JobRow) -> bool:
    """Whether the id already tells the name."""
    return row.name.isascii() and row.job_id.startswith(spec.slug(row.name))


def _params(row: JobRow) -> str:
    """The parameters that the name does not tell; a grid's job has those of its axes in its name."""
    told = f" {row.name} "
    return formats.one_line(
        " ".join(
            f"{key}={formats.format_number(value)}"
            for key, value in row.params
            if f" {key}={formats.format_number(value)} " not in told
            and f" {describe_params([(key, value)])} " not in told
        )
    )


def _who(row: JobRow) -> str:
    return formats.one_line(" · ".join(part for part in (row.worker, row.machine) if part))


def _state_text(row: JobRow) -> str:
    sign, words, _ = markup.state_style(row.state)
    again = f" ×{row.attempt}" if row.attempt > 1 else ""
    return formats.one_line(f"{sign} {words}{again}")


def _progress_text(row: JobRow) -> str:
    if row.progress is None:
        return ""
    fraction = row.progress.fraction
    if fraction is None:
        return formats.ellipsis(row.progress.words(), width=11)
    return f"{formats.progress_bar(fraction, width=_TEXT_BAR_WIDTH)} {fraction * 100:3.0f}%"


_SMALLEST = {"store": 6, "where": 8, "name": 12, "parameters": 14, "job": 14}
"""Columns that give way where a line is too long, in this order, and how narrow each may become."""

_DISPENSABLE = ("where", "store", "memory", "GPU", "progress")
"""Columns that go, in this order, where narrow ones are still too many; HTML always has them."""


def _text_lines(rows: Sequence[JobRow], *, width: int) -> list[str]:
    """The aligned table, each reason on lines of its own. A column without content is left out."""
    columns = [
        ("job", [row.job_id for row in rows], False),
        ("name", ["" if _says_name(row) else formats.one_line(row.name) for row in rows], False),
        ("parameters", [_params(row) for row in rows], False),
        ("state", [_state_text(row) for row in rows], False),
        ("progress", [_progress_text(row) for row in rows], False),
        ("time", [formats.format_duration(row.duration_s, short=True) for row in rows], True),
        ("memory", [formats.format_bytes(row.peak_host_bytes) for row in rows], True),
        ("GPU", [formats.format_bytes(row.peak_gpu_bytes) for row in rows], True),
        ("where", [formats.one_line(row.worker or row.machine) for row in rows], False),
        ("store", [formats.one_line(row.store) for row in rows], False),
    ]
    columns = [column for column in columns if any(column[1])]
    widths = {title: max(map(formats.cell_width, [title, *cells])) for title, cells, _ in columns}
    for title, smallest in _SMALLEST.items():
        excess = sum(widths.values()) + 2 * (len(widths) - 1) - width
        if title in widths and excess > 0:
            widths[title] = max(widths[title] - excess, min(smallest, widths[title]))
    for title in _DISPENSABLE:
        if sum(widths.values()) + 2 * (len(widths) - 1) > width:
            widths.pop(title, None)
    columns = [column for column in columns if column[0] in widths]
    lines = []
    for cells in [[title for title, _, _ in columns], *zip(*(cells for _, cells, _ in columns), strict=True)]:
        parts = []
        for cell, (title, _, right) in zip(cells, columns, strict=True):
            shorten = formats.ellipsis_middle if title == "job" else formats.ellipsis
            parts.append(formats.pad(shorten(cell, width=widths[title]), width=widths[title], right=right))
        lines.append(formats.ellipsis("  ".join(parts).rstrip(), width=width))
    head, *body = lines
    table = [head, "─" * max(map(formats.cell_width, lines))]
    for line, row in zip(body, rows, strict=True):
        table += [line, *formats.wrap_text(formats.one_line(row.reason), width=width, indent="  └ ")]
    return table


_CELL = "padding:3px 12px 3px 0;text-align:left;vertical-align:top;border:none;background:none"
_NUMBER = "padding:3px 12px 3px 0;text-align:right;vertical-align:top;border:none;background:none"


def _html_table(rows: Sequence[JobRow]) -> str:
    columns = [
        ("job", [_html_job(row) for row in rows], _CELL),
        ("state", [_html_state(row) for row in rows], _CELL),
        ("progress", [_html_progress(row) for row in rows], f"{_CELL};white-space:nowrap"),
        ("time", [formats.format_duration(row.duration_s) for row in rows], f"{_NUMBER};white-space:nowrap"),
        ("memory", [formats.format_bytes(row.peak_host_bytes) for row in rows], _NUMBER),
        ("GPU memory", [formats.format_bytes(row.peak_gpu_bytes) for row in rows], _NUMBER),
        ("where", [markup.escape(_who(row)) for row in rows], _CELL),
        ("store", [markup.escape(row.store) for row in rows], _CELL),
    ]
    columns = [column for column in columns if any(column[1])]
    head = "".join(
        f'<th style="{style};font-weight:600;border-bottom:1px solid rgba(128,134,145,.5)">{title}</th>'
        for title, _, style in columns
    )
    body = []
    for i, row in enumerate(rows):
        cells = "".join(
            f'<td style="{style};border-top:1px solid rgba(128,134,145,.22)">{cells[i]}</td>'
            for _, cells, style in columns
        )
        body.append(f'<tr style="background:none">{cells}</tr>')
        if row.reason:
            tint = markup.state_style(row.state).tint
            body.append(
                f'<tr style="background:none">'
                f'<td colspan="{len(columns)}" style="{_CELL};padding-bottom:6px">'
                f'<div style="border-left:3px solid rgba({tint},.7);padding-left:8px">'
                f"{markup.escape(row.reason)}</div></td></tr>"
            )
    return (
        f'<table style="border-collapse:collapse;border:none;margin:0;color:inherit;font-size:13px;'
        f'font-variant-numeric:tabular-nums">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _html_job(row: JobRow) -> str:
    params = f" {markup.escape(_params(row))}" if _params(row) else ""
    return (
        f'<span style="font-weight:600">{markup.escape(formats.one_line(row.name))}</span>{params}<br>'
        f'<span style="{markup.MONOSPACE};font-size:11px;{markup.FAINT}">{markup.escape(row.job_id)}</span>'
    )


def _html_state(row: JobRow) -> str:
    again = (
        f'<br><span style="font-size:11px;{markup.FAINT}">attempt {row.attempt}</span>'
        if row.attempt > 1
        else ""
    )
    return markup.pill(row.state) + again


def _html_progress(row: JobRow) -> str:
    if row.progress is None:
        return ""
    fraction = row.progress.fraction
    if fraction is None:
        return markup.escape(row.progress.words())
    return markup.bar(fraction, label=row.progress.words(), tint=markup.state_style(row.state).tint)
