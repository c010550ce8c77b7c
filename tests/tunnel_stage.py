"""What the tests of `%colab_tunnel` have in common: its command line, and a runtime to reach a server by."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from jupyter_servers import TOKEN

from colab_kernel.runtime import Runtime, TokenSource


def colab(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `jupyter colab WORDS` to its end, however it ends.

    Args:
        env: variables on top of this process's own.
    """
    return subprocess.run(
        [sys.executable, "-m", "colab_magics.cli", *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def runtime_at(port: int) -> Runtime:
    """The server of the tests that listens, or seems to, at a port of this machine."""
    return Runtime(name="far", url=f"http://127.0.0.1:{port}", token=TokenSource(value=TOKEN))
