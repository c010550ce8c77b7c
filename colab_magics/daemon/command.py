"""A shell command, run to its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from colab_magics.daemon.endings import End
from colab_magics.daemon.log import Log
from colab_magics.daemon.processes import Watch, start, supervise
from colab_magics.daemon.telemetry import MemoryMeter


def shell() -> str:
    """The shell that commands run in."""
    return next((path for path in ("/bin/bash", "/usr/bin/bash") if Path(path).exists()), "/bin/sh")


def run_command(
    command: str,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    token: str,
    log: Log,
    watch: Watch,
    meter: MemoryMeter,
) -> End:
    """Run a command line in a shell; its output goes straight to the log's file, in the order it comes.

    Raises:
        OSError: there is no shell, or no `cwd`.
    """
    child = start(
        [shell(), "-c", command], cwd=cwd, environment=environment, output=log.fileno(), token=token
    )
    try:
        end = supervise(child, watch=watch)
        meter.finish(child)
        return end
    finally:
        child.end()
        child.close()
