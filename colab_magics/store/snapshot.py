"""The code on disk as a commit: what a job runs in.

The commit's tree is the work tree as it is now: uncommitted edits, staged things, deletions, and untracked
files that are not ignored. Nothing of the person's is touched: work tree, index, HEAD, branches, stash,
FETCH_HEAD and configuration stay as they are.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from colab_magics.errors import NoRepositoryError, SnapshotError, StoreError
from colab_magics.store import git_index, git_objects
from colab_magics.store.git import Repository
from colab_magics.store.git_import import IDENTITY
from colab_magics.store.git_index import GITLINK, Scan, Staged
from colab_magics.store.git_names import check_remote, check_sha

MAX_FILE_BYTES = 5_000_000
"""Larger files belong beside Git: hosting sites recommend 1 MB and refuse 100 MB.

Source: https://docs.github.com/en/repositories/creating-and-managing-repositories/repository-limits
"""

WORKFLOWS = ".github/workflows/"
"""Hosting sites refuse changes here from tokens that may do everything else."""

_NAMED = 5
"""How many files a message names."""

# fmt: off
_SECRETS = (
    ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pypirc", ".git-credentials",
    ".htpasswd", "credentials.json", "client_secret*.json", "service-account*.json", "kaggle.json",
    "token.json", "*_token", "secrets.json", "secrets.toml", "secrets.yaml", "secrets.yml",
)
# fmt: on
_NO_SECRETS = (".env.example", ".env.sample", ".env.template", ".env.dist", "*.pub")
# As one expression: a project may have thousands of new files.
_SECRET, _NO_SECRET = (re.compile("|".join(map(translate, names))) for names in (_SECRETS, _NO_SECRETS))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The code on disk, as a commit that is in the clone's object store and on no branch.

    Attributes:
        commit: its id; HEAD's own where HEAD is on the remote and nothing differs from it.
        base: HEAD's commit; None before the first one.
        branch: the branch that HEAD is on; None if detached.
        left_out: what is on disk and not in the commit as it is, each with the reason.
    """

    commit: str
    base: str | None
    branch: str | None
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """Where HEAD is, and the nearest commit at or before it that the remote has."""

    commit: str | None
    branch: str | None
    parent: str | None
    parent_tree: str | None
    parent_date_s: int
    workflows: dict[str, Staged]


def take_snapshot(
    repository: Repository, *, remote: str | None, max_file_bytes: int = MAX_FILE_BYTES
) -> Snapshot:
    """Write the work tree, as it is on disk now, as a commit that can be pushed to `remote`.

    The commit's parent is HEAD if the remote has it, else the nearest of HEAD's ancestors that it has, so
    that a push sends only what is new and nothing that the person has not pushed. The same state gives the
    same id. No ref points at the commit: the caller pushes it or keeps it.

    Args:
        remote: the remote's name; what it has is what was last seen of it. None: the commit goes to no
            hosting site; it has no parent, and workflows are files like others.
        max_file_bytes: files that would be new or changed may not be larger.

    Raises:
        SnapshotError: files that are too large, or that cannot be read; the message names them.
        NoRepositoryError: the repository has no work tree.
    """
    if repository.work_tree is None:
        raise NoRepositoryError(f"{repository.git_dir} has no work tree, so there is no code to send.")
    with _scratch(repository) as folder, ThreadPoolExecutor(1) as elsewhere:
        looking = elsewhere.submit(_look_at_head, repository, remote)
        runner, index = repository.runner, folder / "index"
        git_index.copy_index(runner, index)
        found = git_index.scan(runner, index=index)
        content = _choose(repository, found, hosted=remote is not None)
        _check_sizes(repository.work_tree, content, limit_bytes=max_file_bytes)
        git_index.put(runner, index=index, entries=dict.fromkeys(content.gone))
        git_index.update(runner, index=index, paths=content.paths)
        head = looking.result()
        if remote is not None:
            git_index.put(runner, index=index, entries=_workflows_to_restore(found, content, head))
        tree = git_index.write_tree(runner, index=index)
        commit = _commit(repository, tree, head)
        return Snapshot(commit, head.commit, head.branch, tuple(sorted(content.left_out)))


