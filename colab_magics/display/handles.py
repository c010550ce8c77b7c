"""What a job looks like by itself: the card that queueing returns, and its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from colab_magics.display import ansi, formats, markup


@dataclass(frozen=True, slots=True)
class JobCard:
    """One job in two lines: what it is and how it stands, then what the person may do next.

    `commit` is the code's, in hex; `notes` are said in between, one a line (what a snapshot left out, …).
    """

    name: str
    job_id: str
    state: str
    commit: str = ""
    notes: tuple[str, ...] = ()
    next_step: str = ""

    def __str__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}

    def text(self) -> str:
        """Plain text for a terminal."""
        sign, words, _ = markup.state_style(self.state)
        head = f"{sign} {formats.one_line(self.name)}: {words}  id {self.job_id}"
        code = f"  code {self.commit[:10]}" if self.commit else ""
        return "\n".join([head + code, *(f"  {formats.one_line(note)}" for note in self._below())])

    def html(self) -> str:
        """One self-contained element for a notebook."""
        code = f" · code <code>{markup.escape(self.commit[:10])}</code>" if self.commit else ""
        below = "".join(
            f'<div style="margin:2px 0;{markup.FAINT}">{markup.escape(note)}</div>' for note in self._below()
        )
        name = f'<span style="font-weight:600">{markup.escape(formats.one_line(self.name))}</span>'
        return markup.wrap(
            f"<div>{markup.pill(self.state)} {name} "
            f'<span style="{markup.MONOSPACE};font-size:11px;{markup.FAINT}">'
            f"{markup.escape(self.job_id)}{code}</span></div>{below}"
        )

    def _below(self) -> list[str]:
        return [text for text in (*self.notes, self.next_step) if text]


@dataclass(frozen=True, slots=True)
class LogView:
    """A job's log that displays itself, its colours kept in a notebook.

    `omitted_bytes` is how much of it is missing before `text`; `where` is the file that has all of it;
    `is_done` whether nothing can come any more.
    """

    job_id: str
    text: str
    omitted_bytes: int = 0
    where: str = ""
    is_done: bool = False

    def __str__(self) -> str:
        return "\n".join([*self._head(), ansi.strip_ansi(self.text)]).rstrip("\n")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        head = "".join(f'<div style="{markup.FAINT}">{markup.escape(line)}</div>' for line in self._head())
        return {
            "text/plain": str(self),
            "text/html": markup.wrap(head + markup.preformatted(ansi.ansi_to_html(self.text.rstrip("\n")))),
        }

    def _head(self) -> list[str]:
        if not self.text and not self.omitted_bytes:
            return [f"{self.job_id} {'printed nothing' if self.is_done else 'has not printed anything yet'}"]
        if not self.omitted_bytes:
            return []
        place = f"; all of it is in {self.where}" if self.where else ""
        size = formats.format_bytes(self.omitted_bytes)
        return [f"… the first {size} of the log of {self.job_id} are not shown{place}"]
