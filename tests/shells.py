"""A real IPython in a project's folder, as a person sits at it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class Notebook:
    """Cell by cell. `shown` is what the last cell put on the screen, with its colours."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self.shown = ""

    @property
    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = self._shell.user_ns
        return found

    def run(self, source: str) -> Any:
        """Run a cell that must succeed; returns its value."""
        done = self._run(source)
        assert done.success, self.shown
        return done.result

    def fail(self, source: str) -> str:
        """Run a cell that must fail, in one line without a traceback; returns what its error says."""
        done = self._run(source)
        error = done.error_in_exec or done.error_before_exec
        assert error is not None, f"it did not fail, and showed:\n{self.shown}"
        assert len(self.shown.strip().splitlines()) == 1, self.shown
        assert str(error) in self.shown
        return str(error)

    def _run(self, source: str) -> Any:
        screen = io.StringIO()
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            done = self._shell.run_cell(source)
        self.shown = screen.getvalue()
        return done


@contextmanager
def open_notebook(folder: Path) -> Iterator[Notebook]:
    """An IPython in `folder` with the magics loaded, until the block ends."""
    before = Path.cwd()
    os.chdir(folder)
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    try:
        shell.run_line_magic("load_ext", "colab_magics")
        yield Notebook(shell)
    finally:
        shell.reset(new_session=False)
        InteractiveShell.clear_instance()
        os.chdir(before)
