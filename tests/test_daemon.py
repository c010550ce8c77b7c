"""A daemon on a real Git remote: what it does with jobs, and what becomes of them when it dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import daemons
import harness
import nbformat
import psutil
import pytest
from daemons import Project

from colab_magics.daemon.home import Home, is_alive
from colab_magics.daemon.service import Order, run_daemon
from colab_magics.errors import CorruptError, RefusedError, StoreError, UsageError
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import Event, State, Verb
from colab_magics.store.base import Submission
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Refspec, Repository
from colab_magics.store.results import read_earlier, read_record

WAIT_FOR_FILE = "while not __import__('os').path.exists({path!r}): __import__('time').sleep(0.02)"


@pytest.fixture
def queue(project: Path) -> Project:
    return daemons.open_project(project)


def python(code: str) -> str:
    return f'"{sys.executable}" -c "{code}"'


def wait_for_file(path: Path) -> str:
    """A command that ends when somebody makes the file."""
    return python(WAIT_FOR_FILE.format(path=str(path)))


def test_jobs_run_in_order_and_each_once(queue: Project, tmp_path: Path) -> None:
    order = tmp_path / "order"
    queue.submit(*(queue.command(f"job-{number}", f"echo {number} >> {order}") for number in range(4)))

    assert daemons.drain(queue, tmp_path / "w") == 4

    assert order.read_text().split() == ["0", "1", "2", "3"]
    assert {job.state.state for job in queue.store.refresh().jobs} == {State.SUCCEEDED}
    daemons.legal_history(queue)


def test_a_job_runs_in_the_code_of_its_commit(queue: Project, tmp_path: Path) -> None:
    harness.write(queue.folder / "which.txt", "old\n")
    harness.git(queue.folder, "add", "which.txt")
    harness.git(queue.folder, "commit", "-qm", "Old")
    queue.submit(queue.command("old", "cat which.txt"))
    harness.write(queue.folder / "which.txt", "new\n")
    harness.git(queue.folder, "commit", "-qam", "New")
    queue.submit(queue.command("new", "cat which.txt"))

    daemons.drain(queue, tmp_path / "w")
    queue.store.refresh()

    assert (queue.log("old"), queue.log("new")) == ("old\n", "new\n")


def test_what_a_job_does_with_git_changes_nothing_for_the_next_job(queue: Project, tmp_path: Path) -> None:
    meddle = (
        "git config user.name Job && git config user.email job@example.org && git config core.bare true"
        " && git branch mine && git tag mine && git --work-tree=. stash -q; git gc -q --prune=now"
    )
    look = "git for-each-ref; git config --local user.name; git log -1 --format=%s; git status --porcelain"
    queue.submit(queue.command("a", f"echo changed > train.py; {meddle}"), queue.command("b", look))

    daemons.drain(queue, tmp_path / "w")
    queue.store.refresh()

    assert queue.log("a") == ""
    assert queue.log("b") == "Begin\n"


def test_a_hand_written_entry_runs_in_the_code_of_the_commit_that_brought_it(
    queue: Project, tmp_path: Path
) -> None:
    harness.git(queue.folder, "checkout", "-qb", "gpu-experiments")
    harness.write(queue.folder / "train.py", "print('trained by hand')\n")
    entry = {"name": "by hand", "command": "python train.py", "timeout": 60}
    harness.write(queue.folder / "experiments.json", json.dumps([entry], indent=2))
    harness.git(queue.folder, "add", ".")
    harness.git(queue.folder, "commit", "-qm", "Try this")
    harness.git(queue.folder, "push", "-q", "origin", "gpu-experiments")

    daemons.drain(queue, tmp_path / "w")

    (job,) = queue.store.refresh().jobs
    assert job.state.state is State.SUCCEEDED
    assert queue.log(job.job_id) == "trained by hand\n"


def test_a_hand_written_entry_on_a_branch_without_code_runs_in_the_main_branch(
    queue: Project, tmp_path: Path
) -> None:
    harness.write(queue.folder / "train.py", "print('trained on main')\n")
    harness.git(queue.folder, "add", ".")
    harness.git(queue.folder, "commit", "-qm", "Code")
    harness.git(queue.folder, "push", "-q", "origin", "main")
    queue.submit(queue.command("first", "true"))
    clone = harness.clone(queue.remote, tmp_path / "web")
    harness.git(clone, "checkout", "-q", "gpu-experiments")
    entries = json.loads((clone / "experiments.json").read_text())
    entries.append({"name": "by hand", "command": "python train.py", "timeout": 60})
    harness.write(clone / "experiments.json", json.dumps(entries))
    harness.git(clone, "commit", "-qam", "Edited on the hosting site")
    harness.git(clone, "push", "-q", "origin", "gpu-experiments")

    daemons.drain(queue, tmp_path / "w")

    by_hand = next(job for job in queue.store.refresh().jobs if job.name == "by hand")
    assert queue.log(by_hand.job_id) == "trained on main\n"
    record = json.loads(queue.store.read(by_hand.job_id, "record.json") or b"")
    assert record["code"] == harness.git(queue.folder, "rev-parse", "main")


def test_what_is_not_a_job_fails_alone_with_the_reason(queue: Project, tmp_path: Path) -> None:
    harness.git(queue.folder, "checkout", "-qb", "gpu-experiments")
    harness.write(
        queue.folder / "experiments.json",
        '[{"name": "no command", "timeout": 5}, {"name": "good", "command": "echo fine", "timeout": 60}]',
    )
    harness.git(queue.folder, "add", ".")
    harness.git(queue.folder, "commit", "-qm", "One bad, one good")
    harness.git(queue.folder, "push", "-q", "origin", "gpu-experiments")

    daemons.drain(queue, tmp_path / "w")

    bad, good = queue.store.refresh().jobs
    assert (bad.state.state, good.state.state) == (State.FAILED, State.SUCCEEDED)
    assert '"command" is the shell command line to run' in bad.state.reason


def test_a_file_that_does_not_parse_fails_by_name_and_a_correction_runs(
    queue: Project, tmp_path: Path
) -> None:
    harness.git(queue.folder, "checkout", "-qb", "gpu-experiments")
    for text in ('[{"name": "a" "command": "true"}]', '[{"name": "a", "command": "true", "timeout": 60}]'):
        harness.write(queue.folder / "experiments.json", text)
        harness.git(queue.folder, "add", ".")
        harness.git(queue.folder, "commit", "-qm", "Edit")
        harness.git(queue.folder, "push", "-q", "origin", "gpu-experiments")
        daemons.drain(queue, tmp_path / "w")

    states = {job.name: job.state for job in queue.store.refresh().jobs}
    assert states["experiments.json"].state is State.FAILED
    assert "line 1 column 15" in states["experiments.json"].reason
    assert states["a"].state is State.SUCCEEDED


def test_two_branches_of_one_repository_are_two_queues_that_share_nothing(
    queue: Project, tmp_path: Path
) -> None:
    queue.submit(queue.command("a", "true"))
    repository = Repository.discover(queue.folder)
    other = BranchStore(repository, remote="origin", label="other", intent_branch="other-queue")
    other.submit(Submission((queue.command("b", "true"),)))
    cache = Repository.init_bare(tmp_path / "other.git", isolated=True)
    theirs = BranchStore(cache, remote=queue.remote, label="queue", intent_branch="other-queue")

    daemons.drain(queue, tmp_path / "two", store=theirs)

    assert [(job.job_id, job.state.state) for job in other.refresh().jobs] == [("b", State.SUCCEEDED)]
    assert [(job.job_id, job.state.state) for job in queue.store.refresh().jobs] == [("a", State.QUEUED)]


def test_a_cancelled_job_never_runs(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("a", f"touch {tmp_path / 'ran'}"))
    queue.store.refresh()
    queue.store.cancel(["a"])

    daemons.drain(queue, tmp_path / "w")

    assert queue.job("a").state.state is State.CANCELLED
    assert not (tmp_path / "ran").exists()


def test_cancelling_a_running_job_ends_it(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("a", "echo started; sleep 600"), queue.command("b", "echo next"))
    with daemons.running(queue, tmp_path / "w"):
        queue.wait_for("a", State.RUNNING)
        queue.store.cancel(["a"])
        queue.wait_for("b", State.SUCCEEDED)

    assert queue.job("a").state.state is State.CANCELLED


def test_stopping_gives_the_running_job_back_and_another_daemon_runs_it(
    queue: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    begun = "touch $COLAB_OUTPUT_DIR/model.bin; echo half way"
    queue.submit(queue.command("a", f"{begun}; {wait_for_file(go)}", retries=0))
    with daemons.running(queue, tmp_path / "one"):
        harness.wait_until(
            lambda: any("half" in str(live.jobs) for live in queue.store.refresh().lives.values()),
            what="the job to begin",
        )
    assert queue.job("a").state.state is State.QUEUED
    assert [name for name in queue.store.files("a") if "/" not in name] == ["state.json"]
    (given_back,) = read_earlier(queue.store, "a")
    assert (given_back.state, given_back.attempt) == ("queued", 1)
    assert given_back.notes == ("the daemon ended before the job did",)
    assert (queue.store.read("a", "attempts/1/log.txt") or b"").startswith(b"half way\n")
    assert queue.store.read("a", "attempts/1/artifacts/model.bin") == b""
    go.touch()

    daemons.drain(queue, tmp_path / "two")

    state = queue.job("a").state
    assert (state.state, state.attempt, state.expirations) == (State.SUCCEEDED, 2, 0)
    assert queue.store.refresh().lives == {}
    record = read_record(queue.store, "a")
    assert record is not None
    assert record.attempt == 2
    assert read_earlier(queue.store, "a") == [given_back]


REPORT = "import colab_magics; colab_magics.progress(3, 10, label='epoch'); print('working', flush=True)"


@pytest.mark.parametrize("second", ["one", "two"], ids=["in the same folder", "on another machine"])
@pytest.mark.parametrize("retries", [2, 0], ids=["runs again", "is lost"])
def test_of_an_attempt_whose_session_died_what_was_seen_last_is_recorded(
    queue: Project, tmp_path: Path, second: str, retries: int
) -> None:
    go = tmp_path / "go"
    queue.submit(queue.command("a", f"{python(REPORT)}; {wait_for_file(go)}", retries=retries))
    first = daemons.Process(queue, tmp_path / "one")
    harness.wait_until(
        lambda: any("working" in str(live.jobs) for live in queue.store.refresh().lives.values()),
        what="the job to be seen",
    )
    worker = queue.job("a").state.worker
    first.kill()
    go.touch()

    daemons.drain(queue, tmp_path / second)
    queue.store.refresh()

    if retries:
        (record,) = read_earlier(queue.store, "a")
        log, ended = queue.store.read("a", "attempts/1/log.txt"), "queued"
        official = read_record(queue.store, "a")
        assert official is not None
        assert (official.attempt, official.state, official.failure) == (2, "succeeded", None)
    else:
        found = read_record(queue.store, "a")
        assert found is not None
        record, log, ended = found, queue.store.read("a", "log.txt"), "lost"
    assert log == b"working\n"
    assert (record.attempt, record.worker, record.state) == (1, worker, ended)
    assert record.machine["hostname"]
    assert 0 < record.started_at <= record.ended_at
    assert record.code == queue.code
    assert record.failure is not None
    assert record.failure.message.startswith(f"the session of {worker} died under attempt 1")
    assert "it had done 3 of 10 epoch" in record.notes
    daemons.legal_history(queue)


def test_of_a_cell_whose_session_died_the_outputs_that_were_seen_are_a_notebook(
    queue: Project, tmp_path: Path
) -> None:
    source = b"print('shown'); __import__('time').sleep(600)"
    cell = JobSpec("cell", "cell", None, "cells/0123456789ab.py", 60.0, queue.code, retries=0)
    queue.submit(cell, blobs={"cells/0123456789ab.py": source})
    first = daemons.Process(queue, tmp_path / "one")

    def outputs() -> bool:
        lives = queue.store.refresh().lives.values()
        return any(live.jobs["cell"].get("outputs") for live in lives if "cell" in live.jobs)

    harness.wait_until(outputs, what="the output to be seen")
    first.kill()

    daemons.drain(queue, tmp_path / "one")

    assert queue.job("cell").state.state is State.LOST
    notebook = nbformat.reads((queue.store.read("cell", "run.ipynb") or b"").decode(), as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].source == source.decode()
    assert notebook.cells[-1].outputs[0].text == "shown\n"


IMPATIENT = """
import json, os, signal, sys, threading
from pathlib import Path
import harness
from colab_magics.daemon.home import is_alive
from colab_magics.daemon.service import Order, run_daemon

