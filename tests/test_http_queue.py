"""The whole way over a Git server with passwords: queued by a person, run with a token, home again."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import daemons
import harness
import psutil
import pytest
import shells
from daemons import Project
from faulty_network import PUSH, Fault, FaultyNetwork
from git_http import PASSWORDS, GitHttpServer

from colab_magics import cli
from colab_magics.jobs.state import Event, State, Verb
from colab_magics.store.base import Recorded
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository

pytestmark = pytest.mark.git_http

TOKEN = PASSWORDS["writer"]


@pytest.fixture
def lab(server: GitHttpServer, tmp_path: Path) -> Path:
    """The project of a person whose git keeps the password in a file, as `credential.helper store` does."""
    server.create("lab")
    folder = harness.make_project(tmp_path / "lab")
    address = urlsplit(server.url("lab"))
    kept = harness.write(tmp_path / "credentials", f"http://writer:{TOKEN}@{address.netloc}\n")
    harness.git(folder, "config", "credential.helper", f"store --file {kept}")
    harness.git(folder, "remote", "add", "origin", server.url("lab"))
    harness.git(folder, "push", "-q", "origin", "main")
    return folder


@dataclass
class Daemon:
    """A daemon in a process of its own, as a person starts one; all that it and its children were called."""

    workdir: Path
    said: Path
    process: subprocess.Popen[bytes]
    arguments: set[str]

    def wait(self) -> int:
        return self.process.wait(timeout=240)

    @property
    def words(self) -> str:
        return self.said.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    """Starts daemons; they do not outlive the test."""
    started: list[Daemon] = []

    def start_daemon(url: str, *, token: str = TOKEN, name: str = "home", poll_s: float = 0.5) -> Daemon:
        said = tmp_path / f"{name}.said"
        words = [sys.executable, "-m", "colab_magics.cli", "daemon", "--once", "--poll", str(poll_s)]
        environment = {**os.environ, "COLAB_GIT_TOKEN": token, "PYTHONPATH": str(harness.ROOT)}
        with said.open("wb") as output:
            process = subprocess.Popen(
                [*words, "--repo", url, "--workdir", tmp_path / name],
                env=environment,
                stdout=output,
                stderr=output,
                cwd=tmp_path,
            )
        daemon = Daemon(tmp_path / name, said, process, set())
        threading.Thread(target=_listen, args=(process, daemon.arguments), daemon=True).start()
        started.append(daemon)
        return daemon

    yield start_daemon
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def _listen(process: subprocess.Popen[bytes], arguments: set[str]) -> None:
    """Note the command lines of a process and its descendants for as long as it lives."""
    while process.poll() is None:
        try:
            root = psutil.Process(process.pid)
            for each in [root, *root.children(recursive=True)]:
                arguments.add(" ".join(each.cmdline()))
        except psutil.Error:
            continue


def with_user(url: str) -> str:
    """The address with the user whose password the token is; a hosting site does not ask for one."""
    return url.replace("http://", "http://writer@")


def states(queue: Project) -> Mapping[str, State]:
    return {job.name: job.state.state for job in queue.store.refresh().jobs}


def test_what_a_person_queues_runs_elsewhere_and_comes_home(server, lab, start) -> None:  # type: ignore[no-untyped-def]
    with shells.open_notebook(lab) as notebook:
        notebook.run("data = [1, 2, 3]")
        notebook.run(
            "%%colab_queue --name cell --in data --out total\ntotal = sum(data)\nprint('total', total)"
        )
        notebook.run("%colab_queue --name command --command 'python train.py'")

        daemon = start(with_user(server.url("lab")))
        assert daemon.wait() == 0, daemon.words

        notebook.run("%colab_sync")
        assert "total 6" in notebook.shown
        assert "trained" in notebook.shown
        assert notebook.variables["total"] == 6
    assert "2 attempts ended here" in daemon.words


def test_in_a_terminal_with_a_program_that_asks_for_the_password(
    server, lab, start, tmp_path, monkeypatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    harness.git(lab, "config", "--unset", "credential.helper")
    asks = harness.write(
        tmp_path / "askpass", f"#!/bin/sh\ncase $1 in Username*) echo writer;; *) echo {TOKEN};; esac\n"
    )
    asks.chmod(0o755)
    monkeypatch.setenv("GIT_ASKPASS", str(asks))
    monkeypatch.chdir(lab)
    assert cli.main(["queue", "--command", "python train.py", "--name", "command"]) == 0

    daemon = start(with_user(server.url("lab")))
    assert daemon.wait() == 0, daemon.words

    capsys.readouterr()
    assert cli.main(["sync"]) == 0
    assert "trained" in capsys.readouterr().out


def test_a_wrong_token_is_one_sentence_and_ends_with_1(server, lab, start, tmp_path) -> None:  # type: ignore[no-untyped-def]
    daemon = start(with_user(server.url("lab")), token="w-not-this-one")
    assert daemon.wait() == 1
    (line,) = daemon.words.strip().splitlines()
    address = server.url("lab")
    assert line == (
        f"jupyter colab daemon: fetching from {address} was refused: Authentication failed for '{address}/';"
        " check the address, the token and what it may do."
    )


def test_a_password_in_the_address_reaches_git_and_none_of_its_arguments(server, lab, start) -> None:  # type: ignore[no-untyped-def]
    daemon = start(server.url("lab", user="writer"), token="")
    assert daemon.wait() == 0, daemon.words
    assert not [line for line in daemon.arguments if TOKEN in line and "colab_magics.cli" not in line]
    assert TOKEN not in daemon.words


def test_a_daemon_that_may_only_read_says_so_and_ends_with_1(server, lab, start) -> None:  # type: ignore[no-untyped-def]
    queue = daemons.open_project(lab)
    queue.submit(queue.command("a", "true"))
    daemon = start(server.url("lab").replace("//", "//reader@"), token=PASSWORDS["reader"])
    assert daemon.wait() == 1
    lines = [line for line in daemon.words.splitlines() if "attempt 1" not in line]
    assert len(lines) == 1, daemon.words
    assert lines[0].startswith(f"jupyter colab daemon: pushing to {server.url('lab')} was refused: ")
    assert lines[0].endswith("403; check the address, the token and what it may do.")


def test_a_server_that_goes_away_while_a_job_runs_loses_nothing(server, lab, start, tmp_path) -> None:  # type: ignore[no-untyped-def]
    queue = daemons.open_project(lab)
    begun, go, ended = tmp_path / "begun", tmp_path / "go", tmp_path / "ended"
    wait = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo done; touch {ended}"
    queue.submit(queue.command("a", wait, retries=0), queue.command("b", "echo next"))
    daemon = start(with_user(server.url("lab")))
    harness.wait_until(begun.exists, what="the job to run, its code fetched")

    server.stop()
    go.touch()
    harness.wait_until(ended.exists, what="the job to end while nobody can be told")
    harness.wait_until(lambda: "trying again" in daemon.words, what="the daemon to notice", timeout_s=120)
    server.start()

    assert daemon.wait() == 0, daemon.words
    assert states(queue) == {"a": State.SUCCEEDED, "b": State.SUCCEEDED}
    assert queue.job("a").state.attempt == 1
    assert queue.log("a") == "done\n"
    daemons.legal_history(queue)


def test_the_token_is_nowhere(server, lab, start, tmp_path) -> None:  # type: ignore[no-untyped-def]
    everywhere = "cat /proc/*/environ | tr '\\0' '\\n'"
    # What is looked for comes first: where many processes run, the middle of the log is left out.
    spies = (
        f"{everywhere} | grep -a COLAB_GIT; env; {everywhere}; ps axe; git config --list --show-origin; true"
    )
    with shells.open_notebook(lab) as notebook:
        notebook.run(f'%colab_queue --name spy --command "{spies}"')
        notebook.run(
            "%%colab_queue --name cell --out found\nimport os\nfound = dict(os.environ)\nprint(found)"
        )
        daemon = start(with_user(server.url("lab")))
        assert daemon.wait() == 0, daemon.words
        notebook.run("%colab_sync")
        assert "COLAB_JOB_ID" in notebook.shown

    spied = daemons.open_project(lab)
    spied.store.refresh()
    spy = next(job.job_id for job in spied.store.view().jobs if job.name == "spy")
    assert f"COLAB_GIT_TOKEN={'*' * len(TOKEN)}\n" in spied.log(spy), "it found the token, and it was masked"
    assert len(daemon.arguments) > 3
    assert not [line for line in daemon.arguments if TOKEN in line]
    assert TOKEN not in daemon.words
    for repository in (server.root / "lab.git", daemon.workdir / "cache.git"):
        everything = harness.all_objects(repository)
        assert b"COLAB_JOB_ID" in everything
        for form in (TOKEN.encode(), base64.b64encode(TOKEN.encode())[:12]):
            assert form not in everything
    for folder in (daemon.workdir, server.root, lab / "colab_results"):
        for path in folder.rglob("*"):
            if path.is_file():
                assert TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.LATE])
def test_a_lease_whose_answer_is_lost_is_settled_not_taken_twice(server, lab, tmp_path, fault) -> None:  # type: ignore[no-untyped-def]
    queue = daemons.open_project(lab)
    queue.submit(queue.command("a", "true"))
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True, token=TOKEN)
    with FaultyNetwork(urlsplit(server.url("lab")).port or 0) as network:
        store = BranchStore(cache, remote=f"http://writer@127.0.0.1:{network.port}/lab.git", label="queue")
        view = store.refresh()
        network.plan(fault, PUSH)
        lease = Event(Verb.LEASE, "a", 1, "w1", at=1_700_000_000.0)

        done = store.record(view, [lease], summaries={}, files={})
        while done is Recorded.UNKNOWN:
            done = store.settle()

        assert network.happened[fault] == 1
        assert done is Recorded.LANDED
        assert store.view().jobs[0].state.state is State.RUNNING
    assert daemons.legal_history(queue) == [lease]
