"""How a running job is found from beside it: one file for each, its owner's alone, gone with the job.

`~/.local/state/colab-magics/jobs/<job id>.json` says where the kernel's connection file is, which holds the
key: whoever may read it is the user who runs the daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
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
        connection: its kernel's connection file.
        checkout: its working folder, where the project's code is.
        look: the socket where its stacks are told.
        cell: its source, as it runs; magic: the line that stood above it in the notebook, or empty.
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
        magic=job.spec.magic,
        capabilities=None,
        visits=str(workspace.guest / VISITS),
        python=sys.executable,
        pid=os.getpid(),
    )


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
        with contextlib.suppress(OSError):
            path.unlink()


def read_door(path: Path) -> Door:
    """Read one. OSError, ValueError: it is gone, or is none."""
    told: Mapping[str, Any] = json.loads(path.read_text())
    try:
        return Door(**{name: told[name] for name in Door.__slots__})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no door of this release") from error
