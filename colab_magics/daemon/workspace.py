"""The folders of one attempt, and the environment that its processes start from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.assignment import Assignment
from colab_magics.daemon.processes import TOKEN_VARIABLE, end_marked
from colab_magics.progress import FILE_VARIABLE

MARK = "token"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an attempt's files lie, all in its scratch folder."""

    scratch: Path

    @property
    def log(self) -> Path:
        """Everything that the job says, as it says it."""
        return self.scratch / "log.raw"

    @property
    def output(self) -> Path:
        """COLAB_OUTPUT_DIR: what the job leaves here comes back."""
        return self.scratch / "output"

    @property
    def checkpoint(self) -> Path:
        """COLAB_CHECKPOINT_DIR: what the next attempt finds if this one dies."""
        return self.scratch / "checkpoint"

    @property
    def progress(self) -> Path:
        """COLAB_PROGRESS_FILE."""
        return self.scratch / "progress.json"

    @property
    def inputs(self) -> Path:
        """COLAB_INPUTS_DIR: the variables that were sent, as files named after them."""
        return self.scratch / "in"

    @property
    def kernel(self) -> Path:
        """The kernel's connection file and sockets, and what it says before it can speak."""
        return self.scratch / "kernel"

    @property
    def guest(self) -> Path:
        """What our code inside the job's kernel reads and writes."""
        return self.scratch / "guest"

    @property
    def result(self) -> Path:
        """What goes to the ledger."""
        return self.scratch / "result"

    @property
    def copies(self) -> Path:
        """Copies of the checkpoint folder on their way to the remote."""
        return self.scratch / "checkpoint-copies"

    @property
    def kept(self) -> Path:
        """What is too large for the ledger."""
        return self.scratch / "kept"

    def prepare(self, token: str) -> None:
        """Make the folders; what is there already stays.

        Raises:
            OSError: the disk refuses.
        """
        self.scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.output, self.checkpoint, self.inputs, self.kernel, self.guest, self.result):
            folder.mkdir(exist_ok=True, mode=0o700)
        (self.scratch / MARK).write_text(token)


def free_bytes(folder: Path) -> int | None:
    """How much room is left on the disk of a folder; None where the folder is gone."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def end_left_over(scratch: Path) -> int:
    """End what an attempt left running whose daemon died; return how many processes that were."""
    try:
        token = (scratch / MARK).read_text()
    except OSError:
        return 0
    return end_marked(token) if token else 0


def job_environment(
    assignment: Assignment, workspace: Workspace, base: Mapping[str, str], *, python: Path, token: str
) -> dict[str, str]:
    """The variables of a job's processes: the machine's, the job's own, and what colab-magics tells it."""
    environment = {name: value for name, value in base.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    environment |= dict(assignment.spec.env)
    environment |= {
        "PYTHONUNBUFFERED": "1",
        "COLAB_JOB_ID": assignment.spec.job_id,
        "COLAB_JOB_NAME": assignment.spec.name,
        "COLAB_ATTEMPT": str(assignment.attempt),
        "COLAB_OUTPUT_DIR": str(workspace.output),
        "COLAB_CHECKPOINT_DIR": str(workspace.checkpoint),
        "COLAB_INPUTS_DIR": str(workspace.inputs),
        "COLAB_PARAMS": json.dumps(dict(assignment.spec.params), ensure_ascii=False),
        FILE_VARIABLE: str(workspace.progress),
        # A job may itself run jobs: they are found by our token as well as by their own.
        TOKEN_VARIABLE: " ".join(filter(None, (base.get(TOKEN_VARIABLE), token))),
    }
    path = _path_with(assignment.python, environment.get("PATH", os.defpath))
    environment["PATH"] = _path_with(python, path)
    if (python.parent.parent / "pyvenv.cfg").is_file():
        environment["VIRTUAL_ENV"] = str(python.parent.parent)
    return environment


def _path_with(python: Path, path: str) -> str:
    """A PATH on which `python` is the interpreter; unchanged where it is: the machine's order counts."""
    found = shutil.which("python", path=path)
    if found and Path(found).parent == python.parent:
        return path
    is_venv = (python.parent.parent / "pyvenv.cfg").is_file()
    if found and not is_venv and Path(found).samefile(python):
        return path
    return os.pathsep.join((str(python.parent), path))
