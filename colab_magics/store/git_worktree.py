"""A folder for each job, checked out from one object store."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from colab_magics.errors import StoreError
from colab_magics.store.git_runner import GitRunner


def add(runner: GitRunner, folder: Path, commit: str) -> None:
    """Check a commit out into a folder, detached; what was there goes away."""
    if os.path.lexists(folder):
        remove(runner, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Twice --force: also where a folder of that name was registered and is gone.
    runner.run("worktree", "add", "--quiet", "--detach", "--force", "--force", str(folder), commit)


def remove(runner: GitRunner, folder: Path) -> None:
    """Remove a folder, all that is in it, and what the repository knows of it. Gone already is well."""
    _remove_tree(folder)
    runner.run("worktree", "prune", "--expire=now")


def _remove_tree(folder: Path) -> None:
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
