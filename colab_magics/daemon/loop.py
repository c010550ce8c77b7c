"""The daemon: look at the queue, decide, act, until there is nothing left or somebody stops it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

from colab_magics.daemon.answers import Answers, Reception
from colab_magics.daemon.assignment import Stop as StopAttempt
from colab_magics.daemon.farewell import end_all
from colab_magics.daemon.hands import Finished, Hands
from colab_magics.daemon.heartbeat import Heartbeat
from colab_magics.daemon.home import Home
from colab_magics.daemon.leavings import files_of, place, superseded_files
from colab_magics.daemon.pace import DaemonSettings, Pushes
from colab_magics.daemon.preparation import Setup
from colab_magics.daemon.status import Status, describe, waiting_sentence
from colab_magics.daemon.upkeep import Upkeep
from colab_magics.daemon.witness import Witness
from colab_magics.errors import CorruptError, RefusedError, StoreError, UnreachableError
from colab_magics.jobs import plan as planning
from colab_magics.jobs.board import fold, summarize
from colab_magics.jobs.budget import shared_interval
from colab_magics.jobs.codec import Live
from colab_magics.jobs.paths import NOTEBOOK, RECORD
from colab_magics.jobs.record import to_json
from colab_magics.jobs.state import Event, State, Verb
from colab_magics.store.base import Recorded, Store, View

logger = logging.getLogger(__name__)

MAX_BACKOFF_S = 60.0
LAST_TRIES = 3
"""How often a daemon that is told to stop still asks a remote that does not answer."""

_SIGNALS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP)
ENDED_FROM_OUTSIDE = frozenset(code for each in _SIGNALS for code in (-each, 128 + each))
"""Exit codes of a process, or of its shell, that somebody else ended."""

TYPICAL_OF = 20
"""How many of the latest jobs say how long a job usually takes."""


class Daemon:
    """One worker on one queue. `run` blocks; `stop` may be called from any thread or a signal handler."""

    def __init__(
        self,
        store: Store,
        home: Home,
        settings: DaemonSettings,
        setup: Setup,
        *,
        reception: Reception | None = None,
        on_status: Callable[[Status], None] = lambda status: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing starts before `run`.

        Args:
            store: the queue.
            home: the daemon's folder, open; `run` closes it at its end.
            settings: how it behaves.
            setup: how it runs its jobs.
            reception: where people ask it for a session; None: they cannot.
            on_status: called after each look and each change, in the thread of `run`.
            clock: seconds that only grow; all decisions are made on it.
            now: Unix seconds, for people.
        """
        self._store, self._home, self._settings, self._setup = store, home, settings, setup
        self._reception, self._on_status, self._clock, self._now = reception, on_status, clock, now
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._pushes = Pushes(settings.push_interval_s, clock=clock)
        self._signs: dict[str, planning.Sign] = {}
        self._witness = Witness()
        self._durations: list[float] = []
        self._lack = ""  # why nothing begins beside what is held
        self._done = 0
        self._stale, self._looked_at = True, clock()

    def stop(self) -> None:
        """End soon and cleanly: what runs goes back to the queue."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> int:
        """Work until stopped, idle for long enough, or drained; return how many attempts ended here.

        The daemon's folder is closed when nothing works in it any more. An interrupt ends what runs at once.

        Raises:
            RefusedError: the remote says no.
            CorruptError: the ledger was rewritten, or does not parse.
            StoreError: the clone fails again and again, or this machine cannot run jobs.
        """
        hands = Hands(self._store, self._home, self._setup, wake=self._wake.set)
        worker, offers = self._home.worker, self._reception.offers if self._reception else ""
        heart = Heartbeat(
            self._store, worker, hands, self._settings, self._pushes, now=self._now, expose=offers
        )
        answers = Answers(self._reception, worker, self._pushes, now=self._now)
        upkeep = Upkeep(self._store, every_s=self._settings.upkeep_s)
        is_welcome = True
        try:
            upkeep.start()
            self._loop(hands, heart, answers)
            if hands.trouble is not None and not self._stopping.is_set():
                raise StoreError(f"this machine cannot run jobs: {hands.trouble}") from hands.trouble
        except KeyboardInterrupt:
            hands.hurry()
            raise
        except RefusedError:
            is_welcome = False
            raise
        finally:
            goodbye = [self._leave] if is_welcome else []
            steps = [hands.close, heart.close, answers.close, upkeep.close, *goodbye, self._home.close]
            end_all(steps, hurry=hands.hurry)
        return self._done

    def _loop(self, hands: Hands, heart: Heartbeat, answers: Answers) -> None:
        idle_since, failures = self._clock(), 0
        while True:
            try:
                stopping = self._stopping.is_set() or hands.trouble is not None
                if heart.refused is not None:
                    raise heart.refused
                if stopping:
                    hands.stop_all(StopAttempt.RELEASE)
                if self._stale or self._clock() - self._looked_at > self._settings.poll_s / 2:
                    self._look()
                    heart.start()  # not before: it overwrites what a process of this name showed that died
                view = self._store.view()
                self._look_for_room(hands)
                answers.hear(view.asks)
                moved = self._turn(view, hands, heart, draining=stopping)
                failures = 0
                if answers.is_open:
                    idle_since = self._clock()
                if moved or hands.holding():
                    idle_since = self._clock()
                elif stopping or self._is_over(view, idle_since):
                    return
                self._on_status(self._status(hands))
                if not moved:
                    self._wake.wait(self._settings.poll_s)
                self._wake.clear()
            except CorruptError:
                raise
            except StoreError as error:
                failures += 1
                self._stale = True
                if isinstance(error, RefusedError) and not heart.was_heard:
                    raise
                # A no may pass (a rate limit, a token that is renewed): what runs is not ended for it.
                lasting = failures > LAST_TRIES and not hands.is_busy()
                if lasting and not isinstance(error, UnreachableError):
                    raise
                if self._stopping.is_set() and failures > LAST_TRIES:
                    logger.error("stopped without the remote: %s; what ran here will be leased again", error)
                    return
                pause = min(self._settings.poll_s * 2**failures, MAX_BACKOFF_S)
                logger.warning("%s; trying again in %.0f s", error, pause)
                self._stopping.wait(pause)

    def _look(self) -> None:
        """Fetch, and note who has shown a sign of life since the last look.

        The time is that from before the look: a machine that froze during it must not take what it sees
        for old. After a gap longer than a lease, in which this machine froze or nobody answered, nobody's
        silence was observed, so all start anew.
        """
        began = self._clock()
        view = self._store.refresh()
        if began - self._looked_at > self._lease_s:
            self._signs = {}
        self._looked_at, self._stale = began, False
        self._witness.look(view)
        self._pushes.share(len(view.lives))
        prints = {worker: str(live.counter) for worker, live in view.lives.items()}
        for job in view.jobs:
            if job.state.state is State.RUNNING:
                held = prints.get(job.state.worker, "")
                prints[job.state.worker] = f"{held} {job.job_id}.{job.state.attempt}"
        self._signs = planning.observe(self._signs, prints, now=self._looked_at)

    def _look_for_room(self, hands: Hands) -> None:
        before, self._lack = self._lack, hands.lack()
        if self._lack and not before:
            logger.info("%s", waiting_sentence(self._lack))

    def _turn(self, view: View, hands: Hands, heart: Heartbeat, *, draining: bool) -> bool:
        """One round of deciding and acting; whether anything was written."""
        ended, superseded = self._sort_finished(view, hands)
        if superseded:
            self._set_aside(view, superseded, hands)
            return True
        events = [self._event(each) for each in ended]
        changed = fold(view.jobs, events, {})
        jobs = [replace(job, state=changed.get(job.job_id, job.state)) for job in view.jobs]
        # Without those that are written now, and no others: one that ends at this moment is still in hand.
        holding = hands.holding() - {(each.job_id, each.attempt) for each in ended}
        actions = planning.plan(
            jobs,
            worker=self._home.worker,
            holding=holding,
            signs=self._signs,
            now=self._looked_at,
            lease_s=self._lease_s,
            capacity=0 if draining else self._capacity(jobs, view, holding - hands.held()),
            at=self._now(),
        )
        for action in actions:
            if isinstance(action, planning.Stop):
                hands.stop(
                    (action.job_id, action.attempt),
                    StopAttempt.CANCEL if action.cancelled else StopAttempt.FENCED,
                )
        events += [action.event for action in actions if isinstance(action, planning.Record)]
        if not events:
            return False
        if not self._write(view, events, ended, heart):
            self._stale = True
            return True
        # The next job first: it starts while the folders of those that ended are removed.
        specs = {job.job_id: job.spec for job in jobs}
        for event in events:
            spec = specs.get(event.job_id)
            if event.verb is Verb.LEASE and spec is not None:
                logger.info("%s: attempt %d", event.job_id, event.attempt)
                hands.take(spec, event.attempt)
        for each in ended:
            hands.put_down((each.job_id, each.attempt))
            self._forget_checkpoint(each)
            self._durations = [*self._durations, each.outcome.record.duration_s][-TYPICAL_OF:]
            self._done += 1
            logger.info(
                "%s: %s after %.1f s", each.job_id, each.outcome.verb.value, each.outcome.record.duration_s
            )
        return True

    def _write(self, view: View, events: list[Event], ended: list[Finished], heart: Heartbeat) -> bool:
        """Whether the events are in the ledger; False when somebody else wrote first."""
        files: dict[str, bytes | Path] = {}
        summaries: dict[str, Mapping[str, str | int | float | None]] = {}
        for event in events:
            if event.verb in (Verb.EXPIRE, Verb.LOSE):
                files |= self._testimony(view, event)
        for each in ended:
            files |= files_of(each.job_id, each.attempt, each.outcome)
            summaries[each.job_id] = summarize(
                each.outcome.record, has_notebook=NOTEBOOK in each.outcome.files
            )
        return self._record(view, events, summaries=summaries, files=files, live=heart.next_sign())

    def _record(
        self,
        view: View,
        events: list[Event],
        *,
        files: Mapping[str, bytes | Path],
        summaries: Mapping[str, Mapping[str, str | int | float | None]] | None = None,
        live: Live | None = None,
    ) -> bool:
        """Write into the ledger as the budget allows, and find out whether it landed."""
        self._stopping.wait(self._pushes.wait_s(urgent=True))
        done = self._store.record(view, events, summaries=summaries or {}, files=files, live=live)
        self._pushes.spent()
        tries = 0
        while done is Recorded.UNKNOWN:
            tries += 1
            if self._stopping.is_set() and tries > LAST_TRIES:
                raise UnreachableError("the remote did not say whether the last results reached it")
            time.sleep(min(self._settings.poll_s * tries, MAX_BACKOFF_S))
            done = self._store.settle()
        return done is Recorded.LANDED

    def _sort_finished(self, view: View, hands: Hands) -> tuple[list[Finished], list[Finished]]:
        """Those whose attempt the ledger still gives to this worker, and those that were overtaken."""
        states = {job.job_id: job.state for job in view.jobs}
        mine, overtaken = [], []
        for each in hands.finished():
            state = states.get(each.job_id)
            same = state is not None and (state.worker, state.attempt) == (self._home.worker, each.attempt)
            if state is not None and same and state.is_final:  # written by a process that died before it knew
                hands.put_down((each.job_id, each.attempt))
            elif state is not None and same and state.state is State.RUNNING:
                mine.append(self._judge(each))
            else:
                overtaken.append(each)
        return mine, overtaken

    def _judge(self, each: Finished) -> Finished:
        """A job that a signal ended while the daemon itself is told to stop went down with the machine.

        A shutdown, or a service manager, sends both the same signal: that is no failure of the job's.
        """
        outcome = each.outcome
        killed = outcome.verb is Verb.FAIL and outcome.record.exit_code in ENDED_FROM_OUTSIDE
        if not (killed and self._stopping.is_set()):
            return each
        return replace(each, outcome=replace(outcome, verb=Verb.RELEASE, reason="its machine was stopped"))

    def _set_aside(self, view: View, superseded: list[Finished], hands: Hands) -> None:
        """Keep the results of overtaken attempts beside the official ones; they never take their place."""
        files: dict[str, bytes | Path] = {}
        for each in superseded:
            logger.warning(
                "attempt %d of %s was overtaken; its results are set aside", each.attempt, each.job_id
            )
            files |= superseded_files(each.job_id, each.attempt, each.outcome)
        if not self._record(view, [], files=files):
            self._stale = True
            return
        for each in superseded:
            hands.put_down((each.job_id, each.attempt))

    def _testimony(self, view: View, event: Event) -> dict[str, bytes]:
        """What is left of an attempt whose session died: what was seen of it."""
        job = next(job for job in view.jobs if job.job_id == event.job_id)
        cell = job.spec.cell if job.spec else None
        source = (self._store.read_input(cell) if cell else None) or b""
        record, left = self._witness.tell(job, event, source=source.decode("utf-8", "replace"))
        left[RECORD] = to_json(record)
        return {place(event.verb, job.job_id, event.attempt, name): data for name, data in left.items()}

    def _event(self, each: Finished) -> Event:
        return Event(
            each.outcome.verb, each.job_id, each.attempt, self._home.worker, self._now(), each.outcome.reason
        )

    @property
    def _lease_s(self) -> float:
        return max(self._settings.lease_s, 4 * self._settings.heartbeat_s)

    def _capacity(self, jobs: list[planning.Job], view: View, in_hand: frozenset[tuple[str, int]]) -> int:
        """How many more jobs to take beside those in hand, of which what is held does not count."""
        if self._lack:
            return 0
        queued = sum(job.state.state is State.QUEUED and job.spec is not None for job in jobs)
        workers = max(len(view.lives), 1)
        batch = planning.batch_size(
            queued=queued,
            workers=workers,
            push_interval_s=shared_interval(self._settings.push_interval_s, workers=workers),
            typical_job_s=median(self._durations) if self._durations else None,
        )
        return batch - len(in_hand)

    def _forget_checkpoint(self, each: Finished) -> None:
        if each.outcome.verb is Verb.RELEASE:
            return
        try:
            self._store.drop_checkpoint(each.job_id)
        except StoreError as error:
            logger.warning("the checkpoint of %s could not be dropped: %s", each.job_id, error)

    def _is_over(self, view: View, idle_since: float) -> bool:
        if any(job.state.state is State.QUEUED and job.wanted for job in view.jobs):
            return False
        idle = self._settings.idle_stop_s
        if self._settings.once:  # what others run may yet come back to the queue
            return not any(job.state.state is State.RUNNING for job in view.jobs)
        return idle is not None and self._clock() - idle_since > idle

    def _status(self, hands: Hands) -> Status:
        doing = describe(hands.live(), lack=self._lack)
        return Status(self._home.worker, self._store.view(), hands.holding(), doing, self._stopping.is_set())

    def _leave(self) -> None:
        try:
            self._store.retire(self._home.worker)
        except StoreError as error:
            logger.warning("could not say goodbye: %s", error)
