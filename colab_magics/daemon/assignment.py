"""One attempt of one job: what is given to it, what can be seen of it, what it leaves. Values only."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colab_magics.jobs.record import Progress, Record
from colab_magics.jobs.spec import JobSpec, Json
from colab_magics.jobs.state import Verb


class Stop(enum.StrEnum):
    """Why an attempt is asked to end."""

    CANCEL = "cancel"  # a person asked
    RELEASE = "release"  # the daemon ends: the job goes back to the queue
    FENCED = "fenced"  # the job is another worker's by now: nothing of this attempt will be kept


class Phase(enum.StrEnum):
    """What an attempt is doing."""

    INSTALLING = "installing"
    STARTING = "starting"
    RUNNING = "running"
    SAVING = "saving"
    HELD = "held"  # at its failure, for whoever wants to look
    PAUSED = "paused"  # by a visitor


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an attempt is kept, and how long its end may take."""

    grace_s: float = 10.0
    stuck_s: float = 30.0
    log_bytes: int = 1_000_000
    tail_bytes: int = 16_000
    live_outputs_bytes: int = 64_000
    artifact_bytes: int = 10_000_000
    artifacts_total_bytes: int = 50_000_000
    artifacts_count: int = 1000
    variable_bytes: int = 25_000_000
    notebook_bytes: int = 10_000_000
    checkpoint_bytes: int = 50_000_000
    log_on_disk_bytes: int = 2_000_000_000
    kernel_start_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt to be run.

    `checkout` is the folder with the job's code, its working folder; `scratch` a private folder outside of
    it for everything else. `inputs` maps a variable's name to its kind and file. `cell_source` is the cell's
    text where `spec.cell` names one; `requirements` the bytes of the requirements file; `python` the
    interpreter that jobs run in; `code` the commit of the checkout, where `spec.code` does not say it.
    """

    spec: JobSpec
    attempt: int
    worker: str
    checkout: Path
    scratch: Path
    python: Path
    cell_source: str | None = None
    inputs: Mapping[str, tuple[str, Path]] = field(default_factory=dict)
    requirements: bytes | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """What a viewer may see of a running attempt: masked, and small. `started_at` is Unix seconds.

    `held` is the error at which a held attempt stands; `held_until`, Unix seconds, when it goes on by itself.
    """

    phase: Phase
    started_at: float
    elapsed_s: float
    progress: Progress | None
    log_tail: str
    outputs: tuple[Mapping[str, Any], ...]
    held: str = ""
    held_until: float | None = None

    def to_json(self) -> dict[str, Json]:
        """As it stands in a worker's live file."""
        told: dict[str, Json] = {
            "phase": self.phase.value,
            "started_at": self.started_at,
            "elapsed_s": round(self.elapsed_s, 1),
            "log_tail": self.log_tail,
            "outputs": [dict(output) for output in self.outputs],
        }
        if self.held_until is not None:
            told["held"], told["held_until"] = self.held, round(self.held_until)
        if self.progress is not None:
            told["progress"] = {
                "done": self.progress.done,
                "total": self.progress.total,
                "label": self.progress.label,
            }
        return told


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `files` maps a path in the job's ledger folder to the file on disk.

    `reason` is one sentence for a table. Everything in it is masked and within the limits.
    """

    verb: Verb
    reason: str
    record: Record
    files: Mapping[str, Path]
    environment_text: bytes | None
