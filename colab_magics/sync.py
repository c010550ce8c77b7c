"""The verb `sync`: what the queue has that this notebook has not, brought home."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colab_magics import arrivals
from colab_magics.arrivals import Arrival, Delivery
from colab_magics.display.formats import format_count
from colab_magics.display.hints import typed
from colab_magics.display.rows import WAITING, job_rows, live_of, silent_workers, told_silence
from colab_magics.display.tables import JobRow, JobTable, count_states
from colab_magics.display.watching import Lines, NamedOutputs, Screen, Watched, rich_outputs
from colab_magics.errors import StoreError, UnreachableError
from colab_magics.jobs.plan import Job, Sign, observe
from colab_magics.jobs.select import select_jobs
from colab_magics.jobs.state import State
from colab_magics.store.base import View
from colab_magics.store.locate import Queue
from colab_magics.store.own import load_own
from colab_magics.store.results_folder import FOLDER
from colab_magics.store.seen import Seen, load_seen, save_seen

MAX_BROUGHT = 1000
"""Jobs whose results one sync brings: the first sync in a clone of an old queue must end, too."""

SILENT_S = 300.0
"""A worker that was not heard of for so long is taken for gone; it beats every 30 s."""

VANISHED_S = 120.0
MAX_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a person asked of a sync: which jobs (all, if none), and what becomes of what comes."""

    selectors: tuple[str, ...] = ()
    into: Path | None = None
    variables: bool = True
    allow_pickle: bool = False
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """One queue at one moment: what it shows, what of it is home, which jobs were queued here, and what kept
    it from being fresh."""

    queue: Queue
    view: View
    seen: Seen
    own: frozenset[str] = frozenset()
    note: str = ""


@dataclass(slots=True)
class SyncReport:
    """What a sync did: variables that were set, files that were written, and sentences about both.

    `jobs` are the ids of those whose results came, `failed` of those among them that did not succeed.
    """

    lines: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return str(Lines(tuple(self.lines)))

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return Lines(tuple(self.lines))._repr_mimebundle_(include, exclude)


