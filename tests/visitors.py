"""Jobs that are stepped into, and who visits them, for tests: a visitor's kernel, and a frontend at it."""

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
from kernel_client import Debugger, Frontend

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb


def wait_for(job: Job, phase: Phase) -> None:
    harness.wait_until(lambda: job.attempt.live().phase is phase, what=f"the phase {phase}")


def assert_worked_to_its_end(job: Job) -> None:
    """That a job which ends with "ended" succeeded, and wrote nothing else."""
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED
    assert job.text() == "ended\n"


def door_path(job_id: str = "*") -> Path:
    return harness.wait_until(
        lambda: next(iter(doors.folder().glob(f"{job_id}.json")), None), what="the door"
    )


@contextlib.contextmanager
def visitor_process(
    folder: Path, *more: str, name: str = "visit", job_id: str = "*"
) -> Iterator[tuple[subprocess.Popen[bytes], Frontend]]:
    """A visitor's kernel, and a frontend that is not connected yet."""
    path, _ = write_connection_file(str(folder / f"{name}.json"))
    door = str(door_path(job_id))
    command = [sys.executable, "-m", "colab_magics.visit", "-f", path, "--door", door, *more]
    with subprocess.Popen(command, env=os.environ) as process:
        try:
            yield process, Frontend(json.loads(Path(path).read_text()))
        finally:
            process.terminate()


@contextlib.contextmanager
def visitor(folder: Path, *more: str, name: str = "visit", job_id: str = "*") -> Iterator[Frontend]:
    """A frontend at a visitor's kernel, which answers it to the end: the job must outlive the block."""
    with visitor_process(folder, *more, name=name, job_id=job_id) as (_, frontend), frontend:
        yield frontend


@contextlib.contextmanager
def last_visitor(folder: Path, *more: str, name: str = "visit", job_id: str = "*") -> Iterator[Frontend]:
    """As `visitor`, at a job that may be over before the block is, and the visitor's kernel with it."""
    with (
        visitor_process(folder, *more, name=name, job_id=job_id) as (_, frontend),
        contextlib.closing(frontend),
    ):
        frontend.connect()
        yield frontend


def let_go(folder: Path, job_id: str = "*") -> None:
    """Have a job go on that stands still."""
    with last_visitor(folder, name=f"let-go-{job_id.strip('*')}", job_id=job_id) as frontend:
        debugger = Debugger(frontend)
        [thread] = debugger.body("debugInfo")["stoppedThreads"]
        debugger.body("continue", threadId=thread)


def look(path: Path) -> str:
    """What the socket tells; its path may be longer than a socket's can be."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(f"/proc/self/fd/{folder}/{path.name}")
            return b"".join(iter(lambda: line.recv(65536), b"")).decode()
    finally:
        os.close(folder)
