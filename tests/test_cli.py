from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest
from workers import Worker, text_output

from colab_magics import cli
from colab_magics.errors import NoRemoteError
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository


class Terminal:
    """A person in a project's folder. `out` and `err` are what the last command wrote."""

    def __init__(self, capsys: pytest.CaptureFixture[str], worker: Worker) -> None:
        self._capsys, self.worker = capsys, worker
        self.out = self.err = ""

    def run(self, *words: str) -> int:
        self._capsys.readouterr()
        code = cli.main(words)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *words: str) -> object:
        assert self.run(*words, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def terminal(
    project: Path,
    bare_remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Terminal:
    monkeypatch.chdir(project)
    cache = Repository.init_bare(tmp_path / "worker.git", isolated=True)
    return Terminal(capsys, Worker(BranchStore(cache, remote=bare_remote.as_uri(), label="queue")))


def test_a_command_is_queued(terminal: Terminal) -> None:
    assert terminal.run("queue", "--command", "python train.py --lr {lr}", "--grid", "lr=0.1,0.2") == 0
    assert "2 jobs: 2 queued" in terminal.out
    assert terminal.err == ""
    commands = [job.spec.command for job in terminal.worker._store.refresh().jobs if job.spec]
    assert commands == ["python train.py --lr 0.1", "python train.py --lr 0.2"]


def test_a_cell_comes_from_a_file_or_from_standard_input(
    terminal: Terminal, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write(project / "cell.py", "# From a file\nx = 1\n")
    assert terminal.run("queue", "--file", "cell.py") == 0
    assert "From a file" in terminal.out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"# From a pipe\nx = 1\n")))
    assert terminal.run("queue", "--file", "-") == 0
    assert "From a pipe" in terminal.out


def test_a_broken_file_and_a_job_that_waits_keep_nobody_from_looking(
    terminal: Terminal, project: Path, bare_remote: Path, tmp_path: Path
) -> None:
    told = terminal.json("queue", "--command", "true", "--name", "first")
    assert isinstance(told, dict)
    harness.git(project, "remote", "set-url", "origin", "http://127.0.0.1:9/queue.git")
    assert terminal.run("queue", "--command", "true", "--name", "waits") == 0
    person = harness.clone(bare_remote.as_uri(), tmp_path / "person")
    harness.git(person, "checkout", "-q", "gpu-experiments")
    harness.write(person / "experiments.json", '[{"name": "a" "command"')
    harness.git(person, "commit", "-qam", "Break it")
    harness.git(person, "push", "-q", "origin", "gpu-experiments")
    harness.git(project, "remote", "set-url", "origin", bare_remote.as_uri())
    for words in (["queue"], ["queue", "show", "first"], ["queue", "show", "waits"], ["sync"]):
        assert terminal.run(*words) == 0, terminal.err
    assert terminal.run("queue") == 0
    assert "waits" in terminal.out
    assert "what waits for origin cannot be sent: " in " ".join(terminal.out.split())


def test_json_is_all_that_is_on_standard_output(terminal: Terminal) -> None:
    told = terminal.json("queue", "--command", "true", "--name", "audio", "--param", "lr=0.1")
    assert isinstance(told, dict)
    assert (told["name"], told["state"]) == ("audio", "queued")
    rows = terminal.json("queue")
    assert isinstance(rows, list)
    assert rows[0]["id"] == told["id"]
    assert rows[0]["params"] == told["params"] == {"lr": 0.1}
    terminal.worker.succeed(told["id"], outputs=[text_output("hello\n")], log="hello\n")
    synced = terminal.json("sync")
    assert isinstance(synced, dict)
    assert synced["jobs"] == [told["id"]]
    assert "hello" in terminal.err
    assert terminal.json("queue", "logs", "audio") == {"id": told["id"], "log": "hello\n"}


