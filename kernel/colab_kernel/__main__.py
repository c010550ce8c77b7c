"""`python -m colab_kernel`: the kernel itself, as a kernelspec starts it, and the commands about runtimes.

Data on stdout, talk on stderr, no token on either. What the kernel does not need is imported by the command
that does: a frontend waits.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from colab_kernel.errors import KernelError, UnreachableError

if TYPE_CHECKING:
    from colab_kernel.runtime import Runtime, TokenSource

PROGRAM = "python -m colab_kernel"
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

TOKEN_VARIABLE = "COLAB_RUNTIME_TOKEN"  # noqa: S105
"""Where `--token env` reads."""

_TRAIT = re.compile(r"--\w+\.\w+")
"""Configuration of IPython's, which some frontends add to any kernel's command line."""


class UsageError(KernelError):
    """What was typed means nothing."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as every error here, without the word that was wrong: it may be a token."""
        said = re.sub(r":? ['\"].*", "", message, flags=re.DOTALL)
        self.exit(USAGE, f"{self.prog}: {said}; `{self.prog} --help` tells more\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the kernel or one command; returns 0 done, 1 failed, 2 not understood, 130 interrupted."""
    try:
        arguments = _understand(sys.argv[1:] if argv is None else argv)
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except SystemExit as ended:  # argparse has said why
        return int(ended.code or 0)
    except BrokenPipeError:
        _close_output()
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except KernelError as error:
        _say(f"{PROGRAM}{' ' + arguments.command if arguments.command else ''}: {error}")
        return USAGE if isinstance(error, UsageError) else FAILED
    return code


def _understand(words: Sequence[str]) -> argparse.Namespace:
    """What was typed, or what a frontend says: that may have more words than it means for the kernel.

    Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/consoleapp.py
    (build_kernel_argv): `jupyter run` hands a kernel the names of the files that it runs.
    """
    parser = make_parser()
    kernel, beyond = _kernel_parser().parse_known_args(words)
    if kernel.connection_file is not None:
        arguments, unknown = kernel, [word for word in beyond if word.startswith("-")]
    else:
        arguments, unknown = parser.parse_known_args(words)
    if unknown and (arguments.command or not all(map(_TRAIT.match, unknown))):
        options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        parser.error(f"not understood: {', '.join(options) or 'more words than there are places for'}")
    if (arguments.command is None) == (arguments.connection_file is None):
        parser.error("say either -f CONNECTION_FILE or one of the commands")
    return arguments


def _kernel_parser() -> argparse.ArgumentParser:
    """The parser of what a kernelspec says."""
    parser = _Parser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    parser.set_defaults(run=_run_kernel, command=None)
    parser.add_argument(
        *("-f", "--f", "--connection-file"),
        metavar="FILE",
        type=Path,
        dest="connection_file",
        help="be the kernel of this connection file",
    )
    _add_runtime(parser, "with -f: the runtime to relay to; the current one by default")
    return parser


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog=PROGRAM,
        parents=[_kernel_parser()],
        description="A kernel here that relays to one behind a Jupyter Server elsewhere, a runtime.",
        epilog="Frontends start it with -f; a person types one of the commands.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    connect = _add(commands, "connect", _connect, "register a runtime and make it the current one")
    connect.add_argument("url", metavar="URL", help="its address; a token in it is moved to the registry")
    connect.add_argument("--name", metavar="NAME", help="what to call it; by default after its host")
    connect.add_argument(
        "--token",
        metavar="TOKEN",
        help="how its token is read: stdin (asked for now), env:NAME, env (that is env:"
        f"{TOKEN_VARIABLE}), file:PATH, file:PATH#key.key (a text in the file's JSON), or the token itself",
    )
    connect.add_argument(
        "--auth", choices=["jupyter", "colab"], help="whose names the token goes by; jupyter by default"
    )
    connect.add_argument(
        "--token-in", choices=["header", "query"], help="where requests have it; header by default"
    )
    connect.add_argument(
        "--header",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one more header for every request, no secret; may be given again",
    )
    connect.add_argument("--kernel", metavar="NAME", help="the kernelspec over there; its default by default")
    connect.add_argument("--local-root", metavar="DIR", type=Path, help="the project's folder here, and")
    connect.add_argument(
        "--remote-root", metavar="DIR", help="the same over there, for breakpoints in modules"
    )
    connect.add_argument(
        "--max-message-mib",
        metavar="N",
        type=int,
        help="the longest websocket message it takes; 10 by default",
    )
    connect.add_argument("--force", action="store_true", help="register it even if it refuses the token")

    listed = _add(commands, "list", _list, "show the runtimes; * marks the current one")
    listed.add_argument("--json", action="store_true", help="print JSON")
    _add(commands, "use", _use, "make a runtime the current one").add_argument("name", metavar="NAME")
    _add(commands, "forget", _forget, "remove a runtime, its token included").add_argument(
        "name", metavar="NAME"
    )

    install = _add(
        commands, "install", _install, "write a kernelspec that starts this Python, as VS Code needs"
    )
    _add_place(install)
    install.add_argument("--name", metavar="NAME", help="the kernelspec's name; colab by default")
    install.add_argument("--display-name", metavar="TEXT", help="what menus show")
    _add_runtime(install, "the runtime it is for; by default whichever is current when it starts")
    uninstall = _add(commands, "uninstall", _uninstall, "remove a kernelspec that install has written")
    uninstall.add_argument("name", metavar="NAME")
    _add_place(uninstall)
    return parser


def _add(commands: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _add_runtime(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--runtime", metavar="NAME", help=about)


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--user", action="store_true", help="for all frontends of this user; the default")
    place.add_argument("--prefix", metavar="DIR", help="for the frontends of the environment there")
    place.add_argument(
        "--sys-prefix",
        dest="prefix",
        action="store_const",
        const=sys.prefix,
        help="for the frontends of this Python's environment",
    )


def _run_kernel(arguments: argparse.Namespace) -> int:
    from colab_kernel import app

    return app.main(arguments.connection_file, runtime_name=arguments.runtime)


# --- runtimes --------------------------------------------------------------------------------------------


def _connect(arguments: argparse.Namespace) -> int:
    from colab_kernel import sessions

    runtime = sessions.checked(_described(arguments, known=sessions.load().runtimes))
    told = _ask(runtime, force=arguments.force)
    sessions.save_runtime(runtime)
    print(runtime.name)
    _say(f"{runtime.name} ({runtime.url}) is registered, and is the current runtime. {told}")
    return DONE


def _ask(runtime: Runtime, *, force: bool) -> str:
    """Ask a runtime whether it lets us in; return what to tell about it. KernelError: no, unless `force`."""
    from colab_kernel import rest, sessions

    try:
        found = rest.Server(runtime, read_token=lambda: sessions.read_token(runtime.token)).probe()
    except UnreachableError as error:
        return f"It was not reached: {error}"
    except KernelError as error:
        if force:
            return f"It would not work now: {error}"
        raise KernelError(f"{error}; nothing was registered (--force does it all the same)") from error
    if runtime.kernel_name and runtime.kernel_name not in found.kernelspecs:
        return f"It answers, and has no kernel {runtime.kernel_name!r}; it has {', '.join(found.kernelspecs)}"
    return f"Jupyter Server {found.version} answers."


def _described(arguments: argparse.Namespace, *, known: Sequence[Runtime]) -> Runtime:
    """The runtime that the words of `connect` describe; one that is known at its address keeps its name."""
    from colab_kernel.addresses import name_after, split_address
    from colab_kernel.runtime import MAX_MESSAGE_BYTES, AuthScheme, Runtime, TokenPlace

    try:
        address = split_address(arguments.url)
    except ValueError as error:
        raise UsageError(f"URL {error}") from None
    url, found = address.url, address.token
    if found and arguments.token:
        raise UsageError("there is a token in the address, and --token gives another")
    if not all("=" in word for word in arguments.header):
        raise UsageError("--header wants KEY=VALUE")
    names = {runtime.url: runtime.name for runtime in known}
    limit, local_root = arguments.max_message_mib, arguments.local_root
    return Runtime(
        name=arguments.name or names.get(url) or name_after(url, taken=names.values()),
        url=url,
        token=_token_source(found or arguments.token, open_to_see=bool(found)),
        auth=AuthScheme(arguments.auth or address.auth),
        token_in=TokenPlace(arguments.token_in or TokenPlace.HEADER),
        headers=dict(word.split("=", 1) for word in arguments.header),
        kernel_name=arguments.kernel or "",
        local_root=None if local_root is None else str(local_root.expanduser().absolute()),
        remote_root=arguments.remote_root,
        max_message_bytes=MAX_MESSAGE_BYTES if limit is None else limit * 1024 * 1024,
    )


def _token_source(given: str | None, *, open_to_see: bool) -> TokenSource:
    """Where `--token` says that the token is read; `open_to_see`: it is the token, out of the address."""
    from colab_kernel.runtime import TokenSource

    way, colon, rest = (given or "").partition(":")
    if not given:
        return TokenSource()
    if not open_to_see and given == "stdin":
        return TokenSource(value=_read_line())
    if not open_to_see and (given == "env" or (way == "env" and colon)):
        return TokenSource(env=rest or TOKEN_VARIABLE)
    if not open_to_see and way == "file" and colon:
        name, _, key = rest.partition("#")
        path = Path(name).expanduser().absolute()
        return TokenSource(file=str(path), key=tuple(key.split(".")) if key else ())
    _say("hint: others on this machine can see a token on a command line; --token stdin asks for it")
    return TokenSource(value=given)


def _read_line() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return getpass.getpass("Token: ").strip()
    except EOFError:
        raise UsageError("no token was typed") from None


def _list(arguments: argparse.Namespace) -> int:
    from colab_kernel import sessions

    registry = sessions.load()
    rows = [_row(runtime, current=runtime.name == registry.current) for runtime in registry.runtimes]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    elif not rows:
        _say(f"No runtime is registered: `{PROGRAM} connect URL` registers one.")
    else:
        shown = [["", "NAME", "URL", "TOKEN"]]
        shown += [["*" if row["current"] else "", row["name"], row["url"], row["token"]] for row in rows]
        widths = [max(len(row[at]) for row in shown) for at in range(4)]
        for row in shown:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return DONE


def _row(runtime: Runtime, *, current: bool) -> dict[str, Any]:
    """A runtime as `list` tells it: how its token is read, and never the token."""
    source = runtime.token
    key = f"#{'.'.join(source.key)}" if source.key else ""
    if source.value is not None:
        read = "in the registry"
    elif source.env is not None:
        read = f"env:{source.env}"
    else:
        read = f"file:{source.file}{key}" if source.file is not None else "none"
    return {
        "name": runtime.name,
        "current": current,
        "url": runtime.url,
        "token": read,
        "auth": runtime.auth,
        "token_in": runtime.token_in,
        "headers": sorted(runtime.headers),
        "kernel_name": runtime.kernel_name,
        "local_root": runtime.local_root,
        "remote_root": runtime.remote_root,
        "max_message_bytes": runtime.max_message_bytes,
        "gone_after_s": runtime.gone_after_s,
    }


def _use(arguments: argparse.Namespace) -> int:
    from colab_kernel import sessions

    sessions.set_current(arguments.name)
    _say(f"{arguments.name} is the current runtime.")
    return DONE


def _forget(arguments: argparse.Namespace) -> int:
    from colab_kernel import sessions

    sessions.load().get(arguments.name)  # raises, with the names that are there
    sessions.forget(arguments.name)
    _say(f"{arguments.name} is forgotten.")
    return DONE


# --- kernelspecs -----------------------------------------------------------------------------------------


def _install(arguments: argparse.Namespace) -> int:
    from colab_kernel import install

    folder = install.install(
        arguments.name or install.NAME,
        display_name=arguments.display_name or install.DISPLAY_NAME,
        runtime_name=arguments.runtime,
        prefix=arguments.prefix,
    )
    print(folder)
    _say(f"{folder.name} is installed: a frontend that is started from now on has it in its menu.")
    return DONE


def _uninstall(arguments: argparse.Namespace) -> int:
    from colab_kernel import install

    print(install.uninstall(arguments.name, prefix=arguments.prefix))
    return DONE


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _close_output() -> None:
    """Let what is left for `| head` go nowhere, or the interpreter complains about it when it ends.

    Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
