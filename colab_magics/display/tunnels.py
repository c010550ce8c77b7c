"""What a session with another machine looks like: its card, and the table of those that are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colab_magics.display import formats, markup


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelCard:
    """An open session: what is there, which kernel to pick, and how.

    Attributes:
        facts: what the machine is, as `tunnel/far/facts.py` says it.
        display_name: the kernel's name in every picker.
        close: what is typed to close it.
        notes: said below, one a line.
    """

    name: str
    target: str
    display_name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    close: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}

    def text(self) -> str:
        """Plain text for a terminal."""
        rows = [*self._machine(), *self._next()]
        width = max(len(label) for label, _ in rows)
        lines = [f"● {self.name}: open  ({self.target})"]
        lines += [f"  {label:{width}}  {text}" for label, text in rows]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def html(self) -> str:
        """One self-contained element for a notebook."""
        rows = "".join(
            f'<tr style="background:none"><td style="text-align:left;padding:1px 14px 1px 0;{markup.FAINT}">'
            f"{markup.escape(label)}</td>"
            f'<td style="text-align:left;padding:1px 0">{markup.escape(text)}</td></tr>'
            for label, text in [*self._machine(), *self._next()]
        )
        notes = "".join(f'<div style="{markup.FAINT}">{markup.escape(note)}</div>' for note in self.notes)
        head = (
            f'<div><span style="color:rgb(40,160,70)">●</span> <b>{markup.escape(self.name)}</b> is open '
            f'<span style="{markup.MONOSPACE};font-size:11px;{markup.FAINT}">'
            f"{markup.escape(self.target)}</span></div>"
        )
        return markup.wrap(f'{head}<table style="border:0;margin:4px 0">{rows}</table>{notes}')

    def _machine(self) -> list[tuple[str, str]]:
        facts = self.facts
        if not facts:
            return []
        gpus = ", ".join(_gpu(gpu) for gpu in facts.get("gpus", ())) or "none: kernels there run on the CPU"
        memory = formats.format_bytes(facts.get("memory_bytes"))
        disk = formats.format_bytes(facts.get("disk_free_bytes"))
        versions = facts.get("versions", {})
        shown = ", ".join(f"{name} {text}" for name, text in versions.items() if name in _SHOWN)
        system = " ".join(str(facts.get("system")).split("-")[:2])  # Linux-6.1.0-x86_64-with-glibc2.36
        rows = [
            ("GPU", gpus),
            ("Memory", f"{memory}, {facts.get('cpus')} CPUs, {disk} of disk free"),
            ("Python", f"{facts.get('python')} on {system}" + (f"; {shown}" if shown else "")),
        ]
        left_s = facts.get("left_s")
        return rows + ([("Time left", formats.format_duration(left_s))] if left_s is not None else [])

    def _next(self) -> list[tuple[str, str]]:
        rows = [
            ("Kernel", self.display_name),
            ("VS Code", f"Select Kernel → Jupyter Kernel… → {self.display_name}; then Debug Cell"),
            ("JupyterLab", f"Kernel → Change Kernel… → {self.display_name}; then the bug in the toolbar"),
        ]
        return rows + ([("To close it", self.close)] if self.close else [])


@dataclass(frozen=True, slots=True)
class TunnelRow:
    """One open session in the table."""

    name: str
    target: str
    state: str
    url: str
    project: str


@dataclass(frozen=True, slots=True)
class TunnelTable:
    """The open sessions."""

    rows: Sequence[TunnelRow]
    hint: str = ""

    def __str__(self) -> str:
        if not self.rows:
            return f"No session is open. {self.hint}".strip()
        cells = self._cells()
        widths = [max(formats.cell_width(text) for text in column) for column in zip(*cells, strict=True)]
        padded = (
            [formats.pad(text, width=width) for text, width in zip(row, widths, strict=True)] for row in cells
        )
        return "\n".join("  ".join(row).rstrip() for row in padded)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        if not self.rows:
            return {"text/plain": str(self), "text/html": markup.wrap(markup.escape(str(self)))}
        titles, *rows = self._cells()
        head = "".join(_CELL.format("h", title) for title in titles)
        lines = ("".join(_CELL.format("d", markup.escape(text)) for text in row) for row in rows)
        body = "".join(f'<tr style="background:none">{line}</tr>' for line in lines)
        table = f'<table style="border:0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return {"text/plain": str(self), "text/html": markup.wrap(table)}

    def _cells(self) -> list[tuple[str, ...]]:
        """The titles and the rows, without a column that has nothing in it."""
        rows = [(row.name, row.target, row.state, row.url, row.project) for row in self.rows]
        filled = [any(column) for column in zip(*rows, strict=True)]
        return [
            tuple(text for text, is_filled in zip(row, filled, strict=True) if is_filled)
            for row in (_TITLES, *rows)
        ]


_CELL = '<t{0} style="text-align:left;padding:2px 14px 2px 0">{1}</t{0}>'
_TITLES = ("SESSION", "TARGET", "STATE", "AT", "PROJECT")
_SHOWN = ("torch", "numpy", "jax", "tensorflow", "ipykernel")


def _gpu(gpu: Mapping[str, Any]) -> str:
    return f"{gpu['name']}, {formats.format_bytes(gpu.get('memory_bytes'))}"
