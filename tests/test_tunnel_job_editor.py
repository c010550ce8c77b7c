"""F5 on a job: an editor attaches by launch.json's entry, through a session, to a job that runs for real."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import pytest
import tunnel_stage
from attempt_harness import Job, make_job
from dap_client import DapClient
from visitors import assert_worked_to_its_end, door_path, wait_for

from colab_kernel import sessions
from colab_magics.daemon.assignment import Phase, Stop
from colab_magics.jobs.state import Verb
from colab_magics.tunnel import book, jobs, jsonc
from colab_magics.tunnel.hand import Answer, Hand

MODULE = """\
def scale(batch):
    spread = max(batch) - min(batch)
    return 1 / spread
"""
FAILS = """\
import batches
for number in range(1, 101):
    batch = [number, number + 1] if number != 43 else [0.5] * 2
    batches.scale(batch)
"""
WORKS = """\
import os, time
import batches
n = 0
while not os.path.exists({mark!r}):
    n += 1
    batches.scale([n, n + 1])
    time.sleep(0.01)
print("ended")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project, and an open session with this machine."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = harness.make_project(tmp_path / "project", files={"batches.py": MODULE})
    opened = tunnel_stage.colab("tunnel", "local", cwd=folder)
    assert opened.returncode == 0, opened.stderr
    yield folder
    for name in list(book.load()):
        tunnel_stage.colab("tunnel", "close", name, cwd=folder)


def a_job(folder: Path, cell: str, **spec: object) -> Job:
    return make_job(folder / "job", cell=cell, files={"batches.py": MODULE}, **spec)  # type: ignore[arg-type]


@dataclass(slots=True)
class Listening:
    """`tunnel job … --vscode` under way, and the entry that it wrote."""

    process: subprocess.Popen[str]
    entry: dict[str, object]
    err: Path
    out: Path

    @property
    def port(self) -> int:
        return int(self.entry["connect"]["port"])  # type: ignore[index]


