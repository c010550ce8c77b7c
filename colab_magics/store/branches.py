"""The queue in two branches of a Git repository: people write one, workers the other, nobody both."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from colab_magics.errors import ColabError, CorruptError, RefusedError, StoreError, UnreachableError
from colab_magics.jobs import paths
from colab_magics.jobs.asking import Ask
from colab_magics.jobs.board import Summary, fold, join, ledger_files, read_entries
from colab_magics.jobs.codec import SKIP_CI, Live, serialize_events
from colab_magics.jobs.intent import FILE, Entry, append_entries, parse_intent, replace_entries
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec, Json, parse_entry, to_entry
from colab_magics.jobs.state import Event, JobState
from colab_magics.store.base import Receipt, Recorded, Submission, View
from colab_magics.store.branch_reading import Intent, Ledger, origins_of, read_intent, read_ledger, read_lives
from colab_magics.store.checkpoints import Checkpoints
from colab_magics.store.code import find_code
from colab_magics.store.git import ABSENT, PushOutcome, PushUpdate, Refspec, Repository
from colab_magics.store.job_files import JobFiles
from colab_magics.store.lives import live_update
from colab_magics.store.mailbox import read_asks
from colab_magics.store.outbox import Outbox, Wish, subject
from colab_magics.store.removals import Removals, find_removals
from colab_magics.store.upkeep import compact_clone

logger = logging.getLogger(__name__)

PUSH_TRIES = 10
"""Two clients that enqueue at the same moment settle in two tries; ten lost races mean something else."""


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """A ledger commit whose push was not answered, and the commit that it stands on."""

    commit: str
    parent: str | None
    changed: Mapping[str, JobState]


class BranchStore:
    """One participant's clone of the queue; see store.base.Store.

    `publish`, `retire`, `checkout`, `compact` and the checkpoints may be called from other threads than the
    rest.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        remote: str,
        label: str,
        intent_branch: str = paths.INTENT_BRANCH,
        hears_asks: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read or fetched before the first call.

        Args:
            repository: the clone; only refs below `refs/colab/` and the folder `colab_dir` are written.
            remote: a remote's name or an address.
            label: what this queue is called here; part of refs and folders.
            intent_branch: the branch that people write; the one that workers write is named after it.
            hears_asks: whether looks also bring the asks for a session, as a worker needs them.
            clock: Unix seconds, for the dates of commits.
        """
        self._repository, self._remote, self._clock = repository, remote, clock
        self._intent_ref = f"refs/heads/{intent_branch}"
        self._ledger_ref = f"refs/heads/{paths.ledger_branch(intent_branch)}"
        self._tracking = paths.tracking(label)
        self._outbox = Outbox(repository.colab_dir / label / "outbox")
        self._checkpoints = Checkpoints(repository, remote=remote, tracking=f"{self._tracking}checkpoint/")
        self._intent, self._ledger, self._removals = Intent(), Ledger(), Removals()
        self._judged: tuple[str | None, str | None] = (None, None)
        self._lives: dict[str, tuple[str, Live]] = {}
        self._hears_asks = hears_asks
        self._asks: dict[str, tuple[str, Ask]] = {}
        self._unsettled: _Unsettled | None = None
        self._files = JobFiles(repository)
        self._written: tuple[str, bytes] | None = None

    # --- people ------------------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> Receipt:
        entries = tuple({**to_entry(spec), **submission.extras} for spec in submission.specs)
        return self._send(Wish(entries=entries, blobs=submission.blobs))

    def cancel(self, job_ids: Iterable[str]) -> Receipt:
        wanted = set(job_ids)
        self._outbox.withdraw(wanted)
        # Also of those that waited here: the push of one may have landed, and only its answer was lost.
        return self._send(Wish(cancels=tuple(sorted(wanted))))

    def flush(self) -> Receipt:
        return self._flush(self._outbox.wishes())

    def _flush(self, wishes: Sequence[Wish], *, new: Wish | None = None) -> Receipt:
        if not wishes:
            return Receipt(commit=self._repository.resolve(self._track("intent")))
        kept = {self._kept(code): code for wish in wishes for code in wish.code}
        waited = [wish for wish in wishes if new is None or wish.folder != new.folder]
        try:
            # Where to push to is another question to git, asked while the commit is made.
            with ThreadPoolExecutor(1) as aside:
                address = aside.submit(self._repository.address, self._remote, push=True)
                commit = self._push_until_granted(wishes, address)
        except (UnreachableError, KeyboardInterrupt):
            # Until now their age kept the snapshots: git throws nothing away that is younger than two weeks.
            self._repository.set_refs(kept)
            raise
        self._outbox.remove(wishes)
        try:
            self._repository.set_refs({self._kept(code): None for wish in waited for code in wish.code})
        except StoreError as error:
            logger.warning("what was queued is on the remote; the clone still keeps it: %s", error)
        return Receipt(commit=commit)

    def refresh(self) -> View:
        intent = Refspec(self._intent_ref, self._track("intent"))
        ledger = Refspec(self._ledger_ref, self._track("ledger"))
        live = Refspec(f"{paths.LIVE_PREFIX}*", f"{self._track('live')}/*")
        asks = [Refspec(f"{paths.ASK_PREFIX}*", f"{self._track('ask')}/*")] if self._hears_asks else []
        self._fetch([intent, ledger, live, *asks], prune=True)
        self._load()
        return self.view()

    def view(self) -> View:
        if self._intent.head is None and self._ledger.head is None:
            self._load()
        waiting = tuple(entry for wish in self._outbox.wishes() for entry in wish.entries)
        known = {job.job_id for job in self._intent.jobs}
        unsent = [_unsent(entry) for entry in waiting if entry["id"] not in known]
        sound, spared = not self._intent.note, self._removals.spared
        joined = join(self._intent.jobs, self._ledger.states, removal_counts=sound, spared=spared)
        return View(
            jobs=(*joined, *unsent),
            lives={worker: live for worker, (_, live) in self._lives.items()},
            intent=self._intent.head,
            ledger=self._ledger.head,
            asks={ask_id: ask for ask_id, (_, ask) in self._asks.items()},
            waiting=tuple(str(entry["id"]) for entry in waiting),
            note=self._intent.note or self._removals.note,
        )

    def read(self, job_id: str, name: str) -> bytes | None:
        return self._files.read(self._ledger_head(), job_id, name)

    def files(self, job_id: str) -> dict[str, int]:
        return self._files.sizes(self._ledger_head(), job_id)

    def read_input(self, path: str) -> bytes | None:
        head = self._repository.resolve(self._track("intent"))
        return self._repository.read(head, path) if head else None

    # --- workers -----------------------------------------------------------------------------------------

    def record(
        self,
        view: View,
        events: Sequence[Event],
        *,
        summaries: Mapping[str, Summary],
        files: Mapping[str, bytes | Path],
        live: Live | None = None,
    ) -> Recorded:
        changed = fold(view.jobs, events, summaries)
        if view.ledger != self._ledger.head:
            return Recorded.LOST
        commit = self._repository.build_commit(
            {**files, **ledger_files(changed, self._ledger.states)},
            message=serialize_events(events) if events else f"Set superseded results aside {SKIP_CI}\n",
            date_s=int(self._clock()),
            base=view.ledger,
            parents=[view.ledger] if view.ledger else [],
        )
        self._unsettled = _Unsettled(commit, view.ledger, changed)
        updates = [live_update(self._repository, live, date_s=self._date_s())] if live else []
        return self._push_ledger(self._unsettled, updates)

    def settle(self) -> Recorded:
        asked = self._unsettled
        return self._find(asked, push_again=True) if asked else Recorded.LOST

    def publish(self, live: Live) -> None:
        self._repository.push(self._remote, [live_update(self._repository, live, date_s=self._date_s())])

    def retire(self, worker: str) -> None:
        self._repository.push(self._remote, [PushUpdate(None, paths.live_ref(worker))])

    def save_checkpoint(self, job_id: str, attempt: int, files: Mapping[str, Path]) -> None:
        self._checkpoints.save(job_id, attempt, files, date_s=int(self._clock()))

    def load_checkpoint(self, job_id: str, folder: Path) -> bool:
        return self._checkpoints.load(job_id, folder)

    def drop_checkpoint(self, job_id: str) -> None:
        self._checkpoints.drop(job_id)

    def checkout(self, spec: JobSpec, folder: Path) -> str:
        commit = find_code(self._repository, spec, remote=self._remote, tracking=self._tracking)
        self._repository.add_checkout(folder, commit)
        return commit

    def remove_checkout(self, folder: Path) -> None:
        try:
            self._repository.remove_checkout(folder)
        except (StoreError, OSError):
            return  # the folder is in the way of nothing, and the clone is a cache

    def compact(self) -> None:
        # After a rewrite of a branch only these heads know what was there, and the rescue needs it.
        known = {"intent": self._intent.head, "ledger": self._ledger.head}
        known["unsettled"] = self._unsettled.commit if self._unsettled else None
        compact_clone(self._repository, {f"{self._tracking}known/{key}": sha for key, sha in known.items()})

    # --- inside ------------------------------------------------------------------------------------------

    def _send(self, wish: Wish) -> Receipt:
        """Push a wish with all that waits. Only one that nobody answered goes on waiting."""
        wish = self._outbox.add(wish)
        try:
            return self._flush(self._outbox.wishes(), new=wish)
        except UnreachableError as error:
            return Receipt(commit=None, reason=str(error))
        except (ColabError, KeyboardInterrupt):
            self._outbox.remove([wish])
            raise

    def _track(self, what: str) -> str:
        return self._tracking + what

    def _kept(self, code: str) -> str:
        """The ref that keeps a snapshot alive here until it is pushed."""
        return f"{self._tracking}outbox/{code[:16]}"

    def _fetch(self, refspecs: Sequence[Refspec], *, prune: bool = False) -> None:
        self._repository.fetch(self._remote, refspecs, prune=prune)

    def _push_until_granted(self, wishes: Sequence[Wish], address: Future[str]) -> str | None:
        """Push the wishes to an address; return the commit of the remote that grants them."""
        has_cancels = any(wish.cancels for wish in wishes)
        for tries in range(PUSH_TRIES):
            head = self._repository.resolve(self._track("intent"))
            try:
                commit = self._with_wishes(head, wishes)
                if commit is None or commit == head:
                    if tries or not has_cancels:  # a job to cancel may be on the remote and not known here
                        return head
                elif self._push_wishes(commit, head, wishes, address=address.result()):
                    return commit
            except CorruptError:
                if tries:  # else it may have been repaired since it was seen
                    raise
            if tries:
                time.sleep(random.uniform(0, 0.1 * 2**tries))  # noqa: S311 - to part two that collide
            self._fetch([Refspec(self._intent_ref, self._track("intent"))])
        raise UnreachableError(
            f"others changed {FILE} {PUSH_TRIES} times while it was being pushed: try again"
        )

    def _with_wishes(self, head: str | None, wishes: Sequence[Wish]) -> str | None:
        """A commit on top of `head` that grants the wishes; `head` itself if it does already."""
        data = before = self._file_of(head)
        blobs: dict[str, bytes] = {}
        for wish in wishes:
            data = append_entries(data, wish.entries)
            blobs.update(wish.blobs)
        cancels = {job_id for wish in wishes for job_id in wish.cancels}
        if cancels and head:
            data = self._with_cancels(data, head, cancels)
        if data == before or data is None:
            return head
        names = [str(entry["name"]) for wish in wishes for entry in wish.entries]
        commit = self._repository.build_commit(
            {FILE: data, **blobs},
            message=f"{subject(names, cancels=len(cancels))} {SKIP_CI}\n",
            date_s=int(self._clock()),
            base=head,
            parents=[head] if head else [],
        )
        self._written = (commit, data)
        return commit

    def _file_of(self, head: str | None) -> bytes | None:
        """experiments.json as of a commit; of the one that was written here last, without asking git."""
        if self._written is not None and self._written[0] == head:
            return self._written[1]
        return self._repository.read(head, FILE) if head else None

    def _with_cancels(self, data: bytes | None, head: str, cancels: set[str]) -> bytes:
        entries = parse_intent(self._repository.read(head, FILE))
        origins = origins_of(self._repository, head, entries, before=self._intent)

        def cancelled(index: int, entry: Entry) -> dict[str, Json] | None:
            jobs = read_entries([entry.value], origins)
            found = isinstance(entry.value, dict) and jobs[0].job_id in cancels and jobs[0].wanted
            return {**entry.value, "cancel": True} if found and isinstance(entry.value, dict) else None

        return replace_entries(data, cancelled)

    def _push_wishes(self, commit: str, head: str | None, wishes: Sequence[Wish], *, address: str) -> bool:
        codes = dict.fromkeys(code for wish in wishes for code in wish.code)
        updates = [PushUpdate(commit, self._intent_ref, head or ABSENT, self._track("intent"))]
        updates += [PushUpdate(code, paths.code_ref(code)) for code in codes]
        return self._repository.push(address, updates) is PushOutcome.LANDED

    def _push_ledger(self, asked: _Unsettled, updates: Sequence[PushUpdate]) -> Recorded:
        tracking = self._track("ledger")
        ledger = PushUpdate(asked.commit, self._ledger_ref, asked.parent or ABSENT, tracking)
        try:
            outcome = self._repository.push(self._remote, [ledger, *updates])
        except UnreachableError:
            return Recorded.UNKNOWN
        except RefusedError:
            self._unsettled = None
            raise
        if outcome is PushOutcome.REJECTED:
            # Perhaps by itself: curl sends a request again whose connection broke before the answer.
            return self._find(asked, push_again=False)
        self._unsettled = None
        self._ledger = Ledger(asked.commit, {**self._ledger.states, **asked.changed})
        return Recorded.LANDED

    def _find(self, asked: _Unsettled, *, push_again: bool) -> Recorded:
        try:
            self._fetch([Refspec(self._ledger_ref, self._track("ledger"))])
        except UnreachableError:
            return Recorded.UNKNOWN
        head = self._repository.resolve(self._track("ledger"))
        if push_again and head == asked.parent:
            return self._push_ledger(asked, [])
        self._unsettled = None
        if head is None or not self._repository.is_ancestor(asked.commit, head):
            return Recorded.LOST
        self._load()
        return Recorded.LANDED

    def _date_s(self) -> int:
        return int(self._clock())

    def _ledger_head(self) -> str | None:
        return self._ledger.head or self._repository.resolve(self._track("ledger"))

    def _load(self) -> None:
        """Read what the tracking refs point at, as far as it is new."""
        refs = self._repository.refs(self._tracking)
        intent, ledger = refs.get(self._track("intent")), refs.get(self._track("ledger"))
        self._intent = read_intent(self._repository, intent, before=self._intent)
        old = self._ledger.head
        if old and ledger != old and not (ledger and self._repository.is_ancestor(old, ledger)):
            self._rescue(old)
        self._ledger = read_ledger(self._repository, ledger, before=self._ledger)
        if self._judged != (intent, ledger):
            states = self._ledger.states
            self._removals = find_removals(self._repository, self._intent, states, before=self._removals)
            self._judged = (intent, ledger)
        self._lives = read_lives(self._repository, self._below("live", refs), before=self._lives)
        self._asks = read_asks(self._repository, self._below("ask", refs), before=self._asks)

    def _below(self, what: str, refs: Mapping[str, str]) -> dict[str, str]:
        prefix = f"{self._track(what)}/"
        return {ref.removeprefix(prefix): sha for ref, sha in refs.items() if ref.startswith(prefix)}

    def _rescue(self, lost: str) -> None:
        """The ledger is not a continuation of what was seen: nothing of it may be trusted or run on."""
        self._repository.push(self._remote, [PushUpdate(lost, f"refs/colab/rescue/{lost[:16]}")])
        branch = self._ledger_ref.removeprefix("refs/heads/")
        raise CorruptError(
            f"{branch} was rewritten: it no longer contains {lost[:12]}, which is kept as"
            f" refs/colab/rescue/{lost[:16]}; push that back there, or start again to accept the new history"
        )


def _unsent(entry: Mapping[str, Json]) -> Job:
    spec = parse_entry(dict(entry))
    return Job(spec.job_id, spec, JobState(spec.job_id, name=spec.name))
