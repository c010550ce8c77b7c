"""Other jobs go on beside one that is held at its failure, if there is room: real daemons, real kernels."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import daemons
import harness
import pytest
from daemons import Project
from visitors import let_go

from colab_magics.daemon.assignment import Live, Phase
from colab_magics.daemon.room import Free, Room
from colab_magics.daemon.status import Status, describe
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import State, Verb
from colab_magics.store.results import read_record

pytestmark = pytest.mark.usefixtures("own_state")

CELL = "cells/0123456789ab.py"
FAILS = """
import os, pathlib
pathlib.Path(os.environ["COLAB_CHECKPOINT_DIR"], "epoch").write_text("7")
value = 0
quotient = 1 / value
"""
NO_ROOM = Room(host=1.5, gpu=1.5)


@pytest.fixture
def queue(project: Path) -> Project:
    return daemons.open_project(project)


def failing(queue: Project, job_id: str, *, hold_s: float = 600.0, **changes: Any) -> JobSpec:
    """A cell that is held where it fails."""
    return replace(queue.command(job_id, ""), command=None, cell=CELL, hold_s=hold_s, **changes)


def submit(queue: Project, *specs: JobSpec) -> None:
    queue.submit(*specs, blobs={CELL: FAILS.encode()})


def phase(queue: Project, job_id: str) -> object:
    """What the job's worker shows of it."""
    shown = [live.jobs[job_id] for live in queue.store.refresh().lives.values() if job_id in live.jobs]
    return shown[0].get("phase") if shown else None


def wait_until_held(queue: Project, *job_ids: str) -> None:
    for job_id in job_ids:
        harness.wait_until(lambda job_id=job_id: phase(queue, job_id) == "held", what=f"{job_id} to be held")


def wait_for_file(path: Path) -> str:
    return f"while [ ! -e {path} ]; do sleep 0.05; done"


# --- the rule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "lack"),
    [
        (Free(host=0.25, gpu=None), ""),
        (Free(host=0.24, gpu=None), "24% of the machine's memory is free, and 25% must be"),
        (Free(host=0.9, gpu=0.5), ""),
        (Free(host=0.9, gpu=0.3), "30% of the GPU's memory is free, and 50% must be"),
        (Free(host=0.1, gpu=0.9), "10% of the machine's memory is free, and 25% must be"),
    ],
)
def test_there_is_room_where_half_of_the_gpu_and_a_quarter_of_the_machine_are_free(
    free: Free, lack: str
) -> None:
    assert Room().lack(free) == lack


def live(phase: Phase) -> Live:
    return Live(phase, started_at=0.0, elapsed_s=1.0, progress=None, log_tail="", outputs=())


@pytest.mark.parametrize(
    ("hands", "lack", "line"),
    [
        ({}, "", "waiting for jobs"),
        ({"a": Phase.RUNNING}, "", "running a"),
        ({"a": Phase.HELD, "b": Phase.RUNNING}, "", "running b; holding a at its failure"),
        ({"a": Phase.PAUSED, "b": None}, "", "running a, b"),
        ({"a": Phase.HELD, "b": None}, "too little is free",
         "holding a at its failure; other jobs wait for room: too little is free"),
    ],
)  # fmt: skip
def test_a_daemon_says_in_one_line_what_it_does(hands: dict[str, Phase | None], lack: str, line: str) -> None:
    shown = {(job_id, 1): None if phase is None else live(phase) for job_id, phase in hands.items()}
    assert describe(shown, lack=lack) == line


# --- daemons -------------------------------------------------------------------------------------------


def test_the_next_job_runs_beside_one_that_is_held(queue: Project, tmp_path: Path) -> None:
    submit(queue, failing(queue, "a"), queue.command("b", "true"), queue.command("c", "true"))
    with daemons.running(queue, tmp_path / "w"):
        queue.wait_for("b", State.SUCCEEDED)
        queue.wait_for("c", State.SUCCEEDED)
        assert phase(queue, "a") == "held"
        let_go(tmp_path, "a")
        job = queue.wait_for("a", State.FAILED)
    assert (job.state.attempt, job.state.expirations) == (1, 0)
    record = read_record(queue.store, "a")
    assert record is not None
    assert record.failure is not None
    assert (record.failure.type, record.failure.line) == ("ZeroDivisionError", 5)
    daemons.legal_history(queue)