order, pid = Order(repo=sys.argv[1], workdir=Path(sys.argv[2])), Path(sys.argv[3])
told, over = [], threading.Event()

def interrupt(number, frame):  # as Python does, but only within the daemon
    while frame is not None:
        if frame.f_code is run_daemon.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back

def press():
    harness.wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the job to run")
    while not over.wait(0.03):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, interrupt)
presser = threading.Thread(target=press)
presser.start()
try:
    run_daemon(order)
except KeyboardInterrupt:
    told.append("interrupted")
over.set()
presser.join()
left = lambda: [each.name for each in threading.enumerate() if each.name.startswith("colab-")]
harness.wait_until(lambda: not left() and not is_alive(order.workdir), what=f"the threads to end: {left()}")
print(json.dumps(told))
"""


@pytest.mark.parametrize("is_cell", [False, True], ids=["a command", "a cell"])
def test_whoever_presses_stop_again_and_again_leaves_no_thread_behind(
    queue: Project, tmp_path: Path, is_cell: bool
) -> None:
    pid, go = tmp_path / "pid", tmp_path / "go"
    deaf = "import os, pathlib, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    source = (
        f"{deaf}; go = pathlib.Path({str(go)!r})\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "while not go.exists(): time.sleep(0.02)"
    )
    job = queue.command("a", f"python {harness.write(tmp_path / 'job.py', source)}", retries=0)
    if is_cell:
        job = replace(job, command=None, cell="cells/0123456789ab.py")
    queue.submit(job, blobs={"cells/0123456789ab.py": source.encode()})

    done = harness.run(
        [sys.executable, "-c", IMPATIENT, queue.remote, tmp_path / "w", pid],
        env={"PYTHONPATH": str(Path(__file__).parent)},
    )

    assert json.loads(done.stdout) == ["interrupted"]
    assert not psutil.pid_exists(int(pid.read_text()))
    go.touch()
    daemons.drain(queue, tmp_path / "w")
    state = queue.job("a").state
    assert (state.state, state.attempt, state.expirations) == (State.SUCCEEDED, 2, 0)


def test_a_job_that_is_killed_together_with_its_daemon_goes_back_to_the_queue(
    queue: Project, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    queue.submit(queue.command("a", f"echo $$ > {pid}; exec sleep 600"))
    daemon = daemons.Process(queue, tmp_path / "w")
    number = int(harness.wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the job to run"))

    daemon.process.send_signal(signal.SIGTERM)
    os.kill(number, signal.SIGTERM)
    daemon.process.wait()

    assert queue.job("a").state.state is State.QUEUED


@pytest.mark.parametrize("second", ["one", "two"], ids=["in the same folder", "on another machine"])
def test_killing_a_daemon_loses_no_job_and_runs_none_to_its_end_twice(
    queue: Project, tmp_path: Path, second: str
) -> None:
    ended, go = tmp_path / "ended", tmp_path / "go"
    commands = [f"{wait_for_file(go)}; echo {number} >> {ended}" for number in range(6)]
    commands[0] = f"echo 0 >> {ended}"
    queue.submit(*(queue.command(f"job-{number}", command) for number, command in enumerate(commands)))
    first = daemons.Process(queue, tmp_path / "one")
    queue.wait_for("job-1", State.RUNNING)
    first.kill()
    go.touch()

    daemons.drain(queue, tmp_path / second)

    assert {job.state.state for job in queue.store.refresh().jobs} == {State.SUCCEEDED}
    results = Counter(event.job_id for event in daemons.legal_history(queue) if event.verb is Verb.SUCCEED)
    assert results == {f"job-{number}": 1 for number in range(6)}


def test_a_job_that_may_not_run_twice_is_lost_with_its_session(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("a", "sleep 600", retries=0))
    first = daemons.Process(queue, tmp_path / "one")
    queue.wait_for("a", State.RUNNING)
    first.kill()

    daemons.drain(queue, tmp_path / "one")

    state = queue.job("a").state
    assert state.state is State.LOST
    assert "may not run twice" in state.reason


def test_what_a_killed_daemon_left_running_is_ended_before_it_runs_again(
    queue: Project, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    queue.submit(queue.command("a", f"echo $$ > {pid}; exec sleep 600", retries=0))
    first = daemons.Process(queue, tmp_path / "one")
    harness.wait_until(lambda: pid.exists() and pid.read_text().strip(), what="the job to run")
    first.kill()

    daemons.drain(queue, tmp_path / "one")

    harness.wait_until(lambda: not psutil.pid_exists(int(pid.read_text())), what="the process to be gone")


def test_a_result_that_was_spooled_before_the_death_is_brought_home(queue: Project, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    queue.submit(queue.command("a", f"echo once >> {runs}"))

    class Dies(Exception):
        pass

    daemon, home = daemons.make_daemon(queue, tmp_path / "w")
    done = threading.Event()
    original = daemon._write

    def dies_at_the_result(view, events, ended, heart):  # type: ignore[no-untyped-def]
        if ended:
            done.set()
            raise Dies
        return original(view, events, ended, heart)

    daemon._write = dies_at_the_result  # type: ignore[method-assign]
    with pytest.raises(Dies):
        daemon.run()
    home.close()
    assert done.is_set()

    daemons.drain(queue, tmp_path / "w")

    state = queue.job("a").state
    assert (state.state, state.attempt) == (State.SUCCEEDED, 1)
    assert runs.read_text().split() == ["once"]


def test_two_daemons_share_a_queue_and_run_each_job_once(queue: Project, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    queue.submit(*(queue.command(f"job-{number}", f"echo {number} >> {ran}") for number in range(12)))
    settings = replace(daemons.QUICK, lease_s=60.0)
    threads = [
        threading.Thread(target=daemons.drain, args=(queue, tmp_path / name), kwargs={"settings": settings})
        for name in ("one", "two")
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, ran.read_text().split())) == list(range(12))
    assert {job.state.state for job in queue.store.refresh().jobs} == {State.SUCCEEDED}
    daemons.legal_history(queue)


class JustEnded:
    """Hands whose only attempt ends while the daemon is deciding: between its first and its second look."""

    def __init__(self, key: tuple[str, int]) -> None:
        self._key, self._looks = key, 0

    def finished(self) -> list[SimpleNamespace]:
        self._looks += 1
        return [SimpleNamespace(job_id=self._key[0], attempt=self._key[1])] if self._looks > 1 else []

    def holding(self) -> frozenset[tuple[str, int]]:
        return frozenset([self._key])

    def held(self) -> frozenset[tuple[str, int]]:
        return frozenset()


def test_an_attempt_that_ends_while_the_daemon_decides_is_not_taken_for_dead(
    queue: Project, tmp_path: Path
) -> None:
    queue.submit(queue.command("a", "true"))
    daemon, home = daemons.make_daemon(queue, tmp_path / "w")
    lease = Event(Verb.LEASE, "a", 1, home.worker, at=1_700_000_000.0)
    queue.store.record(queue.store.refresh(), [lease], summaries={}, files={})

    moved = daemon._turn(queue.store.refresh(), JustEnded(("a", 1)), None, draining=False)  # type: ignore[arg-type]

    home.close()
    assert not moved
    assert queue.job("a").state.state is State.RUNNING


class Tidy:
    """A store that compacts itself whenever it is asked; everything else is the real one's."""

    def __init__(self, store: BranchStore, cache: Repository) -> None:
        self._store, self._cache, self.compacted = store, cache, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def compact(self) -> None:
        self.compacted += self._cache.compact(loose=0, grace_s=60.0, timeout_s=60.0)


