"""Which commit a job runs in, brought here from the remote if need be."""

from __future__ import annotations

from colab_magics.errors import MissingError
from colab_magics.jobs.paths import code_ref
from colab_magics.jobs.spec import JobSpec
from colab_magics.store.git import Refspec, Repository
from colab_magics.store.origins import holds_only_the_queue

MAIN_BRANCHES = ("main", "master")


def find_code(repository: Repository, spec: JobSpec, *, remote: str, tracking: str) -> str:
    """The commit whose files the job runs in; its objects are here when this returns.

    A hand-written entry on a branch that holds nothing but the queue names no code: it runs in the
    remote's main branch as it is at this moment.

    Raises:
        MissingError: the commit is not on the remote any more.
        UnreachableError: nobody answered.
    """
    code = spec.code
    if code is None:
        raise MissingError(f"no commit is known to have introduced {spec.name}: queue it again")
    if not repository.has(code):
        repository.fetch(remote, [Refspec(code_ref(code), f"{tracking}code/{code[:16]}")])
    if repository.has(code) and not holds_only_the_queue(repository, code):
        return code
    heads = f"{tracking}heads/"
    repository.fetch(remote, [Refspec("refs/heads/*", f"{heads}*")], prune=True)
    if not repository.has(code):
        raise MissingError(f"the commit {code} is not on the remote any more: queue {spec.name} again")
    branches = repository.refs(heads) if holds_only_the_queue(repository, code) else {}
    return next((branches[heads + name] for name in MAIN_BRANCHES if heads + name in branches), code)
