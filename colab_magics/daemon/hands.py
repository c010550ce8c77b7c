"""The attempts that a daemon has in its hands: waiting, running, or finished and not yet in the ledger.

One runs at a time, and beside those that are held at their failure the next, where there is room. One that is
let go ends soon, as a rule: until it does, nothing more begins.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.assignment import Live, Outcome, Stop
from colab_magics.daemon.attempt import Attempt
from colab_magics.daemon.home import Home
from colab_magics.daemon.preparation import Preparation, Setup
from colab_magics.daemon.spool import drop_outcome, load_outcome, save_outcome
from colab_magics.daemon.telemetry import free_memory
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
ROOM_LOOK_S = 1.0
"""How often the machine's memory is looked at while a job waits for room: nobody tells when some is freed."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that is over. `outcome` waits to be written into the ledger."""

    job_id: str
    attempt: int
    outcome: Outcome


Key = tuple[str, int]


class Hands:
    """Runs attempts, each in a thread of its own. All methods may be called from any thread."""

    def __init__(self, store: Store, home: Home, setup: Setup, *, wake: Callable[[], None]) -> None:
        """Start with what an earlier process of this worker left in the spool.

        Args:
            store: where code, inputs and checkpoints come from.
            home: the daemon's folder.
            setup: how jobs run.
            wake: called whenever something is over, is held or goes on.
        """
        self._store, self._home, self._setup, self._wake = store, home, setup, wake
        self._preparation = Preparation(store, home, setup)
        self._changed = threading.Condition()
        self._waiting: list[tuple[JobSpec, int]] = []
        self._running: dict[Key, Attempt | None] = {}  # None: it is prepared
        self._stops: dict[Key, Stop] = {}
        self._finished: dict[Key, Finished] = {}
        self._closing = False
        self.trouble: Exception | None = None
        """Why this machine cannot run jobs, if it cannot."""
        self._recover()
        self._threads: list[threading.Thread] = []
        self._beginner = threading.Thread(target=self._begin, name="colab-attempts", daemon=True)
        self._beginner.start()

    def take(self, spec: JobSpec, attempt: int) -> None:
        """Run an attempt as soon as those taken before are over, or held with room beside them."""
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
            running = self._running.get(key)
            for spec, attempt in [each for each in self._waiting if (each[0].job_id, each[1]) == key]:
                self._waiting.remove((spec, attempt))
                self._finished[key] = Finished(*key, refuse(spec, attempt, why, worker=self._home.worker))
        if running is not None:
            running.stop(why)
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
            shown = {key: attempt.live() if attempt else None for key, attempt in self._running.items()}
            shown.update({(spec.job_id, attempt): None for spec, attempt in self._waiting})
            return shown

    def held(self) -> frozenset[Key]:
        """Those that stand at their failure."""
        with self._changed:
            return frozenset(key for key, attempt in self._running.items() if attempt and attempt.is_held)

    def lack(self) -> str:
        """Why nothing begins beside what is held, as the end of a sentence.

        Empty if there is room, if nothing is held, or if something runs that is not held.
        """
        with self._changed:
            if not self._running or not self._is_free():
                return ""
        visible = self._setup.environment.get("CUDA_VISIBLE_DEVICES")
        return self._setup.room.lack(free_memory(visible))

    def changed_checkpoints(self) -> Iterator[tuple[Key, dict[str, Path]]]:
        """The checkpoint files of each attempt that runs, if they changed since the last call."""
        with self._changed:
            running = dict(self._running)
        for key, attempt in running.items():
            files = attempt.checkpoint() if attempt else None
            if files:
                yield key, files

    def is_busy(self) -> bool:
        """Whether anything waits or runs."""
        with self._changed:
            return bool(self._waiting or self._running)

    def hurry(self) -> None:
        """End what runs at once, without a grace, and begin nothing more; `close` then waits for little."""
        self._begin_to_close()
        with self._changed:
            running = list(self._running)
        for key in running:
            end_left_over(self._folder(key) / "scratch")

    def close(self) -> None:
        """End the threads; what runs is told to release first."""
        self._begin_to_close()
        self._beginner.join()  # from here on nothing begins
        for thread in self._threads:
            thread.join()

    def _begin_to_close(self) -> None:
        self.stop_all(Stop.RELEASE)
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _keys(self) -> set[Key]:
        waiting = {(spec.job_id, attempt) for spec, attempt in self._waiting}
        return waiting | set(self._finished) | set(self._running)

    def _is_free(self) -> bool:
        """Whether all that run are held."""
        return all(attempt is not None and attempt.is_held for attempt in self._running.values())

    def _moved(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._wake()

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

    def _begin(self) -> None:
        """Begin what waits, one after the other, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or (self._waiting and self._is_free()))
                if self._closing:
                    return
            if self.lack():
                with self._changed:
                    self._changed.wait_for(lambda: self._closing or not self._running, ROOM_LOOK_S)
                continue
            with self._changed:
                if self._waiting and self._is_free():
                    self._begin_next()

    def _begin_next(self) -> None:
        spec, number = self._waiting.pop(0)
        self._running[spec.job_id, number] = None
        name = f"colab-attempt {spec.job_id}"
        thread = threading.Thread(target=self._attend, args=(spec, number), name=name, daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def _attend(self, spec: JobSpec, number: int) -> None:
        key = (spec.job_id, number)
        try:
            outcome = self._run(spec, number)
        except Exception as error:  # a bug of ours must fail this job, not the queue
            logger.exception("attempt %s of %s could not be run", number, spec.job_id)
            told = f"the daemon failed: {type(error).__name__}, its log says more"
            outcome = refuse(spec, number, told, worker=self._home.worker)
        outcome = self._spooled(key, outcome)
        with self._changed:
            del self._running[key]
            self._finished[key] = Finished(*key, outcome)
            self._changed.notify_all()
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
                attempt = self._preparation.prepare(spec, number, folder, moved=self._moved)
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
            self._running[key] = attempt
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
