"""A cell to be run, as its attempt says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.assignment import Assignment, Limits
from colab_magics.daemon.debugging import is_debuggable
from colab_magics.daemon.doors import Door, door_of
from colab_magics.daemon.notebook import parameters_source
from colab_magics.daemon.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CellJob:
    """A cell to be run. `parameters` is the source of the cell before it, empty for none; `inputs` are
    (name, kind, file); `outputs` the variables to be saved into `guest_folder`. `door` is what is told beside
    it while it runs; its `capabilities` are filled in here."""

    source: str
    parameters: str
    inputs: tuple[tuple[str, str, Path], ...]
    outputs: tuple[str, ...]
    checkout: Path
    kernel_folder: Path
    guest_folder: Path
    log_path: Path
    allow_pickle: bool
    variable_bytes: int
    kernel_start_s: float
    debuggable: bool = False
    hold_s: float = 0.0
    door: Door | None = None


def cell_job_of(assignment: Assignment, workspace: Workspace, limits: Limits) -> CellJob:
    """The cell of an attempt."""
    spec, given = assignment.spec, assignment.inputs
    shown = [f"{name} ({kind}, {path.stat().st_size:,} bytes)" for name, (kind, path) in given.items()]
    return CellJob(
        source=assignment.cell_source or "",
        parameters=parameters_source(spec.params, inputs=shown),
        inputs=tuple((name, kind, path) for name, (kind, path) in given.items()),
        outputs=spec.outputs,
        checkout=assignment.checkout,
        kernel_folder=workspace.kernel,
        guest_folder=workspace.guest,
        log_path=workspace.log,
        allow_pickle=spec.allow_pickle,
        variable_bytes=limits.variable_bytes,
        kernel_start_s=limits.kernel_start_s,
        debuggable=is_debuggable(spec),
        hold_s=spec.hold_s,
        door=door_of(assignment, workspace),
    )
