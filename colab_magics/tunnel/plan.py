"""What a way to a machine is asked for, and what it hands back: the seam between targets and sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from colab_kernel.runtime import Runtime

Say = Callable[[str], None]
"""Tells the person what is going on, one sentence at a time."""

Ask = Callable[[str], str]
"""Asks the person for a secret, which is shown nowhere; empty where nobody can be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a session shall be like.

    Attributes:
        name: the person's name for it; None for one made from the target.
        project: the folder here that is to be there as well, absolute; None for none.
        remote_root: where it is to be there, absolute; None for a folder of the session's own.
        yes: whether questions count as answered with yes.
        say: where progress is told.
        ask: how a secret is asked for.
        folder: where the person is.
        python: the interpreter of the machine that its server shall run in; None for the best that is there.
        ssh_config: the file that ssh reads in place of its own configuration; empty for those.
        remote, branch: whose queue is meant, of a daemon; empty for what the settings say.
        max_file_bytes: files of the project that differ from its last commit may not be larger.
    """

    name: str | None = None
    project: Path | None = None
    remote_root: str | None = None
    yes: bool = False
    say: Say = field(default=lambda sentence: None)
    ask: Ask = field(default=lambda question: "")
    folder: Path = field(default_factory=Path.cwd)
    python: str | None = None
    ssh_config: str = ""
    remote: str = ""
    branch: str = ""
    max_file_bytes: int = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """An open session, as it is remembered. There is no secret in it: those are in the registry of runtimes.

    Attributes:
        name: the runtime's in that registry.
        target: the target as it is shown.
        kind: which way it was reached: `local`, `url`, `ssh`, `colab`, `daemon`.
        held: what that way needs to close it, or to tell how it is; JSON values.
    """

    name: str
    target: str
    kind: str
    held: Mapping[str, Any] = field(default_factory=dict)


class Way(Protocol):
    """One way to reach a machine. A module of `ways/` has these functions."""

    def open(self, target: Any, plan: Plan, *, name: str) -> tuple[Runtime, dict[str, Any]]:
        """Reach a Jupyter Server there. Returns it, under `name`, and what `close` will need.

        Raises:
            ColabError: it could not be reached; nothing was left behind.
        """
        ...

    def close(self, reached: Reached) -> str | None:
        """End what `open` began; nothing of it stays, here or there. What is gone already is no error.

        Returns:
            A sentence, if something of it ends only later.
        """
        ...

    def state(self, reached: Reached) -> str:
        """How it is, in a few words, without asking the machine: `open`, `reconnecting`, `gone`."""
        ...
