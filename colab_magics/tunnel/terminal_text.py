"""What a terminal's text tells a program: where the shell begins, its exit code, the modes that are on. Pure.

Jupyter Server's terminals API says that a shell has ended, not how. So the shell that it starts is replaced
by one that runs the person's shell and then prints its exit code, in a control sequence that we take out: an
OSC with a word of this terminal's own, as shells' integrations with editors have them.

Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html (Operating System Commands, DECSET)
"""

from __future__ import annotations

import re
import string

_OSC = "\x1b]5379;"
_BEL = "\x07"
_MODES = re.compile(r"\x1b\[\?([\d;]+)([hl])")
_WATCHED = frozenset(
    {"1", "25", "47", "1000", "1002", "1003", "1004", "1006", "1015", "1047", "1049", "2004"}
)
"""Modes that a program may leave on: keys, cursor, mouse, the second screen, pasting."""

_PLAIN = frozenset(string.ascii_letters + string.digits + " ./_,:=+@")

_LINE_BYTES = 4000
"""A terminal takes 4095 in one line where no editor of a shell's reads them.

Source: https://man7.org/linux/man-pages/man3/termios.3.html (canonical mode)
"""

_OVERLAP = 2000
_REMEMBERED = 100_000


def starting_line(word: str, *, term: str, command: str = "") -> str:
    """What is typed first: the person's shell, with a command if one is given, and its exit code behind it.

    It works in sh, bash, zsh, fish and csh. For the space before it many leave it out of their history.

    Raises:
        ValueError: with the command it is longer than a terminal takes.
    """
    say = f'printf "\\033]5379;{word};%s\\007"'
    run = f' -c "$(printf "{_spelled(command)}")"' if command else ""
    keep = "trap : INT QUIT; " if command else ""  # else Ctrl-C would end who says the exit code, too
    line = f" exec sh -c '{say} begin; {keep}TERM={term} \"${{SHELL:-sh}}\"{run}; {say} $?'\r"
    if len(line) > _LINE_BYTES:
        raise ValueError(f"a command of {len(command)} letters is too long to be typed: put it into a script")
    return line


def _spelled(command: str) -> str:
    """A command as printf's format, in letters that mean the same to every shell, quoted or not."""
    return "".join(chr(byte) if chr(byte) in _PLAIN else f"\\{byte:03o}" for byte in command.encode())


class TerminalText:
    """Follows the text of one terminal, over all its connections.

    Attributes:
        word: what its control sequences are known by.
        begun: whether the person's shell has begun; nothing is shown before.
        exit_code: of that shell, once it has ended.
    """

    def __init__(self, word: str) -> None:
        """Of a terminal in which `starting_line(word)` was typed."""
        self.word = word
        self.begun = False
        self.exit_code: int | None = None
        self._begin = f"{_OSC}{word};begin{_BEL}"
        self._end = re.compile(f"{re.escape(_OSC + word)};(\\d+){_BEL}")
        self._prefix = f"{_OSC}{word};"
        self._held = ""
        self._seen = ""
        self._modes: set[str] = set()
        self._is_replay = False

    def feed(self, text: str) -> str:
        """Take what came, return what is to be shown of it."""
        if self._is_replay:
            self._is_replay = False
            text = self._new_of(text)
        text, self._held = self._held + text, ""
        if not self.begun:
            _, found, rest = text.partition(self._begin)
            if not found:
                self._held = text
                return ""
            self.begun, text = True, rest
        ended = self._end.search(text)
        if ended:
            self.exit_code = int(ended[1])
            text = text[: ended.start()]
        else:
            cut = self._cut(text)
            text, self._held = text[:cut], text[cut:]
        self._note(text)
        return text

    def give_up_hiding(self) -> str:
        """The shell has not said that it begins: show what it said instead, and everything from now on."""
        self.begun, text, self._held = True, self._held, ""
        self._note(text)
        return text

    def reconnected(self) -> None:
        """What comes next is the server's repetition of what the terminal said lately."""
        self._is_replay = self.begun
        self._held = "" if not self.begun else self._held

    def leave(self) -> str:
        """What puts a terminal right whose program could not do so itself."""
        off = [f"\x1b[?{mode}l" for mode in sorted(self._modes - {"25"})]
        return "".join([*off, "\x1b[?25h" if "25" in self._modes else "", "\x1b[0m" if off else ""])

    def _cut(self, text: str) -> int:
        """Where an exit code may be beginning of which the rest has not come yet."""
        at = text.rfind("\x1b", max(len(text) - len(self._prefix) - 4, 0))
        if at >= 0 and (self._prefix.startswith(text[at:]) or text[at:].startswith(self._prefix)):
            return at
        return len(text)

    def _new_of(self, replayed: str) -> str:
        """What of a repetition was not shown yet; all that is left of it where that cannot be told."""
        seen = self._seen[-_OVERLAP:] + self._held
        self._held = ""
        for size in (len(seen), 200, 40):
            end = seen[-size:]
            if end and (at := replayed.rfind(end)) >= 0:
                return replayed[at + len(end) :]
        _, found, rest = replayed.partition(self._begin)
        return "\r\n" + (rest if found else replayed)

    def _note(self, text: str) -> None:
        self._seen = (self._seen + text)[-_REMEMBERED:]
        for found in _MODES.finditer(text):
            for mode in found[1].split(";"):
                # Of the cursor, what a program leaves behind is that it is hidden.
                if mode in _WATCHED and (found[2] == "h") != (mode == "25"):
                    self._modes.add(mode)
                else:
                    self._modes.discard(mode)
