"""What is seen of a queue while one watches it, and of a job that has just come home."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from colab_magics.display import ansi, formats, markup
from colab_magics.display.live import LiveDisplay, Renderable, in_notebook
from colab_magics.display.outputs import Bundle, publish, to_publish, to_text
from colab_magics.display.slots import Slots
from colab_magics.display.tables import JobTable
from colab_magics.errors import CorruptError

TAIL_LINES = 6
TAILS = 3
"""How many running jobs show their log and outputs: more would push the table out of sight."""
LIVE_OUTPUTS = 3
"""How many of a running job's outputs are shown, the last ones."""

NamedOutputs = tuple[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Watched:
    """The table of jobs, with the end of the log of those that run, (name, log) each, and their last outputs.

    As HTML it is without the outputs: what is more than text has places of its own (`Screen.live`).
    """

    table: JobTable
    tails: tuple[tuple[str, str], ...] = ()
    outputs: tuple[NamedOutputs, ...] = ()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        text, page = [self.table.text()], [self.table.html()]
        for name, log in self.tails[:TAILS]:
            lines = ansi.overwrite(log).rstrip().split("\n")[-TAIL_LINES:]
            plain = [formats.ellipsis(ansi.strip_ansi(line), width=100) for line in lines]
            text += [f"─ {formats.one_line(name)}", *(f"  {line}" for line in plain)]
            shown = markup.preformatted(ansi.ansi_to_html("\n".join(lines)))
            page.append(markup.wrap(f"<div>{markup.escape(formats.one_line(name))}</div>{shown}"))
        for name, outputs in self.outputs[:TAILS]:
            lines = to_text(rich_outputs(outputs)).rstrip().split("\n")[-TAIL_LINES:]
            plain = [formats.ellipsis(line, width=100) for line in lines if line]
            text += [f"─ {formats.one_line(name)}, shown so far", *(f"  {line}" for line in plain)]
        return {"text/plain": "\n".join(text), "text/html": "".join(page)}


def rich_outputs(outputs: Sequence[Any]) -> list[Mapping[str, Any]]:
    """The last outputs that are more than what the log has: no streams, and nothing that is no output."""
    rich = []
    for each in outputs:
        try:
            if isinstance(each, Mapping) and each.get("output_type") != "stream" and to_publish([each]):
                rich.append(each)
        except CorruptError:
            continue
    return rich[-LIVE_OUTPUTS:]


@dataclass(frozen=True, slots=True)
class Lines:
    """A few sentences that display themselves, one a line."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        content = "".join(f"<div>{markup.escape(line)}</div>" for line in self.lines)
        return {"text/plain": str(self), "text/html": markup.wrap(content)}


@dataclass(frozen=True, slots=True)
class Heading:
    """The line above a job's outputs: its name, how it ended, how long it took."""

    name: str
    state: str
    about: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        sign, words, _ = markup.state_style(self.state)
        name = formats.one_line(self.name)
        about = f" · {self.about}" if self.about else ""
        page = (
            f'<div style="margin-top:8px;border-top:1px solid rgba(128,134,145,.4);padding-top:4px">'
            f"{markup.pill(self.state)} <b>{markup.escape(name)}</b>"
            f'<span style="{markup.FAINT}">{markup.escape(about)}</span></div>'
        )
        return {"text/plain": f"── {sign} {name}: {words}{about} ──", "text/html": markup.wrap(page)}


class Screen:
    """Where a person follows what a command does: the notebook or terminal that this process runs in."""

    def __init__(self, stream: TextIO | None = None, *, notebook: bool | None = None) -> None:
        """Shows nothing yet.

        Args:
            stream: where text goes; None is standard output, and a notebook where there is one.
            notebook: overrides the search for a notebook.
        """
        self._notebook = (stream is None and in_notebook()) if notebook is None else notebook
        self._stream = sys.stdout if stream is None else stream
        self._live = LiveDisplay(self._stream, notebook=self._notebook)
        self._slots = Slots()

    @property
    def is_live(self) -> bool:
        """Whether `update` shows in place of what was shown before: in a notebook and in a terminal."""
        return self._live.is_live

    def update(self, shown: Renderable) -> None:
        """Show this in place of what was shown this way before."""
        self._live.update(shown)

    def live(self, running: Sequence[NamedOutputs]) -> None:
        """Show in a notebook what running jobs show at this moment, in place of what they showed before."""
        if not self._notebook:
            return
        items: list[Bundle] = []
        for name, outputs in running[:TAILS]:
            shown = [each for each in to_publish(rich_outputs(outputs)) if isinstance(each, Bundle)]
            heading = Heading(name, "running", "shown so far")._repr_mimebundle_()
            items += [Bundle(dict(heading)), *shown] if shown else []
        self._slots.update(items)

    def outputs(self, heading: Heading, outputs: Sequence[Mapping[str, Any]], *, where: str) -> None:
        """Show the outputs of a job below everything else, as if its cell had run here.

        Args:
            heading: the line above them.
            outputs: in nbformat's form.
            where: the file that has all of them.
        """
        if self._notebook:
            from IPython.display import display

            display(heading._repr_mimebundle_(), raw=True)  # type: ignore[no-untyped-call]
            publish(to_publish(outputs, where=where))
            return
        self._live.close()
        self._stream.write(heading._repr_mimebundle_()["text/plain"] + "\n")
        self._stream.write(to_text(outputs, where=where))
        self._stream.flush()

    def close(self) -> None:
        """Leave what was shown last."""
        self._live.close()
