"""Any sequence of what people and workers do to a store, against a model of a page: in memory and on Git."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import harness
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from colab_magics.errors import CorruptError, TransitionError, UnreachableError
from colab_magics.jobs.codec import Live
from colab_magics.jobs.paths import job_file
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import FINAL, Event, State, Verb
from colab_magics.store.base import Recorded, Store, Submission
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.memory import MemoryRemote, MemoryStore

NOBODY = "http://127.0.0.1:9/queue.git"
"""The discard port: nobody listens there."""

BROKEN = '[{"name": "a" "command": "true"}]'
WORKERS = ("ada", "bob")
PICKS = st.integers(0, 1000)
WHO = st.sampled_from(WORKERS)

FINISHES = {
    Verb.SUCCEED: State.SUCCEEDED,
    Verb.FAIL: State.FAILED,
    Verb.TIME_OUT: State.TIMED_OUT,
    Verb.CANCEL: State.CANCELLED,
    Verb.RELEASE: State.QUEUED,
}
"""What the holder of a running job may say of it, and what the job is then: written here a second time."""


# --- the worlds ------------------------------------------------------------------------------------------


class World(Protocol):
    """A remote with two participants' stores, and the means to be a third one with an editor."""

    stores: dict[str, Store]

    def write_by_hand(self, text: str) -> None: ...
    def text(self) -> str | None: ...
    def set_reachable(self, reachable: bool) -> None: ...
    def close(self) -> None: ...


class MemoryWorld:
    """Everything in this process."""

    def __init__(self) -> None:
        self._remote = MemoryRemote()
        self.stores: dict[str, Store] = {name: MemoryStore(self._remote) for name in WORKERS}

    def write_by_hand(self, text: str) -> None:
        self._remote.intents.append(text.encode())

    def text(self) -> str | None:
        return self._remote.intents[-1].decode() if self._remote.intents else None

    def set_reachable(self, reachable: bool) -> None:
        self._remote.reachable = reachable

    def close(self) -> None:
        return


class GitWorld:
    """A bare repository, two clones, and a third with a work tree for the editor."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self._bare = harness.make_bare_remote(self._folder / "remote.git")
        self._editor = harness.make_project(self._folder / "editor", remote_url=self._bare.as_uri())
        clones = {name: harness.clone(self._bare.as_uri(), self._folder / name) for name in WORKERS}
        self._clones = list(clones.values())
        self.stores: dict[str, Store] = {
            name: BranchStore(Repository.discover(clone), remote="origin", label="origin")
            for name, clone in clones.items()
        }

    def write_by_hand(self, text: str) -> None:
        branch = "gpu-experiments"
        known = self.text() is not None
        if known:
            harness.git(self._editor, "fetch", "-q", "origin", branch)
        harness.git(self._editor, "checkout", "-q", "-B", branch, *(["FETCH_HEAD"] if known else []))
        harness.write(self._editor / "experiments.json", text)
        harness.git(self._editor, "add", "experiments.json")
        harness.git(self._editor, "commit", "-q", "--allow-empty", "-m", "Edit by hand")
        harness.git(self._editor, "push", "-q", "origin", branch)

    def text(self) -> str | None:
        shown = harness.try_git(self._bare, "show", "gpu-experiments:experiments.json")
        return shown.stdout if shown.returncode == 0 else None

    def set_reachable(self, reachable: bool) -> None:
        url = self._bare.as_uri() if reachable else NOBODY
        for clone in self._clones:
            harness.git(clone, "remote", "set-url", "origin", url)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


# --- the model -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What the ledger says of one job."""

    state: State = State.QUEUED
    attempt: int = 0
    worker: str = ""


@dataclass
class Truth:
    """The remote, or what somebody last saw of it."""

    entries: dict[str, bool] = field(default_factory=dict)  # job id → wanted, in the file's order
    broken: bool = False
    ledger: dict[str, Known] = field(default_factory=dict)
    version: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Truth:
        return Truth(
            dict(self.entries),
            self.broken,
            dict(self.ledger),
            self.version,
            dict(self.files),
            dict(self.lives),
        )

    def take_ledger(self, other: Truth) -> None:
        self.ledger, self.version, self.files = dict(other.ledger), other.version, dict(other.files)

    def jobs(self) -> list[tuple[str, Known, bool]]:
        """Those of the file, then those that only the ledger knows: unwanted, if the file is sound."""
        named = [
            (job_id, self.ledger.get(job_id, Known()), wanted) for job_id, wanted in self.entries.items()
        ]
        gone = [job_id for job_id in self.ledger if job_id not in self.entries]
        return named + [(job_id, self.ledger[job_id], self.broken) for job_id in gone]


