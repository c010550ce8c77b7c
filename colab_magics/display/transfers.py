"""What is seen of a machine's files and load: how far a file on its way is, what is there, what is in use."""

from __future__ import annotations

import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colab_magics.display import formats, markup

BAR_COLUMNS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBar:
    """How far a file or a folder is.

    Attributes:
        bytes_per_s: None while that is not known.
        note: what is in the way, instead.
    """

    name: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float | None = None
    note: str = ""

    def __str__(self) -> str:
        fraction = self.done_bytes / self.total_bytes if self.total_bytes else 1.0
        bar = formats.progress_bar(fraction, width=BAR_COLUMNS)
        size = f"{formats.format_bytes(self.done_bytes)} of {formats.format_bytes(self.total_bytes)}"
        parts = [formats.one_line(self.name), f"▕{bar}▏", size]
        if self.note:
            parts.append(self.note)
        elif self.bytes_per_s:
            left_s = (self.total_bytes - self.done_bytes) / self.bytes_per_s
            parts += [
                f"{formats.format_bytes(self.bytes_per_s)}/s",
                f"{formats.format_duration(left_s)} left",
            ]
        return "  ".join(parts)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        page = f'<div style="{markup.MONOSPACE};white-space:pre">{markup.escape(str(self))}</div>'
        return {"text/plain": str(self), "text/html": markup.wrap(page)}


@dataclass(frozen=True, slots=True)
class FileTable:
    """What is in a folder there, as `ls -l` shows it. Entries as `tunnel/far/files.py` says them."""

    path: str
    entries: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        if not self.entries:
            return f"{self.path} is empty"
        rows = [self._cells(entry) for entry in self.entries]
        width = max(len(size) for _, size, _, _ in rows)
        return "\n".join(f"{mode}  {size:>{width}}  {when}  {name}" for mode, size, when, name in rows)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _in_columns(str(self))

    @staticmethod
    def _cells(entry: Mapping[str, Any]) -> tuple[str, str, str, str]:
        mode = entry["mode"]
        name = formats.one_line(entry["name"])
        if entry["target"] is not None:
            name += f" → {formats.one_line(entry['target'])}"
        elif stat.S_ISDIR(mode):
            name += "/"
        size = "" if stat.S_ISDIR(mode) else formats.format_bytes(entry["size"])
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["mtime_ns"] / 1e9))
        return stat.filemode(mode), size, when, name


@dataclass(frozen=True, slots=True)
class LoadTable:
    """Memory and load of a machine right now, as the verb `load` of `tunnel/far/facts.py` says it."""

    name: str
    load: Mapping[str, Any]

    def __str__(self) -> str:
        rows = [self._gpu(gpu) for gpu in self.load["gpus"]] or [("GPU", "none there", "", "")]
        used, total = self.load["memory_used_bytes"], self.load["memory_bytes"]
        rows.append(("Main memory", *_used(used, total), ""))
        widths = [max(formats.cell_width(row[at]) for row in rows) for at in range(3)]
        lines = [f"● {self.name}"]
        for row in rows:
            cells = [formats.pad(text, width=width) for text, width in zip(row, widths, strict=False)]
            lines.append(f"  {'  '.join(cells)}  {row[3]}".rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return _in_columns(str(self))

    @staticmethod
    def _gpu(gpu: Mapping[str, Any]) -> tuple[str, str, str, str]:
        busy, celsius = gpu.get("busy_percent"), gpu.get("celsius")
        about = [f"{busy:.0f} % busy"] if busy is not None else []
        about += [f"{celsius:.0f} °C"] if celsius is not None else []
        bar, size = _used(gpu.get("memory_used_bytes"), gpu.get("memory_bytes"))
        return gpu["name"], bar, size, ", ".join(about)


def _in_columns(text: str) -> dict[str, str]:
    """Text in columns, for a terminal and a notebook."""
    page = f'<div style="{markup.MONOSPACE};white-space:pre">{markup.escape(text)}</div>'
    return {"text/plain": text, "text/html": markup.wrap(page)}


def _used(used: int | None, total: int | None) -> tuple[str, str]:
    if used is None or not total:
        return "", "unknown"
    bar = formats.progress_bar(used / total, width=BAR_COLUMNS)
    return f"▕{bar}▏", f"{formats.format_bytes(used)} of {formats.format_bytes(total)}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What has shown everything already: nothing is left to show but, in a terminal, an exit code."""

    code: int = 0

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": ""}