def test_jobs_run_while_the_clone_is_compacted_again_and_again(queue: Project, tmp_path: Path) -> None:
    queue.submit(*(queue.command(f"job-{number}", "git log -1; git status --short") for number in range(8)))
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    store = Tidy(BranchStore(cache, remote=queue.remote, label="queue"), cache)

    settings = replace(daemons.QUICK, upkeep_s=0.01)
    assert daemons.drain(queue, tmp_path / "w", store=store, settings=settings) == 8

    assert {job.state.state for job in queue.store.refresh().jobs} == {State.SUCCEEDED}
    assert store.compacted > 0
    harness.git(cache.git_dir, "fsck", "--no-dangling")


class Refusing:
    """A store whose remote refuses the code of jobs; everything else is the real one's."""

    def __init__(self, store: BranchStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def checkout(self, spec: JobSpec, folder: Path) -> str:
        raise RefusedError("fetching was refused: 403")


def test_a_machine_that_may_not_fetch_the_code_gives_the_job_back_and_ends(
    queue: Project, tmp_path: Path
) -> None:
    queue.submit(queue.command("a", "true"), queue.command("b", "true"))
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    store = Refusing(BranchStore(cache, remote=queue.remote, label="queue"))

    with pytest.raises(StoreError, match=r"this machine cannot run jobs: .* 403"):
        daemons.drain(queue, tmp_path / "w", store=store)

    assert [queue.job(name).state.state for name in ("a", "b")] == [State.QUEUED, State.QUEUED]
    assert queue.job("a").state.expirations == 0


def test_a_checkpoint_whose_push_was_not_answered_is_followed_by_the_next(
    queue: Project, tmp_path: Path
) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    store = BranchStore(cache, remote=queue.remote, label="queue")
    epochs = [harness.write(tmp_path / f"epoch{number}", str(number)) for number in range(3)]
    store.save_checkpoint("a", 1, {"epoch": epochs[0]})
    unanswered = cache.refs("refs/colab/remote/")
    store.save_checkpoint("a", 1, {"epoch": epochs[1]})
    cache.set_refs(unanswered)  # type: ignore[arg-type]

    store.save_checkpoint("a", 1, {"epoch": epochs[2]})

    assert store.load_checkpoint("a", tmp_path / "loaded")
    assert (tmp_path / "loaded" / "epoch").read_text() == "2"


def test_a_clone_whose_daemon_was_cut_off_is_made_anew(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("a", "echo one"))
    order = Order(repo=queue.remote, once=True, workdir=tmp_path / "w")
    run_daemon(order)
    for thing in (tmp_path / "w" / "cache.git" / "objects").rglob("*"):
        if thing.is_file():
            thing.chmod(0o600)
            thing.write_bytes(b"")  # as a file system does that lost its power
    (tmp_path / "w" / "open").touch()
    queue.submit(queue.command("b", "echo two"))

    assert run_daemon(order) == 1

    assert queue.job("b").state.state is State.SUCCEEDED


def test_a_checkpoint_is_there_when_the_job_runs_again(queue: Project, tmp_path: Path) -> None:
    command = (
        'if [ -f "$COLAB_CHECKPOINT_DIR/epoch" ]; then echo "resumed at $(cat $COLAB_CHECKPOINT_DIR/epoch)";'
        ' else echo 7 > "$COLAB_CHECKPOINT_DIR/epoch"; sleep 600; fi'
    )
    queue.submit(queue.command("a", command))
    first = daemons.Process(queue, tmp_path / "one")
    bare = Path(queue.remote.removeprefix("file://"))
    harness.wait_until(
        lambda: "refs/colab/checkpoint/a" in harness.refs(bare), what="the checkpoint to be pushed"
    )
    first.kill()

    daemons.drain(queue, tmp_path / "two")
    queue.store.refresh()

    assert queue.log("a") == "resumed at 7\n"
    daemons.drain(queue, tmp_path / "one")  # the machine of the first is back, and ends what it left running
    assert "refs/colab/checkpoint/a" not in harness.refs(bare)


def test_while_a_job_runs_its_log_and_progress_are_seen(queue: Project, tmp_path: Path) -> None:
    go = tmp_path / "go"
    report = "import colab_magics; colab_magics.progress(3, 10, label='epoch'); print('working', flush=True)"
    queue.submit(queue.command("a", f"{python(report)}; {wait_for_file(go)}"))
    with daemons.running(queue, tmp_path / "w"):

        def shown() -> dict[str, object] | None:
            lives = queue.store.refresh().lives.values()
            found = [live.jobs["a"] for live in lives if live.jobs.get("a", {}).get("progress")]
            return dict(found[0]) if found else None

        seen = harness.wait_until(shown, what="progress to be seen")
        go.touch()
        queue.wait_for("a", State.SUCCEEDED)

    assert seen["progress"] == {"done": 3, "total": 10, "label": "epoch"}
    assert seen["log_tail"] == "working\n"


def test_a_cell_leaves_an_executed_notebook_and_its_variables(queue: Project, tmp_path: Path) -> None:
    cell = JobSpec("cell", "cell", None, "cells/0123456789ab.py", 60.0, queue.code, outputs=("total",))
    queue.submit(cell, blobs={"cells/0123456789ab.py": b"total = sum(range(10))\nprint(total)\ntotal"})

    daemons.drain(queue, tmp_path / "w")
    queue.store.refresh()

    notebook = json.loads(queue.store.read("cell", "run.ipynb") or b"")
    kinds = [output["output_type"] for each in notebook["cells"] for output in each.get("outputs", [])]
    assert kinds == ["stream", "execute_result"]
    assert queue.store.read("cell", "out/total.json") == b"45"


def test_a_second_daemon_in_one_folder_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / "w")
    assert is_alive(tmp_path / "w")

    with pytest.raises(UsageError, match="already runs"):
        Home(tmp_path / "w")

    home.close()
    assert not is_alive(tmp_path / "w")


