"""Git, the only door to it: every command that the product gives to git is a method here.

Options are literal; callers give names, ids and paths, which are checked (`git_names`). Commands know the
repository by its absolute address, so no variable, folder or configuration of the caller decides where they
work, and none touches the work tree, the index, HEAD, branches or FETCH_HEAD of a person's clone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from colab_magics.errors import NoRemoteError, StoreError
from colab_magics.store import (
    git_checkout,
    git_discovery,
    git_import,
    git_names,
    git_objects,
    git_remote,
    git_upkeep,
)
from colab_magics.store.git_answers import PushOutcome, PushUpdate, Refspec
from colab_magics.store.git_names import ABSENT, EMPTY_TREE, SHA_LENGTH, check_ref, check_sha
from colab_magics.store.git_objects import Change, CommitInfo, TreeEntry
from colab_magics.store.git_runner import GitRunner

# fmt: off
__all__ = [
    "ABSENT", "EMPTY_TREE", "SHA_LENGTH", "Change", "CommitInfo", "PushOutcome", "PushUpdate", "Refspec",
    "Repository", "TreeEntry",
]
# fmt: on

_UNEXPECTED_REF = ("but expected", "reference already exists", "unable to resolve reference")


@dataclass(frozen=True, slots=True)
class Repository:
    """A handle on one git directory: addresses and settings, no state, so threads may share it.

    Attributes:
        runner: runs git here; has `isolated` (without the machine's and the person's configuration and
            helpers, as a daemon works), `token` (how an isolated one logs in over HTTP; never in an
            argument, an address or a message) and the timeouts.
        common_dir: where objects and refs live; the git directory except in a linked worktree.
    """

    runner: GitRunner
    common_dir: Path

    # --- finding and making ------------------------------------------------------------------------------

    @classmethod
    def discover(cls, path: str | os.PathLike[str] = ".") -> Repository:
        """Find the repository that a folder, or any folder above it, belongs to.

        Raises:
            NoRepositoryError: there is none, or git does not trust its owner.
        """
        runner, common_dir = git_discovery.discover(Path(path).absolute())
        return cls(runner=runner, common_dir=common_dir)

    @classmethod
    def init_bare(
        cls, path: str | os.PathLike[str], *, isolated: bool = False, token: str | None = None
    ) -> Repository:
        """Make a bare repository, or return the one that is there.

        Raises:
            StoreError: the folder cannot be made, or is something else.
        """
        folder = Path(path).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made a repository: {error.strerror}.") from error
        repository = cls(runner=GitRunner(folder, isolated=isolated, token=token), common_dir=folder)
        repository.runner.run("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        return repository

    def with_timeouts(self, *, timeout_s: float, network_timeout_s: float) -> Repository:
        """The same repository with other limits, seconds per command."""
        limits = replace(self.runner, timeout_s=timeout_s, network_timeout_s=network_timeout_s)
        return replace(self, runner=limits)

    @property
    def git_dir(self) -> Path:
        """The git directory, absolute; of a linked worktree its own."""
        return self.runner.git_dir

    @property
    def work_tree(self) -> Path | None:
        """The top of the work tree; None for a bare repository."""
        return self.runner.work_tree

    @property
    def colab_dir(self) -> Path:
        """Where the product keeps its files: never in the work tree. Made on first use."""
        folder = self.common_dir / "colab"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- remotes -----------------------------------------------------------------------------------------

    def remotes(self) -> list[str]:
        """The names of the remotes, in the order of the configuration."""
        return self.runner.text("remote").splitlines()

    def remote_url(self, name: str, *, push: bool = False) -> str:
        """The address of a remote, after the person's `insteadOf` rules, checked.

        Raises:
            NoRemoteError: there is no such remote.
            StoreError: its address is of a kind that is not used (`git_names.check_url`).
        """
        direction = ("--push",) if push else ()
        answer = self.runner.run(
            "remote", "get-url", *direction, "--", git_names.check_remote(name), ok=(0, 2, 128)
        )
        if answer.returncode:
            raise NoRemoteError(
                f"there is no remote {name!r} in {self.work_tree or self.git_dir}; add one with"
                f" git remote add {name} <address>, or name another (there are:"
                f" {', '.join(self.remotes()) or 'none'})."
            )
        url = os.fsdecode(answer.stdout).splitlines()[0]
        if (
            self.work_tree
            and "://" not in url
            and not url.startswith("/")
            and (self.work_tree / url).is_dir()
        ):
            url = str((self.work_tree / url).resolve())
        return git_names.check_url(url)

    def address(self, remote: str, *, push: bool = False) -> str:
        """The address of a remote, found and checked as `remote_url` does; an address stands for itself."""
        if ":" in remote or remote.startswith(("/", "-", ".")):
            return git_names.check_url(remote)
        return self.remote_url(remote, push=push)

    # --- refs --------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> str | None:
        """The commit that a full ref, an object id or `HEAD` stands for; None if there is no such commit."""
        if name != "HEAD":
            (check_ref if name.startswith("refs/") else check_sha)(name)
        answer = self.runner.run("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}", ok=(0, 1, 128))
        return answer.stdout.decode().strip() or None

    def head_branch(self) -> str | None:
        """The branch that HEAD is on, such as `main`, also before its first commit; None if detached."""
        answer = self.runner.run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
        return os.fsdecode(answer.stdout).strip().removeprefix("refs/heads/") or None

    def refs(self, prefix: str) -> dict[str, str]:
        """All refs below a prefix such as `refs/colab/`, full name → object id."""
        if prefix != "refs/":
            check_ref(prefix.rstrip("/"))
        listed = self.runner.text("for-each-ref", "--format=%(objectname) %(refname)", prefix)
        pairs = (line.split(" ", 1) for line in listed.splitlines())
        return {name: sha for sha, name in pairs}

    def set_refs(
        self, changes: Mapping[str, str | None], *, expected: Mapping[str, str] | None = None
    ) -> bool:
        """Move, make or delete (None) refs of this repository, all or none.

        Args:
            expected: what some of them must be for any to move; `ABSENT` for "does not exist".

        Returns:
            False if a ref was not as expected; then nothing moved.
        """
        if not changes:
            return True
        expected = expected or {}
        words = [
            word
            for ref, sha in changes.items()
            for word in (f"update {check_ref(ref)}", check_sha(sha or ABSENT), expected.get(ref, ""))
        ]
        commands = os.fsencode("".join(f"{word}\0" for word in words))
        answer = self.runner.run_locking("update-ref", "--no-deref", "-z", "--stdin", stdin=commands)
        if answer.returncode == 0:
            return True
        if expected and any(words in answer.stderr for words in _UNEXPECTED_REF):
            return False
        raise self.runner.failure("moving refs", answer)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether a commit is another one or in its history."""
        if ancestor == descendant:
            return True
        arguments = ("merge-base", "--is-ancestor", check_sha(ancestor), check_sha(descendant))
        return self.runner.run(*arguments, ok=(0, 1)).returncode == 0

    # --- reading -----------------------------------------------------------------------------------------

    def has(self, sha: str) -> bool:
        """Whether the object is here."""
        return self.runner.run("cat-file", "-e", check_sha(sha), ok=(0, 1, 128)).returncode == 0

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self.runner.text("rev-parse", "--verify", f"{check_sha(commit)}^{{tree}}")

    def ls_tree(
        self, commit: str, path: str = "", *, recursive: bool = True, sizes: bool = False, suffix: str = ""
    ) -> list[TreeEntry]:
        """The entries of a commit at or below a path; with `recursive` only files. Absent is empty.

        Args:
            sizes: also fill `size_bytes`, which costs a look at every blob.
            suffix: only paths that end so.
        """
        flags = [*(["-r"] if recursive else []), *(["--long"] if sizes else [])]
        where = ["--", git_names.check_path(path) + ("" if recursive else "/")] if path else []
        listed = self.runner.run("ls-tree", "-z", "--full-tree", *flags, check_sha(commit), *where)
        return git_objects.parse_tree(listed.stdout, suffix=suffix)

    def read(self, commit: str, path: str) -> bytes | None:
        """The content of one file of a commit, None if it is not there."""
        return self.read_many([f"{commit}:{path}"])[f"{commit}:{path}"]

    def read_many(self, names: Iterable[str]) -> dict[str, bytes | None]:
        """The contents of many blobs in one process.

        Args:
            names: each a blob's id, or `<commit id>:<path>`.

        Returns:
            name → content; None for what is not there or is no file.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            sha, colon, path = name.partition(":")
            check_sha(sha)
            if colon:
                git_names.check_path(path)
        found = git_objects.cat_file(self.runner, wanted)
        return {name: content if kind == "blob" else None for name, kind, content in found}

    def changed(self, old: str | None, new: str, *, prefix: str = "") -> list[Change]:
        """The paths that differ between two commits, below a literal prefix. `old` None: the empty tree."""
        where = ["--", git_names.check_path(prefix.rstrip("/"))] if prefix else []
        base = check_sha(old) if old else EMPTY_TREE
        flags = ("-r", "-z", "--no-renames", "--name-status", "--no-ext-diff", "--ignore-submodules=dirty")
        arguments = ("--literal-pathspecs", "diff-tree", *flags, base, check_sha(new), *where)
        return git_objects.parse_changes(self.runner.run(*arguments).stdout)

    def log_first_parent(self, new: str, *, old: str | None = None, path: str = "") -> list[str]:
        """Commits from `new` back along first parents, newest first, without those of `old`'s history.

        Args:
            path: only those that changed this path against their first parent.
        """
        exclude = [f"^{check_sha(old)}"] if old else []
        where = ["--", git_names.check_path(path)] if path else ["--"]
        arguments = ("--literal-pathspecs", "rev-list", "--first-parent", check_sha(new), *exclude, *where)
        return self.runner.text(*arguments).splitlines()

    def commit_info(self, commit: str) -> CommitInfo:
        """What a commit says about itself.

        Raises:
            StoreError: there is no such commit here.
        """
        found = self.commit_infos([commit])
        if commit not in found:
            raise StoreError(f"there is no commit {commit} in {self.git_dir}.")
        return found[commit]

    def commit_infos(self, commits: Iterable[str]) -> dict[str, CommitInfo]:
        """What commits say about themselves, in one process; those that are not here are left out."""
        wanted = [check_sha(commit) for commit in dict.fromkeys(commits)]
        found = git_objects.cat_file(self.runner, wanted)
        return {
            name: git_objects.parse_commit(name, content) for name, kind, content in found if kind == "commit"
        }

    # --- writing -----------------------------------------------------------------------------------------

    def build_commit(
        self,
        files: Mapping[str, bytes | Path | None],
        *,
        message: str,
        date_s: int,
        base: str | None = None,
        parents: Sequence[str] = (),
        ref: str | None = None,
    ) -> str:
        """Write a commit in one process and return its id. The same arguments make the same id.

        Args:
            files: path → content, a file to copy it from, or None to delete the path or folder.
            date_s: author and committer date, Unix seconds UTC.
            base: the commit (or tree) whose files it starts from; None starts from nothing.
            parents: the commit's parents; a usual next commit has `base=tip, parents=[tip]`, an overwritten
                one no parent.
            ref: a ref to point at it, wherever that pointed before; without one nothing keeps the commit
                but the push that follows.

        Raises:
            StoreError: a path that cannot be in a tree, a parent that is not here, a full disk.
        """
        starts_at_parent = base is not None and base in parents[:1]
        return git_import.build_commit(
            self.runner,
            files=files,
            message=message,
            base_tree=self.tree_of(base) if base is not None and not starts_at_parent else None,
            starts_at_parent=starts_at_parent,
            parents=[check_sha(parent) for parent in parents],
            date_s=date_s,
            ref=ref,
        )

    # --- the network -------------------------------------------------------------------------------------

    def fetch(
        self,
        remote: str,
        refspecs: Sequence[Refspec],
        *,
        prune: bool = False,
        depth: int | None = None,
        timeout_s: float | None = None,
    ) -> frozenset[str]:
        """Bring refs from a remote, forced, and only these: no tags, no FETCH_HEAD, no tracking branches.

        Args:
            remote: a remote's name or an address.
            refspecs: exact refs, or prefixes ending in `/*` on both sides.
            prune: delete local refs below a `/*` target that the remote no longer has.
            depth: fetch only so many commits of history.

        Returns:
            The exact sources that the remote does not have; their targets are deleted here.

        Raises:
            UnreachableError: nobody answered in time.
            RefusedError: no such repository, or no permission.
        """
        url = self.address(remote)
        absent = git_remote.fetch(self.runner, url, refspecs, prune=prune, depth=depth, timeout_s=timeout_s)
        if absent:
            have = self.refs("refs/")
            self.set_refs({spec.target: None for spec in absent if spec.target in have})
        return frozenset(spec.source for spec in absent)

    def push(
        self, remote: str, updates: Sequence[PushUpdate], *, timeout_s: float | None = None
    ) -> PushOutcome:
        """Move refs of a remote, all or none of them, in one push.

        Args:
            remote: a remote's name or an address.

        Returns:
            LANDED, or REJECTED when a ref was not what an update expected: another push was faster.

        Raises:
            UnreachableError: the connection was lost. The push may have landed: fetch and look.
            RefusedError: credentials, permission, a hook, a protected branch, a quota. Nothing moved.
        """
        url = self.address(remote, push=True)
        return git_remote.push(self.runner, url, updates, timeout_s=timeout_s)

    # --- checkouts, upkeep -------------------------------------------------------------------------------

    def add_checkout(self, path: Path, commit: str) -> None:
        """Check a commit out into a repository of its own, detached. What was in the folder goes away."""
        folder = path.absolute()
        self.set_refs({git_checkout.pin_of(folder): commit})
        git_checkout.add(self.runner, folder, commit, objects=self.common_dir / "objects")

    def remove_checkout(self, path: Path) -> None:
        """Remove a folder made by `add_checkout` and all that is in it. Gone already is well."""
        git_checkout.remove(path.absolute())
        self.set_refs({git_checkout.pin_of(path.absolute()): None})

    def object_bytes(self) -> int:
        """How much disk the repository's objects take, in bytes."""
        return git_upkeep.size_bytes(self.common_dir / "objects")

    def compact(self, *, loose: int, grace_s: float, timeout_s: float) -> bool:
        """Remove what no ref reaches, if more than `loose` objects lie unpacked; see `git_upkeep.compact`."""
        patient = replace(self.runner, timeout_s=timeout_s)
        return git_upkeep.compact(patient, self.common_dir / "objects", loose=loose, grace_s=grace_s)