def test_the_table_tells_of_a_worker_that_is_silent(terminal: Terminal) -> None:
    told = terminal.json("queue", "--command", "true", "--name", "audio")
    assert isinstance(told, dict)
    terminal.worker.lease(told["id"])
    terminal.worker.show({told["id"]: {}}, at=time.time() - 720)
    assert terminal.run("queue") == 0
    assert "the worker worker-1 was last heard of 12 min ago" in terminal.out


def test_the_empty_log_of_a_job_that_is_done_stays_empty(terminal: Terminal) -> None:
    told = terminal.json("queue", "--command", "true", "--name", "audio")
    assert isinstance(told, dict)
    assert terminal.run("queue", "logs", "audio") == 0
    assert terminal.out == f"{told['id']} has not printed anything yet\n"
    terminal.worker.succeed(told["id"])
    assert terminal.run("queue", "logs", "audio") == 0
    assert terminal.out == f"{told['id']} printed nothing\n"


def test_the_verbs_take_any_beginning_of_an_id(terminal: Terminal) -> None:
    told = terminal.json("queue", "--command", "true", "--name", "audio")
    assert isinstance(told, dict)
    assert terminal.run("queue", "cancel", "--remote", "origin", told["id"][:7]) == 0
    assert terminal.out == f"asked {told['id']} to stop\n"


def test_a_name_that_old_jobs_share_cancels_the_one_that_is_open(terminal: Terminal) -> None:
    first = terminal.json("queue", "--command", "true", "--name", "audio")
    assert isinstance(first, dict)
    terminal.worker.succeed(first["id"])
    second = terminal.json("queue", "--command", "true", "--name", "audio")
    assert isinstance(second, dict)
    assert terminal.run("queue", "cancel", "audio") == 0
    assert terminal.out == f"asked {second['id']} to stop\n"
    assert terminal.run("queue", "cancel", first["id"]) == 0
    assert terminal.out == f"{first['id']} is succeeded already\n"


def test_what_failed_is_queued_again_once(terminal: Terminal) -> None:
    first = terminal.json("queue", "--command", "false", "--name", "audio")
    assert isinstance(first, dict)
    terminal.worker.fail(first["id"], error=ValueError("no"))
    assert terminal.run("queue", "retry", "--failed") == 0
    assert terminal.run("queue", "retry", "--failed") == 2
    assert "queued again already: there is nothing to run again" in terminal.err
    assert len(terminal.worker._store.refresh().jobs) == 2


def test_hints_are_commands_of_a_terminal(terminal: Terminal) -> None:
    told = terminal.json("queue", "--command", "false", "--name", "audio")
    assert isinstance(told, dict)
    terminal.run("queue", "show", "audio")
    assert "jupyter colab sync brings its results" in terminal.out
    terminal.worker.fail(told["id"], error=ValueError("no"))
    terminal.run("queue", "show", "audio")
    assert f"jupyter colab queue logs {told['id']} shows what it printed" in terminal.out
    terminal.run("queue", "show", "audio", "--local")
    assert "jupyter colab queue --local does" in terminal.err


def test_variables_are_told_of_where_there_is_no_notebook_for_them(terminal: Terminal) -> None:
    terminal.run("queue", "--command", "true", "--name", "audio", "--out", "acc,path")
    job_id = terminal.worker._store.refresh().jobs[0].job_id
    terminal.worker.succeed(job_id, variables={"acc": 0.97, "path": [0.1, 0.2]})
    assert terminal.run("sync") == 0
    assert "acc = 0.97 from audio\npath (json, 10 B) from audio\n" in terminal.out
    assert "jupyter colab sync NAME --into DIR writes variables as files" in terminal.out
    assert terminal.run("sync", "audio", "--no-vars") == 0
    assert "acc" not in terminal.out
    assert terminal.run("sync", "audio", "--into", "results") == 0
    assert "acc = " not in terminal.out


