"""Daemons for tests: in a thread of this process, or in a process of their own that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import harness

from colab_magics.daemon.assignment import Limits
from colab_magics.daemon.home import Home
from colab_magics.daemon.loop import Daemon
from colab_magics.daemon.pace import DaemonSettings
from colab_magics.daemon.preparation import Setup
from colab_magics.daemon.room import Room
from colab_magics.daemon.status import Status
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import Event, State
from colab_magics.store.base import Store, Submission
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository

QUICK = DaemonSettings(
    poll_s=0.1, lease_s=1.0, live_s=0.1, heartbeat_s=0.3, push_interval_s=0.0, idle_stop_s=None, once=True
)
"""Everything a daemon waits for, shortened; `once` ends it when all is final."""

NO_ROOM_NEEDED = Room(host=0.0, gpu=0.0)
"""However full this machine is, jobs begin beside one that is held."""


@dataclass
class Project:
    """A person's clone with a remote, and the queue as that person sees it."""

    folder: Path
    remote: str
    store: BranchStore

    @property
    def code(self) -> str:
        return harness.git(self.folder, "rev-parse", "HEAD").strip()

    def command(self, job_id: str, command: str, **changes: object) -> JobSpec:
        spec = JobSpec(job_id, job_id, command, None, 60.0, self.code)
        return replace(spec, **changes)  # type: ignore[arg-type]

    def submit(self, *specs: JobSpec, blobs: dict[str, bytes] | None = None) -> None:
        assert self.store.submit(Submission(specs, blobs or {})).pushed

    def job(self, job_id: str) -> Job:
        return next(job for job in self.store.refresh().jobs if job.job_id == job_id)

    def wait_for(self, job_id: str, *states: State) -> Job:
        def reached() -> Job | None:
            job = self.job(job_id)
            return job if job.state.state in states else None

        return harness.wait_until(reached, what=f"{job_id} to be {' or '.join(states)}", every_s=0.1)

    def log(self, job_id: str) -> str:
        return (self.store.read(job_id, "log.txt") or b"").decode()


def open_project(folder: Path) -> Project:
    """The project of `harness.make_project`."""
    remote = harness.git(folder, "remote", "get-url", "origin").strip()
    store = BranchStore(Repository.discover(folder), remote="origin", label="origin")
    return Project(folder=folder, remote=remote, store=store)


def make_daemon(
    project: Project,
    workdir: Path,
    *,
    settings: DaemonSettings = QUICK,
    limits: Limits | None = None,
    secrets: Sequence[str] = (),
    store: Store | None = None,
    room: Room = NO_ROOM_NEEDED,
    on_status: Callable[[Status], None] = lambda status: None,
) -> tuple[Daemon, Home]:
    """A daemon that has not been started, and its folder."""
    home = Home(workdir)
    setup = Setup(
        python=Path(sys.executable),
        limits=limits or Limits(grace_s=1.0),
        environment=dict(os.environ),
        secrets=secrets,
        room=room,
    )
    cache = Repository.init_bare(home.cache, isolated=True)
    queue = store or BranchStore(cache, remote=project.remote, label="queue")
    return Daemon(queue, home, settings, setup, on_status=on_status), home


def drain(project: Project, workdir: Path, **options: object) -> int:
    """Run a daemon until all jobs are final; how many attempts it ended."""
    daemon, home = make_daemon(project, workdir, **options)  # type: ignore[arg-type]
    try:
        return daemon.run()
    finally:
        home.close()


def serve(project: Project, workdir: Path, **options: object) -> None:
    """As `drain`, in a process of its own, which SIGTERM ends cleanly as it ends the real service."""
    daemon, home = make_daemon(project, workdir, **options)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, lambda number, frame: daemon.stop())
    try:
        daemon.run()
    finally:
        home.close()


@contextmanager
def running(project: Project, workdir: Path, **options: object) -> Iterator[Daemon]:
    """A daemon that runs in a thread until the block ends."""
    options.setdefault("settings", replace(QUICK, once=False))
    daemon, home = make_daemon(project, workdir, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join()
        home.close()


class Process:
    """A daemon in a process of its own."""

    def __init__(self, project: Project, workdir: Path, *, once: bool = False) -> None:
        code = (
            "import sys, pathlib, harness, daemons; from dataclasses import replace;"
            "project = daemons.open_project(pathlib.Path(sys.argv[1]));"
            f"daemons.serve(project, pathlib.Path(sys.argv[2]), settings=replace(daemons.QUICK, once={once}))"
        )
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(project.folder), str(workdir)],
            env={**os.environ, "PYTHONPATH": path},
        )

    def kill(self) -> None:
        """kill -9: no goodbye, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def legal_history(project: Project) -> list[Event]:
    """All events of the ledger, oldest first, after checking that their fold is what the states say.

    Any clone can do this: it is what makes the ledger an account rather than a claim.
    """
    from colab_magics.jobs.codec import parse_events, parse_state
    from colab_magics.jobs.paths import STATE, job_file
    from colab_magics.jobs.state import JobState, advance

    project.store.refresh()
    repository = Repository.discover(project.folder)
    head = repository.resolve("refs/colab/remote/origin/ledger")
    assert head is not None
    commits = list(reversed(repository.log_first_parent(head)))
    states: dict[str, JobState] = {}
    events: list[Event] = []
    for commit in commits:
        info = repository.commit_info(commit)
        assert len(info.parents) <= 1, "the ledger is linear"
        for event in parse_events(info.message):
            states[event.job_id] = advance(states.get(event.job_id, JobState(event.job_id)), event)
            events.append(event)
    for job_id, state in states.items():
        data = repository.read(head, job_file(job_id, STATE))
        assert data is not None
        told = parse_state(data)
        assert (told.state, told.attempt, told.worker) == (state.state, state.attempt, state.worker)
    return events
