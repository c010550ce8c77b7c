"""Jobs that are stepped into, and who visits them: for the tests of both."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
from attempt_harness import Job
from jupyter_client.connect import write_connection_file
from kernel_client import Frontend

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase


def wait_for(job: Job, phase: Phase) -> None:
    harness.wait_until(lambda: job.attempt.live().phase is phase, what=f"the phase {phase}")


def door_path() -> Path:
    return harness.wait_until(lambda: next(iter(doors.folder().glob("*.json")), None), what="the door")


@contextlib.contextmanager
def visitor_process(
    folder: Path, *more: str, name: str = "visit"
) -> Iterator[tuple[subprocess.Popen[bytes], Frontend]]:
    """A visitor's kernel, and a frontend that is not connected yet."""
    path, _ = write_connection_file(str(folder / f"{name}.json"))
    command = [sys.executable, "-m", "colab_magics.visit", "-f", path, "--door", str(door_path()), *more]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            yield process, Frontend(json.loads(Path(path).read_text()))
        finally:
            process.terminate()


@contextlib.contextmanager
def visitor(folder: Path, *more: str, name: str = "visit") -> Iterator[Frontend]:
    """A frontend at a visitor's kernel, which answers it to the end."""
    with visitor_process(folder, *more, name=name) as (_, frontend), frontend:
        yield frontend


def look(path: Path) -> str:
    """What the socket tells; its path may be longer than a socket's can be."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f"/proc/self/fd/{folder}/{path.name}")
            return b"".join(iter(lambda: line.recv(65536), b"")).decode()
    finally:
        os.close(folder)
