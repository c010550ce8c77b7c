"""What a person sees of a project on another machine: what a sync did, and how a script ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from colab_magics.display import ansi, markup


@dataclass(frozen=True, slots=True)
class SyncView:
    """Sentences about a sync, and what was edited on the other side, as a diff that waits to be accepted."""

    lines: tuple[str, ...]
    diff: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([*([self.diff.rstrip(), ""] if self.diff else []), *self.lines])

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        diff = markup.preformatted(ansi.ansi_to_html(_colored(self.diff))) if self.diff else ""
        lines = "".join(f"<div>{markup.escape(line)}</div>" for line in self.lines)
        return {"text/plain": str(self), "text/html": markup.wrap(diff + lines)}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script there ended: 0 is well, more than 128 is a signal."""

    script: str
    code: int

    def __str__(self) -> str:
        return f"{self.script} ended with exit code {self.code}."

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": markup.wrap(markup.escape(str(self)))}


def _colored(diff: str) -> str:
    """Deletions red and additions green, as git does."""
    colors = {"-": "31", "+": "32", "@": "36"}
    return "\n".join(
        f"\x1b[{colors[line[0]]}m{line}\x1b[0m" if line[:1] in colors else line for line in diff.split("\n")
    )