def test_an_identity_that_does_not_parse_is_never_replaced(tmp_path: Path) -> None:
    harness.write(tmp_path / "w" / "identity.json", "{")

    with pytest.raises(CorruptError, match="remove the folder"):
        Home(tmp_path / "w")


def test_a_rewound_queue_ends_no_job_not_even_when_the_next_is_queued(queue: Project, tmp_path: Path) -> None:
    go = tmp_path / "go"
    queue.submit(queue.command("first", "true"))
    queue.submit(queue.command("a", wait_for_file(go)))
    bare = Path(queue.remote.removeprefix("file://"))
    with daemons.running(queue, tmp_path / "w"):
        queue.wait_for("a", State.RUNNING)
        harness.git(bare, "update-ref", "refs/heads/gpu-experiments", "refs/heads/gpu-experiments~1")
        colleague = harness.clone(queue.remote, tmp_path / "colleague")
        other = daemons.open_project(colleague)
        other.submit(other.command("b", "true"))
        harness.wait_until(
            lambda: "b" in {job.job_id for job in queue.store.refresh().jobs}, what="the next job to be seen"
        )
        go.touch()
        queue.wait_for("b", State.SUCCEEDED)

    events = [event for event in daemons.legal_history(queue) if event.job_id == "a"]
    assert [event.verb for event in events] == [Verb.LEASE, Verb.SUCCEED]


