"""`tunnel sync`, `tunnel forward` and `tunnel debug`, for magics and terminal alike."""

from __future__ import annotations

import argparse
import atexit
import codecs
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from colab_magics.commands import Desk, no_more
from colab_magics.display.formats import format_bytes, format_count
from colab_magics.display.hints import typed
from colab_magics.display.projects import Ended, SyncView
from colab_magics.display.watching import Lines
from colab_magics.errors import UsageError
from colab_magics.tunnel import launch_json, project
from colab_magics.tunnel.debug import DebuggedScript
from colab_magics.tunnel.forward import Forward, open_carrier
from colab_magics.tunnel.plan import Plan, Say
from colab_magics.tunnel.project import Synced
from colab_magics.tunnel.session import display_name_of, is_open, sync_session, the_session

NAMED = 5
"""How many files a sentence names."""


def sync_view(synced: Synced) -> SyncView:
    """A sync in sentences."""
    sync = f"{typed('tunnel')} sync"
    lines = [f"{synced.local_root} is at {synced.remote_root} there: {_sent(synced)}."]
    if synced.taken:
        lines.append(f"Edited there, and taken: {_named(synced.taken)}.")
    for path, name in synced.beside.items():
        lines.append(f"{path} was edited on both sides: yours is there now, and theirs is here as {name}.")
    if synced.waiting:
        lines.append(
            f"Edited there, and left as it is there: {_named(synced.waiting)}. {sync} --yes takes it."
        )
    if synced.kept:
        lines.append(f"Something else is there, and was not overwritten: {_named(synced.kept)}.")
    if synced.modules:
        lines.append(
            f"Kernels that have imported {_named(synced.modules)} still run the old code: restart them, or "
            "run `%load_ext autoreload` and `%autoreload 2` in them."
        )
    if synced.new_count:
        lines.append(
            f"Only there: {_named(synced.new, synced.new_count)}; {typed('tunnel')} get brings a file."
        )
    lines += [f"Not sent: {each}." for each in synced.left_out]
    roots = {"local_root": str(synced.local_root), "remote_root": synced.remote_root}
    return SyncView(tuple(lines), synced.diff, roots)


def _sent(synced: Synced) -> str:
    if not synced.sent:
        return "nothing to send"
    return f"{format_count(synced.sent, 'file')} changed, {format_bytes(synced.sent_bytes)} sent"


def _named(names: tuple[str, ...], count: int = 0) -> str:
    more = max(count, len(names)) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _sync(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> SyncView:
    no_more(rest, after="sync", hint=": --project names another folder")
    reached, runtime = the_session(arguments.name)
    screen = desk.screen()
    try:
        plan = plan_of(desk, arguments, lambda sentence: screen.update(Lines((sentence,))))
        synced, _ = sync_session(reached, runtime, plan)
    finally:
        screen.close()
    return sync_view(synced)


def plan_of(desk: Desk, arguments: argparse.Namespace, say: Say) -> Plan:
    """What a session shall be like, as far as it is about the project."""
    return Plan(
        project=None if arguments.project is None else Path(arguments.project).expanduser().absolute(),
        remote_root=arguments.remote_root,
        yes=arguments.yes,
        say=say,
        folder=desk.folder,
        max_file_bytes=desk.settings.max_file_bytes,
    )


def _forward(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Forward | Lines:
    """In a notebook it goes on by itself; in a terminal until it is interrupted."""
    if len(rest) != 1:
        raise UsageError("forward takes one port of the machine: forward PORT, or PORT:LOCAL for one here")
    there, here = _ports(rest[0])
    reached, runtime = the_session(arguments.name)
    forward = Forward(
        lambda: open_carrier(runtime),
        there=there,
        port=here,
        say=tell,
        is_wanted=lambda: is_open(reached),
    )
    if desk.namespace is not None:
        atexit.register(forward.close)
        return forward
    try:
        tell(f"127.0.0.1:{forward.port} here leads to port {there} of {runtime.name}. Ctrl-C ends it.")
        forward.wait()
    except KeyboardInterrupt:
        pass
    finally:
        forward.close()
    return Lines((f"Port {forward.port} is closed.",))


def _ports(text: str) -> tuple[int, int]:
    there, colon, here = text.partition(":")
    try:
        ports = int(there), int(here) if colon else 0
        if not 0 < ports[0] < 65536 or not (0 < ports[1] < 65536 or not colon):
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no PORT or PORT:LOCAL, numbers from 1 to 65535") from None
    return ports


def _debug(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Ended:
    """Bring the project, start the script there, and have F5 attach to it."""
    if not rest:
        raise UsageError(
            "debug takes a script of your project, and then what it is given: debug SCRIPT [ARGS]"
        )
    script = (desk.folder / Path(rest[0]).expanduser()).resolve()
    if not script.is_file():
        raise UsageError(f"{script} is not there")
    reached, runtime = the_session(arguments.name)
    plan = plan_of(desk, arguments, tell)
    top = project.project_at(plan.project or script.parent).work_tree
    assert top is not None
    if not script.is_relative_to(top.resolve()):
        raise UsageError(f"{script} is not in the project {top}")
    synced, runtime = sync_session(reached, runtime, replace(plan, project=top))
    for line in (*synced.diff.splitlines(), *sync_view(synced).lines):
        tell(line)
    root = PurePosixPath(synced.remote_root)
    folder = desk.folder.resolve()
    inside = folder.relative_to(top.resolve()) if folder.is_relative_to(top.resolve()) else Path()
    name = display_name_of(reached.name)
    there = str(root / script.relative_to(top.resolve()).as_posix())
    write = _writer()
    with DebuggedScript(runtime) as running:
        running.start(
            there,
            arguments.given,
            folder=str(root / inside.as_posix()),
            port=launch_json.known_port(top, name),
            write=write,
        )
        path = launch_json.write_entry(
            top, launch_json.entry(name, port=running.port, remote_root=synced.remote_root)
        )
        tell(
            f"{rest[0]} waits there for a debugger: in VS Code, choose “{name}” under Run and Debug, then "
            f"press F5 ({path.relative_to(top)} has it, port {running.port}). Ctrl-C interrupts the script."
        )
        code = running.wait(write, note=tell)
    return Ended(rest[0], code)


def _writer() -> Callable[[str, bytes], None]:
    """What passes on what a script there writes, as if it had been written here."""
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}

    def write(stream: str, data: bytes) -> None:
        out = sys.stderr if stream == "stderr" else sys.stdout
        out.write(decoders[stream].decode(data))
        out.flush()

    return write


def tell(sentence: str) -> None:
    """Say something beside what a command returns."""
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


VERBS: Mapping[str, Callable[[Desk, argparse.Namespace, list[str]], Any]] = {
    "sync": _sync,
    "forward": _forward,
    "debug": _debug,
}
