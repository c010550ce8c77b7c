"""The table of docs/explanation/performance.md: written between two marks, the prose around it stays."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.queue.stage import ROOT
from colab_magics import __version__

BEGIN = "<!-- benchmarks.queue writes from here -->"
END = "<!-- to here -->"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `met` is None where there is no goal, or nothing could be measured."""

    what: str
    where: str
    measured: str
    goal: str = ""
    met: bool | None = None


def render(rows: Sequence[Row], *, rounds: str, programs: str | None = None) -> str:
    """The rows as Markdown, with what they were measured on; `programs`: of which version, git by default."""
    lines = ["| what | where | measured | goal | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.where} | {row.measured} | {row.goal} | {met} |")
    return "\n".join([*lines, "", f"{_machine(programs or git_version())} {rounds}"])


def write(path: Path, table: str, *, begin: str = BEGIN) -> None:
    """Put the table between the marks of a page; a page without marks, or none, becomes one with them."""
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in page or END not in page:
        page = f"{page}{begin}\n{END}\n"
    head, _, rest = page.partition(begin)
    tail = rest.partition(END)[2]
    path.write_text(f"{head}{begin}\n{table}\n{END}{tail}", encoding="utf-8")


def git_version() -> str:
    return f"git {_said('git', 'version').removeprefix('git version ')}"


def _machine(programs: str) -> str:
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {load} at the end; colab-magics {__version__} ({commit}), {programs}, "
        f"Python {platform.python_version()}."
    )


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
