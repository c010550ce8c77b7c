"""What a worker decides, rule by rule; then many workers, any of which may die, pause or be cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from colab_magics.errors import TransitionError
from colab_magics.jobs.board import fold, join
from colab_magics.jobs.plan import Action, Job, Record, Sign, Stop, batch_size, observe, plan
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import FENCED, FINAL, Event, JobState, State, Verb, advance

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

LEASE_S = 180.0
NOW = 1000.0
AT = 1_700_000_000.0

SILENT = Sign("unchanged", NOW - LEASE_S - 1)
ALIVE = Sign("changed", NOW - LEASE_S)


def a_spec(job_id: str, *, retries: int = 2) -> JobSpec:
    return JobSpec(job_id, job_id, "make", None, 60.0, None, retries=retries)


def a_job(
    state: State = State.QUEUED,
    *,
    job_id: str = "job-1",
    attempt: int = 0,
    worker: str = "",
    expirations: int = 0,
    retries: int = 2,
    wanted: bool = True,
) -> Job:
    told = JobState(job_id, state=state, attempt=attempt, worker=worker, expirations=expirations)
    return Job(job_id, a_spec(job_id, retries=retries), told, wanted=wanted)


def running(worker: str, *, attempt: int = 1, **rest: object) -> Job:
    return a_job(State.RUNNING, attempt=attempt, worker=worker, **rest)  # type: ignore[arg-type]


def rejected(job: Job) -> Job:
    return replace(job, spec=None, rejection='"timeout" is a number')


def decide(
    *jobs: Job,
    holding: Iterable[tuple[str, int]] = (),
    signs: dict[str, Sign] | None = None,
    capacity: int = 1,
) -> list[Action]:
    """What anna does."""
    return plan(
        jobs,
        worker="anna",
        holding=holding,
        signs=signs or {},
        now=NOW,
        lease_s=LEASE_S,
        capacity=capacity,
        at=AT,
    )


def told(actions: Sequence[Action]) -> list[str]:
    """Actions as one reads them aloud."""
    return [
        f"{action.event.verb} {action.event.job_id}/{action.event.attempt}"
        if isinstance(action, Record)
        else f"stop {action.job_id}/{action.attempt}{' for a person' if action.cancelled else ''}"
        for action in actions
    ]


def reason_of(actions: Sequence[Action]) -> str:
    assert isinstance(actions[0], Record)
    return actions[0].event.reason


# Taking work


def test_jobs_are_taken_in_the_order_of_the_queue_as_many_as_there_is_room_for() -> None:
    queue = [a_job(job_id=name) for name in ("b", "a", "c")]
    assert told(decide(*queue, capacity=2)) == ["lease b/1", "lease a/1"]


def test_a_worker_without_room_takes_nothing() -> None:
    assert decide(a_job(), capacity=0) == []
    assert decide(a_job(), capacity=-1) == []


def test_a_lease_is_in_the_workers_name_for_the_next_attempt() -> None:
    (action,) = decide(a_job(attempt=2, expirations=1))
    assert action == Record(Event(Verb.LEASE, "job-1", 3, "anna", AT))


def test_a_job_that_runs_elsewhere_is_left_alone_and_the_next_one_taken() -> None:
    jobs = [running("bert"), a_job(job_id="job-2")]
    assert told(decide(*jobs, signs={"bert": ALIVE})) == ["lease job-2/1"]


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_happens_to_a_job_that_is_over(state: State, wanted: bool) -> None:
    assert decide(a_job(state, attempt=1, worker="anna", wanted=wanted)) == []


def test_an_empty_queue_asks_for_nothing() -> None:
    assert decide() == []


# What people take back, and what is not a job


def test_a_job_that_a_person_took_back_is_cancelled_by_whoever_sees_it_first() -> None:
    (action,) = decide(a_job(wanted=False))
    assert action == Record(Event(Verb.CANCEL, "job-1", 0, "anna", AT, "cancelled before it ran"))


def test_a_draining_worker_still_settles_what_needs_no_room() -> None:
    jobs = [a_job(wanted=False), rejected(a_job(job_id="b")), running("bert", job_id="c")]
    actions = decide(*jobs, signs={"bert": SILENT}, capacity=0)
    assert told(actions) == ["cancel job-1/0", "reject b/0", "expire c/1"]


def test_an_entry_that_is_not_a_job_fails_with_the_reason() -> None:
    (action,) = decide(rejected(a_job()))
    assert action == Record(Event(Verb.REJECT, "job-1", 0, "anna", AT, '"timeout" is a number'))


@pytest.mark.parametrize("wanted", [True, False])
def test_an_entry_that_was_broken_after_an_attempt_does_not_wait_for_ever(wanted: bool) -> None:
    assert told(decide(rejected(a_job(attempt=1, expirations=1, wanted=wanted)))) == ["reject job-1/1"]


def test_an_entry_that_is_broken_while_its_job_runs_does_not_disturb_it() -> None:
    assert decide(rejected(running("anna")), holding=[("job-1", 1)]) == []


def test_a_person_stops_what_runs_here() -> None:
    assert decide(running("anna", wanted=False), holding=[("job-1", 1)]) == [Stop("job-1", 1, cancelled=True)]


def test_a_person_stops_what_runs_elsewhere_through_its_holder() -> None:
    assert decide(running("bert", wanted=False), signs={"bert": ALIVE}) == []


def test_what_a_person_took_back_and_whose_session_died_ends_as_cancelled() -> None:
    for retries, expirations in ((2, 0), (2, 2), (0, 0)):
        job = running("bert", wanted=False, retries=retries, expirations=expirations)
        assert told(decide(job, signs={"bert": SILENT})) == ["expire job-1/1", "cancel job-1/1"]


# Sessions that die


def test_a_silent_holders_job_is_taken_over_in_one_step() -> None:
    actions = decide(running("bert"), signs={"bert": SILENT})
    assert told(actions) == ["expire job-1/1", "lease job-1/2"]
    assert reason_of(actions) == "the session of bert died under attempt 1"


def test_a_holder_is_silent_only_after_the_whole_lease() -> None:
    assert decide(running("bert"), signs={"bert": ALIVE}) == []


def test_a_holder_that_was_never_looked_at_is_not_dead() -> None:
    assert decide(running("bert")) == []


def test_a_worker_takes_over_from_a_dead_process_of_its_own_name_at_once() -> None:
    assert told(decide(running("anna"))) == ["expire job-1/1", "lease job-1/2"]


def test_what_a_worker_has_in_hand_goes_on() -> None:
    assert decide(running("anna", attempt=3), holding=[("job-1", 3)]) == []


@pytest.mark.parametrize(
    ("retries", "expirations", "verb"),
    [
        (2, 0, "expire"),
        (2, 1, "expire"),
        (2, 2, "lose"),
        (1, 1, "lose"),
        (0, 0, "lose"),
        (100, 99, "expire"),
    ],
)
def test_a_job_runs_again_as_often_as_it_has_retries_and_then_it_is_lost(
    retries: int, expirations: int, verb: str
) -> None:
    job = running("bert", retries=retries, expirations=expirations, attempt=expirations + 1)
    first = told(decide(job, signs={"bert": SILENT}))[0]
    assert first == f"{verb} job-1/{expirations + 1}"


def test_a_lost_job_says_why_it_does_not_run_again() -> None:
    actions = decide(running("bert", attempt=3, expirations=2), signs={"bert": SILENT})
    assert reason_of(actions) == "the session of bert died under attempt 3, and all 2 retries are used"
    actions = decide(running("bert", retries=0), signs={"bert": SILENT})
    assert reason_of(actions) == (
        "the session of bert died under attempt 1, and it may not run twice (retries 0)"
    )


def test_a_dead_session_is_left_as_it_is_while_nobody_can_say_how_often_the_job_may_run() -> None:
    """Its entry is not in view although no person removed it: the branch was rewound, and may come back."""
    job = replace(running("bert"), spec=None)
    assert decide(job, signs={"bert": SILENT}) == []
    assert told(decide(replace(job, wanted=False), signs={"bert": SILENT})) == [
        "expire job-1/1",
        "cancel job-1/1",
    ]


def test_a_job_whose_entry_is_not_in_view_is_not_taken() -> None:
    assert decide(replace(a_job(attempt=1), spec=None)) == []


def test_a_session_that_dies_under_a_broken_entry_ends_the_job_with_the_reason() -> None:
    actions = decide(rejected(running("bert")), signs={"bert": SILENT})
    assert told(actions) == ["expire job-1/1", "reject job-1/1"]


# Being fenced


@pytest.mark.parametrize(
    "job",
    [
        running("bert", attempt=2),
        running("bert", attempt=1),
        running("anna", attempt=2),
        a_job(attempt=1),
        a_job(State.LOST, attempt=1, worker="anna"),
        a_job(State.CANCELLED, attempt=1, worker="anna"),
    ],
    ids=lambda job: f"{job.state.state}-{job.state.worker}-{job.state.attempt}",
)
def test_an_attempt_that_the_ledger_does_not_give_to_this_worker_is_stopped(job: Job) -> None:
    assert decide(job, holding=[("job-1", 1)], signs={"bert": ALIVE}) == [Stop("job-1", 1, cancelled=False)]


def test_a_job_is_not_taken_again_before_its_old_attempt_has_stopped() -> None:
    assert told(decide(a_job(attempt=1), holding=[("job-1", 1)])) == ["stop job-1/1"]
    assert told(decide(a_job(attempt=1))) == ["lease job-1/2"]


def test_an_attempt_that_neither_branch_knows_of_is_stopped() -> None:
    actions = decide(a_job(job_id="job-2"), holding=[("job-1", 1)])
    assert told(actions) == ["lease job-2/1", "stop job-1/1"]


# Signs of life


def test_a_sign_that_did_not_change_keeps_the_time_when_it_was_first_seen() -> None:
    first = observe({}, {"anna": "1", "bert": "1"}, now=10.0)
    assert first == {"anna": Sign("1", 10.0), "bert": Sign("1", 10.0)}
    assert observe(first, {"anna": "2", "bert": "1"}, now=20.0) == {
        "anna": Sign("2", 20.0),
        "bert": Sign("1", 10.0),
    }


def test_a_worker_that_is_not_shown_any_more_is_forgotten_and_starts_anew() -> None:
    gone = observe({"anna": Sign("1", 10.0)}, {}, now=20.0)
    assert gone == {}
    assert observe(gone, {"anna": "1"}, now=30.0) == {"anna": Sign("1", 30.0)}


# How much to take


@pytest.mark.parametrize(
    ("queued", "workers", "push_interval_s", "typical_job_s", "size"),
    [
        (100, 1, 10.0, None, 1),  # nothing is known yet
        (100, 1, 10.0, 0.0, 1),
        (100, 1, 10.0, 600.0, 1),  # one long job at a time
        (100, 1, 10.0, 10.0, 1),
        (100, 1, 10.0, 3.0, 4),  # busy until the next push
        (100, 50, 10.0, 1.0, 2),  # but not more than a share
        (3, 1, 10.0, 0.1, 3),
        (0, 0, 10.0, 1.0, 1),
    ],
)
def test_short_jobs_are_taken_together_and_long_ones_one_by_one(
    queued: int, workers: int, push_interval_s: float, typical_job_s: float | None, size: int
) -> None:
    assert size == batch_size(
        queued=queued, workers=workers, push_interval_s=push_interval_s, typical_job_s=typical_job_s
    )


def test_a_job_is_called_by_its_spec_its_ledger_or_its_id() -> None:
    job = a_job()
    assert job.name == "job-1"
    assert replace(job, spec=None, state=replace(job.state, name="audio")).name == "audio"
    assert replace(job, spec=None).name == "job-1"


# Any view at all

WORKERS = ["anna", "bert", "carl"]


@st.composite
def jobs_in_view(draw: st.DrawFn) -> list[Job]:
    jobs = []
    for number in range(draw(st.integers(0, 5))):
        state = draw(st.sampled_from(State))
        attempt = draw(st.integers(0 if state is State.QUEUED else 1, 4))
        retries = draw(st.integers(0, 3))
        job = a_job(
            state,
            job_id=f"job-{number}",
            attempt=attempt,
            worker=draw(st.sampled_from(WORKERS)) if attempt else "",
            expirations=draw(st.integers(0, min(attempt, retries))),
            retries=retries,
            wanted=draw(st.booleans()),
        )
        kind = draw(st.sampled_from(["a job", "a job", "rejected", "unseen"]))
        jobs.append(
            rejected(job) if kind == "rejected" else replace(job, spec=None) if kind == "unseen" else job
        )
    return jobs


HOLDINGS = st.dictionaries(st.sampled_from([f"job-{number}" for number in range(6)]), st.integers(1, 4))
SIGNS = st.dictionaries(st.sampled_from(["bert", "carl"]), st.sampled_from([SILENT, ALIVE]))


@patient
@given(jobs_in_view(), HOLDINGS, SIGNS, st.integers(0, 4))
def test_whatever_is_seen_the_events_are_legal_in_order_on_that_view(
    jobs: list[Job], holding: dict[str, int], signs: dict[str, Sign], capacity: int
) -> None:
    actions = decide(*jobs, holding=holding.items(), signs=signs, capacity=capacity)
    events = [action.event for action in actions if isinstance(action, Record)]
    fold(jobs, events, {})
    assert sum(event.verb is Verb.LEASE for event in events) <= capacity
    assert not any(event.verb in FENCED - {Verb.CANCEL} for event in events)  # these are the attempt's to say


@patient
@given(jobs_in_view(), HOLDINGS, SIGNS, st.integers(0, 4))
def test_a_plan_that_was_carried_out_leaves_only_what_a_stopped_attempt_held_up(
    jobs: list[Job], holding: dict[str, int], signs: dict[str, Sign], capacity: int
) -> None:
    actions = decide(*jobs, holding=holding.items(), signs=signs, capacity=capacity)
    events = [action.event for action in actions if isinstance(action, Record)]
    leased = {event.job_id: event.attempt for event in events if event.verb is Verb.LEASE}
    stopped = {action.job_id for action in actions if isinstance(action, Stop)}
    cancels = [
        Event(Verb.CANCEL, action.job_id, action.attempt, "anna", AT)
        for action in actions
        if isinstance(action, Stop) and action.cancelled
    ]
    changed = fold(jobs, [*events, *cancels], {})
    after = [replace(job, state=changed.get(job.job_id, job.state)) for job in jobs]
    kept = {job_id: attempt for job_id, attempt in holding.items() if job_id not in stopped}
    again = decide(*after, holding={**kept, **leased}.items(), signs=signs, capacity=0)
    assert {each.event.job_id if isinstance(each, Record) else each.job_id for each in again} <= stopped


# Many workers, one ledger

FINISH = [Verb.SUCCEED, Verb.FAIL, Verb.TIME_OUT]
FATES = ["delivered", "delivered", "delivered", "answer lost", "delayed", "request lost"]
EDITS = ["submit", "submit", "submit", "cancel or uncancel", "remove", "break or mend", "rewind or restore"]

STEPS = st.tuples(
    st.sampled_from(
        ["turn"] * 8
        + ["beat"] * 4
        + ["end"] * 4
        + ["edit"] * 2
        + ["die"] * 2
        + ["freeze_or_thaw", "cut_or_mend", "tell_to_stop", "arrive_late", "outage"]
    ),
    st.sampled_from(WORKERS),
    st.integers(0, 99),
)


@dataclass(slots=True)
class Push:
    """A ledger commit on its way: it lands if the ledger is still at `base`, the same commit at most once."""

    base: int
    events: list[Event]
    process: int
    landed: bool = False


@dataclass(slots=True)
class Process:
    """One process of a worker. It knows what it saw at its last look, and what it has in hand.

    `ended` are the attempts that ended here, with what is to be said of them. `faultless` is False once it
    died, was paused or was cut off.
    """

    worker: str
    number: int
    clock_s: float
    room: int
    holding: dict[str, int] = field(default_factory=dict)
    ended: dict[str, Verb] = field(default_factory=dict)
    signs: dict[str, Sign] = field(default_factory=dict)
    jobs: tuple[Job, ...] | None = None
    base: int = 0
    looked_at: float = 0.0
    pending: Push | None = None
    paused: bool = False
    cut_off: bool = False
    draining: bool = False
    faultless: bool = True

    @property
    def is_connected(self) -> bool:
        return not self.paused and not self.cut_off


class WorkersShareOneLedger(RuleBasedStateMachine):
    """Workers look, decide and write by compare-and-swap while people submit and everything goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.entries: dict[str, Job] = {}
        self.rewound = False
        self.retries: dict[str, int] = {}
        self.version = 0
        self.states: dict[str, JobState] = {}
        self.history: list[Event] = []
        self.counters: Counter[str] = Counter()  # what the live refs show
        self.flying: list[Push] = []
        self.processes: dict[str, Process] = {}
        self.everybody: dict[int, Process] = {}
        self.leased_by: dict[tuple[str, int], int] = {}
        self.started: Counter[tuple[str, int]] = Counter()
        self.releases: Counter[str] = Counter()
        self.ends: dict[str, JobState] = {}

    @initialize(retries=st.lists(st.integers(0, 3), min_size=2, max_size=6))
    def people_submit(self, retries: list[int]) -> None:
        for each in retries:
            self._submit(retries=each)

    @rule(steps=st.lists(STEPS, min_size=1, max_size=8))
    def things_happen(self, steps: list[tuple[str, str, int]]) -> None:
        """One rule of many kinds: Hypothesis leaves whole rules out of a run, and here all must meet."""
        for what, worker, number in steps:
            getattr(self, what)(worker, number)

    def turn(self, worker: str, number: int) -> None:
        """A worker finds out what became of its last push, mostly looks, decides, and writes."""
        process = self._process(worker)
        if number % 10 == 9:  # trouble passes
            process.paused = process.cut_off = False
        if process.is_connected:
            self._settle(process)
            if number % 4:
                self._look(process)
            self._write(process, FATES[number % len(FATES)])
            if process.draining and not process.holding and process.pending is None:
                self.die(worker, number)

    def end(self, worker: str, number: int) -> None:
        """An attempt ends by itself, also where nobody can be told of it."""
        process = self._process(worker)
        going = [job_id for job_id in process.holding if job_id not in process.ended]
        if going and not process.paused:
            process.ended[going[0]] = FINISH[number % len(FINISH)]

    def beat(self, _worker: str, number: int) -> None:
        """Time passes, hearts beat, and most workers look."""
        self.now += (30.0, 100.0, 170.0)[number % 3]
        for process in self.processes.values():
            if process.is_connected:
                self.counters[process.worker] += 1
        for process in self.processes.values():
            if process.is_connected and process.number % 3:  # one in three is too slow for that
                self._look(process)

    def edit(self, _worker: str, number: int) -> None:
        what = EDITS[number % len(EDITS)]
        jobs = list(self.entries.values())
        job = jobs[number // len(EDITS) % len(jobs)] if jobs else None
        if what == "submit" or job is None:
            self._submit(retries=number % 4)
        elif what == "remove":
            del self.entries[job.job_id]
        elif what == "cancel or uncancel":
            self.entries[job.job_id] = replace(job, wanted=not job.wanted)
        elif what == "break or mend":
            mended = replace(job, spec=a_spec(job.job_id, retries=self.retries[job.job_id]), rejection=None)
            self.entries[job.job_id] = rejected(job) if job.spec else mended
        else:
            self.rewound = not self.rewound

    def die(self, worker: str, _number: int) -> None:
        process = self.processes.pop(worker, None)
        if process is not None:
            process.faultless = False

    def freeze_or_thaw(self, worker: str, _number: int) -> None:
        process = self._process(worker)
        process.paused, process.faultless = not process.paused, False

    def cut_or_mend(self, worker: str, _number: int) -> None:
        process = self._process(worker)
        process.cut_off, process.faultless = not process.cut_off, False

    def tell_to_stop(self, worker: str, _number: int) -> None:
        process = self._process(worker)
        if not process.paused:
            process.draining = True
            for job_id in process.holding:
                process.ended.setdefault(job_id, Verb.RELEASE)

    def arrive_late(self, _worker: str, number: int) -> None:
        if self.flying:
            self._arrive(self.flying.pop(number % len(self.flying)))

    def outage(self, _worker: str, _number: int) -> None:
        """Nobody reaches the remote for a while."""
        self.now += 2 * LEASE_S

    # What holds after every step

    @invariant()
    def the_states_are_the_fold_of_the_events(self) -> None:
        for job_id, state in self.states.items():
            events = [event for event in self.history if event.job_id == job_id]
            assert reduce(advance, events, JobState(job_id)) == state

    @invariant()
    def no_attempt_runs_twice_under_one_number(self) -> None:
        assert all(times == 1 for times in self.started.values())
        assert self.started.keys() <= self.leased_by.keys()

    @invariant()
    def an_end_is_the_end_and_there_is_one(self) -> None:
        for job_id, state in self.states.items():
            if state.is_final:
                assert self.ends.setdefault(job_id, state) == state
        assert all(self.states[job_id] == end for job_id, end in self.ends.items())

    @invariant()
    def no_job_disappears(self) -> None:
        shown = {job.job_id for job in self._shown()}
        assert self.states.keys() <= shown
        assert self.rewound or self.entries.keys() <= shown

    @invariant()
    def a_job_runs_again_no_oftener_than_it_may(self) -> None:
        for job_id, state in self.states.items():
            retries = self.retries[job_id]
            assert state.expirations <= retries + 1
            assert state.expirations <= retries or state.state in (
                State.LOST,
                State.CANCELLED,
                State.FAILED,
            )
            assert state.expirations == retries + 1 or state.state is not State.LOST
            assert state.attempt <= 1 + retries + self.releases[job_id]

    def teardown(self) -> None:
        """With one healthy worker and everything else silent, every job that can end does, soon."""
        while self.flying:
            self._arrive(self.flying.pop())
        self.rewound = False
        healthy = next(iter(self.processes.values()), None) or self._process("anna")
        healthy.paused = healthy.cut_off = healthy.draining = False
        for silent in self.processes.values():
            silent.faultless = silent is healthy
        self.processes = {healthy.worker: healthy}
        unfinished = len(self.retries)
        for _ in range(unfinished + 5):
            self.now += LEASE_S / 2
            self._settle(healthy)
            self._look(healthy)
            self._write(healthy, "delivered")
            for job_id in healthy.holding:
                healthy.ended.setdefault(job_id, Verb.SUCCEED)
        waiting = [job.job_id for job in self._shown() if not job.state.is_final]
        assert waiting == []

    # How

    def _submit(self, *, retries: int) -> None:
        job = a_job(job_id=f"job-{len(self.retries)}", retries=retries)
        self.retries[job.job_id], self.entries[job.job_id] = retries, job

    def _process(self, worker: str) -> Process:
        if worker not in self.processes:
            number = len(self.everybody)
            started = Process(worker, number, clock_s=number * -777.0, room=1 + number % 3)
            self.processes[worker] = self.everybody[number] = started
        return self.processes[worker]

    def _shown(self) -> tuple[Job, ...]:
        if self.rewound:
            return join([], self.states, removal_counts=False)
        return join(list(self.entries.values()), self.states)

    def _look(self, process: Process) -> None:
        began = self.now + process.clock_s
        shown = self._shown()
        prints = {job.state.worker: "" for job in shown if job.state.state is State.RUNNING}
        prints |= {worker: str(count) for worker, count in self.counters.items()}
        unseen_s = began - process.looked_at if process.jobs is not None else 0.0
        before = {} if unseen_s > LEASE_S else process.signs
        process.signs = observe(before, prints, now=began)
        process.jobs, process.base, process.looked_at = shown, self.version, began

    def _write(self, process: Process, fate: str) -> None:
        if process.jobs is None:
            return
        states = {job.job_id: job.state for job in process.jobs}
        events: list[Event] = []
        for job_id, verb in list(process.ended.items()):
            event = Event(verb, job_id, process.holding[job_id], process.worker, self.now)
            try:
                states[job_id] = advance(states[job_id], event)
            except TransitionError:  # overtaken: its results are set aside
                self._put_down(process, job_id)
            else:
                events.append(event)
        actions = plan(
            [replace(job, state=states[job.job_id]) for job in process.jobs],
            worker=process.worker,
            holding=[each for each in process.holding.items() if each[0] not in process.ended],
            signs=process.signs,
            now=process.looked_at,
            lease_s=LEASE_S,
            capacity=0 if process.draining else process.room - len(process.holding) + len(process.ended),
            at=self.now,
        )
        for action in actions:
            if isinstance(action, Record):
                events.append(action.event)
            elif action.cancelled:
                process.ended[action.job_id] = Verb.CANCEL
            else:
                self._put_down(process, action.job_id)
        fold(process.jobs, events, {})  # legal, in order, on what was seen
        if not events:
            return
        process.pending = push = Push(process.base, events, process.number)
        if fate in ("delivered", "answer lost"):
            self._arrive(push)
        if fate == "delivered":
            self._settle(process)
        if fate == "delayed":
            self.flying.append(push)

    def _arrive(self, push: Push) -> None:
        if push.landed or push.base != self.version:
            return
        push.landed, self.version = True, self.version + 1
        self.counters[self.everybody[push.process].worker] += 1  # a push brings a sign of life along
        for event in push.events:
            before = self.states.get(event.job_id, JobState(event.job_id))
            holder = self.leased_by.get((event.job_id, event.attempt))
            if event.verb is Verb.LEASE:
                self.leased_by[event.job_id, event.attempt] = push.process
            elif before.state is State.RUNNING and event.verb in FENCED:
                assert holder == push.process
            elif before.state is State.RUNNING:
                assert holder is not None
                assert not self.everybody[holder].faultless
            self.releases[event.job_id] += event.verb is Verb.RELEASE
            self.states[event.job_id] = advance(before, event)
            self.history.append(event)

    def _settle(self, process: Process) -> None:
        """Find out what became of the last push: send the same commit again, and see whether it is there."""
        push, process.pending = process.pending, None
        if push is None:
            return
        self._arrive(push)
        if not push.landed:
            return
        for event in push.events:
            if event.verb is Verb.LEASE:
                process.holding[event.job_id] = event.attempt
                self.started[event.job_id, event.attempt] += 1
            elif event.job_id in process.ended and event.verb is process.ended[event.job_id]:
                self._put_down(process, event.job_id)
        self._look(process)

    def _put_down(self, process: Process, job_id: str) -> None:
        del process.holding[job_id]
        process.ended.pop(job_id, None)


TestWorkersShareOneLedger = WorkersShareOneLedger.TestCase
TestWorkersShareOneLedger.settings = settings(patient, max_examples=100, stateful_step_count=40)
