"""The proxy kernel as a process of its own, as a frontend would start it, before a server or a network."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupyter_servers
import psutil
import pytest
from jupyter_client.connect import write_connection_file

from colab_kernel import sessions
from colab_kernel.runtime import GONE_AFTER_S, Runtime, TokenSource

PATIENCE_S = 60.0


@dataclass(slots=True)
class ProxyProcess:
    """One proxy kernel.

    Attributes:
        connection: its connection file's content, for `kernel_client.Frontend`.
    """

    connection: dict[str, Any]
    process: psutil.Popen = field(repr=False)
    _stderr: Path

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._stderr.read_text(encoding="utf-8")

    def ends_with(self, code: int) -> str:
        """Wait for its end; return the last line that it said."""
        assert self.process.wait(PATIENCE_S) == code, self.stderr
        return (self.stderr.splitlines() or [""])[-1]

    @property
    def resident_bytes(self) -> int:
        size: int = self.process.memory_info().rss
        return size


def register(runtime_dir: Path, port: int, *, gone_after_s: float = GONE_AFTER_S, **more: Any) -> None:
    """Have a registry in `runtime_dir` whose current runtime is behind `port`."""
    runtime_dir.mkdir(mode=0o700, exist_ok=True)
    runtime = Runtime(
        name="remote",
        url=f"http://127.0.0.1:{port}",
        token=TokenSource(value=jupyter_servers.TOKEN),
        gone_after_s=gone_after_s,
        **more,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(runtime_dir))
        sessions.save_runtime(runtime)


@contextlib.contextmanager
def proxy_process(
    folder: Path,
    runtime_dir: Path,
    *,
    name: str = "kernel",
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[ProxyProcess]:
    """Start a proxy kernel whose registry is in `runtime_dir`; it is gone afterwards, whatever becomes of it.

    Args:
        arguments: more of its command line.
        env: variables on top of this process's own.
    """
    connection_file, _ = write_connection_file(str(folder / f"{name}.json"), key=b"a key of the tests")
    stderr = folder / f"{name}.stderr"
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime_dir), "COLAB_KERNEL_LOG": "INFO"}
    environment |= env or {}
    with stderr.open("wb") as sink:
        process = psutil.Popen(
            [sys.executable, "-m", "colab_kernel", "-f", connection_file, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    connection = json.loads(Path(connection_file).read_text(encoding="utf-8"))
    try:
        yield ProxyProcess(connection=connection, process=process, _stderr=stderr)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
            process.terminate()
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
