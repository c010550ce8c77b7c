"""`%colab_sync` in a clone of a queue in which ten thousand jobs have been done."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from benchmarks.queue.report import Row
from benchmarks.queue.stage import cli, clone, git, make_project, make_remote, notebook, people_store
from benchmarks.queue.timing import take_turns
from colab_magics.jobs.board import summarize
from colab_magics.jobs.paths import LOG, RECORD, job_file
from colab_magics.jobs.record import Record, to_json
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import Event, Verb
from colab_magics.store.base import Recorded, Submission
from colab_magics.store.branches import BranchStore

GOAL_S = 1.0
A_COMMIT = 500
"""Jobs whose end one commit of the ledger records."""

LINES = "".join(f"epoch {number}: loss {1 / (number + 1):.4f}\n" for number in range(20)).encode()


def measure(folder: Path, *, jobs: int, rounds: int) -> list[Row]:
    """The first sync ever, then those that find nothing: in a new process, and in a notebook."""
    bare = make_remote(folder / "old.git")
    fill(make_project(folder / "filler", remote=bare.as_uri(), files=50), jobs=jobs)
    project = clone(bare.as_uri(), folder / "home")
    begun = time.perf_counter()
    cli("sync", cwd=project)
    first_s = time.perf_counter() - begun
    ipython = notebook(project)
    taken = take_turns(
        {
            "cold": lambda: cli("sync", cwd=project),
            "warm": lambda: ipython.run_line_magic("colab_sync", ""),
            "fetch": lambda: git(
                project, "fetch", "-q", "origin", "gpu-experiments:x/a", "gpu-results:x/b", "--no-tags"
            ),
        },
        rounds=rounds,
    )
    where = f"{jobs:,} finished jobs, file://"
    beside = f"`git fetch` of both branches takes {median(taken['fetch']) * 1000:.0f} ms"
    return [
        _row("in a new process", where, taken["cold"], beside),
        _row("in a notebook", where, taken["warm"], beside),
        Row("the first sync ever, its results brought", where, f"{first_s:.1f} s"),
    ]


def fill(project: Path, *, jobs: int) -> BranchStore:
    """Queue jobs and record their ends, in the layout and with the functions of the real thing."""
    store, code = people_store(project), git(project, "rev-parse", "HEAD")
    ids = [f"job{number}-{number * 7919 % 16**8:08x}" for number in range(jobs)]
    store.submit(Submission(tuple(JobSpec(each, each, "python train.py", None, 60.0, code) for each in ids)))
    view, at = store.refresh(), time.time()
    for start in range(0, jobs, A_COMMIT):
        some = ids[start : start + A_COMMIT]
        records = {each: _record(each, code=code, at=at) for each in some}
        verbs = (Verb.LEASE, Verb.SUCCEED)
        done = store.record(
            view,
            [Event(verb, each, 1, "worker", at) for each in some for verb in verbs],
            summaries={each: summarize(record, has_notebook=False) for each, record in records.items()},
            files={job_file(each, LOG): LINES + each.encode() for each in some}
            | {job_file(each, RECORD): to_json(record) for each, record in records.items()},
        )
        assert done is Recorded.LANDED
        view = store.view()
    return store


def _record(job_id: str, *, code: str, at: float) -> Record:
    return Record(
        job_id=job_id,
        name=job_id,
        attempt=1,
        worker="worker",
        state="succeeded",
        exit_code=0,
        failure=None,
        started_at=at,
        ended_at=at,
        duration_s=1.0,
        machine={"hostname": "bench", "cpus": 2},
        gpu=None,
        environment=None,
        peak_host_bytes=100_000_000,
        peak_gpu_bytes=None,
        code=code,
        outputs=(),
        artifacts=(),
        log_bytes=len(LINES),
        notes=(),
    )


def _row(how: str, where: str, taken: list[float], beside: str) -> Row:
    took_s = median(taken)
    told = f"{took_s:.2f} s; {beside}"
    return Row(f"sync with nothing new, {how}", where, told, f"≤ {GOAL_S:g} s", took_s <= GOAL_S)
