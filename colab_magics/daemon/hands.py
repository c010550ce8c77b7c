"""The attempts that a daemon has in its hands: waiting, running, or finished and not yet in the ledger."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.assignment import Live, Outcome, Stop
from colab_magics.daemon.attempt import Attempt
from colab_magics.daemon.home import Home
from colab_magics.daemon.preparation import Preparation, Setup
from colab_magics.daemon.spool import drop_outcome, load_outcome, save_outcome
from colab_magics.daemon.verdict import refuse
from colab_magics.daemon.workspace import end_left_over
from colab_magics.errors import (
    ColabError,
    CorruptError,
    MissingError,
    SpecError,
    UnreachableError,
)
from colab_magics.jobs.spec import JobSpec
from colab_magics.store.base import Store

logger = logging.getLogger(__name__)

RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that is over. `outcome` waits to be written into the ledger."""

    job_id: str
    attempt: int
    outcome: Outcome


Key = tuple[str, int]


class Hands:
    """Runs attempts one after the other in a thread of its own. All methods may be called from any thread."""

    def __init__(self, store: Store, home: Home, setup: Setup, *, wake: Callable[[], None]) -> None:
        """Start with what an earlier process of this worker left in the spool.

        Args:
            store: where code, inputs and checkpoints come from.
            home: the daemon's folder.
            setup: how jobs run.
            wake: called whenever something is over.
        """
        self._store, self._home, self._wake = store, home, wake
        self._preparation = Preparation(store, home, setup)
        self._changed = threading.Condition()
        self._waiting: list[tuple[JobSpec, int]] = []
        self._running: tuple[Key, Attempt | None] | None = None
        self._stops: dict[Key, Stop] = {}
        self._finished: dict[Key, Finished] = {}
        self._closing = False
        self.trouble: Exception | None = None
        """Why this machine cannot run jobs, if it cannot."""
        self._recover()
        self._thread = threading.Thread(target=self._work, name="colab-attempts", daemon=True)
        self._thread.start()

    def take(self, spec: JobSpec, attempt: int) -> None:
        """Run an attempt as soon as those taken before are over."""
        with self._changed:
            self._waiting.append((spec, attempt))
            self._changed.notify_all()

    def holding(self) -> frozenset[Key]:
        """The (job id, attempt) pairs taken and not put down."""
        with self._changed:
            return frozenset(self._keys())

    def finished(self) -> list[Finished]:
        """What is over and not put down."""
        with self._changed:
            return list(self._finished.values())

    def stop(self, key: Key, why: Stop) -> None:
        """End an attempt; its outcome appears among the finished."""
        with self._changed:
            self._stops.setdefault(key, why)
            running = self._running
            for spec, attempt in [each for each in self._waiting if (each[0].job_id, each[1]) == key]:
                self._waiting.remove((spec, attempt))
                self._finished[key] = Finished(*key, refuse(spec, attempt, why, worker=self._home.worker))
        if running is not None and running[0] == key and running[1] is not None:
            running[1].stop(why)
        self._wake()

    def stop_all(self, why: Stop) -> None:
        """End everything that is not over."""
        for key in self.holding() - {(each.job_id, each.attempt) for each in self.finished()}:
            self.stop(key, why)

    def put_down(self, key: Key) -> None:
        """Forget an attempt whose outcome is where it belongs, and clean up after it."""
        with self._changed:
            self._finished.pop(key, None)
            self._stops.pop(key, None)
        folder = self._folder(key)
        self._keep_large_files(key, folder)
        self._store.remove_checkout(folder / "code")
        shutil.rmtree(folder, ignore_errors=True)
        drop_outcome(self._spool(key))

    def live(self) -> dict[Key, Live | None]:
        """What can be seen of each attempt that is not over; None for one that waits."""
        with self._changed:
            shown: dict[Key, Live | None] = {}
            if self._running is not None:
                key, attempt = self._running
                shown[key] = attempt.live() if attempt else None
            shown.update({(spec.job_id, attempt): None for spec, attempt in self._waiting})
            return shown

    def changed_checkpoint(self) -> tuple[Key, dict[str, Path]] | None:
        """The running attempt's checkpoint files, if they changed since the last call."""
        with self._changed:
            running = self._running
        if running is None or running[1] is None:
            return None
        files = running[1].checkpoint()
        return (running[0], files) if files else None

    def is_busy(self) -> bool:
        """Whether anything waits or runs."""
        with self._changed:
            return bool(self._waiting or self._running)

    def hurry(self) -> None:
        """End what runs at once, without a grace, and begin nothing more; `close` then waits for little."""
        self._begin_to_close()
        with self._changed:
            running = self._running
        if running is not None:
            end_left_over(self._folder(running[0]) / "scratch")

    def close(self) -> None:
        """End the thread; what runs is told to release first."""
        self._begin_to_close()
        self._thread.join()

    def _begin_to_close(self) -> None:
        self.stop_all(Stop.RELEASE)
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _keys(self) -> set[Key]:
        keys = {(spec.job_id, attempt) for spec, attempt in self._waiting} | set(self._finished)
        return keys | ({self._running[0]} if self._running else set())

    def _folder(self, key: Key) -> Path:
        return self._home.attempts / f"{key[0]}.{key[1]}"

    def _spool(self, key: Key) -> Path:
        return self._home.spool / f"{key[0]}.{key[1]}"

    def _recover(self) -> None:
        """Outcomes that a process before this one spooled are finished; its other attempts are gone."""
        for folder in sorted(self._home.spool.glob("*.*")):
            job_id, _, attempt = folder.name.rpartition(".")
            try:
                outcome = load_outcome(folder)
            except CorruptError as error:
                logger.error("%s; it was moved to %s, and its job will run again", error, self._home.kept)
                self._keep(folder, f"{folder.name}.spool")
                continue
            if outcome is None or not attempt.isdigit():
                shutil.rmtree(folder, ignore_errors=True)
                continue
            self._finished[job_id, int(attempt)] = Finished(job_id, int(attempt), outcome)
        kept = {f"{job_id}.{attempt}" for job_id, attempt in self._finished}
        for folder in self._home.attempts.glob("*"):
            if folder.name not in kept:
                end_left_over(folder / "scratch")
                self._store.remove_checkout(folder / "code")
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                spec, number = self._waiting.pop(0)
                key = (spec.job_id, number)
                self._running = (key, None)
            try:
                outcome = self._run(spec, number)
            except Exception as error:  # a bug of ours must fail this job, not the queue
                logger.exception("attempt %s of %s could not be run", number, spec.job_id)
                told = f"the daemon failed: {type(error).__name__}, its log says more"
                outcome = refuse(spec, number, told, worker=self._home.worker)
            outcome = self._spooled(key, outcome)
            with self._changed:
                self._running = None
                self._finished[key] = Finished(*key, outcome)
            self._wake()

    def _spooled(self, key: Key, outcome: Outcome) -> Outcome:
        """The outcome, on the disk for good; as it is where the disk is full even without what goes next."""
        try:
            return save_outcome(self._spool(key), outcome)
        except OSError as error:
            told = (
                "the result of %s cannot be kept: %s; its folder and its large files are removed to make room"
            )
            logger.warning(told, key[0], error)
        folder = self._folder(key)
        self._store.remove_checkout(folder / "code")
        for name in ("output", "kept"):  # what of them goes to the remote was copied
            shutil.rmtree(folder / "scratch" / name, ignore_errors=True)
        try:
            return save_outcome(self._spool(key), outcome)
        except OSError as error:
            logger.error("the result of %s cannot be kept: %s", key[0], error)
            drop_outcome(self._spool(key))
            return outcome

    def _run(self, spec: JobSpec, number: int) -> Outcome:
        key, folder = (spec.job_id, number), self._folder((spec.job_id, number))
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "scratch").mkdir(parents=True)
        while True:
            try:
                attempt = self._preparation.prepare(spec, number, folder)
                break
            except UnreachableError as error:
                logger.warning("the code of %s cannot be fetched yet: %s", spec.job_id, error)
                self._store.remove_checkout(folder / "code")
                time.sleep(RETRY_S)
            except (MissingError, SpecError) as error:
                return refuse(spec, number, str(error), worker=self._home.worker)
            except (ColabError, OSError) as error:
                # The machine's fault, or its token's: no job is to blame, and the next would fare no better.
                self.trouble = error
                return refuse(spec, number, Stop.RELEASE, worker=self._home.worker)
            if key in self._stops:
                return refuse(spec, number, self._stops[key], worker=self._home.worker)
        with self._changed:
            self._running = (key, attempt)
            stopped = self._stops.get(key)
        if stopped is not None:
            attempt.stop(stopped)
        return attempt.run()

    def _keep_large_files(self, key: Key, folder: Path) -> None:
        large = folder / "scratch" / "kept"
        if large.is_dir() and any(large.iterdir()):
            self._keep(large, f"{key[0]}.{key[1]}")

    def _keep(self, folder: Path, name: str) -> None:
        try:
            self._home.kept.mkdir(exist_ok=True)
            shutil.rmtree(self._home.kept / name, ignore_errors=True)
            folder.rename(self._home.kept / name)
        except OSError as error:
            logger.warning("%s could not be kept: %s", folder, error)
