"""The options of `queue` and `sync`: one table, from which magics and terminal build their parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from colab_magics.errors import UsageError
from colab_magics.jobs.grid import parse_axis, parse_param
from colab_magics.jobs.request import Request, parse_duration, parse_env, parse_names
from colab_magics.jobs.spec import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S

VERBS = ("cancel", "retry", "logs", "show")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Option:
    """One argument: its name or flags, what it is for, and what argparse has to know besides."""

    flags: tuple[str, ...]
    help: str
    more: Mapping[str, Any] = field(default_factory=dict)


def _value(flag: str, help: str, metavar: str, **more: Any) -> Option:
    return Option((flag,), help, {"metavar": metavar, "default": None, **more})


def _each(flag: str, help: str, metavar: str, **more: Any) -> Option:
    return Option((flag,), help, {"metavar": metavar, "action": "append", "default": [], **more})


def _flag(flag: str, help: str) -> Option:
    return Option((flag,), help, {"action": "store_true"})


PLACE = (
    _value("--remote", "the Git remote whose queue it is; origin, or the only one, by default", "NAME"),
    _flag("--local", "the queue on this machine, run by a daemon that is started here"),
)

QUEUE = (
    Option(
        ("verb",),
        "cancel, retry, logs or show JOBs instead of queueing one; nothing at all is the table of jobs",
        {"nargs": "?", "metavar": "{cancel,retry,logs,show}", "default": None},
    ),
    Option(
        ("jobs",), "an id, the beginning of one, or a name", {"nargs": "*", "metavar": "JOB", "default": []}
    ),
    _value(
        "--command", "a shell command line to run instead of a cell; {lr} stands for the parameter lr", "LINE"
    ),
    _value(
        "--name", "what to call it; by default the cell's first comment or definition, else 'cell'", "NAME"
    ),
    _value(
        "--timeout",
        f"end it after so long: seconds, or 90s, 15m, 2h; {DEFAULT_TIMEOUT_S / 3600:g}h by default",
        "TIME",
    ),
    _each("--param", "a variable set before the cell runs; may be given again", "NAME=VALUE"),
    _each(
        "--grid",
        "an axis of a grid, one job for each combination of values; 0:10 is a range; may be given again",
        "NAME=A,B,C",
    ),
    _each(
        "--in", "variables of this notebook to send with it; may be given again", "NAME,...", dest="inputs"
    ),
    _each("--out", "variables to bring back; may be given again", "NAME,...", dest="outputs"),
    _each(
        "--artifact", "files to bring back, by a pattern such as 'models/*.pt'; may be given again", "GLOB"
    ),
    _value("--requirements", "packages to install for it, on top of what the machine has", "FILE"),
    _value(
        "--retries", f"how often it may run again after its session died; {DEFAULT_RETRIES} by default", "N"
    ),
    _each("--env", "a variable of its environment; may be given again", "NAME=VALUE"),
    _flag(
        "--pickle", "send and bring back with pickle what has no open format; only between machines you trust"
    ),
    Option(
        ("--debuggable",),
        "let people step into it while it runs: a cell, or `python script.py`; for a cell that is so where "
        "it costs next to nothing",
        {"action": argparse.BooleanOptionalAction, "default": None},
    ),
    _value(
        "--hold",
        "keep what fails stopped where it failed, for so long (30m): a cell, or `python script.py`",
        "TIME",
    ),
    *PLACE,
    _flag("--wait", "watch until it is done, then sync it"),
    _flag("--dry-run", "show what would be queued, and send nothing"),
    _flag("--failed", "with retry: all jobs that failed, timed out or were lost"),
    _flag("--follow", "with logs: go on showing until the job is done"),
)

SYNC = (
    Option(
        ("jobs",),
        "an id, the beginning of one, or a name; by default all that is new",
        {"nargs": "*", "metavar": "JOB", "default": []},
    ),
    _flag("--watch", "keep the table up to date until all of it is done; interrupting only stops watching"),
    _value("--into", "where files go, instead of colab_results; variables are put there as files too", "DIR"),
    _flag("--no-vars", "leave this notebook's variables alone"),
    _flag("--pickle", "open variables that came back as pickle; only from machines you trust"),
    _flag("--all", "all jobs in the table, not only those that are open or new"),
    *PLACE,
)


TUNNEL = (
    Option(
        ("words",),
        "a target to open, or a verb with what it needs: status, close [NAME], sync, forward PORT[:LOCAL], "
        "debug SCRIPT [ARGS], job ID, put LOCAL [REMOTE], get REMOTE [LOCAL], ls [DIR], edit REMOTE, gpu, "
        "terminal [-- COMMAND]",
        {"nargs": "*", "metavar": "TARGET", "default": []},
    ),
    _value("--name", "what to call the session, or which one is meant", "NAME"),
    _value("--project", "the folder here that is to be there as well", "DIR"),
    _value("--remote-root", "where the project is to be there; by default a folder of the session's", "DIR"),
    _value("--python", "the Python over there that the server is to run in; found otherwise", "PATH"),
    _value("--remote", "with `daemon`: the Git remote whose queue it is; origin, or the only one", "NAME"),
    _flag("--yes", "do not ask; with sync and --project: take what was edited there"),
    _flag("--pause", "with job: stop it wherever it is"),
    _value("--evaluate", "with job: what an expression is where it stands", "EXPRESSION"),
    _flag(
        "--vscode",
        "with job: a port for VS Code's debugger and an entry in launch.json; in a terminal until it is over",
    ),
    _flag("--look", "with job: show its stacks once, and change nothing"),
)


def split_given(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is ours of the words after `tunnel`, and what not: all after `debug SCRIPT` and `terminal --`."""
    takes_value = {flag for each in TUNNEL if "action" not in each.more for flag in each.flags}
    plain: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "--" and plain == ["terminal"]:
            return [*words[:at]], [*words[at + 1 :]]
        if words[at] in takes_value:
            at += 1
        elif not words[at].startswith("-"):
            plain.append(words[at])
            if plain[0] not in ("debug", "terminal"):
                break
            if plain[0] == "debug" and len(plain) == 2:
                return [*words[: at + 1]], [*words[at + 1 :]]
        at += 1
    return [*words], []