@pytest.mark.parametrize("by_hand", [False, True], ids=["queued", "hand-written"])
def test_a_daemon_that_starts_after_a_rewind_ends_no_job_and_one_after_a_removal_does(
    queue: Project, tmp_path: Path, by_hand: bool
) -> None:
    go = tmp_path / "go"
    queue.submit(queue.command("first", "true"))
    editor = harness.clone(queue.remote, tmp_path / "editor")
    harness.git(editor, "checkout", "-q", "gpu-experiments")
    entries = json.loads((editor / "experiments.json").read_text())
    ours = {"name": "a", "command": wait_for_file(go), "timeout": 60}
    entries.append(ours if by_hand else {**ours, "id": "a", "code": queue.code})
    harness.write(editor / "experiments.json", json.dumps(entries))
    harness.git(editor, "commit", "-qam", "Add a")
    harness.git(editor, "push", "-q", "origin", "gpu-experiments")
    (job_id,) = (job.job_id for job in queue.store.refresh().jobs if job.name == "a")

    first = daemons.Process(queue, tmp_path / "one")
    queue.wait_for(job_id, State.RUNNING)
    first.kill()
    harness.git(editor, "push", "-qf", "origin", "HEAD~1:gpu-experiments")

    def expired() -> bool:
        return any(event.verb is Verb.EXPIRE for event in daemons.legal_history(queue))

    with daemons.running(queue, tmp_path / "one"):
        for store in (queue.store, daemons.open_project(editor).store):
            view = store.refresh()
            (found,) = (job for job in view.jobs if job.job_id == job_id)
            assert (found.spec, found.wanted, found.state.is_final) == (None, True, False)
            assert f"the branch was rewound past {job_id}" in view.note
        harness.git(editor, "push", "-q", "origin", "HEAD:gpu-experiments")
        queue.wait_for(job_id, State.RUNNING)
        harness.wait_until(expired, what="the attempt to be taken over")
        harness.write(editor / "experiments.json", json.dumps(entries[:-1]))
        harness.git(editor, "commit", "-qam", "Remove a")
        harness.git(editor, "push", "-q", "origin", "HEAD:gpu-experiments")
        assert queue.wait_for(job_id, State.CANCELLED).state.attempt == 2


