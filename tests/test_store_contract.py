"""What every store must do, run on the one in memory and on real clones of a bare Git repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import harness
import pytest

from colab_magics.errors import CorruptError, StoreError, TransitionError, UnreachableError
from colab_magics.jobs.codec import Live
from colab_magics.jobs.paths import job_file
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import Event, State, Verb
from colab_magics.store.base import Recorded, Store, Submission, View
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.memory import MemoryRemote, MemoryStore

NOBODY = "http://127.0.0.1:9/queue.git"
"""The discard port: nobody listens there."""


@dataclass
class World:
    """A remote with the means to be somebody else on it."""

    new_store: Callable[[], Store]
    write_by_hand: Callable[[str], None]
    set_reachable: Callable[[bool], None]
    code: str


@pytest.fixture(params=["memory", "git"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield memory_world(tmp_path)
    else:
        yield git_world(tmp_path)


def memory_world(tmp_path: Path) -> World:
    remote = MemoryRemote()
    code = "1" * 40
    remote.code[code] = tmp_path / "code"
    harness.write(tmp_path / "code" / "train.py", "print('training')\n")

    def set_reachable(reachable: bool) -> None:
        remote.reachable = reachable

    return World(
        new_store=lambda: MemoryStore(remote),
        write_by_hand=lambda text: remote.intents.append(text.encode()),
        set_reachable=set_reachable,
        code=code,
    )


def git_world(tmp_path: Path) -> World:
    bare = harness.make_bare_remote(tmp_path / "remote.git")
    project = harness.make_project(tmp_path / "project", remote_url=bare.as_uri())
    harness.write(project / "train.py", "print('training')\n")
    harness.git(project, "add", "train.py")
    harness.git(project, "commit", "-qm", "Train")
    harness.git(project, "push", "-q", "origin", "main")
    numbers = iter(range(1000))
    clones: list[Path] = []

    def new_store() -> Store:
        clone = harness.clone(bare.as_uri(), tmp_path / f"clone{next(numbers)}")
        clones.append(clone)
        return BranchStore(Repository.discover(clone), remote="origin", label="origin")

    def write_by_hand(text: str) -> None:
        person = harness.clone(bare.as_uri(), tmp_path / f"person{next(numbers)}")
        known = "gpu-experiments" in harness.git(person, "branch", "-r")
        harness.git(person, "checkout", "-q", *([] if known else ["-b"]), "gpu-experiments")
        harness.write(person / "experiments.json", text)
        harness.git(person, "add", "experiments.json")
        harness.git(person, "commit", "-qm", "Edit by hand")
        harness.git(person, "push", "-q", "origin", "gpu-experiments")

    def set_reachable(reachable: bool) -> None:
        for each in clones:
            harness.git(each, "remote", "set-url", "origin", bare.as_uri() if reachable else NOBODY)

    return World(new_store, write_by_hand, set_reachable, harness.git(project, "rev-parse", "HEAD").strip())


def a_job(world: World, job_id: str = "train-0000000001") -> JobSpec:
    return JobSpec(job_id, "train", "python train.py", None, 60.0, world.code)


def submit(store: Store, *specs: JobSpec) -> None:
    assert store.submit(Submission(specs)).pushed


def find(view: View, job_id: str) -> Job:
    return next(job for job in view.jobs if job.job_id == job_id)


def event(verb: Verb, job_id: str, attempt: int, worker: str = "w1") -> Event:
    return Event(verb, job_id, attempt, worker, at=1_700_000_000.0)


def record(store: Store, view: View, *events: Event, **files: bytes) -> Recorded:
    return store.record(
        view,
        events,
        summaries={},
        files={job_file(events[0].job_id, k + ".txt"): v for k, v in files.items()},
    )


def test_an_empty_queue_shows_no_jobs(world: World) -> None:
    view = world.new_store().refresh()

    assert view.jobs == ()
    assert view.ledger is None


def test_what_one_submits_another_sees_in_the_same_order(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    specs = [a_job(world, f"train-000000000{number}") for number in range(5)]

    submit(one, *specs)

    jobs = two.refresh().jobs
    assert [job.spec for job in jobs] == specs
    assert {job.state.state for job in jobs} == {State.QUEUED}


def test_two_who_submit_at_once_both_get_their_jobs_in(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    one.refresh()
    two.refresh()

    submit(one, a_job(world, "a-1"))
    submit(two, a_job(world, "b-1"))

    assert [job.job_id for job in one.refresh().jobs] == ["a-1", "b-1"]


def test_files_beside_the_entries_arrive_with_them(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    one.submit(Submission((a_job(world),), {"cells/0123456789ab.py": b"x = 1"}))

    two.refresh()

    assert two.read_input("cells/0123456789ab.py") == b"x = 1"
    assert two.read_input("cells/000000000000.py") is None


def test_without_a_network_a_job_waits_and_the_next_command_pushes_it(world: World) -> None:
    store, other = world.new_store(), world.new_store()
    store.refresh()
    world.set_reachable(False)
    receipt = store.submit(Submission((a_job(world),)))
    assert not receipt.pushed
    assert store.view().waiting == ("train-0000000001",)
    world.set_reachable(True)

    assert store.flush().pushed

    assert store.view().waiting == ()
    assert [job.job_id for job in other.refresh().jobs] == ["train-0000000001"]


def test_a_job_that_still_waits_here_can_be_taken_back(world: World) -> None:
    store = world.new_store()
    store.refresh()
    world.set_reachable(False)
    store.submit(Submission((a_job(world, "a-1"), a_job(world, "b-1"))))
    store.cancel(["a-1"])
    world.set_reachable(True)

    store.flush()

    assert [job.job_id for job in store.refresh().jobs if job.wanted] == ["b-1"]


def test_a_cancel_reaches_a_job_whose_push_landed_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = git_world(tmp_path)
    store, other = world.new_store(), world.new_store()
    push = Repository.push
    with monkeypatch.context() as lossy:
        lossy.setattr(Repository, "push", lambda *at, **more: (push(*at, **more), _no_answer()))
        assert not store.submit(Submission((a_job(world, "a-1"),))).pushed

    assert store.cancel(["a-1"]).pushed

    assert [(job.job_id, job.wanted) for job in other.refresh().jobs] == [("a-1", False)]


def test_a_cancel_of_what_nobody_has_changes_nothing(world: World) -> None:
    store = world.new_store()
    assert store.cancel(["a-1"]).commit is None or store.refresh().jobs == ()
    submit(store, a_job(world, "b-1"))
    before = store.refresh().intent

    assert store.cancel(["a-1"]).pushed

    assert store.refresh().intent == before
    assert [job.wanted for job in store.view().jobs] == [True]


def test_a_cancel_that_cannot_be_written_does_not_stay_behind(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[{"name": "a" "command": "true"}]')
    store.refresh()

    with pytest.raises(CorruptError, match="does not parse"):
        store.cancel(["a-1"])

    assert store.flush().pushed


def test_an_interrupted_submit_does_not_stay_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = git_world(tmp_path)
    store = world.new_store()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Repository, "push", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.submit(Submission((a_job(world),)))

    assert store.view().waiting == ()
    assert store.flush().commit is None


def test_a_job_that_landed_is_queued_also_when_a_local_ref_is_locked(tmp_path: Path) -> None:
    world = git_world(tmp_path)
    store, other = world.new_store(), world.new_store()
    lock = tmp_path / "clone0/.git/refs/colab/remote/origin/intent.lock"
    harness.write(lock, "")

    assert store.submit(Submission((a_job(world, "a-1"),))).pushed

    assert store.view().waiting == ()
    assert [job.job_id for job in other.refresh().jobs] == ["a-1"]
    lock.unlink()
    submit(store, a_job(world, "b-1"))
    assert [job.job_id for job in other.refresh().jobs] == ["a-1", "b-1"]


def test_looking_without_a_network_says_so(world: World) -> None:
    store = world.new_store()
    world.set_reachable(False)

    with pytest.raises(UnreachableError):
        store.refresh()
    world.set_reachable(True)


def test_a_cancelled_job_is_not_wanted_any_more(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    submit(one, a_job(world, "a-1"), a_job(world, "b-1"))
    two.refresh()

    two.cancel(["a-1"])

    assert [(job.job_id, job.wanted) for job in one.refresh().jobs] == [("a-1", False), ("b-1", True)]


def test_a_lease_is_seen_by_everybody(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    submit(one, a_job(world))
    view = one.refresh()

    assert record(one, view, event(Verb.LEASE, "train-0000000001", 1)) is Recorded.LANDED

    for store in (one, two):
        state = find(store.refresh(), "train-0000000001").state
        assert (state.state, state.attempt, state.worker) == (State.RUNNING, 1, "w1")


def test_of_two_who_race_for_a_lease_exactly_one_wins(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    submit(one, a_job(world))
    views = one.refresh(), two.refresh()

    outcomes = [
        record(one, views[0], event(Verb.LEASE, "train-0000000001", 1, "w1")),
        record(two, views[1], event(Verb.LEASE, "train-0000000001", 1, "w2")),
    ]

    assert outcomes == [Recorded.LANDED, Recorded.LOST]
    assert find(two.refresh(), "train-0000000001").state.worker == "w1"


def test_results_lie_beside_the_state_that_they_belong_to(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    submit(one, a_job(world))
    record(one, one.refresh(), event(Verb.LEASE, "train-0000000001", 1))
    record(one, one.view(), event(Verb.SUCCEED, "train-0000000001", 1), log=b"done\n")

    assert find(two.refresh(), "train-0000000001").state.state is State.SUCCEEDED
    assert two.read("train-0000000001", "log.txt") == b"done\n"
    assert two.read("train-0000000001", "nothing.txt") is None
    assert two.files("train-0000000001")["log.txt"] == 5


def test_an_illegal_event_is_never_written(world: World) -> None:
    store = world.new_store()
    submit(store, a_job(world))
    view = store.refresh()

    with pytest.raises(TransitionError):
        record(store, view, event(Verb.SUCCEED, "train-0000000001", 1))

    assert store.refresh().ledger is None


def test_a_finish_of_an_attempt_that_was_taken_over_is_refused(world: World) -> None:
    store = world.new_store()
    submit(store, a_job(world))
    record(store, store.refresh(), event(Verb.LEASE, "train-0000000001", 1, "w1"))
    record(store, store.view(), event(Verb.EXPIRE, "train-0000000001", 1, "w2"))
    record(store, store.view(), event(Verb.LEASE, "train-0000000001", 2, "w2"))

    with pytest.raises(TransitionError, match="attempt"):
        record(store, store.view(), event(Verb.SUCCEED, "train-0000000001", 1, "w1"))


def test_a_sign_of_life_is_overwritten_and_can_be_taken_away(world: World) -> None:
    one, two = world.new_store(), world.new_store()
    live = Live("w1", 1, 1_700_000_000.0, 5.0, machine={"gpu": None}, jobs={"a-1": {"phase": "running"}})

    one.publish(live)
    one.publish(replace(live, counter=2))
    assert two.refresh().lives == {"w1": replace(live, counter=2)}

    one.retire("w1")
    assert two.refresh().lives == {}


def test_a_removed_entry_of_a_running_job_counts_as_a_wish_to_end_it(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[{"name": "a", "command": "true", "timeout": 5, "id": "a-1"}]')
    record(store, store.refresh(), event(Verb.LEASE, "a-1", 1))

    world.write_by_hand("[]")

    assert not find(store.refresh(), "a-1").wanted


def test_a_hand_written_entry_is_a_job(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[\n  {"name": "by hand", "command": "python train.py", "timeout": 600}\n]\n')

    (job,) = store.refresh().jobs

    assert job.spec is not None
    assert (job.name, job.spec.command, job.spec.timeout_s) == ("by hand", "python train.py", 600.0)
    assert job.job_id.startswith("by-hand-")


def test_an_entry_repeated_word_for_word_is_the_same_job_and_rerun_makes_it_a_new_one(world: World) -> None:
    store = world.new_store()
    entry = {"name": "a", "command": "true", "timeout": 5}
    world.write_by_hand(json.dumps([entry]))
    (job,) = store.refresh().jobs
    record(store, store.view(), event(Verb.LEASE, job.job_id, 1))
    record(store, store.view(), event(Verb.SUCCEED, job.job_id, 1))

    world.write_by_hand(json.dumps([entry, entry, {**entry, "rerun": 1}]))

    jobs = store.refresh().jobs
    assert [(each.job_id == job.job_id, each.state.state) for each in jobs] == [
        (True, State.SUCCEEDED),
        (False, State.QUEUED),
    ]


def test_a_malformed_entry_is_rejected_alone(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[{"name": "bad"}, 7, {"name": "good", "command": "true", "timeout": 5}]')

    jobs = store.refresh().jobs

    assert [job.rejection is None for job in jobs] == [False, False, True]
    assert '"command" is the shell command line to run' in (jobs[0].rejection or "")


def test_a_copied_id_is_rejected_and_the_original_runs(world: World) -> None:
    store = world.new_store()
    world.write_by_hand(
        '[{"name": "a", "command": "true", "timeout": 5, "id": "a-1"},'
        ' {"name": "a", "command": "false", "timeout": 5, "id": "a-1"}]'
    )

    first, second = store.refresh().jobs

    assert first.rejection is None
    assert 'remove "id"' in (second.rejection or "")


def test_a_file_that_does_not_parse_fails_by_name_and_the_jobs_before_it_stay(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[{"name": "a", "command": "true", "timeout": 5, "id": "a-1"}]')
    record(store, store.refresh(), event(Verb.LEASE, "a-1", 1))
    world.write_by_hand('[{"name": "a" "command": "true"}]')

    view = store.refresh()

    assert [(job.name, job.rejection is not None, job.wanted) for job in view.jobs] == [
        ("experiments.json", True, True),
        ("a", False, True),
    ]
    assert "line 1 column 15" in view.note


def test_a_file_that_does_not_parse_is_never_overwritten(world: World) -> None:
    store = world.new_store()
    world.write_by_hand('[{"name": "a" "command": "true"}]')
    store.refresh()

    with pytest.raises(CorruptError, match="does not parse"):
        store.submit(Submission((a_job(world),)))

    assert store.view().waiting == ()


def test_the_code_of_a_job_is_checked_out_and_removed_again(world: World, tmp_path: Path) -> None:
    store = world.new_store()
    submit(store, a_job(world))
    store.refresh()

    assert store.checkout(a_job(world), tmp_path / "job") == world.code
    assert (tmp_path / "job" / "train.py").read_text() == "print('training')\n"

    store.remove_checkout(tmp_path / "job")
    store.remove_checkout(tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_store_that_is_compacted_has_all_that_it_had(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colab_magics.store.upkeep.LOOSE_OBJECTS", 0)
    monkeypatch.setattr("colab_magics.store.upkeep.GRACE_S", 0.0)
    store = world.new_store()
    submit(store, a_job(world))
    view = store.refresh()
    store.checkout(a_job(world), tmp_path / "job")

    store.compact()

    assert store.refresh() == view
    record(store, view, event(Verb.LEASE, a_job(world).job_id, 1))
    store.compact()
    assert store.view().jobs[0].state.state is State.RUNNING


def test_code_that_is_gone_is_named(world: World, tmp_path: Path) -> None:
    store = world.new_store()

    with pytest.raises(StoreError, match=r"queue .* again|queue it again"):
        store.checkout(replace(a_job(world), code="2" * 40), tmp_path / "job")


def test_a_checkpoint_outlives_its_attempt_and_a_superseded_one_cannot_overwrite_it(
    world: World, tmp_path: Path
) -> None:
    one, two = world.new_store(), world.new_store()
    for number in (1, 2, 3):
        harness.write(tmp_path / str(number) / "epoch.txt", f"epoch {number}")

    one.save_checkpoint("a-1", 1, {"sub/epoch.txt": tmp_path / "1" / "epoch.txt"})
    two.load_checkpoint("a-1", tmp_path / "loaded")
    assert (tmp_path / "loaded" / "sub" / "epoch.txt").read_text() == "epoch 1"

    two.save_checkpoint("a-1", 2, {"epoch.txt": tmp_path / "2" / "epoch.txt"})
    one.save_checkpoint("a-1", 1, {"epoch.txt": tmp_path / "3" / "epoch.txt"})
    assert one.load_checkpoint("a-1", tmp_path / "again")
    assert (tmp_path / "again" / "epoch.txt").read_text() == "epoch 2"

    one.drop_checkpoint("a-1")
    assert not two.load_checkpoint("a-1", tmp_path / "none")


def _no_answer() -> NoReturn:
    raise UnreachableError("the answer was lost")


def _interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt
