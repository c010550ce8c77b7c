"""A real terminal on a session's machine, over its Jupyter Server: keys go there, the exit code comes back.

`Enter ~ .` leaves it, as in ssh: the only keys that are ours.

Source: https://github.com/jupyter-server/jupyter_server_terminals (POST /api/terminals)
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType

from colab_kernel.errors import AccessError, KernelError, UnreachableError
from colab_kernel.rest import Server
from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError, UsageError
from colab_magics.posix import need_posix
from colab_magics.tunnel.servers import server_of
from colab_magics.tunnel.terminal_line import TerminalLine
from colab_magics.tunnel.terminal_text import TerminalText, starting_line

BEGIN_S = 20.0
"""A login shell may take long to begin; after that it is shown as it is, and its exit code is not known."""

PING_S, SILENT_S = 5.0, 20.0
AGAIN_S = 1.0
LOOK_S, END_S = 0.1, 3.0
UNKNOWN = 255
"""The exit code where the shell's is not known, as ssh has it."""


def run_terminal(runtime: Runtime, *, keyboard: int | None, screen: int, command: str = "") -> int:
    """Be a terminal there until its shell ends.

    Args:
        keyboard, screen: descriptors of a terminal; it is as it was afterwards. Without a keyboard (None)
            nothing is typed there, and the screen may be anything.
        command: what the shell there runs, and ends; empty for a shell that asks.

    Returns:
        The shell's exit code; 128 + the number of a signal that ended this process's part.

    Raises:
        TunnelError: there is no terminal to be had, it was lost, or its shell does not take a command.
        UsageError: this machine is Windows, or the command is too long to be typed.
    """
    need_posix("a terminal", instead="a cell's `!COMMAND` runs there, and JupyterLab there has terminals")
    text = TerminalText(uuid.uuid4().hex)
    try:
        typed = starting_line(text.word, term=_term(), command=command)
    except ValueError as error:
        raise UsageError(str(error)) from None
    server = server_of(runtime)
    try:
        name = server.start_terminal(folder=runtime.remote_root)
    except UnreachableError as error:
        raise TunnelError(str(error)) from error
    except KernelError as error:
        raise TunnelError(
            f"{error}. If it has no terminals, `pip install jupyter_server_terminals` there brings them"
        ) from error
    try:
        with _raw(keyboard), _signals() as (woken, caught):
            terminal = _Terminal(runtime, server, name, text, keyboard=keyboard, screen=screen)
            return terminal.run(woken, caught, typed=typed, has_command=bool(command))
    finally:
        with contextlib.suppress(KernelError):  # it ends with its shell
            server.delete_terminal(name)
            _end_shell(runtime, server, name)


def _end_shell(runtime: Runtime, server: Server, name: str) -> None:
    """Have a shell leave that was told to and went on, and its terminal with it.

    Between our shell and the server's is one that the server signals; bash then gets a single SIGHUP, and now
    and then goes on at its prompt as if there had been none. (bash 5.2 under terminado, 2026-11)
    """
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        if name not in server.terminals():
            return
        with contextlib.closing(TerminalLine.open(runtime, server, name)) as line:
            select.select([line], [], [], LOOK_S)  # the server begins, and what is typed is for the shell
            line.send("stdin", "\x03\x15exit\r")
            select.select([line], [], [], LOOK_S)


class _Terminal:
    """The loop between a keyboard, a screen and a line that may break."""

    def __init__(
        self,
        runtime: Runtime,
        server: Server,
        name: str,
        text: TerminalText,
        *,
        keyboard: int | None,
        screen: int,
    ) -> None:
        self._runtime, self._server, self._name = runtime, server, name
        self._keyboard, self._screen = keyboard, screen
        self._text = text
        self._keys = _Keys()
        self._line: TerminalLine | None = None
        self._opening: Future[TerminalLine] | None = None
        self._typed = ""
        self._was_open = False

    def run(self, woken: int, caught: list[int], *, typed: str, has_command: bool) -> int:
        self._typed = typed
        began_at = heard_at = asked_at = time.monotonic()
        try:
            while True:
                self._connect()
                self._wait(woken)
                while caught:
                    number = caught.pop(0)
                    if number != signal.SIGWINCH:
                        return 128 + number
                    self._resize()
                now = time.monotonic()
                if self._line is not None:
                    for message in self._line.receive():
                        self._take(message)
                    if self._text.exit_code is not None:
                        return self._text.exit_code
                    if self._line.heard:
                        heard_at, self._line.heard = now, False
                    elif now - max(heard_at, asked_at) > PING_S:
                        asked_at = now
                        self._line.ping()
                    if self._line.is_over or now - heard_at > SILENT_S:
                        self._lose()
                if not self._text.begun and now - began_at > BEGIN_S:
                    if has_command:
                        raise TunnelError(f"the shell there did not take the command in {BEGIN_S:g} s")
                    self._show(self._text.give_up_hiding())
                if self._keys.has_left:
                    self._show("\r\n")
                    return UNKNOWN
        finally:
            self._show(self._text.leave())
            if self._line is not None:
                self._line.close()

    # --- the line ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begin to open a line where there is none, or take one that was opened."""
        if self._line is not None:
            return
        if self._opening is None:
            self._opening = _begin(lambda: TerminalLine.open(self._runtime, self._server, self._name))
        if not self._opening.done():
            return
        opening, self._opening = self._opening, None
        try:
            self._line = opening.result()
        except (UnreachableError, AccessError) as error:
            if not self._was_open:
                raise TunnelError(str(error)) from error
            self._opening = _begin(self._open_later)
            return
        except KernelError as error:
            raise TunnelError(f"the terminal is gone: {error}") from error
        if self._was_open:
            self._text.reconnected()
            rows, columns = self._size()
            self._line.send("set_size", max(rows - 1, 1), columns)  # what draws a whole screen draws it anew
        self._was_open = True
        self._resize()
        typed, self._typed = self._typed, ""
        if typed:
            self._line.send("stdin", typed)

    def _open_later(self) -> TerminalLine:
        time.sleep(AGAIN_S)
        return TerminalLine.open(self._runtime, self._server, self._name)

    def _lose(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None
        self._show("\r\n[the connection was lost; trying again. Enter ~ . leaves]\r\n")

    def _take(self, message: list[object]) -> None:
        match message:
            case ["stdout", str(text)]:
                self._show(self._text.feed(text))
            case ["disconnect", *_] if self._text.exit_code is None:
                raise TunnelError("the terminal was ended there; what its shell ended with is not known")

    # --- the person ----------------------------------------------------------------------------------------

    def _wait(self, woken: int) -> None:
        """Until something is to be done; what was typed is sent."""
        line = self._line
        keyboard = self._keyboard
        keys = [] if keyboard is None else [keyboard]
        readers: list[int | TerminalLine] = [*keys, woken, *([line] if line else [])]
        writers = [line] if line is not None and line.wants_write else []
        patience_s = 0.0 if line is not None and line.has_early else 0.05 if line is None else 1.0
        ready, able, _ = select.select(readers, writers, [], patience_s)
        if woken in ready:
            os.read(woken, 4096)
        if able and line is not None:
            line.flush()
        if keyboard is not None and keyboard in ready:
            data = os.read(keyboard, 65536)
            if not data:  # the terminal's window was closed
                self._keys.has_left = True
            typed = self._keys.feed(data)
            if line is not None and typed:
                line.send("stdin", typed)
            else:
                self._typed += typed

    def _resize(self) -> None:
        if self._line is not None:
            self._line.send("set_size", *self._size())

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._screen)
        except OSError:
            return 24, 80
        return size.lines or 24, size.columns or 80

    def _show(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        with contextlib.suppress(OSError):  # nobody looks any more
            while data:
                data = data[os.write(self._screen, data) :]


class _Keys:
    """What is typed, as text; after Enter, `~.` leaves and `~~` is a tilde, as in ssh."""

    def __init__(self) -> None:
        self.has_left = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_line_start = True
        self._is_tilde = False

    def feed(self, data: bytes) -> str:
        typed = []
        for char in self._decoder.decode(data):
            if self._is_tilde:
                self._is_tilde = False
                if char == ".":
                    self.has_left = True
                    break
                if char != "~":
                    typed.append("~")
            elif char == "~" and self._is_line_start:
                self._is_tilde = True
                continue
            typed.append(char)
            self._is_line_start = char in "\r\n"
        return "".join(typed)


def _begin(work: Callable[[], TerminalLine]) -> Future[TerminalLine]:
    """Do it in a thread of its own: the person may want to leave meanwhile."""
    outcome: Future[TerminalLine] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="colab terminal", daemon=True).start()
    return outcome


@contextlib.contextmanager
def _raw(keyboard: int | None) -> Iterator[None]:
    """Every key goes there; afterwards the terminal is as it was."""
    import termios
    import tty

    if keyboard is None:
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[int, list[int]]]:
    """Signals of the window, and those that end us, as numbers in a list, and a descriptor that wakes up."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        with contextlib.suppress(OSError):
            os.write(writer, b"!")

    numbers = (signal.SIGWINCH, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield reader, caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _term() -> str:
    """What this terminal is called, if the other machine is likely to know it."""
    name = os.environ.get("TERM", "")
    known = ("xterm", "screen", "tmux", "linux", "vt100", "vt220", "rxvt")
    is_plain = name.replace("-", "").replace("256color", "").isalnum()
    return name if is_plain and name.startswith(known) else "xterm-256color"
