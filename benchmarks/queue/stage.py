"""Where the measurements happen: remotes, clones, daemons, in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colab_magics.daemon.home import is_alive
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.hooksPath=/dev/null")
"""What makes git by hand as quick as it can be: no collecting of garbage, no hooks."""

EDITED, UNTRACKED = 10, 5
"""Uncommitted work in the tree: files edited and files new since the last commit."""


@contextmanager
def stage() -> Iterator[Path]:
    """A folder for everything, and an environment in which nothing of the person's decides."""
    folder = Path(tempfile.mkdtemp(prefix="colab-bench-"))
    before = dict(os.environ)
    # An installed package is compiled once, so ours must be too.
    gone = ("GIT_", "COLAB_", "JUPYTER_", "XDG_", "PYTHONDONTWRITEBYTECODE")
    for name in [each for each in os.environ if each.startswith(gone)]:
        del os.environ[name]
    who = {f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    os.environ.update(dict.fromkeys(who, "bench@example.org"))
    os.environ.update(
        HOME=str(folder),
        IPYTHONDIR=str(folder / ".ipython"),
        GIT_CONFIG_NOSYSTEM="1",
        GIT_TERMINAL_PROMPT="0",
        PYTHONPATH=str(ROOT),
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    )
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(ROOT)
        shutil.rmtree(folder, ignore_errors=True)


def git(folder: Path, *arguments: str | Path, stdin: str | None = None) -> str:
    """Plain git; what it said."""
    done = subprocess.run(
        ["git", *PLAIN, *map(str, arguments)], cwd=folder, input=stdin, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"git {shlex.join(map(str, arguments))} in {folder}: {done.stderr}")
    return done.stdout.strip()


def shell(folder: Path, line: str) -> None:
    """A line for a shell, as a person types it."""
    subprocess.run(line, shell=True, cwd=folder, check=True, capture_output=True)


def make_remote(path: Path) -> Path:
    """An empty bare repository, as a hosting site has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    git(path.parent, "init", "--quiet", "--bare", "--initial-branch=main", path)
    return path


def make_project(path: Path, *, remote: str, files: int) -> Path:
    """A work tree of so many small modules, committed and pushed to `remote`."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    for number in range(files):
        module = path / "src" / f"part{number % 20}" / f"module{number}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text("".join(f"value{line} = {number * line}\n" for line in range(100)))
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "Begin")
    git(path, "remote", "add", "origin", remote)
    git(path, "push", "--quiet", "origin", "main")
    return path


def clone(remote: str, path: Path) -> Path:
    """Another person's clone."""
    git(path.parent, "clone", "--quiet", remote, path)
    return path


def work(project: Path, number: int) -> None:
    """Edit files and add new ones, differently for each number."""
    for each in range(EDITED):
        (project / "src" / f"part{each}" / f"module{each}.py").write_text(f"value = {number}, {each}\n" * 100)
    for each in range(UNTRACKED):
        (project / f"new{each}_{number}.py").write_text(f"new = {number}, {each}\n" * 50)


def notebook(project: Path) -> Any:
    """An IPython shell in the project with the magics loaded: `run_line_magic` is what a cell does."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    os.chdir(project)
    is_new = not InteractiveShell.initialized()
    ipython = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    if is_new:
        ipython.run_line_magic("load_ext", "colab_magics")
    return ipython


def people_store(project: Path) -> BranchStore:
    """The queue as the project's owner sees it."""
    return BranchStore(Repository.discover(project), remote="origin", label="origin")


def cli(*arguments: str | Path, cwd: Path) -> str:
    """`jupyter colab …` to its end, in a process of its own; what it printed."""
    command = [sys.executable, "-m", "colab_magics.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"jupyter colab {shlex.join(map(str, arguments))}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def daemon(remote: str, home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in a process of its own, ended with the block."""
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "colab_magics.cli", "daemon", "--repo", remote]
    command += ["--workdir", str(home), *options]
    with (home / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        while not is_alive(home):
            if process.poll() is not None:
                raise RuntimeError(f"the daemon did not start: {(home / 'said.txt').read_text()}")
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