@contextlib.contextmanager
def listening(project: Path, *more: str) -> Iterator[Listening]:
    out, err = project.parent / "out", project.parent / "err"
    words = ["tunnel", "job", "train-1", "--name", "local", "--vscode", *more]
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "colab_magics.cli", *words],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
    try:
        harness.wait_until(
            lambda: "F5 in VS Code attaches" in err.read_text() or process.poll() is not None,
            what="the port",
        )
        assert process.poll() is None, err.read_text()
        [entry] = jsonc.loads((project / ".vscode/launch.json").read_text())["configurations"]
        yield Listening(process, entry, err, out)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def test_a_job_that_has_just_begun_is_found_once_its_door_is_open(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "enough"
    job = a_job(tmp_path, WORKS.format(mark=str(mark)), debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        door = door_path()
        hidden = door.rename(door.with_suffix(".hidden"))
        ask = Hand.ask

        def and_then_open(self: Hand, verb: str, *more: Any, **content: Any) -> Answer:
            answer = ask(self, verb, *more, **content)
            if verb == "jobs" and hidden.exists():
                assert answer.content["jobs"] == []
                hidden.rename(door)
            return answer

        monkeypatch.setattr(Hand, "ask", and_then_open)
        told = jobs.look_at(sessions.load().get("local"), "train-1")
        mark.touch()
    assert "batches = <module>" in told


def test_a_held_job_shows_its_failure_at_once_and_fails_when_it_is_let_go(
    project: Path, tmp_path: Path
) -> None:
    before = harness.untouched_state(project)
    job = a_job(tmp_path, FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with listening(project) as here:
            assert here.entry["name"] == "Colab job — train"
            with DapClient(here.entry, workspace=project) as ada:
                ada.attach(breakpoints={})
                inside = ada.stopped()
                module, cell, *_ = inside["frames"]
                assert (module["source"]["path"], module["line"]) == (str(project / "batches.py"), 3)
                assert "sourceReference" not in module["source"]
                assert inside["locals"]["spread"] == "0.0"
                error = ada.request("exceptionInfo", threadId=inside["threadId"])
                assert error["exceptionId"] == "ZeroDivisionError"
                trace = error["details"]["stackTrace"]
                assert f'File "{project / "batches.py"}", line 3, in scale\n' in trace
                assert 'File "the queued cell", line 4, in <module>\n' in trace
                assert (cell["source"]["name"], cell["line"]) == ("the queued cell", 4)
                text = ada.request(
                    "source", source=cell["source"], sourceReference=cell["source"]["sourceReference"]
                )
                assert text["content"].splitlines()[3] == "    batches.scale(batch)"
                value = ada.request("evaluate", expression="number", frameId=cell["id"], context="watch")
                assert value["result"] == "43"
                ada.request("disconnect")
            assert here.process.wait(60) == 0, here.err.read_text()
            assert "is over" in here.out.read_text()
    assert job.outcome is not None
    assert job.outcome.verb is Verb.FAIL
    assert any("evaluated `number`" in note for note in job.outcome.record.notes)
    shutil.rmtree(project / ".vscode")
    assert harness.untouched_state(project) == before


def test_a_breakpoint_by_its_path_here_holds_in_the_running_job(project: Path, tmp_path: Path) -> None:
    mark = tmp_path / "enough"
    job = a_job(tmp_path, WORKS.format(mark=str(mark)), debuggable=True)
    with job.running():
        wait_for(job, Phase.RUNNING)
        with listening(project) as here:
            with DapClient(here.entry, workspace=project) as ada:
                [became] = ada.attach(breakpoints={project / "batches.py": [3]})
                assert became["verified"]
                inside = ada.stopped()
                assert inside["frames"][0]["source"]["path"] == str(project / "batches.py")
                wait_for(job, Phase.PAUSED)
                ada.request("next", threadId=inside["threadId"])
                after = ada.stopped()
                while after["frames"][0]["source"].get("name") != "the queued cell":
                    ada.request("next", threadId=after["threadId"])
                    after = ada.stopped()
                shown = after["frames"][0]["source"]
                ada.request("setBreakpoints", source={"path": str(project / "batches.py")}, breakpoints=[])
                asked = [{"line": 5, "condition": "n > 20"}]
                [set_] = ada.request("setBreakpoints", source=shown, breakpoints=asked)["breakpoints"]
                assert set_["verified"]
                ada.request("continue", threadId=after["threadId"])
                conditional = ada.stopped()
                assert conditional["frames"][0]["line"] == 5
                variables = ada.request("evaluate", expression="n", frameId=conditional["frames"][0]["id"])
                assert int(variables["result"]) > 20
            # An editor that goes without a word: the job goes on.
            wait_for(job, Phase.RUNNING)
            with DapClient(here.entry, workspace=project) as again:
                again.attach(breakpoints={project / "batches.py": [2]})
                again.stopped()
                again.request("disconnect")
            wait_for(job, Phase.RUNNING)
            mark.touch()
    assert_worked_to_its_end(job)


def test_a_held_script_shows_its_failure_in_the_project_s_own_files(project: Path, tmp_path: Path) -> None:
    (project / "train.py").write_text(FAILS)
    files = {"batches.py": MODULE, "train.py": FAILS}
    job = make_job(tmp_path / "job", command="python train.py", files=files, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        looked = tunnel_stage.colab("tunnel", "job", "train-1", "--look", cwd=project)
        assert looked.stdout.startswith("the script:\n  <module>, line 4 of "), looked.stderr
        value = tunnel_stage.colab("tunnel", "job", "train-1", "--evaluate", "number", cwd=project)
        assert value.stdout.strip() == "43", value.stderr
        with listening(project) as here, DapClient(here.entry, workspace=project) as ada:
            ada.attach(breakpoints={})
            inside = ada.stopped()
            assert [(each["source"]["path"], each["line"]) for each in inside["frames"]] == [
                (str(project / "batches.py"), 3),
                (str(project / "train.py"), 4),
            ]
            assert inside["locals"]["spread"] == "0.0"
            ada.request("disconnect")
    assert job.outcome is not None
    assert job.outcome.reason == "ZeroDivisionError: float division by zero (batches.py:3)"


def test_the_second_editor_looks_on_and_the_end_of_the_job_ends_both(project: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path, FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with listening(project) as here, DapClient(here.entry, workspace=project) as first:
            first.attach(breakpoints={})
            at = first.stopped()["threadId"]
            with DapClient(here.entry, workspace=project) as second:
                second.attach(breakpoints={})
                assert second.stopped()["locals"]["spread"] == "0.0"
                second.send("continue", threadId=at)
                first.request("continue", threadId=at)
                first.event("terminated")
                second.event("terminated")
            assert here.process.wait(60) == 0, here.err.read_text()


def test_what_speaks_no_dap_is_hung_up_on_and_the_port_goes_on(project: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path, FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with listening(project) as here:
            with pytest.raises(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{here.port}/", timeout=30)
            with DapClient(here.entry, workspace=project) as ada:
                ada.attach(breakpoints={})
                ada.request("continue", threadId=ada.stopped()["threadId"])


def test_an_interrupt_closes_the_port_and_leaves_the_job_held(project: Path, tmp_path: Path) -> None:
    job = a_job(tmp_path, FAILS, hold_s=600.0)
    with job.running():
        wait_for(job, Phase.HELD)
        with listening(project) as here:
            here.process.send_signal(signal.SIGINT)
            assert here.process.wait(60) == 0
            assert f"Port {here.port} is closed." in here.out.read_text()
            with socket.socket() as other:
                assert other.connect_ex(("127.0.0.1", here.port)) != 0
            assert job.attempt.live().phase is Phase.HELD
        job.attempt.stop(Stop.CANCEL)
