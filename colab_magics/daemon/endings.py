"""How processes and cells end, as values, and exit codes in words. Pure."""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from colab_magics.daemon.assignment import Phase


class Ending(enum.StrEnum):
    """Why a process is ended from outside."""

    TIMED_OUT = "timed_out"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: its exit code (negative: a signal), and why it was ended, None if by itself.

    `ignored_interrupt` says that it outlived its grace, `left_over` how many processes it left behind,
    `stuck` how many still run because SIGKILL did not end them.
    """

    exit_code: int
    ending: Ending | None = None
    ignored_interrupt: bool = False
    left_over: int = 0
    stuck: int = 0


@dataclass(frozen=True, slots=True)
class CellEnd:
    """How a cell ended.

    `reply` is the content of the kernel's answer, None where there was none: then the process died by itself
    (`end.ending` None) or was ended. `report` and `saved` are what guest.py wrote. `problem` says what went
    wrong around the cell: the kernel did not start, an input could not be opened. `crash` is where the
    interpreter was when it crashed, in faulthandler's words.
    """

    end: End
    reply: Mapping[str, Any] | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    saved: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    died_while: Phase | None = None
    crash: str = ""


def map_texts(end: CellEnd, change: Callable[[Any], Any]) -> CellEnd:
    """The same end with every text in it that a job may have written changed."""
    report, crash = change(dict(end.report)), change(end.crash)
    return replace(end, report=report, problem=change(end.problem), crash=crash)


def describe_exit(code: int) -> str:
    """An exit code in words: `exit code 3`, `signal 9 (SIGKILL)`."""
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if not number:
        return f"exit code {code}"
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    return f"signal {number}{name}" if code < 0 else f"exit code {code}, which means signal {number}{name}"


def is_kill(code: int) -> bool:
    """Whether the exit code says SIGKILL, by itself or through a shell."""
    return code in (-signal.SIGKILL, 128 + signal.SIGKILL)
