"""Numbers and text in the form that people read: durations, sizes, counts, lines of a fixed width."""

from __future__ import annotations

import re
import unicodedata

_HALF = re.compile(r"[\ud800-\udfff]")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def format_duration(seconds: float | None, *, short: bool = False) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `1 h 02 min`, `2 d 03 h`; empty for None.

    Where `short` is true, the same for narrow columns: `3m05s`, `1h02m`.
    """
    if seconds is None:
        return ""
    if short:
        return format_duration(seconds).replace("min", "m").replace(" ", "")
    if seconds < 0.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_bytes(size_bytes: float | None) -> str:
    """`812 B`, `12 kB`, `1.4 MB`, `15.8 GB`, in powers of 1000; empty for None."""
    if size_bytes is None:
        return ""
    if size_bytes < 999.5:
        return f"{size_bytes:.0f} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            break
    return f"{size:.1f} {unit}" if size < 99.95 and unit != "kB" else f"{size:,.0f} {unit}"


def format_number(value: object) -> str:
    """A parameter or a metric in a cell: `0.001`, `0.9731`, `True`, `adam`, at most 6 significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def format_count(count: int, noun: str) -> str:
    """`1 job`, `9,970 jobs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def cell_width(text: str) -> int:
    """How many columns of a terminal `text` takes: 2 for East Asian letters and emoji, 0 for accents."""
    return sum(_char_width(char) for char in text)


def ellipsis(text: str, *, width: int) -> str:
    """`text` in at most `width` terminal columns, with `…` in place of the end that does not fit."""
    if cell_width(text) <= width:
        return text
    return f"{_head(text, width=width - 1)}…" if width > 0 else ""


def ellipsis_middle(text: str, *, width: int) -> str:
    """As `ellipsis`, leaving out the middle: both ends of an id tell it apart."""
    if cell_width(text) <= width:
        return text
    start = ellipsis(text, width=(width + 1) // 2)
    return start + _head(text[::-1], width=width - cell_width(start))[::-1]


def pad(text: str, *, width: int, right: bool = False) -> str:
    """`text` filled with spaces to `width` terminal columns, on its left where `right` is true."""
    space = " " * (width - cell_width(text))
    return space + text if right else text + space


def one_line(text: str) -> str:
    """`text` on one line: runs of white space become a space; control characters, that terminals obey, go.

    Halves of characters, that no UTF-8 holds, are replaced.
    """
    kept = "".join(
        char if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf") or char == "\u200d" else ""
        for char in replace_halves(text)
    )
    return " ".join(kept.split())


def replace_halves(text: str) -> str:
    """`text` with a replacement character for each lone surrogate, on which printing would fail."""
    return _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def wrap_text(text: str, *, width: int, indent: str = "") -> list[str]:
    """The words of `text` in lines of at most `width` terminal columns, the first after `indent`."""
    lines = [indent]
    for word in text.split():
        gap = " " if lines[-1].strip(indent + " ") else ""
        if gap and cell_width(lines[-1]) + 1 + cell_width(word) > width:
            lines.append(" " * len(indent))
            gap = ""
        rest = word
        while cell_width(lines[-1]) + len(gap) + cell_width(rest) > width:  # a word longer than a line
            fits = _head(rest, width=width - cell_width(lines[-1]) - len(gap)) or rest[:1]
            lines[-1] += gap + fits
            rest = rest[len(fits) :]
            lines.append(" " * len(indent))
            gap = ""
        lines[-1] += gap + rest
    return [line for line in lines if line.strip(indent + " ")]


def progress_bar(fraction: float, *, width: int) -> str:
    """A bar of `width` columns in eighths of a block: `████▍     `. `fraction` is cut to 0 … 1."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def _head(text: str, *, width: int) -> str:
    """The longest beginning of `text` that takes at most `width` terminal columns."""
    used = 0
    for i, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:i]
    return text


def _char_width(char: str) -> int:
    if char == "\u200d" or unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
