"""Finding the repository that a folder belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from colab_magics.errors import NoRepositoryError, StoreError
from colab_magics.store import git_process
from colab_magics.store.git_runner import LOCAL_TIMEOUT_S, GitRunner


def discover(folder: Path) -> tuple[GitRunner, Path]:
    """What runs git in the repository of a folder, or of one above it, and where its objects and refs live.

    Raises:
        NoRepositoryError: there is none, or git does not trust its owner.
    """
    nowhere = f"{folder} is not inside a Git work tree; go to your project, or make one with git init."
    if not folder.is_dir():
        raise NoRepositoryError(nowhere)
    where = ("--absolute-git-dir", "--path-format=absolute", "--git-common-dir", "--show-toplevel")
    question = ("rev-parse", "--is-bare-repository", *where)
    try:
        answer = git_process.run_git(question, cwd=folder, environment={}, timeout_s=LOCAL_TIMEOUT_S)
    except TimeoutError:
        raise StoreError(f"git did not say in {LOCAL_TIMEOUT_S:g} s where {folder} belongs.") from None
    said = answer.stderr.lower()
    if "dubious ownership" in said or "owned by someone else" in said:
        raise NoRepositoryError(
            f"{folder} belongs to another user and git does not trust it; if you do, run"
            f" git config --global --add safe.directory {folder}"
        )
    lines = os.fsdecode(answer.stdout).splitlines()
    # A bare repository answers all but the last question.
    if len(lines) < 3 or (answer.returncode and lines[0] != "true"):
        raise NoRepositoryError(nowhere)
    work_tree = Path(lines[3]) if len(lines) > 3 and not answer.returncode else None
    return GitRunner(Path(lines[1]), work_tree), Path(lines[2])
