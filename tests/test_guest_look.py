"""A look at a job in passing: its stacks as text, from inside it, without stopping it."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
from attempt_harness import make_job
from visitors import look

from colab_magics.daemon import doors
from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb

HANGS = """
import os, time

def wait_for(path, patience):
    while not os.path.exists(path):
        time.sleep(0.01)

answer = 42
wait_for({mark!r}, patience=[1, 2, 3])
"""


@pytest.mark.parametrize("debuggable", [False, True])
def test_a_look_shows_where_a_cell_is_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debuggable: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    mark = tmp_path / "enough"
    job = make_job(tmp_path, cell=HANGS.format(mark=str(mark)), debuggable=debuggable)
    with job.running():
        harness.wait_until(lambda: list(doors.folder().glob("*.json")), what="the door")
        door = doors.read_door(next(doors.folder().glob("*.json")))
        assert (door.capabilities is not None) is debuggable
        told = harness.wait_until(
            lambda: "wait_for, line" in (text := look(Path(door.look))) and text, what="it"
        )
        assert "      patience = [1, 2, 3]\n" in told
        assert "      answer = 42\n" in told
        assert "ipykernel" not in told.replace("/ipykernel_", "")
        assert job.attempt.live().phase is Phase.RUNNING
        mark.touch()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED
    assert job.text() == ""
