"""How a running job is found from beside it: one file for each, its owner's alone, gone with the job.

`~/.local/state/colab-magics/jobs/<job id>.json` says where the kernel's connection file is, which holds the
key: whoever may read it is the user who runs the daemon.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colab_magics.daemon import guest
from colab_magics.daemon.assignment import Assignment
from colab_magics.daemon.kernel import CONNECTION
from colab_magics.daemon.workspace import Workspace

VISITS = "visits.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A job that can be stepped into.

    Attributes:
        connection: the connection file of its kernel, or of what stands before its script's debugger.
        checkout: its working folder, where the project's code is.
        look: the socket where its stacks are told.
        cell: its source, as it runs; magic: the line that stood above it in the notebook. Both may be empty.
        capabilities: what its debugger said of itself; None if nobody can step into it.
        visits: the file where it is written what visitors did.
        python: an interpreter that has this package.
        pid: the daemon's.
    """

    job_id: str
    name: str
    attempt: int
    worker: str
    connection: str
    checkout: str
    look: str
    cell: str
    magic: str
    capabilities: Mapping[str, Any] | None
    visits: str
    python: str
    pid: int


def folder() -> Path:
    """Where the doors are. Source: https://specifications.freedesktop.org/basedir-spec/latest/"""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "colab-magics" / "jobs"


def door_of(job: Assignment, workspace: Workspace) -> Door:
    """The door of an attempt that is about to run."""
    return Door(
        job_id=job.spec.job_id,
        name=job.spec.name,
        attempt=job.attempt,
        worker=job.worker,
        connection=str(workspace.kernel / CONNECTION),
        checkout=str(job.checkout),
        look=str(workspace.guest / guest.LOOK),
        cell=job.cell_source or "",
        magic=job.spec.magic if job.cell_source else "",
        capabilities=None,
        visits=str(workspace.guest / VISITS),
        python=sys.executable,
        pid=os.getpid(),
    )


def describe_visits(path: Path) -> list[str]:
    """What visitors did that may have changed the job, a sentence each: who, what, when."""
    told = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            visit = json.loads(line)
            when = datetime.fromtimestamp(visit["at"], UTC).strftime("%H:%M:%S UTC")
            what = " ".join(str(visit["what"]).split())[:200]
            told.append(f"{visit['who']} evaluated `{what}` in the running job at {when}")
    except (OSError, ValueError, KeyError, TypeError):
        return told
    return told


@contextlib.contextmanager
def open_door(door: Door) -> Iterator[None]:
    """Have the job's door until the block ends. A folder that cannot be written costs the job nothing."""
    path = folder() / f"{door.job_id}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(door), file)
        new.replace(path)
    try:
        yield
    finally:
        for each in (path, visitor_lock(path)):
            with contextlib.suppress(OSError):
                each.unlink()


def visitor_lock(door: Path) -> Path:
    """The file that the visitor who may change things has locked."""
    return door.with_suffix(".visitor")


def is_visited(job_id: str) -> bool:
    """Whether somebody steps through a job; the operating system lets go of what a dead process held."""
    try:
        with visitor_lock(folder() / f"{job_id}.json").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_door(path: Path) -> Door:
    """Read one. OSError, ValueError: it is gone, or is none."""
    told: Mapping[str, Any] = json.loads(path.read_text())
    try:
        return Door(**{name: told[name] for name in Door.__slots__})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no door of this release") from error
