"""The verbs of `tunnel` for files, load and a terminal: put, get, ls, edit, gpu, terminal."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from colab_magics.commands import Desk, no_more
from colab_magics.display import formats
from colab_magics.display.hints import typed
from colab_magics.display.live import Renderable, in_notebook
from colab_magics.display.transfers import FileTable, LoadTable, Shown, TransferBar
from colab_magics.display.watching import Lines, Screen
from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel import files
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.session import the_session
from colab_magics.tunnel.terminal import run_terminal
from colab_magics.tunnel.trips import Moved, Progress

LOAD_S = 2.0
BAR_S = 0.1


def put(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Lines:
    """`put LOCAL [REMOTE]`: bring a file or folder there."""
    if len(rest) not in (1, 2):
        raise UsageError("put needs what to bring and, if not to the session's folder, where to")
    _, runtime = the_session(arguments.name)
    local = desk.folder / Path(rest[0]).expanduser()
    remote = rest[1] if len(rest) == 2 else "./"
    with _Bar(desk.screen()) as bar:
        moved = files.put(runtime, local, remote, watch=bar.show)
    return _told(rest[0], moved)


def get(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Lines:
    """`get REMOTE [LOCAL]`: bring a file or folder home."""
    if len(rest) not in (1, 2):
        raise UsageError("get needs what to bring home and, if not to this folder, where to")
    _, runtime = the_session(arguments.name)
    where = rest[1] if len(rest) == 2 else "./"
    local = desk.folder / Path(where).expanduser()
    with _Bar(desk.screen()) as bar:
        moved = files.get(runtime, rest[0], local, watch=bar.show, into=where.endswith("/"))
    return _told(rest[0], moved)


def list_files(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> FileTable:
    """`ls [DIR]`: what is there."""
    no_more(rest[1:], after="ls")
    _, runtime = the_session(arguments.name)
    found = files.list_folder(runtime, rest[0] if rest else "")
    return FileTable(found["path"], found["entries"])


def terminal(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Renderable:
    """`terminal [-- COMMAND]`: a shell there, in this terminal; or one command, which needs none here."""
    no_more(rest, after="terminal")
    reached, runtime = the_session(arguments.name)
    if in_notebook():
        return Lines(
            (
                f"A notebook is no terminal: type `jupyter colab tunnel terminal --name {reached.name}` in "
                "one, such as JupyterLab's (File → New → Terminal) or VS Code's (Ctrl+`).",
            )
        )
    command = " ".join(arguments.given)  # as ssh does: the shell there reads it
    has_keys = sys.stdin.isatty() and sys.stdout.isatty()
    if not has_keys and not command:
        raise UsageError("terminal needs a terminal: standard input or output is none")
    sys.stdout.flush()
    keyboard = sys.stdin.fileno() if has_keys else None
    return Shown(run_terminal(runtime, keyboard=keyboard, screen=sys.stdout.fileno(), command=command))


def gpu(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Renderable:
    """`gpu`: memory and load, live until it is interrupted; once where nothing can be drawn over."""
    no_more(rest, after="gpu")
    reached, runtime = the_session(arguments.name)
    screen = desk.screen()
    with Hand.open(runtime) as hand:
        hand.load("facts")
        table = LoadTable(reached.name, hand.ask("load").content)
        if not screen.is_live:
            return table
        try:
            while True:
                screen.update(table)
                time.sleep(LOAD_S)
                table = LoadTable(reached.name, hand.ask("load").content)
        except KeyboardInterrupt:
            return Shown()
        finally:
            screen.close()


def edit(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Lines:
    """`edit REMOTE`: the person's editor on a copy, which goes back if it was changed here and not there."""
    if len(rest) != 1:
        raise UsageError("edit needs one file there")
    if in_notebook() or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Lines(
            (
                f"An editor needs a terminal: `jupyter colab tunnel edit {rest[0]}` there; or here "
                f"`{typed('tunnel')} get {rest[0]}`, change it, and `{typed('tunnel')} put` it back.",
            )
        )
    _, runtime = the_session(arguments.name)
    folder = Path(tempfile.mkdtemp(prefix="colab-edit-"))  # for its owner alone
    here = folder / PurePosixPath(rest[0]).name
    with _Bar(desk.screen()) as bar:
        before, mode = "", 0o644
        try:
            before = files.get(runtime, rest[0], here, watch=bar.show).sha256
        except TunnelError as error:
            if "No such file" not in str(error):
                raise
        if before:
            mode = here.stat().st_mode
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        try:
            code = subprocess.run([*shlex.split(command), str(here)], check=False).returncode
        except OSError as error:
            raise UsageError(f"the editor {command!r} does not start: {error.strerror}") from error
        if code != 0:
            raise TunnelError(
                f"{command} ended with {code}: {rest[0]} was left as it is; your copy is {here}"
            )
        if not here.exists():
            return Lines((f"{rest[0]} was not written.",))
        here.chmod(mode)
        try:
            moved = files.put(runtime, here, rest[0], watch=bar.show, instead_of=before)
        except TunnelError as error:
            raise TunnelError(f"{error}. Your text is {here}") from error
    here.unlink()
    folder.rmdir()
    return Lines((f"{moved.path}: {'as it was' if moved.sha256 == before else 'changed'}.",))


class _Bar:
    """Shows how far files are, as often as an eye follows; nothing where it cannot be drawn over."""

    def __init__(self, screen: Screen, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._shown_at = 0.0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._screen.close()

    def show(self, progress: Progress) -> None:
        now = self._clock()
        is_end = progress.done_bytes >= progress.total_bytes
        if not self._screen.is_live or (now - self._shown_at < BAR_S and not is_end and not progress.note):
            return
        if self._first is None or progress.done_bytes < self._first[1]:
            self._first = now, progress.done_bytes
        self._shown_at = now
        began_at, from_bytes = self._first
        rate = (progress.done_bytes - from_bytes) / (now - began_at) if now - began_at > BAR_S else None
        self._screen.update(
            TransferBar(
                name=progress.name,
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                bytes_per_s=rate,
                note=progress.note,
            )
        )


def _told(what: str, moved: Moved) -> Lines:
    size = formats.format_bytes(moved.size_bytes)
    count = "" if moved.sha256 and moved.files == 1 else f"{formats.format_count(moved.files, 'file')}, "
    rate = formats.format_bytes(moved.sent_bytes / max(moved.seconds, 1e-3))
    rest = moved.size_bytes - moved.sent_bytes
    known = f"; {formats.format_bytes(rest)} were there already" if rest > 0 else ""
    lines = [
        f"{what} → {moved.path}: {count}{size} in {formats.format_duration(moved.seconds)} ({rate}/s){known}"
    ]
    if moved.skipped:
        more = " …" if len(moved.skipped) > 5 else ""
        listed = ", ".join(formats.one_line(path) for path in moved.skipped[:5]) + more
        lines.append(f"left out, being neither files nor folders, or with a name that is not UTF-8: {listed}")
    return Lines(tuple(lines))


VERBS = {
    "put": put,
    "get": get,
    "ls": list_files,
    "edit": edit,
    "gpu": gpu,
    "terminal": terminal,
}