def count_changed_files(repository: Repository, snapshot: Snapshot) -> int:
    """How many files of a snapshot differ from HEAD's as it was then."""
    return len(repository.changed(snapshot.base, snapshot.commit))


@contextmanager
def _scratch(repository: Repository) -> Iterator[Path]:
    """A folder for the copy of the index, on the repository's own disk, removed at the end."""
    try:
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=repository.colab_dir) as folder:
            yield Path(folder)
    except OSError as error:
        raise StoreError(f"the index of {repository.git_dir} cannot be copied: {error}.") from error


# --- what goes in ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Content:
    """What the index has to be told: which paths are gone, which to read; `fresh` are new or edited ones."""

    gone: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    workflows: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def take(self, path: str) -> None:
        self.paths.append(path)
        self.fresh.append(path)


def _choose(repository: Repository, found: Scan, *, hosted: bool) -> _Content:
    content = _Content()
    submodules = [path for path, entry in found.staged.items() if entry.mode == GITLINK]
    content.gone = found.deleted.difference(submodules) | _hidden_by_links(repository, found)
    for path in found.modified:
        if path not in submodules and path not in content.gone:
            content.take(path)
    content.workflows = [path for path in (*content.gone, *content.fresh) if path.startswith(WORKFLOWS)]
    for path in found.untracked:
        if hosted and path.startswith(WORKFLOWS):
            content.workflows.append(path)
        elif path.endswith("/"):
            _flatten(repository, path, content, is_tracked=False)
        else:
            _take_untracked(path, content)
    for path in submodules:
        _flatten(repository, f"{path}/", content, is_tracked=True)
    if repository.work_tree is not None and _uses_lfs(repository.work_tree):
        content.left_out.append("files kept by Git LFS (their pointers are sent, not their content)")
    return content


def _hidden_by_links(repository: Repository, found: Scan) -> set[str]:
    """Tracked files whose folder is a link by now: git sees them through the link, and they are gone."""
    assert repository.work_tree is not None
    links = tuple(f"{path}/" for path in found.untracked if (repository.work_tree / path).is_symlink())
    return {path for path in found.staged if path.startswith(links)} if links else set()


def _take_untracked(path: str, content: _Content) -> None:
    if looks_like_a_secret(path):
        content.left_out.append(f"{path} (looks like a secret; git add it to send it)")
    else:
        content.take(path)


def looks_like_a_secret(path: str) -> bool:
    """Whether a file's name is one that keys, passwords and tokens usually have."""
    name = path.rpartition("/")[2].lower()
    return bool(_SECRET.match(name)) and not _NO_SECRET.match(name)


def _flatten(repository: Repository, folder: str, content: _Content, *, is_tracked: bool) -> None:
    """Take the files of a submodule, or of a repository that lies in this one, as plain files."""
    assert repository.work_tree is not None
    top = repository.work_tree / folder
    inner = _repository_at(top) if (top / ".git").exists() else None
    if inner is None:
        how = "a submodule that is not checked out; git submodule update --init gets it"
        content.left_out.append(f"{folder.rstrip('/')} ({how if is_tracked else 'a broken repository'})")
        return
    if inner.common_dir == repository.common_dir:
        content.left_out.append(f"{folder.rstrip('/')} (another work tree of this repository)")
        return
    found = git_index.scan(inner.runner)
    edited = set(found.modified)
    for path, entry in found.staged.items():
        if entry.mode == GITLINK:
            _flatten(repository, f"{folder}{path}/", content, is_tracked=True)
        elif path not in found.deleted:
            content.paths.append(folder + path)
            content.fresh.extend([folder + path] if path in edited else [])
    for path in found.untracked:
        if path.endswith("/"):
            _flatten(repository, folder + path, content, is_tracked=False)
        else:
            _take_untracked(folder + path, content)


def _repository_at(folder: Path) -> Repository | None:
    try:
        inner = Repository.discover(folder)
    except NoRepositoryError:
        return None
    is_here = inner.work_tree is not None and inner.work_tree.samefile(folder)
    return inner if is_here else None


def _uses_lfs(work_tree: Path) -> bool:
    try:
        return b"filter=lfs" in (work_tree / ".gitattributes").read_bytes()
    except OSError:
        return False


