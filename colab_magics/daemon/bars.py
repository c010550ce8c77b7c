"""How far a job is, read from the progress bars that it draws. Pure."""

from __future__ import annotations

import re

from colab_magics.daemon.shown import strip_ansi
from colab_magics.jobs.record import Progress

_NUMBER = r"(\d+(?:\.\d+)?)([kMGTPEZY]?)"
# tqdm's own layout: `desc:  45%|███  | 45/100 [00:01<00:01, 44.9it/s]`, or `desc: 45it [00:01, 44.9it/s]`.
# Source: https://tqdm.github.io/docs/tqdm/#format_meter (tqdm 4.67)
_BAR = re.compile(
    rf"^(?P<label>.*?)\s*(?:\d{{1,3}}%)?\|[^|]*\|\s*{_NUMBER}/{_NUMBER}\S*\s*\[\d+:\d\d[^\]]*\]?"
)
_COUNT = re.compile(rf"^(?P<label>.*?:)?\s*{_NUMBER}(?:[A-Za-z]+)\s\[\d+:\d\d(?::\d\d)?,[^\]]*\]")
_SCALE = {"": 1.0} | {letter: 1000.0**power for power, letter in enumerate("kMGTPEZY", start=1)}


def find_progress(log_tail: str) -> Progress | None:
    """What the last progress bar in `log_tail` says, None where there is none.

    Args:
        log_tail: the end of a job's output, with the carriage returns that redraw a bar.
    """
    for line in reversed(re.split(r"[\r\n]+", strip_ansi(log_tail))):
        found = parse_bar(line)
        if found is not None:
            return found
    return None


def parse_bar(line: str) -> Progress | None:
    """What one drawing of a tqdm bar says, None for any other line."""
    if "[" not in line or len(line) > 2000:
        return None
    match = _BAR.search(line)
    if match:
        label, done, done_unit, total, total_unit = match.groups()
        size = _scaled(total, total_unit)
        return Progress(_scaled(done, done_unit), size or None, _label(label))
    match = _COUNT.search(line)
    if match:
        label, done, done_unit = match.groups()
        return Progress(_scaled(done, done_unit), None, _label(label or ""))
    return None


def _scaled(number: str, unit: str) -> float:
    return float(number) * _SCALE[unit]


def _label(text: str) -> str:
    return text.strip().rstrip(":").strip()[:100]
