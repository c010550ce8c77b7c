"""A worker's signs of life, in a thread of their own: no job and no slow look at the queue delays them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from colab_magics.daemon.hands import Hands
from colab_magics.daemon.pace import DaemonSettings, Pushes
from colab_magics.daemon.telemetry import describe_machine
from colab_magics.errors import RefusedError, StoreError
from colab_magics.jobs.codec import Live
from colab_magics.jobs.spec import Json
from colab_magics.store.base import Store

logger = logging.getLogger(__name__)


class Heartbeat:
    """Publishes what the hands show: when it changed, as often as the budget allows, else every heartbeat."""

    def __init__(
        self,
        store: Store,
        worker: str,
        hands: Hands,
        settings: DaemonSettings,
        pushes: Pushes,
        *,
        now: Callable[[], float],
        expose: str = "",
    ) -> None:
        self._store, self._worker, self._hands, self._settings = store, worker, hands, settings
        self._pushes, self._now, self._expose = pushes, now, expose
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._counter = int(now() * 1000)  # grows over restarts under one name
        self._machine = describe_machine()
        self._shown: object = None
        self.refused: RefusedError | None = None
        """The remote's no to the first sign of life: it lets this worker look, and nothing more."""
        self.was_heard = False
        """Whether the remote took a sign of life of this process: then a later no may pass."""
        self._beat_at = float("-inf")
        self._thread = threading.Thread(target=self._work, name="colab-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat, if it did not yet."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Stop beating."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def next_sign(self) -> Live:
        """The sign of life of this moment, to be pushed by the caller."""
        with self._lock:
            self._counter += 1
            self._beat_at = time.monotonic()
            jobs = self._jobs()
            self._shown = _lasting(jobs)
            return Live(
                worker=self._worker,
                counter=self._counter,
                at=self._now(),
                poll_s=self._settings.poll_s,
                machine=self._machine,
                jobs=jobs,
                expose=self._expose,
            )

    def _jobs(self) -> dict[str, dict[str, Json]]:
        return {
            job_id: {"attempt": attempt, **({"phase": "waiting"} if live is None else live.to_json())}
            for (job_id, attempt), live in self._hands.live().items()
        }

    def _work(self) -> None:
        while not self._closing.wait(self._settings.live_s):
            try:
                if not self._is_due():
                    continue
                self._store.publish(self.next_sign())
                self.was_heard = True
                self._pushes.spent()
                self._save_checkpoints()
            except StoreError as error:
                if isinstance(error, RefusedError) and not self.was_heard:
                    self.refused = error
                    return
                logger.warning("no sign of life could be given: %s", error)
            except Exception:  # a bug of ours must not make this worker look dead
                logger.exception("no sign of life could be given")

    def _is_due(self) -> bool:
        if time.monotonic() - self._beat_at > self._settings.heartbeat_s:
            return True
        return self._pushes.wait_s(urgent=False) <= 0 and _lasting(self._jobs()) != self._shown

    def _save_checkpoints(self) -> None:
        for (job_id, attempt), files in self._hands.changed_checkpoints():
            self._store.save_checkpoint(job_id, attempt, files)
            self._pushes.spent()


def _lasting(jobs: Mapping[str, Mapping[str, Json]]) -> object:
    """What is shown of the jobs, without what changes by itself as time goes on."""
    return {
        job_id: {key: value for key, value in shown.items() if key != "elapsed_s"}
        for job_id, shown in jobs.items()
    }