def _check_sizes(work_tree: Path, content: _Content, *, limit_bytes: int) -> None:
    """Look at the sizes before anything is read; what is neither file nor link is left out."""
    large, odd = [], set()
    for path in content.fresh:
        try:
            status = (work_tree / path).lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            if status.st_size > limit_bytes:
                large.append(f"{path} ({_megabytes(status.st_size)})")
        elif not stat.S_ISLNK(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            odd.add(path)
    if odd:
        content.left_out.extend(f"{path} (neither a file nor a link)" for path in odd)
        content.paths = [path for path in content.paths if path not in odd]
    if large:
        more = f" and {len(large) - _NAMED} more" if len(large) > _NAMED else ""
        raise SnapshotError(
            f"{', '.join(large[:_NAMED])}{more} would be sent and exceed the limit of"
            f" {_megabytes(limit_bytes)} a file; list them in .gitignore, or raise the limit with"
            " %config ColabMagics.max_file_mb."
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.3g} MB"


# --- where it hangs --------------------------------------------------------------------------------------


def _look_at_head(repository: Repository, remote: str | None) -> _Head:
    if remote is None:
        return _Head(None, None, None, None, 0, {})
    runner, name = repository.runner, check_remote(remote)
    published = (f"--glob=refs/remotes/{name}/*", f"--glob=refs/colab/remote/{name}/*")
    question = ("HEAD", *published, "--symbolic-full-name", "HEAD")
    asked = runner.run("rev-parse", "--quiet", *question, ok=(0, 1, 128))
    if asked.returncode:
        return _Head(None, repository.head_branch(), None, None, 0, {})
    commit, *tips, ref = os.fsdecode(asked.stdout).splitlines()
    branch = ref.removeprefix("refs/heads/") if ref != "HEAD" else None
    parent = commit if commit in tips else _nearest_published(repository, commit, published)
    if parent is None:
        return _Head(commit, branch, None, None, 0, {})
    folder = WORKFLOWS.rstrip("/")
    about, workflows = git_objects.cat_file(runner, [parent, f"{parent}:{folder}"])
    info = git_objects.parse_commit(parent, about[2])
    entries = repository.ls_tree(parent, folder) if workflows[1] != "missing" else []
    staged = {entry.path: Staged(entry.mode, entry.sha) for entry in entries}
    return _Head(commit, branch, parent, info.tree, info.committed_s, staged)


def _nearest_published(repository: Repository, commit: str, published: Sequence[str]) -> str | None:
    """The first commit, from this one back along first parents, that the remote was last seen to have."""
    question = ("--first-parent", "--boundary", check_sha(commit), "--not", *published)
    listed = repository.runner.text("rev-list", *question).splitlines()
    if not listed:
        return commit
    return next((line[1:] for line in listed if line.startswith("-")), None)


def _workflows_to_restore(found: Scan, content: _Content, head: _Head) -> dict[str, Staged | None]:
    """The workflow files whose version of the parent is kept, since a push with others may be refused."""
    here = {path: entry for path, entry in found.staged.items() if path.startswith(WORKFLOWS)}
    there = head.workflows
    differing = {path for path in here.keys() | there.keys() if here.get(path) != there.get(path)}
    kept = sorted(differing.union(content.workflows))
    reason = "a workflow; tokens may not change those, so the pushed version is kept"
    content.left_out.extend(f"{path} ({reason})" for path in kept)
    return {path: there.get(path) for path in kept}


def _commit(repository: Repository, tree: str, head: _Head) -> str:
    if head.parent is not None and head.parent == head.commit and tree == head.parent_tree:
        return head.parent
    about = [f"Base-Commit: {head.commit}"] if head.commit else []
    about += [f"Branch: {head.branch}"] if head.branch else []
    signature = f"{IDENTITY} {head.parent_date_s} +0000"
    lines = [
        f"tree {tree}",
        *([f"parent {head.parent}"] if head.parent else []),
        f"author {signature}",
        f"committer {signature}",
        "",
        "Code as it is on disk",
        *(["", *about] if about else []),
        "",
    ]
    return git_index.write_commit(repository.runner, os.fsencode("\n".join(lines)))