def test_a_ledger_that_was_rewritten_stops_the_daemon_and_the_old_one_is_kept(
    queue: Project, tmp_path: Path
) -> None:
    queue.submit(queue.command("a", "true"))
    daemons.drain(queue, tmp_path / "w")
    bare = Path(queue.remote.removeprefix("file://"))
    lost = harness.refs(bare)["refs/heads/gpu-results"]
    failed: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except CorruptError as error:
            failed.append(error)

    daemon, home = daemons.make_daemon(queue, tmp_path / "w", settings=replace(daemons.QUICK, once=False))
    thread = threading.Thread(target=run)
    thread.start()
    harness.wait_until(lambda: queue.store.refresh().lives, what="the daemon to be alive")
    harness.git(bare, "update-ref", "refs/heads/gpu-results", f"{lost}~1")
    thread.join()
    home.close()

    assert "was rewritten" in str(failed[0])
    assert harness.refs(bare)[f"refs/colab/rescue/{lost[:16]}"] == lost


def test_a_ledger_that_was_rewritten_is_kept_although_the_clone_is_compacted_before_it_is_noticed(
    queue: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colab_magics.store.upkeep.LOOSE_OBJECTS", 0)
    monkeypatch.setattr("colab_magics.store.upkeep.GRACE_S", 0.0)
    queue.submit(queue.command("a", "true"))
    daemons.drain(queue, tmp_path / "w")
    bare = Path(queue.remote.removeprefix("file://"))
    lost = harness.refs(bare)["refs/heads/gpu-results"]
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    store = BranchStore(cache, remote=queue.remote, label="queue")
    store.refresh()
    harness.git(bare, "update-ref", "refs/heads/gpu-results", f"{lost}~1")
    harness.git(bare, "gc", "-q", "--prune=now")

    cache.fetch(queue.remote, [Refspec("refs/heads/gpu-results", "refs/colab/remote/queue/ledger")])
    store.compact()

    with pytest.raises(CorruptError, match="was rewritten"):
        store.refresh()
    assert harness.refs(bare)[f"refs/colab/rescue/{lost[:16]}"] == lost