@dataclass
class Participant:
    """One store's side: what it saw, what waits in its outbox, and a record that nobody answered."""

    seen: Truth = field(default_factory=Truth)
    waiting: list[str] = field(default_factory=list)
    cancels: set[str] = field(default_factory=set)
    unsettled: tuple[int, Event, bytes | None] | None = None


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and the same to the model, and compares the answers."""

    make_world: ClassVar[Callable[[], World]]

    @initialize()
    def begin(self) -> None:
        self.world = type(self).make_world()
        self.truth = Truth()
        self.sides = {name: Participant() for name in WORKERS}
        self.online = True
        self.numbers = itertools.count(1)
        self.sound = "[]"
        # A store that has seen nothing yet looks at what its clone remembers; from here on it has seen.
        self.world.write_by_hand(self.sound)
        for name in WORKERS:
            self.refresh(name)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    # people

    @rule(who=WHO, count=st.integers(1, 3))
    def submit(self, who: str, count: int) -> None:
        ids = [f"{who}-{next(self.numbers)}" for _ in range(count)]
        specs = tuple(JobSpec(job_id, job_id, "true", None, 60.0, None) for job_id in ids)
        side = self.sides[who]
        if self.online and self.truth.broken:
            with pytest.raises(CorruptError, match="does not parse"):
                self.world.stores[who].submit(Submission(specs))
            return
        receipt = self.world.stores[who].submit(Submission(specs))
        assert receipt.pushed == self.online
        side.waiting += ids
        self._deliver(side)

    @rule(who=WHO, pick=PICKS)
    def cancel(self, who: str, pick: int) -> None:
        side = self.sides[who]
        ids = [*side.waiting, *side.seen.entries]
        if not ids:
            return
        job_id = ids[pick % len(ids)]
        if job_id in side.waiting:
            side.waiting.remove(job_id)
        if self.online and self.truth.broken:
            with pytest.raises(CorruptError):
                self.world.stores[who].cancel([job_id])
            return
        assert self.world.stores[who].cancel([job_id]).pushed == self.online
        side.cancels.add(job_id)
        self._deliver(side)

    @rule(who=WHO)
    def flush(self, who: str) -> None:
        side, store = self.sides[who], self.world.stores[who]
        something = side.waiting or side.cancels
        if something and not self.online:
            with pytest.raises(UnreachableError):
                store.flush()
        elif something and self.truth.broken:
            with pytest.raises(CorruptError):
                store.flush()
        else:
            assert store.flush().pushed
            self._deliver(side)

    def _deliver(self, side: Participant) -> None:
        if self.online and not self.truth.broken:
            self.truth.entries.update(dict.fromkeys(side.waiting, True))
            for job_id in side.cancels & self.truth.entries.keys():
                self.truth.entries[job_id] = False
            side.waiting, side.cancels = [], set()

    @precondition(lambda self: not self.truth.broken)
    @rule(pick=PICKS, what=st.sampled_from(["add", "remove", "cancel", "wish again", "turn around"]))
    def edit_by_hand(self, pick: int, what: str) -> None:
        entries = json.loads(self.world.text() or "[]")
        order = list(self.truth.entries.items())
        place = pick % len(order) if order else None
        if what == "add":
            job_id = f"hand-{next(self.numbers)}"
            entries.append({"name": job_id, "command": "true", "timeout": 60, "id": job_id})
            order.append((job_id, True))
        elif place is None:
            return
        elif what == "remove":
            del entries[place], order[place]
        elif what == "turn around":
            entries.reverse()
            order.reverse()
        else:
            entries[place]["cancel"] = what == "cancel"
            order[place] = (order[place][0], what != "cancel")
        self.world.write_by_hand(json.dumps(entries, indent=1))
        self.truth.entries = dict(order)

    @precondition(lambda self: not self.truth.broken)
    @rule()
    def break_by_hand(self) -> None:
        self.sound = self.world.text() or "[]"
        self.world.write_by_hand(BROKEN)
        self.truth.broken = True

    @precondition(lambda self: self.truth.broken)
    @rule()
    def repair_by_hand(self) -> None:
        self.world.write_by_hand(self.sound)
        self.truth.broken = False

    # the network

    @rule()
    def lose_or_find_the_network(self) -> None:
        self.online = not self.online
        self.world.set_reachable(self.online)

    @rule(who=WHO)
    def refresh(self, who: str) -> None:
        if not self.online:
            with pytest.raises(UnreachableError):
                self.world.stores[who].refresh()
            return
        self.world.stores[who].refresh()
        self.sides[who].seen = self.truth.copy()

    # workers

    @rule(who=WHO, pick=PICKS, verb=st.sampled_from(list(Verb)), with_log=st.booleans(), alive=st.booleans())
    def record(self, who: str, pick: int, verb: Verb, with_log: bool, alive: bool) -> None:
        side, store = self.sides[who], self.world.stores[who]
        jobs = [job_id for job_id, _, _ in side.seen.jobs()]
        if side.unsettled is not None or not jobs:
            return
        job_id = jobs[pick % len(jobs)]
        known = side.seen.ledger.get(job_id, Known())
        number = known.attempt + (verb is Verb.LEASE)
        event = Event(verb, job_id, number, who, at=1_700_000_000.0)
        log = f"{who} {next(self.numbers)}\n".encode() if with_log else None
        files = {job_file(job_id, "log.txt"): log} if log else {}
        live = Live(who, next(self.numbers), 1_700_000_000.0, 1.0) if alive else None
        if self._after(known, event) is None:
            with pytest.raises(TransitionError):
                store.record(store.view(), [event], summaries={}, files=files, live=live)
            return
        told = store.record(store.view(), [event], summaries={}, files=files, live=live)
        side.unsettled = (side.seen.version, event, log)
        self._answered(side, told)
        if told is Recorded.LANDED and live is not None:
            self.truth.lives[who] = live.counter

    @precondition(lambda self: self.online)
    @rule(who=WHO, pick=PICKS)
    def lease_and_finish(self, who: str, pick: int) -> None:
        """What a worker mostly does, so that jobs come to their ends."""
        self.refresh(who)
        queued = [job_id for job_id, known, _ in self.sides[who].seen.jobs() if known.state is State.QUEUED]
        if self.sides[who].unsettled is None and queued:
            place = [job_id for job_id, _, _ in self.sides[who].seen.jobs()].index(queued[pick % len(queued)])
            self.record(who, place, Verb.LEASE, False, True)
            self.record(who, place, Verb.SUCCEED, True, False)

    @rule(who=WHO)
    def settle(self, who: str) -> None:
        side = self.sides[who]
        told = self.world.stores[who].settle()
        if side.unsettled is None:
            assert told is Recorded.LOST
        else:
            self._answered(side, told)

    def _answered(self, side: Participant, told: Recorded) -> None:
        assert side.unsettled is not None
        version, event, log = side.unsettled
        if not self.online:
            assert told is Recorded.UNKNOWN
            return
        side.unsettled = None
        if version != self.truth.version:
            assert told is Recorded.LOST
            return
        assert told is Recorded.LANDED
        known = self.truth.ledger.get(event.job_id, Known())
        after = self._after(known, event)
        assert after is not None
        self.truth.ledger[event.job_id] = after
        self.truth.version += 1
        if log is not None:
            self.truth.files[event.job_id] = log
        side.seen.take_ledger(self.truth)

    @staticmethod
    def _after(known: Known, event: Event) -> Known | None:
        """The table in other words; None where the event is not legal."""
        match known.state, event.verb:
            case State.QUEUED, Verb.LEASE:
                return Known(State.RUNNING, event.attempt, event.worker)
            case State.QUEUED, Verb.CANCEL:
                return Known(State.CANCELLED, known.attempt, known.worker)
            case State.QUEUED, Verb.REJECT:
                return Known(State.FAILED, known.attempt, known.worker)
            case State.RUNNING, Verb.EXPIRE:
                return Known(State.QUEUED, known.attempt, known.worker)
            case State.RUNNING, Verb.LOSE:
                return Known(State.LOST, known.attempt, known.worker)
            case State.RUNNING, verb if verb in FINISHES and event.worker == known.worker:
                return Known(FINISHES[verb], known.attempt, known.worker)
            case _:
                return None

    @rule(who=WHO)
    def publish(self, who: str) -> None:
        live = Live(who, next(self.numbers), 1_700_000_000.0, 1.0)
        if self.online:
            self.world.stores[who].publish(live)
            self.truth.lives[who] = live.counter
        else:
            with pytest.raises(UnreachableError):
                self.world.stores[who].publish(live)

    @rule(who=WHO)
    def retire(self, who: str) -> None:
        if self.online:
            self.world.stores[who].retire(who)
            self.truth.lives.pop(who, None)
        else:
            with pytest.raises(UnreachableError):
                self.world.stores[who].retire(who)

    # what must always hold

    @invariant()
    def each_sees_what_it_last_saw(self) -> None:
        for name, side in self.sides.items():
            view = self.world.stores[name].view()
            told = [
                (job.job_id, Known(job.state.state, job.state.attempt, job.state.worker), job.wanted)
                for job in view.jobs
                if job.name != "experiments.json"
            ]
            unsent = [(job_id, Known(), True) for job_id in side.waiting]
            assert told == side.seen.jobs() + unsent
            assert list(view.waiting) == side.waiting
            assert bool(view.note) == side.seen.broken
            assert {worker: live.counter for worker, live in view.lives.items()} == side.seen.lives

    @rule(who=WHO, pick=PICKS)
    def read(self, who: str, pick: int) -> None:
        seen = self.sides[who].seen
        if seen.ledger:
            job_id = list(seen.ledger)[pick % len(seen.ledger)]
            assert self.world.stores[who].read(job_id, "log.txt") == seen.files.get(job_id)

    @invariant()
    def what_is_final_stays(self) -> None:
        finals = {job_id: known for job_id, known in self.truth.ledger.items() if known.state in FINAL}
        before: dict[str, Known] = getattr(self, "finals", {})
        assert before.items() <= finals.items()
        self.finals = finals


class MemoryMachine(StoreMachine):
    make_world = MemoryWorld


class GitMachine(StoreMachine):
    make_world = GitWorld


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

TestOnMemory = MemoryMachine.TestCase
TestOnMemory.settings = settings(patient, max_examples=150, stateful_step_count=50)

TestOnGit = GitMachine.TestCase
# Each step is some processes: what fails here is looked for in memory first, and not made smaller.
TestOnGit.settings = settings(patient, max_examples=8, stateful_step_count=30, phases=[Phase.generate])