def test_sync_prints_text_and_writes_files(terminal: Terminal, project: Path) -> None:
    terminal.run("queue", "--command", "true", "--name", "audio", "--out", "acc")
    job_id = terminal.worker._store.refresh().jobs[0].job_id
    terminal.worker.succeed(job_id, outputs=[text_output("hello\n")], variables={"acc": 1})
    assert terminal.run("sync", "--into", "results") == 0
    assert "hello" in terminal.out
    assert (project / "results" / job_id / "out" / "acc.json").exists()
    assert terminal.run("sync") == 0
    assert terminal.out == "Nothing new: 1 succeeded\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["queue", "--file", "nothing.py"], "--file nothing.py cannot be read: No such file or directory"),
        (["queue", "--command", "true", "--in", "x"], "a terminal has none"),
        (["queue", "--command", "true", "--timeout", "soon"], "found 'soon'"),
        (["queue", "show", "nothing"], "there is no job 'nothing': the queue is empty"),
        (["queue", "frobnicate"], "'frobnicate' is none of cancel, retry, logs, show"),
        (["sync", "--remote", "nobody"], "there is no Git remote 'nobody'; there is origin"),
    ],
)
def test_a_usage_error_is_one_line_and_ends_with_2(terminal: Terminal, words: list[str], told: str) -> None:
    assert terminal.run(*words) == 2
    assert told in terminal.err
    assert len(terminal.err.splitlines()) == 1
    assert terminal.out == ""


def test_a_file_that_is_not_text_is_refused(terminal: Terminal, project: Path) -> None:
    (project / "cell.py").write_bytes(b"x = '\xff'")
    assert terminal.run("queue", "--file", "cell.py") == 2
    assert "--file cell.py is not UTF-8 text: byte 5 is not" in terminal.err


def test_an_option_that_is_not_there_ends_with_2(terminal: Terminal) -> None:
    assert terminal.run("queue", "--nonsense") == 2
    assert terminal.run() == 2
    assert terminal.run("--help") == 0
    assert "jupyter colab" in terminal.out


def test_debug_shows_where_an_error_comes_from(terminal: Terminal) -> None:
    with pytest.raises(NoRemoteError):
        cli.main(["sync", "--remote", "nobody", "--debug"])


def test_a_remote_that_cannot_be_used_ends_with_1(
    terminal: Terminal, project: Path, bare_remote: Path
) -> None:
    hook = harness.write(bare_remote / "hooks" / "pre-receive", "#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert terminal.run("queue", "--command", "true") == 1
    assert terminal.err.startswith("jupyter colab queue: ")


def test_an_interrupt_ends_with_130(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("colab_magics.commands.run_sync", interrupt)
    assert terminal.run("sync") == 130
    assert terminal.err == "interrupted\n"


def test_a_reader_that_leaves_early_ends_it_quietly(terminal: Terminal) -> None:
    terminal.run("queue", "--command", "true", "--grid", "x=0:30")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "colab_magics.cli", "queue", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(harness.ROOT)}
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_it_is_a_subcommand_of_jupyter(project: Path) -> None:
    jupyter = Path(sys.executable).parent / "jupyter-colab"
    if not jupyter.exists():
        harness.missing("colab-magics is not installed here: pip install -e .")
    done = harness.run([jupyter.with_name("jupyter"), "colab", "queue"], cwd=project)
    assert "No jobs yet" in done.stdout


def test_a_daemon_drains_the_queue_and_ends(terminal: Terminal, bare_remote: Path, tmp_path: Path) -> None:
    terminal.run("queue", "--command", "python train.py", "--name", "audio")
    command = [sys.executable, "-m", "colab_magics.cli", "daemon", "--repo", bare_remote.as_uri(), "--once"]
    done = harness.run([*command, "--workdir", tmp_path / "home"], env={"PYTHONPATH": str(harness.ROOT)})
    assert "1 attempt ended here" in done.stderr
    assert terminal.run("sync") == 0
    assert "trained" in terminal.out


def test_waiting_for_a_job_that_fails_ends_with_1(terminal: Terminal) -> None:
    from colab_magics.embedded import stop_runtime
    from colab_magics.store.locate import find_project

    try:
        assert terminal.run("queue", "--local", "--wait", "--command", "exit 3") == 1
        assert "exit" in terminal.out
    finally:
        stop_runtime(find_project(Path.cwd()))