class _Parser(Protocol):
    def add_argument(self, *flags: str, **more: Any) -> Any: ...


def add_options(parser: _Parser, options: tuple[Option, ...]) -> None:
    """Give a parser the options."""
    for option in options:
        parser.add_argument(*option.flags, help=option.help, **option.more)


def as_magic_arguments(options: tuple[Option, ...]) -> Callable[[F], F]:
    """The options as a decorator for a magic: IPython's `@magic_arguments()` over an `@argument` for each."""
    from IPython.core.magic_arguments import argument, magic_arguments

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = argument(*option.flags, help=option.help, **option.more)(function)  # type: ignore[no-untyped-call]
        decorated: F = magic_arguments()(function)  # type: ignore[no-untyped-call]
        return decorated

    return decorate


def read_request(arguments: argparse.Namespace) -> Request:
    """The job that the options of `queue` ask for.

    Raises:
        SpecError: a value does not have the form of its option.
        UsageError: options that do not go together.
    """
    for name in ("failed", "follow"):
        if getattr(arguments, name):
            raise UsageError(
                f"--{name} goes with {'retry' if name == 'failed' else 'logs'}, not with a new job"
            )
    return Request(
        name=(arguments.name or "").strip(" "),
        command=arguments.command,
        timeout_s=DEFAULT_TIMEOUT_S if arguments.timeout is None else parse_duration(arguments.timeout),
        params=tuple(parse_param(text) for text in arguments.param),
        axes=tuple(parse_axis(text) for text in arguments.grid),
        inputs=parse_names(arguments.inputs, option="--in"),
        outputs=parse_names(arguments.outputs, option="--out"),
        artifacts=tuple(arguments.artifact),
        requirements=arguments.requirements,
        retries=DEFAULT_RETRIES if arguments.retries is None else _count(arguments.retries),
        env=tuple(parse_env(text) for text in arguments.env),
        allow_pickle=arguments.pickle,
        magic=getattr(arguments, "magic", ""),
        debuggable=arguments.debuggable,
        hold_s=0.0 if arguments.hold is None else parse_duration(arguments.hold, option="--hold"),
    )


def check_verb(arguments: argparse.Namespace) -> None:
    """Refuse what the parser lets through.

    Raises:
        UsageError: an unknown verb, or a verb without the jobs that it needs.
    """
    verb = arguments.verb
    if verb is None:
        return
    if verb not in VERBS:
        raise UsageError(
            f"{verb!r} is none of {', '.join(VERBS)}; --name {verb} names a job, show {verb} shows one"
        )
    if not arguments.jobs and not (verb == "retry" and arguments.failed):
        more = ", or --failed" if verb == "retry" else ""
        raise UsageError(f"{verb} needs a job: an id, the beginning of one, or a name{more}")
    if arguments.jobs and arguments.failed:
        raise UsageError("retry takes either jobs or --failed, not both")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text.strip()) or int(text) > 100:
        raise UsageError(f"--retries is a whole number from 0 to 100; found {text!r}")
    return int(text)
