"""The magics: parse, call, return what displays itself."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError as IPythonUsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Float, Unicode

from colab_magics import commands, options, tunnel_commands
from colab_magics.display.watching import Lines
from colab_magics.errors import ColabError, UsageError
from colab_magics.settings import Settings

_DEFAULTS = Settings()


@magics_class
class ColabMagics(Magics):
    """The queue in a notebook. `%config ColabMagics` shows what can be set; the environment has the rest."""

    remote = Unicode(
        None, allow_none=True, help="the Git remote to queue to; origin, or the only one, by default"
    ).tag(config=True)
    branch = Unicode(
        None, allow_none=True, help=f"the branch that jobs are queued on; {_DEFAULTS.branch} by default"
    ).tag(config=True)
    max_file_mb = Float(
        None,
        allow_none=True,
        help=f"the most that one file of the code may have, in MB; {_DEFAULTS.max_file_mb:g} by default",
    ).tag(config=True)
    max_variable_mb = Float(
        None,
        allow_none=True,
        help=f"the most that one sent variable may have, in MB; {_DEFAULTS.max_variable_mb:g} by default",
    ).tag(config=True)
    watch_s = Float(
        None,
        allow_none=True,
        help=f"the shortest time between two looks, in seconds; {_DEFAULTS.watch_s:g} by default",
    ).tag(config=True)
    ssh_config = Unicode(
        None,
        allow_none=True,
        help="the file that ssh reads in place of ~/.ssh/config and the system's",
    ).tag(config=True)

    def __init__(self, shell: Any = None, **more: Any) -> None:
        """Called by IPython."""
        super().__init__(shell, **more)
        self._desk = commands.Desk(
            folder=Path.cwd(), settings=Settings(), namespace=shell.user_ns if shell else {}
        )

    @no_var_expand
    @line_cell_magic
    @options.as_magic_arguments(options.QUEUE)
    def colab_queue(self, line: str, cell: str | None = None) -> Any:
        """Queue this cell, or a command, as a job for a GPU elsewhere; alone, show the table of jobs.

        `{name}` and `$name` in the line stay as they are: they are the parameters' and the job's shell's.
        """
        with _errors_in_one_line():
            arguments = _parse(self, "colab_queue", line)
            if isinstance(arguments, Lines):
                return arguments
            # By its whole text a frontend's debugger finds the cell again.
            arguments.magic = "" if cell is None else f"%%colab_queue {line}".rstrip()
            return commands.run_queue(self._at_desk(), arguments, cell)

    @no_var_expand
    @line_magic
    @options.as_magic_arguments(options.SYNC)
    def colab_sync(self, line: str) -> Any:
        """Bring home what jobs have left: their outputs as if they had run here, variables, files."""
        with _errors_in_one_line():
            arguments = _parse(self, "colab_sync", line)
            if isinstance(arguments, Lines):
                return arguments
            return commands.run_sync(self._at_desk(), arguments)

    @no_var_expand
    @line_magic
    @options.as_magic_arguments(options.TUNNEL)
    def colab_tunnel(self, line: str) -> Any:
        """Open a session with another machine, whose kernel is in every kernel picker from then on."""
        with _errors_in_one_line():
            arguments = _parse(self, "colab_tunnel", line)
            if isinstance(arguments, Lines):
                return arguments
            return tunnel_commands.run_tunnel(self._at_desk(), arguments)

    def _at_desk(self) -> commands.Desk:
        """The desk as it is now: the notebook may have changed folder or settings."""
        self._desk.folder = Path.cwd()
        self._desk.settings = Settings.from_env(**{name: getattr(self, name) for name in Settings.__slots__})
        return self._desk


def _parse(magics: ColabMagics, name: str, line: str) -> argparse.Namespace | Lines:
    """The arguments of a magic, split as a shell would; its help where that is asked for."""
    parser = getattr(magics, name).parser
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the line does not end its quotes: {line.strip()!r} ({error})") from error
    words, given = options.split_given(words) if name == "colab_tunnel" else (words, [])
    if "--help" in words or "-h" in words:
        # IPython begins with `::`, for reStructuredText: its usage is a block there.
        text = textwrap.dedent(parser.format_help().removeprefix("::").lstrip("\n"))
        return Lines(tuple(text.strip().splitlines()))
    try:
        arguments: argparse.Namespace = parser.parse_intermixed_args(words)
    except IPythonUsageError as error:
        raise UsageError(f"{error}; %{name}? shows all options") from error
    arguments.given = given
    return arguments


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Show our own errors as one red sentence. They are raised all the same: the cell has failed."""
    try:
        yield
    except ColabError as error:
        told = [f"\x1b[31m{line}\x1b[0m" for line in f"{error}".splitlines()]
        error._render_traceback_ = lambda: told  # type: ignore[attr-defined]
        raise
