"""Both sides on this machine: a bare repository inside the clone, and a daemon that drains it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.home import is_alive, pid_of
from colab_magics.errors import StoreError
from colab_magics.store.git import Repository
from colab_magics.store.locate import EMBEDDED

IDLE_STOP_MIN = 10.0
"""How long a daemon that nobody stops waits for the next job."""

STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class EmbeddedRuntime:
    """The queue of this machine: the bare repository's address, and the folder of its daemon."""

    url: str
    home: Path

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.home / "daemon.log"


def ensure_runtime(repository: Repository) -> EmbeddedRuntime:
    """The embedded runtime of a clone, made and started where it is not there or does not run.

    Raises:
        StoreError: the disk refuses, or the daemon does not start; the message names its log.
    """
    runtime = _runtime(repository)
    Repository.init_bare(repository.colab_dir / EMBEDDED)
    if not is_alive(runtime.home):
        _start(runtime)
    return runtime


def stop_runtime(repository: Repository) -> None:
    """End the daemon of the embedded runtime, if it runs; what it was running goes back to the queue."""
    runtime = _runtime(repository)
    pid = pid_of(runtime.home)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while is_alive(runtime.home):
        if time.monotonic() > deadline:
            raise StoreError(f"the daemon {pid} did not end in {STOP_S:.0f} s: see {runtime.log}")
        time.sleep(0.05)


def _runtime(repository: Repository) -> EmbeddedRuntime:
    queue = repository.colab_dir / EMBEDDED
    return EmbeddedRuntime(url=queue.as_uri(), home=queue.parent / "daemon")


def _start(runtime: EmbeddedRuntime) -> None:
    runtime.home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "colab_magics.cli", "daemon", "--repo", runtime.url]
    command += ["--workdir", str(runtime.home), "--idle-stop", f"{IDLE_STOP_MIN:g}"]
    with runtime.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            # Python puts its working folder before the standard library, and the project may have a queue.py.
            cwd=runtime.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not is_alive(runtime.home):
        if process.poll() is not None:
            said = runtime.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise StoreError(
                f"the daemon on this machine did not start: {' '.join(said)} (see {runtime.log})"
            )
        time.sleep(0.02)
    # It outlives this function, and this process if need be; until then its exit code must be taken.
    threading.Thread(target=process.wait, name="colab-embedded", daemon=True).start()
