"""One display that changes in place: in a notebook, in a terminal, and in a file as lines that are added."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol, TextIO

from colab_magics.display import formats


class Renderable(Protocol):
    """What can be shown: text for a terminal, and more for a notebook."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]: ...


class LiveDisplay:
    """Shows one thing after another in the same place.

    In a notebook it is one output that is updated. In a terminal the lines are drawn over. Where the stream
    is neither, the lines that are new or have changed are added below. Nothing is sent while nothing changes.
    """

    def __init__(self, stream: TextIO | None = None, *, notebook: bool | None = None) -> None:
        """Shows nothing yet.

        Args:
            stream: where text goes; None means standard output, and a notebook where there is one.
            notebook: overrides the search for a notebook.
        """
        self._stream = sys.stdout if stream is None else stream
        self._notebook = (stream is None and in_notebook()) if notebook is None else notebook
        self._is_terminal = not self._notebook and self._stream.isatty()
        self._handle: Any = None
        self._shown: dict[str, str] | None = None
        self._drawn: list[str] = []
        self._is_clipped = False

    @property
    def is_live(self) -> bool:
        """Whether something can be shown in place of what was shown: in a notebook and in a terminal."""
        return self._notebook or self._is_terminal

    def update(self, renderable: Renderable) -> None:
        """Shows `renderable` in place of what was shown before."""
        bundle = renderable._repr_mimebundle_()
        if bundle == self._shown:
            return
        before = self._shown
        self._shown = bundle
        if self._notebook:
            self._publish(bundle)
        elif self._is_terminal:
            self._redraw(bundle["text/plain"].split("\n"))
        else:
            known = set() if before is None else set(before["text/plain"].split("\n"))
            self._write([line for line in bundle["text/plain"].split("\n") if line not in known])

    def close(self) -> None:
        """Leaves the last state standing. In a terminal all of it, also what was too tall for the window."""
        if self._is_clipped and self._shown is not None:
            self._erase()
            self._write(self._shown["text/plain"].split("\n"))
        self._drawn = []
        self._is_clipped = False

    def _publish(self, bundle: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def _redraw(self, lines: list[str]) -> None:
        columns, height = self._window_size()
        visible = lines
        self._is_clipped = len(lines) > height - 1
        if self._is_clipped:
            visible = [*lines[: height - 2], f"… {len(lines) - height + 2} more lines"]
        self._erase()
        # A line that wraps would take two rows and the next redraw would miss its beginning.
        self._drawn = [formats.ellipsis(line, width=columns) for line in visible]
        self._write(self._drawn)

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{len(self._drawn)}F\x1b[J")

    def _write(self, lines: list[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def _window_size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 100, 24
        return max(size.columns, 20), max(size.lines, 4)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which takes rich output. Does not import IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None
