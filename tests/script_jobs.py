"""Commands that start a Python script, and what becomes of them, for tests."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil
from attempt_harness import Job, make_job
from kernel_environments import Stack

STACKS = [Stack.NEWEST, Stack.COLAB]

WORKS = """
import os, sys
from steps import step

def work(mark):
    n = 0
    while not os.path.exists(mark):
        n = step(n)
    return n

work(sys.argv[1])
print("ended")
"""
STEPS = """
import time

def step(n):
    more = n + 1
    time.sleep(0.01)
    return more
"""
WORKS_FILES = {"train.py": WORKS, "steps.py": STEPS}

FAILS = """
from layers import layer

def train():
    for batch in range(40, 50):
        layer(batch)

print("begun")
train()
"""
LAYERS = """
def layer(batch):
    scale = batch - 43
    return 1 / scale
"""
FAILS_FILES = {"train.py": FAILS, "layers.py": LAYERS}


def result_of(job: Job, folder: Path) -> Any:
    """All that an attempt came to, without what differs by its place and time."""
    assert job.outcome is not None
    record = job.outcome.record
    failure = record.failure
    told: tuple[Any, ...] = ()
    if failure is not None:
        trace = [each.replace(str(folder), "") for each in failure.traceback]
        told = (failure.type, failure.message, failure.file, failure.line, failure.function, trace)
    text = job.text().replace(str(folder), "")
    return job.outcome.verb, job.outcome.reason.replace(str(folder), ""), record.exit_code, told, text


def run_forever(folder: Path, **more: Any) -> tuple[Job, Path]:
    """A job that works until the file is there."""
    mark = folder / "enough"
    more = {"debuggable": True, **more}
    return make_job(folder, command=f"python train.py {mark}", files=WORKS_FILES, **more), mark


def processes(word: str, folder: str) -> list[psutil.Process]:
    """This user's processes that have a word in their command lines, and were started for a test's folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if word in line and "python" in line and folder in line:
                found.append(process)
    return found
