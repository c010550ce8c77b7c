"""Three daemons on a bad network that are killed and frozen: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import daemons
import harness
import psutil
import pytest
from daemons import Project
from faulty_network import Fault, FaultyNetwork
from git_http import PASSWORDS, GitHttpServer

from colab_magics.daemon import service
from colab_magics.daemon.pace import DaemonSettings
from colab_magics.jobs.state import FINAL, State, Verb

pytestmark = pytest.mark.git_http

SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split()]
"""One in the suite; CHAOS_SEEDS="1 2 3" tries others."""

JOBS, DAEMONS, LEASE_S = 18, 3, 5.0
SETTINGS = DaemonSettings(
    poll_s=0.3, lease_s=LEASE_S, live_s=0.5, heartbeat_s=1.0, push_interval_s=0.0, once=True
)
FAULTS = {Fault.LOST_REQUEST: 0.04, Fault.LOST_ANSWER: 0.06, Fault.LATE: 0.03, Fault.SLOW: 0.05}
KINDS = ("kill", "kill and move", "freeze", "freeze", "stop")
END_S = 150.0


@dataclass
class Machine:
    """A daemon in a process of its own, and what it said in all its lives."""

    folder: Path
    url: str
    said: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
        code = "import sys, test_chaos; test_chaos.serve(sys.argv[1], sys.argv[2])"
        with self.said.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, self.url, str(self.folder)],
                env={**os.environ, "PYTHONPATH": path},
                stdout=said,
                stderr=said,
            )

    @property
    def worker(self) -> str:
        """The name of the daemon; empty before it has one."""
        identity = self.folder / "identity.json"
        return str(json.loads(identity.read_text())["worker"]) if identity.exists() else ""

    @property
    def is_over(self) -> bool:
        """Whether the daemon ended by itself.

        Raises:
            AssertionError: it failed.
        """
        assert self.process is not None
        code = self.process.poll()
        assert not code, f"a daemon ended with {code}:\n{self.said.read_text()[-4000:]}"
        return code == 0

    def kill(self) -> None:
        """kill -9. What it started, its jobs and the git of a push, goes on without it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, as at the end of a session: what runs goes back to the queue."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=END_S)
        # It may have been started a moment ago, and know nothing yet of ending cleanly.
        assert code in (0, -signal.SIGTERM), self.said.read_text()[-4000:]

    def freeze(self) -> list[psutil.Process]:
        """Stop the daemon and all that it started, as a machine that sleeps."""
        assert self.process is not None
        frozen = [psutil.Process(self.process.pid)]
        with contextlib.suppress(psutil.Error):
            frozen += frozen[0].children(recursive=True)
        for process in frozen:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)
        return frozen

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


def serve(url: str, folder: str) -> None:
    """The life of one daemon; runs in a process of its own."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(threadName)s %(message)s")
    service.LOCAL = SETTINGS
    service.run_daemon(service.Order(repo=url, once=True, workdir=Path(folder), token=PASSWORDS["writer"]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_through_a_bad_network_deaths_and_freezes_each_job_has_one_result(
    server: GitHttpServer, tmp_path: Path, seed: int
) -> None:
    server.create("lab")
    folder = harness.make_project(tmp_path / "lab", remote_url=server.url("lab", user="writer"))
    queue = daemons.open_project(folder)
    ran = tmp_path / "ran"
    line = "$COLAB_JOB_ID $COLAB_ATTEMPT"
    for number in range(JOBS):
        command = f'echo "{line}" >> {ran}; sleep {number % 3 * 0.5}; echo "{line}"'
        queue.submit(queue.command(f"job-{number}", command, retries=0 if number % 4 == 3 else 50))

    with FaultyNetwork(urlsplit(server.url("lab")).port or 0, seed=seed, faults=FAULTS) as network:
        machines = [
            Machine(
                tmp_path / f"w{number}",
                f"http://writer@127.0.0.1:{network.port}/lab.git",
                tmp_path / f"said{number}",
            )
            for number in range(DAEMONS)
        ]
        try:
            for machine in machines:
                machine.start()
            _trouble(machines, random.Random(seed), queue, tmp_path)
            harness.wait_until(
                lambda: not [machine for machine in machines if not machine.is_over],
                what="the daemons to drain the queue",
                timeout_s=END_S,
                every_s=0.2,
            )
        finally:
            for machine in machines:
                machine.end()

    events = daemons.legal_history(queue)
    states = {job.job_id: job.state for job in queue.store.view().jobs}
    assert set(states) == {f"job-{number}" for number in range(JOBS)}
    runs = Counter(ran.read_text().splitlines())
    assert [run for run, times in runs.items() if times > 1] == [], "no attempt runs twice"
    happened = Counter((event.job_id, event.verb) for event in events)
    for number in range(JOBS):
        job_id, may_run_again = f"job-{number}", number % 4 != 3
        state = states[job_id]
        assert state.state in (State.SUCCEEDED, *([] if may_run_again else [State.LOST]))
        results = happened[job_id, Verb.SUCCEED] + happened[job_id, Verb.LOSE]
        assert results == 1, "a job has one result"
        if state.state is State.SUCCEEDED:
            assert queue.log(job_id) == f"{job_id} {state.attempt}\n", "it is that of its attempt"
            assert runs[f"{job_id} {state.attempt}"] == 1
        if not may_run_again:
            ran_in_all = sum(times for run, times in runs.items() if run.startswith(f"{job_id} "))
            assert ran_in_all <= 1 + happened[job_id, Verb.RELEASE], "a job that may not run twice did not"
    said = "".join(machine.said.read_text() for machine in machines)
    assert "Traceback" not in said, said
    verbs = Counter(event.verb.value for event in events)
    print(f"seed {seed}: {network.happened.total()} faults, {runs.total()} runs, {dict(verbs)}")


def _trouble(machines: list[Machine], chance: random.Random, queue: Project, tmp_path: Path) -> None:
    """Kill and freeze daemons, a few times, while there is work."""
    for number, kind in enumerate(chance.sample(KINDS, len(KINDS))):
        _wait_until_done(queue, JOBS * number // (len(KINDS) + 2))
        machine = chance.choice(_busy(machines, queue))
        if machine.is_over:
            return
        if kind == "stop":
            machine.stop()
            machine.start()
            continue
        if kind == "freeze":
            frozen = machine.freeze()
            time.sleep(LEASE_S * 1.5)
            for process in frozen:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)
            continue
        machine.kill()
        if kind == "kill and move":
            machine.folder = tmp_path / f"moved{number}"
        machine.start()


def _busy(machines: list[Machine], queue: Project) -> list[Machine]:
    """Those that hold a job, or all of them once nothing is held any more."""

    def found() -> list[Machine]:
        jobs = queue.store.refresh().jobs
        workers = {job.state.worker for job in jobs if job.state.state is State.RUNNING}
        is_over = all(job.state.is_final for job in jobs)
        return [machine for machine in machines if is_over or machine.worker in workers]

    return harness.wait_until(found, what="a daemon to hold a job", timeout_s=END_S, every_s=0.05)


def _wait_until_done(queue: Project, number: int) -> None:
    def done() -> bool:
        return sum(job.state.state in FINAL for job in queue.store.refresh().jobs) >= number

    harness.wait_until(done, what=f"{number} jobs to be done", timeout_s=END_S, every_s=0.2)
