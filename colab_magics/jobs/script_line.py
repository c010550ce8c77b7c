"""A command line that only starts a Python script: such a command can be stepped into. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

WANTED = (
    "a command can be stepped into only where it is plainly `python script.py …` or `python -m module …`, "
    "without anything that the shell would have to do"
)

_QUOTED = re.compile(r"'[^']*'|\"[^\"$`\\]*\"")
_FOR_THE_SHELL = re.compile(r"[|&;<>()$`\\*?\[\]{}~\n\"']|(?:^|\s)#")
_PYTHON = re.compile(r"(?:.*/)?python(?:3(?:\.\d+)?)?")
_FLAGS = re.compile(r"-[uOBsqb]+")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """What such a command line says.

    Attributes:
        python: the interpreter, a name or a path.
        options: the interpreter's own.
        target: `(path,)` of a script, or `("-m", module)`.
        arguments: the script's.
    """

    python: str
    options: tuple[str, ...]
    target: tuple[str, ...]
    arguments: tuple[str, ...]


def read_script_line(command: str) -> ScriptLine | None:
    """What a command line starts, None if it is anything else than one Python script or module."""
    if _FOR_THE_SHELL.search(_QUOTED.sub("", command)):
        return None
    words = shlex.split(command)
    if not words or not _PYTHON.fullmatch(words[0]):
        return None
    at = _end_of_options(words)
    options, rest = words[1:at], words[at:]
    if rest[:1] == ["-m"]:
        is_target, length = len(rest) > 1 and _MODULE.fullmatch(rest[1]) is not None, 2
    else:
        is_target, length = bool(rest) and rest[0].endswith(".py") and not rest[0].startswith("-"), 1
    if not is_target:
        return None
    return ScriptLine(words[0], tuple(options), tuple(rest[:length]), tuple(rest[length:]))


def _end_of_options(words: Sequence[str]) -> int:
    at = 1
    while at < len(words):
        if words[at] in ("-W", "-X"):
            at += 2
        elif _FLAGS.fullmatch(words[at]) or re.match(r"-[WX].", words[at]):
            at += 1
        else:
            break
    return at
