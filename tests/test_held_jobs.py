"""A cell that fails is held where it failed; one that runs can be stepped into. Real kernels, both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from attempt_harness import make_job
from visitors import let_go, wait_for

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase, Stop
from colab_magics.jobs.state import Verb

pytestmark = pytest.mark.usefixtures("own_state")

FAILS = """
def layer(batch):
    scale = batch - 43
    return 1 / scale

def train():
    for batch in range(40, 50):
        layer(batch)

print("begun")
train()
"""


def test_a_cell_that_fails_is_held_for_its_time_and_fails_then(tmp_path: Path, job_python: Path) -> None:
    job = make_job(tmp_path, cell=FAILS, python=job_python, hold_s=3.0)
    with job.running():
        wait_for(job, Phase.HELD)
        live = job.attempt.live()
        assert live.held == "ZeroDivisionError: division by zero"
        assert live.held_until is not None
        assert live.log_tail == (
            "begun\n"
            "colab-magics: held at its failure\n"
            "  <module>, line 11 of the cell\n"
            "  train, line 8 of the cell\n"
            "  layer, line 4 of the cell\n"
            "ZeroDivisionError: division by zero\n"
        )
        [path] = doors.folder().glob("*.json")
        door = doors.read_door(path)
        assert door.capabilities
        assert door.checkout == str(job.checkout)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.FAIL
    assert job.outcome.reason == "ZeroDivisionError: division by zero (line 4 of the cell)"
    failure = job.outcome.record.failure
    assert failure is not None
    assert (failure.file, failure.line, failure.function) == ("<cell>", 4, "layer")
    assert not list(doors.folder().glob("*.json"))


def test_a_cell_that_wants_too_much_memory_is_held_at_the_line_that_asked_for_it(
    tmp_path: Path, job_python: Path
) -> None:
    cell = "def layer(size):\n    kept = [1, 2, 3]\n    return bytearray(size)\n\nlayer(1 << 60)\n"
    job = make_job(tmp_path, cell=cell, python=job_python, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        live = job.attempt.live()
        assert live.held == "MemoryError"
        assert "  layer, line 3 of the cell\n" in live.log_tail
        let_go(tmp_path)
    assert job.outcome is not None
    failure = job.outcome.record.failure
    assert failure is not None
    assert (failure.out_of_memory, failure.line, failure.function) == (True, 3, "layer")


def test_an_error_that_the_cell_catches_holds_nothing(tmp_path: Path, job_python: Path) -> None:
    cell = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    print('caught')\n"
    outcome = make_job(tmp_path, cell=cell, python=job_python, hold_s=600.0).run()
    assert outcome.verb is Verb.SUCCEED


def test_the_deadline_stands_still_as_long_as_it_is_held(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell=FAILS, hold_s=12.0, timeout_s=10)
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.record.duration_s > 12


def test_a_held_cell_ends_when_it_is_asked_to(tmp_path: Path, job_python: Path) -> None:
    job = make_job(tmp_path, cell=FAILS, python=job_python, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        job.attempt.stop(Stop.CANCEL)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.CANCEL


@pytest.mark.parametrize("hold_s", [0.0, 600.0])
def test_the_result_is_the_same_as_without(tmp_path: Path, hold_s: float) -> None:
    cell = "import numpy as np\nx = np.arange(4).sum()\nprint(x)\nx"
    plain = make_job(tmp_path / "plain", cell=cell, debuggable=False)
    ready = make_job(tmp_path / "ready", cell=cell, debuggable=True, hold_s=hold_s)
    assert plain.run().verb is ready.run().verb is Verb.SUCCEED
    assert plain.outputs == ready.outputs
    assert plain.text() == ready.text()