class Sync:
    """One sync of some queues into one notebook, or folder."""

    def __init__(
        self,
        queues: Sequence[Queue],
        options: SyncOptions,
        *,
        work_tree: Path,
        namespace: MutableMapping[str, Any] | None,
        awaited: set[str],
        screen: Screen,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is fetched yet.

        Args:
            queues: those of the clone.
            options: what is asked.
            work_tree: where `colab_results` goes.
            namespace: where variables go; None where there is no notebook.
            awaited: the ids of jobs that this notebook queued and has not got yet: they come here, also when
                another notebook of the same clone got them before. Those that come are taken out.
            screen: where tables and outputs are shown.
            clock: seconds that only grow.
            now: Unix seconds, to tell how old a sign of life is.
            sleep: waits for so many seconds.
        """
        self._queues, self._options, self._awaited, self._screen = queues, options, awaited, screen
        self._clock, self._now, self._sleep = clock, now, sleep
        names = namespace if options.variables else None
        self._describes = namespace is None and options.variables and options.into is None
        """Whether variables are only told of: a terminal has none, and they are not wanted as files."""
        self._delivery = Delivery(work_tree, options.into, names, options.allow_pickle)
        self._typed = typed("sync", magics=namespace is not None)
        self._report = SyncReport()
        self._signs: dict[str, Sign] = {}
        self._described: list[str] = []
        self._not_set: list[str] = []  # names of jobs of others whose variables came
        self._told_of: dict[str, str] = {}  # a grid's variable is told of once, as it stands in the end

    def once(self) -> SyncReport:
        """Bring what is new, show it, and say what was done."""
        looks = self._look()
        fresh = self._fresh(looks)
        running = [job for _, job in self._asked(looks) if job.state.state is State.RUNNING]
        changed = any(
            (each.view.intent, each.view.ledger) != (each.seen.intent, each.seen.ledger) for each in looks
        )
        if (
            not fresh
            and not running
            and not self._options.everything
            and not (self._options.selectors or changed)
        ):
            return self._nothing_new(looks)
        self._show(looks, fresh)
        self._bring(looks, fresh)
        self._screen.close()
        return self._finish(looks)

    def watch(self, *, pause_s: float) -> SyncReport:
        """Go on bringing and showing until all that was asked for is done. An interrupt ends only that.

        Args:
            pause_s: the shortest time between two looks; it grows while nothing happens.
        """
        pause, before = pause_s, None
        looks: list[Look] = []
        try:
            while True:
                looks = self._look()
                fresh = self._fresh(looks)
                self._show(looks, fresh, is_watching=True)
                self._bring(looks, fresh)
                if all(job.state.is_final for _, job in self._asked(looks)):
                    break
                state = [(each.view.intent, each.view.ledger, _counters(each.view)) for each in looks]
                pause = pause_s if state != before else min(pause * 1.3, MAX_PAUSE_S)
                before = state
                self._sleep(pause)
        except KeyboardInterrupt:
            self._report.lines.append(
                f"stopped watching; the jobs go on, and {self._typed} brings what they leave"
            )
        self._screen.close()
        return self._finish(looks)

    def _look(self) -> list[Look]:
        return [_look(queue) for queue in self._queues]

    def _asked(self, looks: Sequence[Look]) -> list[tuple[Look, Job]]:
        """The jobs that the selectors mean, with where they are; all, if there are none."""
        everything = [(look, job) for look in looks for job in look.view.jobs]
        if not self._options.selectors:
            return everything
        wanted = {job.job_id for job in select_jobs([job for _, job in everything], self._options.selectors)}
        return [(look, job) for look, job in everything if job.job_id in wanted]

    def _fresh(self, looks: Sequence[Look]) -> list[tuple[Look, Job]]:
        """The jobs that are done and whose results are to be brought, the oldest first."""
        named = bool(self._options.selectors)
        done = [(look, job) for look, job in self._asked(looks) if job.state.is_final]
        fresh = [
            (look, job)
            for look, job in done
            if job.job_id not in self._report.jobs
            and (named or job.job_id not in look.seen.jobs or job.job_id in self._awaited)
        ]
        return sorted(fresh, key=lambda each: each[1].state.ended_at or 0)

    def _bring(self, looks: Sequence[Look], fresh: Sequence[tuple[Look, Job]]) -> None:
        """Deliver what is fresh, and remember what was delivered, also when it is interrupted in between.

        The jobs of a grid are home once their mapping is set, which is done for all of them together.
        """
        home: list[tuple[Look, Job]] = list(fresh[:-MAX_BROUGHT])
        if home:
            self._report.lines.append(
                f"{format_count(len(home), 'older result')} not brought: {self._typed} NAME brings one"
            )
        of_grids: list[tuple[Look, Job]] = []
        try:
            for look, job in fresh[-MAX_BROUGHT:]:
                self._tell(self._delivery.bring(look.queue, job))
                if self._describes and len(self._report.jobs) < arrivals.MAX_SHOWN:
                    self._described += self._delivery.describe(look.queue, job)
                self._report.jobs.append(job.job_id)
                if job.state.state is not State.SUCCEEDED:
                    self._report.failed.append(job.job_id)
                if job.spec is not None and job.spec.batch is not None:
                    of_grids.append((look, job))
                else:
                    self._assign(look, [job])
                    home.append((look, job))
            for look in looks:
                self._assign(look, [job for each, job in of_grids if each is look])
            home += of_grids
        finally:
            for look in looks:
                ids = frozenset(job.job_id for each, job in home if each is look)
                self._awaited -= ids
                _remember(look, ids)

    def _tell(self, arrival: Arrival) -> None:
        if len(self._report.jobs) < arrivals.MAX_SHOWN:
            self._screen.outputs(arrival.heading, arrival.outputs, where=arrival.where)
        self._report.files += arrival.files
        self._report.lines += arrival.notes

    def _assign(self, look: Look, jobs: Sequence[Job]) -> None:
        """Set variables: of jobs that were queued here, and of those that the person names."""
        view = look.view
        if not self._options.selectors:
            own = look.own | self._awaited
            others = [job for job in jobs if job.job_id not in own and job.spec and job.spec.outputs]
            self._not_set += [job.name for job in others if job.state.state is State.SUCCEEDED]
            jobs = [job for job in jobs if job.job_id in own]
            # Also within a grid: who can push can say that a job belongs to it.
            view = replace(view, jobs=tuple(job for job in view.jobs if job.job_id in own))
        assigned = self._delivery.assign(look.queue, view, jobs)
        self._report.variables |= assigned.values
        self._report.lines += [note for note in assigned.notes if note not in self._report.lines]
        self._told_of |= assigned.told

    def _show(
        self, looks: Sequence[Look], fresh: Sequence[tuple[Look, Job]], *, is_watching: bool = False
    ) -> None:
        new = {job.job_id for _, job in fresh} | set(self._report.jobs)
        asked = self._asked(looks)
        whole = self._options.everything or bool(self._options.selectors)
        shown = [(look, job) for look, job in asked if whole or not job.state.is_final or job.job_id in new]
        rows = [
            row
            for look in looks
            for row in job_rows(
                look.view, [job for each, job in shown if each is look], label=self._label(look)
            )
        ]
        hidden = len(asked) - len(shown)
        notes = [*_told(looks, now=self._now()), *self._silent(looks, is_watching=is_watching)]
        if hidden:
            notes.insert(0, f"{format_count(hidden, 'older job')} not shown: --all shows them")
        tails = [
            (job.name, str(live.get("log_tail") or ""))
            for look, job in shown
            if (live := live_of(job, look.view.lives)) and str(live.get("log_tail") or "").strip()
        ]
        running = tuple(_live_outputs(shown)) if is_watching else ()
        self._screen.update(Watched(JobTable(tuple(rows), notes=tuple(notes)), tuple(tails), running))
        self._screen.live(running)

    def _label(self, look: Look) -> str:
        return look.queue.label if len(self._queues) > 1 else ""

    def _silent(self, looks: Sequence[Look], *, is_watching: bool) -> list[str]:
        """Workers that hold jobs and are not heard of: by their clock, and while this watches by its own."""
        silent: dict[str, float | None] = {}
        for look in looks:
            if not look.note:  # what was known last tells nothing of what became of it
                silent |= silent_workers(look.view, now=self._now())
        if is_watching:
            silent = self._unchanged(looks) | silent
        return [told_silence(worker, silent[worker]) for worker in sorted(silent)]

    def _unchanged(self, looks: Sequence[Look]) -> dict[str, float | None]:
        """Workers that hold jobs and whose sign of life did not change while this watched."""
        prints = {worker: str(live.counter) for look in looks for worker, live in look.view.lives.items()}
        self._signs = observe(self._signs, prints, now=self._clock())
        holding = {
            job.state.worker for look in looks for job in look.view.jobs if job.state.state is State.RUNNING
        }
        known = {
            worker: self._clock() - self._signs[worker].seen_at for worker in holding & self._signs.keys()
        }
        return {worker: silent_s for worker, silent_s in known.items() if silent_s > VANISHED_S}

    def _nothing_new(self, looks: Sequence[Look]) -> SyncReport:
        counts = _counts(looks)
        told = [
            f"Nothing new: {counts}" if counts else "Nothing new: no jobs yet",
            *_told(looks, now=self._now()),
        ]
        self._report.lines = ["; ".join(told)]
        return self._report

    def _finish(self, looks: Sequence[Look]) -> SyncReport:
        self._report.lines += [*self._told_of.values(), *self._described]
        if self._not_set and self._delivery.namespace is not None:
            rest = len(self._not_set) - 3
            names = ", ".join(self._not_set[:3]) + (f" and {rest} more" if rest > 0 else "")
            told = f"{names}: queued elsewhere, so the variables were not set"
            self._report.lines.append(f"{told}; {self._typed} NAME sets them")
        if self._described:
            self._report.lines.append(f"{self._typed} NAME --into DIR writes variables as files")
        if self._report.files:
            folder = self._options.into or FOLDER
            self._report.lines.append(f"{format_count(len(self._report.files), 'file')} in {folder}")
        if not self._report.lines:
            counts = _counts(looks)
            self._report.lines.append(f"{counts or 'no jobs yet'}; nothing to bring")
        return self._report


def _look(queue: Queue) -> Look:
    seen = load_seen(queue.folder)
    view, note = look_at(queue)
    return Look(queue, view, seen, load_own(queue.folder), note)


def look_at(queue: Queue) -> tuple[View, str]:
    """Push what waits, then look; without a network, what the last look showed, and a note.

    A broken experiments.json, or a job that cannot be sent, keeps nobody from looking: the note tells it.
    """
    notes = []
    try:
        queue.store.flush()
    except UnreachableError:
        pass  # the look below says so
    except StoreError as error:
        notes.append(f"what waits for {queue.label} cannot be sent: {error}")
    try:
        view = queue.store.refresh()
    except UnreachableError as error:
        view = queue.store.view()
        notes.append(f"{queue.label} cannot be reached, this is what was known last: {error}")
    return view, "; ".join(notes)


def _live_outputs(jobs: Iterable[tuple[Look, Job]]) -> Iterator[NamedOutputs]:
    """What running jobs show that is more than text."""
    for look, job in jobs:
        outputs = live_of(job, look.view.lives).get("outputs")
        if isinstance(outputs, list) and (rich := rich_outputs(outputs)):
            yield job.name, rich


def _remember(look: Look, ids: frozenset[str]) -> None:
    seen = Seen(look.view.intent, look.view.ledger, look.seen.jobs | ids)
    if seen != look.seen:
        save_seen(look.queue.folder, seen)


def _told(looks: Iterable[Look], *, now: float) -> list[str]:
    """What a person should know of the queues as a whole."""
    said = []
    for look in looks:
        said += [text for text in (look.note, look.view.note) if text]
        queued = [job for job in look.view.jobs if job.state.state is State.QUEUED and job.wanted]
        alive = [live for live in look.view.lives.values() if now - live.at < SILENT_S and not live.stopping]
        # The worker of this machine's queue is started with the command.
        if len(queued) > len(look.view.waiting) and not alive and not look.queue.is_local:
            said.append(
                "no worker is alive: open notebooks/colab_gpu_daemon.ipynb on Colab, or run "
                f"jupyter colab daemon --repo {look.queue.address}"
            )
    return said


def _counts(looks: Iterable[Look]) -> str:
    """How many jobs are in which state, without a row for each of ten thousand."""
    counts: Counter[str] = Counter()
    for look in looks:
        waiting = frozenset(look.view.waiting)
        counts.update(WAITING if job.job_id in waiting else job.state.state for job in look.view.jobs)
    return count_states([JobRow("", "", state) for state in counts.elements()])


def _counters(view: View) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((worker, live.counter) for worker, live in view.lives.items()))
