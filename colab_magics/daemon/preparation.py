"""An attempt made ready to run: its code, its inputs and its checkpoint brought into its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colab_magics.daemon.assignment import Assignment, Limits
from colab_magics.daemon.attempt import Attempt
from colab_magics.daemon.home import Home
from colab_magics.daemon.room import Room
from colab_magics.errors import MissingError, SpecError
from colab_magics.jobs.spec import JobSpec
from colab_magics.store.base import Store


@dataclass(frozen=True, slots=True)
class Setup:
    """How a daemon runs its jobs: with which interpreter, environment, limits, and what it must hide.

    `room` is what must be free for a job to begin beside one that is held.
    """

    python: Path
    limits: Limits
    environment: Mapping[str, str]
    secrets: Sequence[str]
    room: Room = field(default_factory=Room)


@dataclass(frozen=True, slots=True)
class Preparation:
    """Makes attempts ready.

    Attributes:
        store: where code, inputs and checkpoints come from.
        home: the daemon's folder.
        setup: how jobs run.
    """

    store: Store
    home: Home
    setup: Setup

    def prepare(self, spec: JobSpec, number: int, folder: Path, *, moved: Callable[[], None]) -> Attempt:
        """The attempt `number` of a job, with all that it needs below `folder`, where `scratch` is made.

        Args:
            moved: called, in the attempt's thread, when it is held at its failure or goes on from there.

        Raises:
            UnreachableError: the remote does not answer.
            MissingError, SpecError: the job cannot run, here or anywhere.
            ColabError, OSError: this machine cannot run it.
        """
        scratch, code = folder / "scratch", folder / "code"
        commit = self.store.checkout(spec, code)
        inputs = {}
        for each in spec.inputs:
            target = scratch / "inputs" / Path(each.path).name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(self._file_beside(each.path))
            inputs[each.name] = (each.kind, target)
        assignment = Assignment(
            spec=spec,
            attempt=number,
            worker=self.home.worker,
            checkout=code,
            scratch=scratch,
            cell_source=self._cell_source(spec.cell) if spec.cell else None,
            inputs=inputs,
            requirements=self._file_beside(spec.requirements) if spec.requirements else None,
            python=self.setup.python,
            code=commit,
        )
        attempt = Attempt(
            assignment,
            limits=self.setup.limits,
            environment=self.setup.environment,
            secrets=self.setup.secrets,
            envs_dir=self.home.environments,
            moved=moved,
        )
        if number > 1:
            self.store.load_checkpoint(spec.job_id, attempt.checkpoint_folder)
        return attempt

    def _cell_source(self, path: str) -> str:
        try:
            return self._file_beside(path).decode()
        except UnicodeDecodeError as error:
            raise SpecError(f"the cell {path} is not UTF-8 text: queue it again") from error

    def _file_beside(self, path: str) -> bytes:
        data = self.store.read_input(path)
        if data is None:
            raise MissingError(
                f"{path}, which the job names, is not on the branch any more: queue the job again"
            )
        return data
