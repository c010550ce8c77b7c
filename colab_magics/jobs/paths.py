"""Every name in the repository: refs, and files in the two branches. One place, so that nobody guesses."""

from __future__ import annotations

import hashlib

INTENT_BRANCH = "gpu-experiments"
LEDGER_BRANCH = "gpu-results"
LEDGER_SUFFIX = "-results"
LIVE_PREFIX = "refs/colab/live/"
CODE_PREFIX = "refs/colab/code/"
CHECKPOINT_PREFIX = "refs/colab/checkpoint/"
ASK_PREFIX = "refs/colab/ask/"
ANSWER_PREFIX = "refs/colab/answer/"

STATE = "state.json"
RECORD = "record.json"
LOG = "log.txt"
NOTEBOOK = "run.ipynb"
OUT = "out"
ARTIFACTS = "artifacts"
ATTEMPTS = "attempts"
RESULTS = "RESULTS.md"
LIVE = "live.json"
ASK = "ask.json"
ANSWER = "answer.json"
JOBS = "jobs"


def ledger_branch(intent_branch: str) -> str:
    """The branch of results that belongs to a branch of wishes: two queues never share a ledger.

    To a worker, a job that its queue does not name is one that nobody wants any more.
    """
    return LEDGER_BRANCH if intent_branch == INTENT_BRANCH else f"{intent_branch}{LEDGER_SUFFIX}"


def job_folder(job_id: str) -> str:
    """`jobs/<2 hex>/<id>`: 256 shards keep each folder under a hosting site's 3,000 entries.

    Source: https://docs.github.com/en/repositories/creating-and-managing-repositories/repository-limits
    """
    return f"{JOBS}/{hashlib.sha1(job_id.encode(), usedforsecurity=False).hexdigest()[:2]}/{job_id}"


def job_file(job_id: str, name: str) -> str:
    """The path of one of a job's files in the ledger."""
    return f"{job_folder(job_id)}/{name}"


def code_ref(commit: str) -> str:
    """The ref that keeps a snapshot alive on the remote."""
    return f"{CODE_PREFIX}{commit[:16]}"


def live_ref(worker: str) -> str:
    """The ref that a worker overwrites with its signs of life."""
    return f"{LIVE_PREFIX}{worker}"


def ask_ref(ask_id: str) -> str:
    """The ref in which a person asks a worker for a session, until it is answered."""
    return f"{ASK_PREFIX}{ask_id}"


def answer_ref(ask_id: str) -> str:
    """The ref of the answer, until it is read."""
    return f"{ANSWER_PREFIX}{ask_id}"


def tracking(label: str) -> str:
    """Where a clone keeps what it has fetched of a queue."""
    return f"refs/colab/remote/{label}/"


def checkpoint_ref(job_id: str) -> str:
    """The ref that holds a job's checkpoint until the job is over."""
    return f"{CHECKPOINT_PREFIX}{job_id}"


def attempt_file(job_id: str, attempt: int, name: str) -> str:
    """Where a file of an attempt goes after which the job went back to the queue."""
    return f"{job_folder(job_id)}/{ATTEMPTS}/{attempt}/{name}"


def superseded_file(job_id: str, attempt: int, name: str) -> str:
    """Where a file of an attempt goes that ended after another one had taken its place."""
    return f"{job_folder(job_id)}/superseded/{attempt}/{name}"


def environment_file(digest: str) -> str:
    """The file that lists the packages of an environment, shared by all jobs that ran in it."""
    return f"env/{digest}.txt"
