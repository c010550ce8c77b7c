"""What a person asks for with one `%%colab_queue`, and the job specifications that it means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from colab_magics.errors import SpecError
from colab_magics.jobs.grid import describe_params, fill_command, grid_product
from colab_magics.jobs.script_line import WANTED, read_script_line
from colab_magics.jobs.secret_names import sounds_secret
from colab_magics.jobs.spec import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    MAX_NAME_LENGTH,
    MAX_TIMEOUT_S,
    Batch,
    Input,
    JobSpec,
    Json,
    check_name,
    slug,
)

FALLBACK_NAME = "cell"

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_COMMENT = re.compile(r"#+(?!\s*(?:%%|!|-\*-))\s*(.*)")
_DEFINITION = re.compile(r"(?:async\s+def|def|class)\s+(\w+)")
_SCRIPT = re.compile(r"([\w-]+)\.(?:py|sh|ipynb)\b")


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one wish. Exactly one of a cell, given apart, and `command` is what runs.

    `axes` are a grid's axes with their values; no axes is one job.
    """

    name: str = ""
    command: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    params: tuple[tuple[str, Json], ...] = ()
    axes: tuple[tuple[str, tuple[Json, ...]], ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    requirements: str | None = None
    retries: int = DEFAULT_RETRIES
    env: tuple[tuple[str, str], ...] = ()
    allow_pickle: bool = False
    debuggable: bool | None = None
    hold_s: float = 0.0
    magic: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the wish's files became: paths beside experiments.json, and the commit of the code."""

    code: str
    cell: str | None = None
    inputs: tuple[Input, ...] = ()
    requirements: str | None = None


def parse_duration(text: str, *, option: str = "a timeout") -> float:
    """`90`, `90s`, `15m`, `2h` or `1d` in seconds.

    Raises:
        SpecError: another form, or not above 0 and at most 30 days.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise SpecError(
            f"{option} is a number of seconds, or written like 90s, 15m or 2h, above 0 and at most 30 days; "
            f"found {text!r}"
        )
    return seconds


def parse_names(texts: Sequence[str], *, option: str) -> tuple[str, ...]:
    """The variables of `a,b` and `c`, each once, in their order.

    Raises:
        SpecError: something between the commas is no name that Python allows.
    """
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise SpecError(f"{option} takes names of variables, separated by commas; {name!r} is not one")
    return tuple(dict.fromkeys(names))


def parse_env(text: str) -> tuple[str, str]:
    """`KEY=value` as a pair.

    Raises:
        SpecError: no `=`, a name that an environment cannot have, or one that says that it is secret.
    """
    name, found, value = text.partition("=")
    if not found or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
        raise SpecError(f"--env takes NAME=VALUE; found {text!r}")
    if sounds_secret(name):
        raise SpecError(
            f"--env {name} would stand in clear text in the repository's history for ever, and its name says "
            f"that it is secret: set {name} where the daemon runs, its jobs have it then"
        )
    return name, value


def default_name(source: str, *, is_command: bool) -> str:
    """What a job is called that was given no name.

    For a cell: its first comment, or the first function or class it defines, whichever stands first, else
    `cell`. For a command: its script, else its program.
    """
    if is_command:
        script = _SCRIPT.search(source)
        return script[1] if script else source.split()[0].rpartition("/")[2] or FALLBACK_NAME
    for line in source.splitlines():
        comment, definition = _COMMENT.fullmatch(line.rstrip()), _DEFINITION.match(line)
        if comment and re.search(r"\w", comment[1]):
            return _shorten(" ".join(comment[1].split()), 60)
        if definition:
            return definition[1]
    return FALLBACK_NAME


def job_specs(
    request: Request, sent: Sent, *, suffixes: Sequence[str], batch_id: str, queued_at: float
) -> tuple[JobSpec, ...]:
    """One specification for each configuration of the request's grid, in the grid's order.

    Args:
        request: its `name` is not empty.
        sent: what its files became.
        suffixes: for each configuration, what ends its id: 10 random hex digits.
        batch_id: what ties the jobs of a grid together.
        queued_at: Unix seconds UTC.

    Raises:
        SpecError: the name is none, a parameter is given twice, the grid is too large, or a command cannot
            be stepped into as was asked.
    """
    check_name(request.name)
    axes = tuple(name for name, _ in request.axes)
    batch = Batch(batch_id, request.name, axes) if axes else None
    specs = []
    for params, suffix in zip(configurations(request), suffixes, strict=True):
        varied = describe_params((key, value) for key, value in params if key in axes)
        name = _shorten(" ".join(f"{request.name} {varied}".split()), MAX_NAME_LENGTH)
        command = fill_command(request.command, params) if request.command else None
        _check_steps(command, request)
        specs.append(
            JobSpec(
                job_id=f"{slug(name)}-{suffix}",
                name=name,
                command=command,
                cell=sent.cell,
                timeout_s=request.timeout_s,
                code=sent.code,
                params=params,
                inputs=sent.inputs,
                outputs=request.outputs,
                artifacts=request.artifacts,
                requirements=sent.requirements,
                retries=request.retries,
                env=request.env,
                allow_pickle=request.allow_pickle,
                queued_at=queued_at,
                batch=batch,
                debuggable=request.debuggable,
                hold_s=request.hold_s,
                magic=request.magic,
            )
        )
    return tuple(specs)


def _check_steps(command: str | None, request: Request) -> None:
    option = "--debuggable" if request.debuggable else "--hold" if request.hold_s else ""
    if command is not None and option and read_script_line(command) is None:
        raise SpecError(f"{option}: {WANTED}; found {command!r}")


def configurations(request: Request) -> list[tuple[tuple[str, Json], ...]]:
    """The parameters of each job that the request means.

    Raises:
        SpecError: as `grid_product`.
    """
    return grid_product(request.params, request.axes)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
