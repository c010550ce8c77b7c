"""What the tests share: plain Git for arranging and inspecting, waiting for a condition, other interpreters.

Nothing here imports the product, so that a broken product cannot break the arrangement of its tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psutil
import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root."""

SESSION_MARK = "COLAB_MAGICS_TEST_SESSION"
"""Every process that descends from a test session inherits this variable; its value names the session."""

CACHE_VARIABLE = "COLAB_MAGICS_TESTS_CACHE"
"""Where the environments that take minutes to build are kept between sessions."""

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada Example",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Example",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
"""Who commits in a test's arrangement. It reaches Git through the helper's environment only: a product that
needed a configured identity would fail in every test."""


# --- Git -------------------------------------------------------------------------------------------------


def try_git(
    cwd: Path,
    *args: str | os.PathLike[str],
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run plain `git ARGS` in `cwd`, whatever its exit code; it never asks for a password."""
    environment = {
        **os.environ,
        **IDENTITY,
        "LC_ALL": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        **(env or {}),
    }
    return subprocess.run(
        ["git", *args],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=timeout_s,
        check=False,
    )


def git(
    cwd: Path,
    *args: str | os.PathLike[str],
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> str:
    """Run plain `git ARGS` in `cwd` and return its standard output without the last newline.

    Raises:
        AssertionError: git ended with another code than 0; the message has what it said.
    """
    done = try_git(cwd, *args, stdin=stdin, env=env, timeout_s=timeout_s)
    if done.returncode:
        command = " ".join(str(part) for part in args)
        raise AssertionError(
            f"git {command} in {cwd} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
        )
    return done.stdout.removesuffix("\n")


def make_bare_remote(path: Path) -> Path:
    """Create an empty bare repository whose HEAD is `main`, as a hosting site would, and return its path."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--bare", "--initial-branch=main")
    return path


def make_project(
    path: Path, *, remote_url: str | None = None, files: Mapping[str, str] | None = None
) -> Path:
    """Create a work tree with one commit on `main`; with `remote_url`, push it there as `origin`.

    Args:
        path: a folder that does not exist yet.
        remote_url: the remote's address, credentials included if it wants some.
        files: the commit's files, path → text; a small module and a `.gitignore` unless given.
    """
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    given = {"train.py": "print('trained')\n", ".gitignore": "ignored/\n*.log\n"} if files is None else files
    for name, text in given.items():
        write(path / name, text)
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--allow-empty", "--message", "Begin")
    if remote_url is not None:
        git(path, "remote", "add", "origin", remote_url)
        git(path, "push", "--quiet", "--set-upstream", "origin", "main")
    return path


def clone(remote_url: str, path: Path) -> Path:
    """Clone `remote_url` into `path`, as a second person would, and return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    git(path.parent, "clone", "--quiet", remote_url, path)
    return path


def write(path: Path, text: str) -> Path:
    """Write a text file and the folders that it needs; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refs(repository: Path) -> dict[str, str]:
    """Return every ref of a repository, full name → object id."""
    lines = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


def all_objects(repository: Path) -> bytes:
    """Every object of a repository, reachable or not, unpacked: names in trees and messages too."""
    done = subprocess.run(
        ["git", "cat-file", "--batch", "--batch-all-objects", "--unordered"],
        cwd=repository,
        capture_output=True,
        check=True,
    )
    return done.stdout


def untouched_state(project: Path) -> dict[str, str]:
    """Return what the product must never change in a person's clone, to be compared before and after.

    Work tree (with file times), index, HEAD, branches, stash, FETCH_HEAD and config.
    """
    folder = project / git(project, "rev-parse", "--git-dir")
    state = {
        f"tree {path.relative_to(project)}": f"{path.lstat().st_mtime_ns} {path.lstat().st_size}"
        for path in sorted(project.rglob("*"))
        if folder not in (path, *path.parents)
    }
    for name in ("HEAD", "FETCH_HEAD", "config", "index", "packed-refs", "logs/HEAD"):
        content = folder / name
        state[name] = content.read_bytes().hex() if content.is_file() else "absent"
    everything = refs(project)
    state |= {f"ref {name}": oid for name, oid in everything.items() if not name.startswith("refs/colab/")}
    state["status"] = git(project, "--no-optional-locks", "status", "--porcelain=v2", "--untracked-files=all")
    return state


# --- waiting ---------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], T], *, timeout_s: float = 60, what: str, every_s: float = 0.02) -> T:
    """Wait until `condition()` is true and return what it returned.

    Raises:
        AssertionError: it was not true in `timeout_s`; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {timeout_s:g} s for {what}; it did not happen (last seen: {value!r})"
            )
        time.sleep(every_s)


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Hold a process in the kernel (state D) until the block is left, so that not even SIGKILL ends it.

    Skips the test where the machine has no freezer of cgroup v1: in v2 a frozen process can be killed.
    """
    group = Path("/sys/fs/cgroup/freezer") / f"colab-magics-{pid}"
    try:
        group.mkdir()
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no process can be frozen here: {error}")
    try:
        (group / "freezer.state").write_text("FROZEN")
        wait_until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", what="it to freeze")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="the killed process to be gone")
        group.rmdir()


# --- peers that may be missing ---------------------------------------------------------------------------


