"""From a folder to its queues: the one of its Git remote, and the one on this machine if there is one."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from colab_magics.errors import NoRemoteError, NoRepositoryError
from colab_magics.jobs.paths import INTENT_BRANCH
from colab_magics.jobs.spec import content_name, slug
from colab_magics.store.base import Store
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.git_names import redact_url
from colab_magics.store.mailbox import Mailbox

LOCAL = "local"
"""The label of the queue on this machine."""

EMBEDDED = Path("embedded") / "queue.git"
"""The bare repository of the queue on this machine, below the folder that the product has in a clone."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as one clone sees it.

    `label` is what people call it, `remote` what Git is given to reach it, `address` what people may be shown
    of it. `folder` is where the clone keeps what it remembers of this queue; another branch of the remote
    is another queue, with the same label and a folder and refs of its own.
    """

    label: str
    remote: str
    address: str
    store: Store
    folder: Path

    @property
    def is_local(self) -> bool:
        """Whether it is the one on this machine."""
        return self.label == LOCAL


def find_project(folder: Path, *, known: Repository | None = None) -> Repository:
    """The repository with the work tree that `folder` is in.

    Args:
        folder: where to look, and above it.
        known: what was found the last time; git is asked again only if that may have changed.

    Raises:
        NoRepositoryError: there is none, or it is a bare repository, without files to run.
    """
    if known is not None and _is_plainly_in(folder, known):
        return known
    repository = Repository.discover(folder)
    if repository.work_tree is None:
        raise NoRepositoryError(
            f"{repository.git_dir} is a bare repository, which has no files to run; go to a clone of it"
        )
    return repository


def _is_plainly_in(folder: Path, repository: Repository) -> bool:
    """Whether git would surely find this repository from `folder`: its `.git` is the first one above.

    A linked work tree, a submodule or a bare repository on the way is no plain case.
    """
    above = (folder, *folder.parents)
    tops = (each for each in above if (each / ".git").exists() or (each / "HEAD").exists())
    git_dir = next(tops, folder) / ".git"
    return repository.git_dir == repository.common_dir == git_dir and (git_dir / "HEAD").is_file()


def choose_remote(repository: Repository, wanted: str = "") -> str:
    """The remote to queue to: the one that is wanted, else `origin`, else the only one.

    Raises:
        NoRemoteError: there is no such remote, none at all, or several and none is wanted.
    """
    names = repository.remotes()
    if wanted in names:
        return wanted
    if not names:
        raise NoRemoteError(
            f"{repository.work_tree or repository.git_dir} has no Git remote to queue to: add one with "
            f"git remote add origin <address>, or run on this machine with --local"
        )
    if wanted:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise NoRemoteError(f"there is no Git remote {wanted!r}; {hint}there is {_and(names)}")
    if "origin" in names:
        return "origin"
    if len(names) > 1:
        raise NoRemoteError(
            f"there are several Git remotes, {_and(names)}, and no origin: say which with --remote"
        )
    return names[0]


def remote_queue(repository: Repository, wanted: str = "", *, branch: str = INTENT_BRANCH) -> Queue:
    """The queue of a Git remote.

    Raises:
        NoRemoteError: as `choose_remote`.
        StoreError: its address is of a kind that is not used.
    """
    name, url = _find_remote(repository, wanted)
    label = name if name != LOCAL else f"remote-{name}"
    return _queue(repository, label=label, remote=name, address=redact_url(url), branch=branch)


def local_queue(repository: Repository) -> Queue | None:
    """The queue on this machine, None if nothing was ever queued to it."""
    folder = repository.common_dir / "colab" / EMBEDDED
    if not folder.is_dir():
        return None
    return _queue(repository, label=LOCAL, remote=folder.as_uri(), address="this machine")


def all_queues(repository: Repository, wanted: str = "", *, branch: str = INTENT_BRANCH) -> list[Queue]:
    """The remote's queue, and the one on this machine if there is one.

    Raises:
        NoRemoteError: there is neither, or the remote that is wanted is not there.
    """
    local = local_queue(repository)
    if local is not None and not wanted and not repository.remotes():
        return [local]
    remote = remote_queue(repository, wanted, branch=branch)
    return [remote] if local is None else [remote, local]


def mailbox_of(repository: Repository, queue: Queue) -> Mailbox:
    """Where a worker of a queue is asked for a session."""
    return Mailbox(repository, remote=queue.remote, label=queue.folder.name)


def _find_remote(repository: Repository, wanted: str) -> tuple[str, str]:
    """The name of the remote to queue to, and its address."""
    if not wanted:
        with suppress(NoRemoteError):
            return "origin", repository.remote_url("origin")  # as nearly always: one question
    name = choose_remote(repository, wanted)
    return name, repository.remote_url(name)


def _queue(
    repository: Repository, *, label: str, remote: str, address: str, branch: str = INTENT_BRANCH
) -> Queue:
    place = label if branch == INTENT_BRANCH else f"{label}--{slug(branch)}-{content_name(branch.encode())}"
    store = BranchStore(repository, remote=remote, label=place, intent_branch=branch)
    return Queue(label, remote, address, store, repository.colab_dir / place)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
