"""`jupyter colab …`: the same verbs in a terminal. Data on stdout, talk on stderr."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from colab_magics import commands, options
from colab_magics.display.handles import LogView
from colab_magics.display.projects import Ended, SyncView
from colab_magics.display.tables import JobRow, JobTable
from colab_magics.display.transfers import FileTable, LoadTable, Shown
from colab_magics.display.tunnels import TunnelCard, TunnelTable
from colab_magics.display.watching import Lines, Screen
from colab_magics.errors import ColabError, UsageError
from colab_magics.handles import JobHandle
from colab_magics.job_set import JobSet
from colab_magics.posix import need_posix
from colab_magics.settings import Settings
from colab_magics.sync import SyncReport

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

GARBAGE = 100_000
"""New objects between two looks for garbage: with Python's 700 they are a tenth of a sync of 10,000 jobs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 failed, 2 not understood, 130 interrupted."""
    try:
        arguments = _parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as ended:  # argparse has said why
        return int(ended.code or 0)
    gc.set_threshold(GARBAGE)
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # here, where it is known what to do when nobody reads it any more
    except BrokenPipeError:
        _close_output()
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ColabError as error:
        if arguments.debug:
            raise
        print(f"jupyter colab {arguments.verb_name}: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    return code


def _close_output() -> None:
    """Let what is left for `| head` go nowhere, or the interpreter complains about it when it ends.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="jupyter colab",
        description="Queue notebook cells and commands as batch jobs on a GPU elsewhere, through Git.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="verb_name")
    queue = _add(verbs, "queue", _queue, "queue a command or a cell; alone, show the table of jobs")
    options.add_options(queue, options.QUEUE)
    queue.add_argument("--file", metavar="FILE", help="the cell to queue, from a file; - is standard input")
    queue.add_argument("--json", action="store_true", help="print JSON")
    sync = _add(verbs, "sync", _sync, "bring home what jobs have left")
    options.add_options(sync, options.SYNC)
    sync.add_argument("--json", action="store_true", help="print JSON; the outputs go to standard error")
    tunnel = _add(verbs, "tunnel", _tunnel, "open a session with another machine, and work there")
    options.add_options(tunnel, options.TUNNEL)
    tunnel.add_argument("--json", action="store_true", help="print JSON")
    daemon = _add(verbs, "daemon", _daemon, "run the jobs of a repository on this machine")
    daemon.add_argument("--repo", metavar="URL", required=True, help="the repository's address")
    daemon.add_argument("--branch", metavar="NAME", help="the branch that jobs are queued on")
    daemon.add_argument("--poll", metavar="S", type=float, help="seconds between two looks at the queue")
    daemon.add_argument(
        "--idle-stop", metavar="MIN", type=float, help="end after so many minutes without anything to do"
    )
    daemon.add_argument("--once", action="store_true", help="drain the queue, then end")
    daemon.add_argument("--workdir", metavar="DIR", type=Path, help="where the daemon keeps its clone")
    daemon.add_argument(
        "--expose",
        metavar="WAY",
        help="allow sessions with this machine: loopback, url:https://HOST, ssh:USER@RELAY[:PORT] or "
        "colab[:SESSION]",
    )
    daemon.add_argument(
        "--expose-port", metavar="PORT", type=int, help="the port of this machine that your tunnel leads to"
    )
    demo = _add(verbs, "demo", _demo, "run the quickstart with both sides on this machine")
    demo.add_argument(
        "--into", metavar="DIR", type=Path, default=Path("colab-demo"), help="where its notebook and page go"
    )
    return parser


def parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    [verbs] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(verbs.choices)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Options may stand between the jobs: `queue cancel --remote origin ID`, as in the magics."""
    parser = make_parser()
    chosen = parsers(parser).get(argv[0]) if argv else None
    if chosen is None:
        return parser.parse_args(argv)
    words, given = options.split_given(argv[1:]) if argv[0] == "tunnel" else ([*argv[1:]], [])
    arguments = chosen.parse_intermixed_args(words)
    arguments.verb_name = argv[0]
    arguments.given = given
    return arguments


def _add(verbs: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=f"{about.capitalize()}.")
    parser.set_defaults(run=run)
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


def _queue(arguments: argparse.Namespace) -> int:
    cell = _read_cell(arguments.file)
    _print(commands.run_queue(_desk(arguments), arguments, cell), as_json=arguments.json)
    return DONE


def _sync(arguments: argparse.Namespace) -> int:
    _print(commands.run_sync(_desk(arguments), arguments), as_json=arguments.json)
    return DONE


def _tunnel(arguments: argparse.Namespace) -> int:
    from colab_magics import tunnel_commands

    result = tunnel_commands.run_tunnel(_desk(arguments), arguments)
    if isinstance(result, Shown):
        return result.code
    _print(result, as_json=arguments.json)
    return result.code if isinstance(result, Ended) else DONE


def _daemon(arguments: argparse.Namespace) -> int:
    need_posix("the daemon")
    from colab_magics.daemon.service import Order, run_daemon

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    order = Order(
        repo=arguments.repo,
        branch=arguments.branch or Settings.from_env().branch,
        poll_s=arguments.poll,
        idle_stop_min=arguments.idle_stop,
        once=arguments.once,
        workdir=arguments.workdir,
        expose=arguments.expose,
        expose_port=arguments.expose_port,
    )
    ended = run_daemon(order)
    print(f"{ended} attempt{'' if ended == 1 else 's'} ended here", file=sys.stderr)
    return DONE


def _demo(arguments: argparse.Namespace) -> int:
    need_posix("the demo, both sides of the queue on one machine,")
    from colab_magics.demo import run_demo

    print(run_demo(arguments.into.absolute()))
    return DONE


def _desk(arguments: argparse.Namespace) -> commands.Desk:
    stream = sys.stderr if arguments.json else sys.stdout
    return commands.Desk(
        folder=Path.cwd(), settings=Settings.from_env(), screen=lambda: Screen(stream, notebook=False)
    )


def _read_cell(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode()
    except OSError as error:
        raise UsageError(f"--file {name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--file {name} is not UTF-8 text: byte {error.start} is not") from error


def _print(result: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_told(result), ensure_ascii=False, indent=1, default=str))
    else:
        print(result._repr_mimebundle_()["text/plain"])


def _told(result: Any) -> Any:
    """A result as JSON's values."""
    match result:
        case JobTable():
            return [_told_row(row) for row in result.rows]
        case JobHandle():
            return {
                "id": result.job_id,
                "name": result.name,
                "state": result.state,
                "commit": result.commit,
                "params": result.params,
            }
        case JobSet():
            return [_told(handle) for handle in result]
        case LogView():
            return {"id": result.job_id, "log": result.text}
        case SyncReport():
            files = [str(path) for path in result.files]
            return {"jobs": result.jobs, "failed": result.failed, "files": files, "notes": result.lines}
        case TunnelCard():
            told = asdict(result)
            return {key: told[key] for key in ("name", "target", "display_name", "facts")}
        case TunnelTable():
            return [asdict(row) for row in result.rows]
        case Ended() | SyncView():
            return asdict(result)
        case FileTable():
            return {"path": result.path, "entries": list(result.entries)}
        case LoadTable():
            return dict(result.load)
        case Lines():
            return {"notes": list(result.lines)}
        case _:
            return str(result)


def _told_row(row: JobRow) -> dict[str, Any]:
    """A row with the keys that a handle has: `id`, and `params` by name."""
    told = asdict(row)
    return {"id": told.pop("job_id"), **told, "params": dict(row.params)}


if __name__ == "__main__":
    sys.exit(main())
