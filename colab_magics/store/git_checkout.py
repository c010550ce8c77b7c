"""A folder for each job: a repository of its own that borrows the objects of the clone.

What a job does with git there (configuration, branches, commits, hooks, `gc`) stays in the folder and goes
with it. A linked work tree would share all of that with the clone, and so with the jobs that come after.
Source: https://git-scm.com/docs/gitrepository-layout, "objects/info/alternates"
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from colab_magics.errors import StoreError
from colab_magics.store.git_runner import GitRunner


def pin_of(folder: Path) -> str:
    """The ref that keeps the objects in the clone that a folder borrows."""
    return f"refs/colab/checkout/{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def add(runner: GitRunner, folder: Path, commit: str, *, objects: Path) -> None:
    """Check a commit out into a folder, detached; what was there goes away.

    Args:
        objects: the folder of the clone's objects, where `commit` is and stays.
    """
    remove(folder)
    folder.mkdir(parents=True)
    own = replace(runner, git_dir=folder / ".git", work_tree=folder, token=None)
    own.run("init", "--quiet", "--template=", "--initial-branch=main")
    (own.git_dir / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
    own.run("checkout", "--quiet", "--detach", commit)


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it, whatever a job did to it. Gone already is well.

    Raises:
        StoreError: something in it cannot be removed.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        _make_writable(folder)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise StoreError(f"{folder} cannot be emptied; remove it by hand.")


def _make_writable(folder: Path) -> None:
    """Give back the permissions that a job took from its own folders, without following its links."""
    with suppress(OSError):
        folder.chmod(stat.S_IRWXU)
    for directory, names, _ in os.walk(folder):
        for name in names:
            below = Path(directory, name)
            if not below.is_symlink():
                with suppress(OSError):
                    below.chmod(stat.S_IRWXU)
