"""Why a command failed, read from the end of its log. Pure."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from colab_magics.daemon.shown import strip_ansi
from colab_magics.jobs.record import CELL, Failure

_START = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_ERROR = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$")
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|OutOfMemoryError|DefaultCPUAllocator: can't allocate memory|"
    r"DefaultCPUAllocator: not enough memory|\bMemoryError\b|CUDA error: out of memory|std::bad_alloc|"
    r"RESOURCE_EXHAUSTED|Unable to allocate .* for an array"
)
_FIGURES = re.compile(r"(Tried to allocate .*|you tried to allocate .*)", re.DOTALL)
_MAX_LINES = 200


def says_out_of_memory(text: str) -> bool:
    """Whether an error's text says that memory ran out, in the words of torch, numpy, JAX, Python or C++."""
    return _OUT_OF_MEMORY.search(text) is not None


def find_failure(log_tail: str, *, checkout: str) -> Failure | None:
    """The last Python traceback in `log_tail`, None where there is none.

    Args:
        log_tail: the end of a job's output.
        checkout: the folder of the job's code, as its processes saw it.
    """
    lines = strip_ansi(log_tail).split("\n")
    starts = [index for index, line in enumerate(lines) if line.strip().endswith(_START)]
    if not starts:
        return None
    start = starts[-1]
    prefix = lines[start][: lines[start].index(_START)]
    body, error = _read_frames(lines[start + 1 :], prefix=prefix)
    if error is None:
        return None
    kind, message, rest = error
    shown = [lines[start], *body, *rest][:_MAX_LINES]
    file, line, function, source = _persons_line(body, checkout=checkout)
    out_of_memory = says_out_of_memory(f"{kind}: {message}")
    figures = _FIGURES.search(message) if out_of_memory else None
    return Failure(
        type=kind,
        message=message,
        traceback=tuple(shown),
        file=file,
        line=line,
        function=function,
        source=source,
        out_of_memory=out_of_memory,
        allocator_summary=figures[1] if figures else None,
    )


def find_crash(text: str, *, checkout: str) -> tuple[str | None, int | None, str | None]:
    """File, line and function of the person's innermost frame in what faulthandler wrote of a kernel's crash.

    Source: https://docs.python.org/3/library/faulthandler.html (the most recent call is first)
    """
    current = text[max(0, text.find("Current thread")) :]
    for match in re.finditer(r'^\s*File "(.+)", line (\d+) in (.+)$', current.split("\n\n")[0], re.MULTILINE):
        file, line, function = match[1], int(match[2]), match[3]
        own = CELL if "ipykernel_" in file or file.startswith("<ipython-input") else None
        own = own or persons_file(file, checkout=checkout)
        if own is not None:
            return own, line, function
    return None, None, None


def persons_file(file: str, *, checkout: str) -> str | None:
    """`file` relative to the checkout, None where it is not of the person's code there."""
    if file.startswith("<"):
        return None
    path = os.path.normpath(os.path.join(checkout, file))  # noqa: PTH118 - pure, nothing is looked up
    roots = {checkout, os.path.normpath(checkout)}
    for root in roots:
        if path.startswith(root.rstrip(os.sep) + os.sep):
            relative = PurePath(path[len(root.rstrip(os.sep)) + 1 :])
            if {"site-packages", "dist-packages"}.isdisjoint(relative.parts):
                return relative.as_posix()
    return None


def _read_frames(lines: list[str], *, prefix: str) -> tuple[list[str], tuple[str, str, list[str]] | None]:
    body: list[str] = []
    for index, line in enumerate(lines):
        text = line.removeprefix(prefix)
        if text.startswith((" ", "\t")) or not text.strip():
            body.append(text)
            continue
        match = _ERROR.match(text)
        if match is None:
            return body, None
        more = _message_lines(lines[index + 1 :])
        return body, (match["type"], "\n".join([match["message"] or "", *more]).strip(), [line, *more])
    return body, None


def _message_lines(lines: list[str]) -> list[str]:
    """An error's message may go on for some lines: until an empty one, or at most twenty."""
    taken = []
    for line in lines[:20]:
        if not line.strip() or line.startswith(("Traceback", "[")):
            break
        taken.append(line)
    return taken


def _persons_line(body: list[str], *, checkout: str) -> tuple[str | None, int | None, str | None, str | None]:
    for index in range(len(body) - 1, -1, -1):
        match = _FRAME.match(body[index])
        if match is None:
            continue
        file = persons_file(match["file"], checkout=checkout)
        if file is not None:
            following = body[index + 1].strip() if index + 1 < len(body) else ""
            source = following if following and not _FRAME.match(body[index + 1]) else None
            return file, int(match["line"]), match["function"], source
    return None, None, None, None
