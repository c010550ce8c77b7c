"""What google-colab-cli, Google's own command line for Colab, knows: its sessions, and how it is called.

It keeps them in `~/.config/colab-cli/sessions.json`: name → `url`, `token`, `token_expires_at`, `endpoint`, …
Every `colab status` asks Google for the token that holds now, and writes it there.

Source: google-colab-cli 0.7.5: colab_cli/state.py (SessionState, StateStore), colab_cli/common.py
(State.sync_sessions), read 2026-11
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colab_kernel.runtime import AuthScheme, Runtime, TokenSource
from colab_magics.errors import TunnelError, UsageError

STATE = "~/.config/colab-cli/sessions.json"
INSTALL = "`pip install google-colab-cli` (Python 3.12 or later)"

HEADERS = {"X-Colab-Client-Agent": "colab-magics"}
"""What the runtime proxy is told of who asks."""

COMMAND_VARIABLE = "COLAB_MAGICS_COLAB_CLI"

_PYTHON = re.compile(r"python[0-9.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialSession:
    """One session: a runtime that Google has allocated. Its token is read where it is needed."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Tool:
    """How google-colab-cli is called.

    Attributes:
        command: the program, with options that go before its verbs; empty if it is not installed.
    """

    command: tuple[str, ...]

    @property
    def state(self) -> Path:
        """Its state file: `--config` moves it."""
        given = STATE
        for at, word in enumerate(self.command):
            if word == "--config":
                given = "".join(self.command[at + 1 : at + 2])
            elif word.startswith("--config="):
                given = word.removeprefix("--config=")
        return Path(given).expanduser().absolute()

    def typed(self, *words: str) -> str:
        """A command of it, as a person would type it."""
        program, *options = self.command or ("colab",)
        name = "colab" if shutil.which("colab") == program else program
        return "`" + shlex.join([name, *options, *words]) + "`"

    def python(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The Python that has its library, with what goes before that; and the options of the program itself.

        It is the one that the command names, or that the first line of its script names.

        Raises:
            TunnelError: it is not installed, or its Python cannot be told.
        """
        for at, word in enumerate(self.command):
            before, after = self.command[:at], self.command[at + 1 :]
            found = Path(shutil.which(word) or "")
            if _PYTHON.fullmatch(found.name):
                return (*before, word), after[2:] if after[:1] == ("-m",) else after
            if python := _python_of_script(found):
                return (*before, python), after
        how = f"name it in {COMMAND_VARIABLE} as `PYTHON -m colab_cli.cli`" if self.command else INSTALL
        raise TunnelError(f"google-colab-cli's Python is needed, and not found: {how}")

    def sessions(self) -> Mapping[str, OfficialSession]:
        """Its sessions by name; none without a file.

        Raises:
            TunnelError: there is a file that cannot be read, or that is none of this program's.
        """
        try:
            text = self.state.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise TunnelError(f"{self.state}, google-colab-cli's state, cannot be read: {error}") from error
        try:
            found = json.loads(text) if text.strip() else {}
            return {
                str(name): OfficialSession(name=str(name), url=str(one["url"]))
                for name, one in found.items()
                if one["token"] and one["url"]
            }
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise TunnelError(
                f"{self.state} is not what google-colab-cli 0.7 writes: put it right, or move it away and "
                f"{self.typed('new', '--session', 'gpu')} makes another one"
            ) from None

    def session(self, name: str) -> OfficialSession:
        """The session of that name; without one, the only one.

        Raises:
            UsageError: there is none, or several; the sentence lists them, and says how one is made.
            TunnelError: as `sessions`.
        """
        known = self.sessions()
        if not name and len(known) == 1:
            [name] = known
        if name in known:
            return known[name]
        new = self.typed("new", "--session", name or "gpu", "--gpu", "T4")
        if not known:
            install = "" if self.command else f"{INSTALL}, then "
            raise UsageError(
                f"google-colab-cli has no session here ({self.state} has none): {install}{new} makes one"
            )
        listed = ", ".join(f"colab:{each}" for each in known)
        if not name:
            raise UsageError(f"google-colab-cli has several sessions: say which of {listed}")
        raise UsageError(
            f"google-colab-cli has no session {name!r}; there are {listed}; {new} makes another one"
        )

    def token_source(self, session: str) -> TokenSource:
        """Where a session's token is read, each time anew, and what has it written anew."""
        return TokenSource(
            file=str(self.state),
            key=(session, "token"),
            expires=(session, "token_expires_at"),
            refresh=(*self.command, "status", "--session", session) if self.command else (),
        )

    def runtime(self, session: OfficialSession, *, name: str) -> Runtime:
        """A session as a runtime of the registry."""
        return Runtime(
            name=name,
            url=session.url.rstrip("/"),
            token=self.token_source(session.name),
            auth=AuthScheme.COLAB,
            headers=HEADERS,
        )


def find_tool() -> Tool:
    """The google-colab-cli that is meant: as COMMAND_VARIABLE says, else of this Python, else on the PATH."""
    given: Sequence[str] = shlex.split(os.environ.get(COMMAND_VARIABLE, ""))
    if not given and importlib.util.find_spec("colab_cli") is not None:
        given = (sys.executable, "-m", "colab_cli.cli")
    if not given and (program := shutil.which("colab")):
        given = (program,)
    return Tool(tuple(given))


def _python_of_script(path: Path) -> str:
    """The Python that a script of pip's or uv's runs in; empty if the file is none.

    Where that path is long, or has a space, they begin with `#!/bin/sh` and name it in the second line.
    """
    try:
        with path.open("rb") as file:
            first = file.read(2)
            lines = [file.readline(4096), file.readline(4096)] if first == b"#!" else []
        words = [word for line in lines for word in shlex.split(line.decode())]
    except (OSError, ValueError):
        return ""
    return next((word for word in words if _PYTHON.fullmatch(Path(word).name)), "")
