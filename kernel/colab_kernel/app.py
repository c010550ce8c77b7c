"""The proxy kernel as a process: its sockets first, and then all that takes time."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from colab_kernel.connection_file import ConnectionFile
from colab_kernel.errors import KernelError
from colab_kernel.frontend import Frontend

FAILED = 1


def main(connection_file: Path, *, runtime_name: str | None = None) -> int:
    """Run until a frontend ends it, or there is no remote kernel any more; return the exit code."""
    # Only of our own: what websockets logs has every header and every message in it, tokens included.
    logging.basicConfig(stream=sys.stderr, format="colab_kernel: %(message)s", level=logging.WARNING)
    logging.getLogger("colab_kernel").setLevel(_log_level())
    try:
        frontend = Frontend.bind(ConnectionFile.read(connection_file))
    except KernelError as error:
        sys.stderr.write(f"colab_kernel: {error}\n")
        return FAILED
    # Slow to import: a frontend looks for the sockets meanwhile.
    from colab_kernel.loop import Loop

    return Loop(frontend, runtime_name=runtime_name).run()


def _log_level() -> int:
    """What COLAB_KERNEL_LOG says; a level that there is not is no reason not to start."""
    name = os.environ.get("COLAB_KERNEL_LOG", "").upper()
    return logging.getLevelNamesMapping().get(name, logging.WARNING)