def everything_is_required() -> bool:
    """Whether a missing peer is a failure: CI installs all of them."""
    return os.environ.get("CI") == "true" or os.environ.get("COLAB_MAGICS_REQUIRE_ALL") == "1"


def missing(reason: str) -> NoReturn:
    """Skip the test for want of a peer, or fail it where everything is required."""
    if everything_is_required():
        pytest.fail(f"needed here, since CI=true or COLAB_MAGICS_REQUIRE_ALL=1: {reason}", pytrace=False)
    pytest.skip(reason)


def find_interpreter(*versions: str) -> Path | None:
    """Find a CPython of the first of `versions` ("3.13", "3.12", …) that is on this machine, or None.

    Looks on the PATH, then among pyenv's versions. A pyenv shim on the PATH may stand for nothing, so each
    candidate is asked for its version, and the interpreter itself is what is returned.
    """
    for version in versions:
        for candidate in _candidates(version):
            found = _real_interpreter(candidate, version=version)
            if found is not None:
                return found
    return None


def _candidates(version: str) -> Iterable[Path]:
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        yield Path(sys.base_prefix) / "bin" / f"python{version}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"), reverse=True)


def _real_interpreter(candidate: Path, *, version: str) -> Path | None:
    if not os.access(candidate, os.X_OK):
        return None
    # With -S nothing of a virtual environment is set up except its prefix; ensurepip tells whether a venv
    # can be made of it (Debian packs that apart).
    asked = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2]); print(sys._base_executable)"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [candidate, "-c", asked], capture_output=True, text=True, timeout=60, check=False
        )
        lines = done.stdout.split()
        if done.returncode == 0 and lines[:1] == [version]:
            return Path(lines[1])
    return None


def cache_folder() -> Path:
    """Where what takes minutes to build is kept between sessions; outside the repository."""
    folder = Path(os.environ[CACHE_VARIABLE])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- isolation -------------------------------------------------------------------------------------------


def isolated_environment(root: Path) -> dict[str, str | None]:
    """Return the variables (None: remove) that keep a test session away from the person's own files.

    Args:
        root: an empty folder, which becomes HOME.
    """
    home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    kept = {CACHE_VARIABLE, "COLAB_MAGICS_REQUIRE_ALL"}
    prefixes = ("GIT_", "JUPYTER_", "IPYTHON", "COLAB_", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    changes: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith(prefixes) and name not in kept
    }
    changes |= {
        "HOME": str(root),
        "XDG_CONFIG_HOME": str(root / ".config"),
        "XDG_DATA_HOME": str(root / ".local/share"),
        "XDG_STATE_HOME": str(root / ".local/state"),
        "XDG_CACHE_HOME": str(root / ".cache"),
        "XDG_RUNTIME_DIR": None,
        "IPYTHONDIR": str(root / ".ipython"),
        "JUPYTER_CONFIG_DIR": str(root / ".jupyter"),
        "JUPYTER_DATA_DIR": str(root / ".local/share/jupyter"),
        "JUPYTER_RUNTIME_DIR": str(root / ".local/share/jupyter/runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "DISPLAY": None,
        "MPLBACKEND": None,
        # `python` in a job's command is the interpreter that runs the tests.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        SESSION_MARK: f"{os.getpid()}-{time.time_ns()}",
        CACHE_VARIABLE: os.environ.get(CACHE_VARIABLE) or str(cache / "colab-magics-tests"),
        # What the person's HOME gives to pip and to pyenv's shims, by its own name.
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR") or str(cache / "pip"),
    }
    if (home / ".pyenv").is_dir():
        changes["PYENV_ROOT"] = os.environ.get("PYENV_ROOT") or str(home / ".pyenv")
    for name in (".config/pip/pip.conf", ".pip/pip.conf"):
        if (home / name).is_file() and not os.environ.get("PIP_CONFIG_FILE"):
            changes["PIP_CONFIG_FILE"] = str(home / name)
    return changes


def left_over_processes(mark: str) -> list[psutil.Process]:
    """Return the processes that still run and descend from the session named `mark`, orphans included."""
    children = {process.pid for process in psutil.Process().children(recursive=True)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            ours = process.pid in children or process.environ().get(SESSION_MARK) == mark
            if ours and "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                found.append(process)
    return found


def end_left_over_processes(mark: str, *, grace_s: float = 10) -> list[str]:
    """Wait until nothing of the session runs any more; after `grace_s` kill what does and say what it was."""
    deadline = time.monotonic() + grace_s
    while (found := left_over_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    said = []
    for process in found:
        with contextlib.suppress(psutil.Error, OSError):
            said.append(f"{process.pid}: {' '.join(process.cmdline())[:300]}")
            process.kill()
    return said


def install_environment(changes: dict[str, str | None]) -> dict[str, str | None]:
    """Apply variables (None: remove) to this process; return those that take it back."""
    before: dict[str, str | None] = {name: os.environ.get(name) for name in changes}
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def run(
    command: list[Any],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it wrote.

    Args:
        env: variables on top of this process's own.

    Raises:
        AssertionError: it ended with another code than 0; the message has what it said.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        said = done.stdout + done.stderr
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done


def remove_folder(path: Path) -> None:
    """Remove a folder and what is in it; gone already is well."""
    shutil.rmtree(path, ignore_errors=True)
