"""What can be set once instead of with every command: an argument beats the environment beats the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from colab_magics.errors import UsageError
from colab_magics.jobs.paths import INTENT_BRANCH

PREFIX = "COLAB_MAGICS_"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Each has a variable of its name, such as COLAB_MAGICS_REMOTE, and a trait of the magics.

    `remote` is the name of a Git remote; empty is `origin`, or the only one there is. `branch` is where jobs
    are queued. `max_file_mb` is the most that one file of the snapshot may have, `max_variable_mb` one
    variable that is sent, both in units of 1,000,000 bytes. `watch_s` is the shortest time between two looks
    while watching, seconds. `ssh_config` is the file that ssh reads in place of its own configuration.
    """

    remote: str = ""
    branch: str = INTENT_BRANCH
    max_file_mb: float = 5.0
    max_variable_mb: float = 20.0
    watch_s: float = 1.0
    ssh_config: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **arguments: str | float | None) -> Settings:
        """The settings of this process.

        Args:
            environ: the variables; those of this process unless given.
            **arguments: settings by name that beat the environment; None says nothing.

        Raises:
            UsageError: a variable or an argument does not have the form of its setting.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, str | float] = {}
        for each in fields(cls):
            variable = PREFIX + each.name.upper()
            argument = arguments.pop(each.name, None)
            if argument is not None:
                found[each.name] = _read(argument, like=each.default, source=each.name)
            elif environ.get(variable):
                found[each.name] = _read(environ[variable], like=each.default, source=variable)
        if arguments:
            raise UsageError(f"there is no setting {sorted(arguments)[0]!r}")
        return cls(**found)  # type: ignore[arg-type]

    @property
    def max_file_bytes(self) -> int:
        """`max_file_mb` in bytes."""
        return int(self.max_file_mb * 1_000_000)

    @property
    def max_variable_bytes(self) -> int:
        """`max_variable_mb` in bytes."""
        return int(self.max_variable_mb * 1_000_000)


def _read(value: str | float, *, like: object, source: str) -> str | float:
    if isinstance(like, str):
        return str(value)
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"{source} is a number above 0; found {value!r}")
    return number
