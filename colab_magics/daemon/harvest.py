"""What goes to the ledger of an attempt, collected in one folder: masked, and within the limits."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colab_magics.daemon.assignment import Assignment, Limits
from colab_magics.daemon.gather import copy_masked, gather_artifacts
from colab_magics.daemon.log import Log
from colab_magics.daemon.masking import Masker
from colab_magics.daemon.notebook import build_notebook
from colab_magics.daemon.shown import Output
from colab_magics.daemon.workspace import Workspace
from colab_magics.jobs.paths import ARTIFACTS, LOG, NOTEBOOK, OUT
from colab_magics.jobs.record import Stored, Variable
from colab_magics.store.variables import Kind, kind_of, suffix_of

_PROGRESS_BYTES = 100_000
_LABEL_CHARS = 1000
"""More than is shown: a label is masked before it is cut."""


class Harvest:
    """Collects; each `take_…` adds files, and notes about what could not be taken. None of them raises."""

    def __init__(self, assignment: Assignment, workspace: Workspace, limits: Limits, masker: Masker) -> None:
        self._assignment, self._workspace = assignment, workspace
        self._limits, self._masker = limits, masker
        self.files: dict[str, Path] = {}
        self.variables: list[Variable] = []
        self.artifacts: list[Stored] = []
        self.notes: list[str] = []
        self.missing: dict[str, str] = {}
        """Variables that were asked for and are not there: name → why."""
        self._taken: set[str] = set()

    def take_log(self, log: Log) -> int:
        """The log, or its head and tail; return how many bytes the whole has."""
        margin = self._masker.longest_bytes
        try:
            data = log.shortened(self._limits.log_bytes, mask=self._masker.mask, margin_bytes=margin)
            self._write(LOG, data)
            return log.size_bytes()
        except OSError as error:
            self.notes.append(f"the log could not be stored: {error}")
            return 0

    def take_notebook(
        self,
        outputs: list[Output],
        *,
        parameters: str,
        execution_count: int | None,
        widgets: Output | None,
        python_version: str,
    ) -> None:
        """The executed notebook of the cell."""
        spec = self._assignment.spec
        data = build_notebook(
            self._assignment.cell_source or "",
            parameters=parameters,
            outputs=outputs,
            execution_count=execution_count,
            widgets=widgets,
            python_version=python_version,
            about={"job": spec.job_id, "name": spec.name, "attempt": self._assignment.attempt},
            limit_bytes=self._limits.notebook_bytes,
        )
        try:
            self._write(NOTEBOOK, self._masker.mask_json(data))
        except OSError as error:
            self.notes.append(f"the notebook could not be stored: {error}")

    def take_saved(self, saved: Mapping[str, Any]) -> None:
        """The variables that guest.py saved in the kernel."""
        for name in self._assignment.spec.outputs:
            told = saved.get(name) or {"error": f"{name} was not saved"}
            if "error" in told:
                self.missing[name] = str(told["error"])
            else:
                self._take_variable(name, Path(told["path"]))

    def take_left(self) -> None:
        """The variables that a command left as `<name>.json`, `.npy`, … in its output folder."""
        for name in self._assignment.spec.outputs:
            found = [path for kind in Kind if (path := self._left_file(name, kind)) is not None]
            if found:
                self._taken.add(found[0].name)
                self._take_variable(name, found[0])
            else:
                self.missing[name] = (
                    f"the command left no {name}.json, .npy, .safetensors or .parquet in $COLAB_OUTPUT_DIR"
                )

    def take_artifacts(self) -> None:
        """The files of the output folder, and those that the job's patterns name."""
        gathered = gather_artifacts(
            self._workspace.output,
            checkout=self._assignment.checkout,
            patterns=self._assignment.spec.artifacts,
            into=self._workspace.result / ARTIFACTS,
            kept=self._workspace.kept,
            kept_as=f"kept/{self._assignment.spec.job_id}.{self._assignment.attempt}/",
            limits=self._limits,
            mask=self._masker.mask,
            but=frozenset(self._taken),
        )
        self.files |= {f"{ARTIFACTS}/{name}": path for name, path in gathered.files.items()}
        self.artifacts += gathered.stored
        self.notes += gathered.notes

    def _left_file(self, name: str, kind: Kind) -> Path | None:
        if kind is Kind.PICKLE and not self._assignment.spec.allow_pickle:
            return None
        path = self._workspace.output / f"{name}{suffix_of(kind)}"
        return path if path.is_file() and not path.is_symlink() else None

    def _take_variable(self, name: str, source: Path) -> None:
        kind = kind_of(source.name)
        target = f"{OUT}/{source.name}"
        try:
            size = source.stat().st_size
            if size > self._limits.variable_bytes:
                limit = self._limits.variable_bytes
                self.missing[name] = (
                    f"{name} is {size / 1e6:.1f} MB, over the limit of {limit / 1e6:g} MB for one variable: "
                    "leave a part of it"
                )
                return
            mask = self._masker.mask_json if kind is Kind.JSON else self._masker.mask
            data = copy_masked(source, self._workspace.result / target, mask=mask)
        except OSError as error:
            self.missing[name] = f"{name} could not be read: {error}"
            return
        self.files[target] = self._workspace.result / target
        self.variables.append(Variable(name=name, kind=str(kind), path=target, size_bytes=len(data)))

    def _write(self, name: str, data: bytes) -> None:
        path = self._workspace.result / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.files[name] = path


def read_progress(path: Path) -> tuple[float, float | None, str] | None:
    """What `colab_magics.progress` wrote last: done, total, label; None where it wrote nothing.

    The file is the job's own and may hold anything, or be no file. Both numbers are finite and >= 0.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            told = json.loads(file.read(_PROGRESS_BYTES))
        done, total = _amount(told["done"]), told["total"]
        return done, None if total is None else _amount(total), str(told["label"])[:_LABEL_CHARS]
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        return None


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a {type(value).__name__} is no amount")
    if not 0 <= (amount := float(value)) < math.inf:
        raise ValueError(f"{amount} is no amount")
    return amount