def test_without_room_the_next_job_waits_and_the_daemon_says_why(queue: Project, tmp_path: Path) -> None:
    submit(queue, failing(queue, "a"), queue.command("b", "true"))
    said: list[Status] = []
    with daemons.running(queue, tmp_path / "w", room=NO_ROOM, on_status=said.append):
        wait_until_held(queue, "a")
        harness.wait_until(lambda: "wait for room" in said[-1].doing, what="the daemon to say so")
        begin, _, why = said[-1].doing.partition("; ")
        assert begin == "holding a at its failure"
        assert why.startswith("other jobs wait for room: ")
        assert why.endswith("memory is free, and 150% must be")
        assert queue.job("b").state.state is State.QUEUED
        let_go(tmp_path, "a")
        queue.wait_for("b", State.SUCCEEDED)
    assert queue.job("a").state.state is State.FAILED


def test_several_are_held_at_once(queue: Project, tmp_path: Path) -> None:
    submit(queue, failing(queue, "a"), failing(queue, "b"), queue.command("c", "true"))
    with daemons.running(queue, tmp_path / "w"):
        queue.wait_for("c", State.SUCCEEDED)
        wait_until_held(queue, "a", "b")
        queue.store.cancel(["b"])
        queue.wait_for("b", State.CANCELLED)
        assert phase(queue, "a") == "held"
        let_go(tmp_path, "a")
        queue.wait_for("a", State.FAILED)


def test_the_checkpoints_of_a_held_job_and_of_the_one_beside_it_are_both_kept(
    queue: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    submit(
        queue,
        failing(queue, "a"),
        queue.command("b", f"echo 1 > $COLAB_CHECKPOINT_DIR/epoch; {wait_for_file(go)}"),
    )
    bare = Path(queue.remote.removeprefix("file://"))
    with daemons.running(queue, tmp_path / "w"):
        for job_id in ("a", "b"):
            harness.wait_until(
                lambda job_id=job_id: f"refs/colab/checkpoint/{job_id}" in harness.refs(bare),
                what=f"the checkpoint of {job_id}",
            )
        assert phase(queue, "a") == "held"
        go.touch()
        queue.wait_for("b", State.SUCCEEDED)


def test_a_daemon_that_is_stopped_gives_back_what_is_held_and_what_runs(
    queue: Project, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    submit(queue, failing(queue, "a"), queue.command("b", f"touch {begun}; sleep 600"))
    with daemons.running(queue, tmp_path / "w"):
        wait_until_held(queue, "a")
        harness.wait_until(begun.exists, what="b to run")
    for job_id in ("a", "b"):
        state = queue.job(job_id).state
        assert (state.state, state.attempt, state.expirations) == (State.QUEUED, 1, 0)
    ended = {event.job_id: event.verb for event in daemons.legal_history(queue)}
    assert ended == {"a": Verb.RELEASE, "b": Verb.RELEASE}
    assert not [each.name for each in threading.enumerate() if each.name.startswith("colab-")]
    assert not list((tmp_path / "w" / "attempts").glob("*"))


def test_a_daemon_that_dies_while_a_job_is_held_ends_it_as_any_death_does(
    queue: Project, tmp_path: Path
) -> None:
    go, begun = tmp_path / "go", tmp_path / "begun"
    submit(
        queue,
        failing(queue, "a", retries=0),
        queue.command("b", f"touch {begun}; {wait_for_file(go)}", retries=1),
    )
    first = daemons.Process(queue, tmp_path / "w")
    wait_until_held(queue, "a")
    harness.wait_until(begun.exists, what="b to run")
    first.kill()
    go.touch()

    daemons.drain(queue, tmp_path / "w")

    lost, again = queue.job("a").state, queue.job("b").state
    assert (lost.state, lost.attempt) == (State.LOST, 1)
    assert (again.state, again.attempt, again.expirations) == (State.SUCCEEDED, 2, 1)


def test_the_lease_of_a_held_job_is_renewed(queue: Project, tmp_path: Path) -> None:
    """Another daemon, whose patience is a second, sees it held for five and does not take it over."""
    submit(queue, failing(queue, "a", hold_s=5.0))
    with daemons.running(queue, tmp_path / "w"):
        wait_until_held(queue, "a")
        assert daemons.drain(queue, tmp_path / "other") == 0
    state = queue.job("a").state
    assert (state.state, state.attempt, state.expirations) == (State.FAILED, 1, 0)


def test_a_daemon_that_works_once_stays_until_what_is_held_is_over(queue: Project, tmp_path: Path) -> None:
    submit(queue, failing(queue, "a", hold_s=3.0), queue.command("b", "true"))
    assert daemons.drain(queue, tmp_path / "w") == 2
    assert [queue.job(job_id).state.state for job_id in ("a", "b")] == [State.FAILED, State.SUCCEEDED]
