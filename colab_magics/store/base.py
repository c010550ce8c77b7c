"""What a store of jobs can do: the seam between the queue's rules and where its bytes live."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from colab_magics.jobs.asking import Ask
from colab_magics.jobs.codec import Live
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec, Json
from colab_magics.jobs.state import Event


@dataclass(frozen=True, slots=True)
class View:
    """The queue as one look at the remote showed it.

    `jobs` are in the order of the queue, those that only the ledger knows behind them. `waiting` are the
    ids of jobs of this machine that no remote has yet. `asks` are those for a session, by their ids, if this
    store hears them. `intent` and `ledger` tell one look from another.
    `note` is what a person should know about the queue as a whole, if anything.
    """

    jobs: tuple[Job, ...] = ()
    lives: Mapping[str, Live] = field(default_factory=dict)
    intent: str | None = None
    ledger: str | None = None
    waiting: tuple[str, ...] = ()
    asks: Mapping[str, Ask] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs to queue in one push, with the small files that they name and the snapshots that they run in."""

    specs: tuple[JobSpec, ...]
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    extras: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a wish: `commit` holds it on the remote, or `reason` says why it still waits here."""

    commit: str | None
    reason: str = ""

    @property
    def pushed(self) -> bool:
        """Whether the remote has it."""
        return not self.reason


class Recorded(enum.Enum):
    """What became of an attempt to write the ledger."""

    LANDED = enum.auto()
    LOST = enum.auto()
    """Somebody else wrote first; nothing was written. Look again and decide again."""
    UNKNOWN = enum.auto()
    """Nobody answered; it may or may not have landed. Call `settle` until it says which."""


class Store(Protocol):
    """Jobs and results, for people (`submit` … `read`) and for workers (`record` … `checkout`).

    Every method that talks to the remote raises UnreachableError when nobody answers, and RefusedError
    when the remote says no, unless its docstring says otherwise.
    """

    def submit(self, submission: Submission) -> Receipt:
        """Queue jobs, all in one push. Without a network they wait here, and the receipt says so."""
        ...

    def cancel(self, job_ids: Iterable[str]) -> Receipt:
        """Ask for jobs to end. One that still waits here is taken out of the outbox."""
        ...

    def flush(self) -> Receipt:
        """Push what waits here, if anything does."""
        ...

    def refresh(self) -> View:
        """Look at the remote."""
        ...

    def view(self) -> View:
        """What the last look showed, without a network."""
        ...

    def read(self, job_id: str, name: str) -> bytes | None:
        """One of a job's result files, as of the last look; None where there is none."""
        ...

    def files(self, job_id: str) -> dict[str, int]:
        """The result files of a job and their sizes in bytes, as of the last look."""
        ...

    def read_input(self, path: str) -> bytes | None:
        """A file beside experiments.json (`cells/…`, `inputs/…`), as of the last look."""
        ...

    def record(
        self,
        view: View,
        events: Sequence[Event],
        *,
        summaries: Mapping[str, Mapping[str, str | int | float | None]],
        files: Mapping[str, bytes | Path],
        live: Live | None = None,
    ) -> Recorded:
        """Write events, and the files that go with them, into the ledger as one commit on top of `view`.

        Args:
            view: the look on which the events were decided; they are legal on it.
            events: what happened, in order.
            summaries: for a job, what its row in the table says.
            files: paths in the ledger (jobs.paths) and what goes there.
            live: the worker's sign of life to push along with it.

        Raises:
            TransitionError: an event is not legal on `view`.
            RefusedError: the remote said no to more than the race.
        """
        ...

    def settle(self) -> Recorded:
        """Find out what became of the last `record` that was UNKNOWN, trying it again where that is safe."""
        ...

    def publish(self, live: Live) -> None:
        """Overwrite a worker's sign of life."""
        ...

    def retire(self, worker: str) -> None:
        """Remove a worker's sign of life."""
        ...

    def save_checkpoint(self, job_id: str, attempt: int, files: Mapping[str, Path]) -> None:
        """Keep a job's checkpoint folder for its next attempt, in place of the one before.

        An attempt with a lower number than the one that saved last is ignored: it has been superseded.
        """
        ...

    def load_checkpoint(self, job_id: str, folder: Path) -> bool:
        """Put the last checkpoint of a job into `folder`; whether there was one."""
        ...

    def drop_checkpoint(self, job_id: str) -> None:
        """Forget a job's checkpoint, if it has one."""
        ...

    def checkout(self, spec: JobSpec, folder: Path) -> str:
        """Put the code of a job into `folder`, which must not exist, and return the commit it is.

        Raises:
            StoreError: the commit is not there any more, or the disk refuses.
        """
        ...

    def remove_checkout(self, folder: Path) -> None:
        """Remove what `checkout` made, whatever a job did to it. Never raises."""
        ...

    def compact(self) -> None:
        """Give back the disk that nothing needs any more, where that is much. Takes its time.

        Raises:
            StoreError: it could not; nothing that is needed is lost.
        """
        ...
