"""Git, the only door to it: every command that the product gives to git is a method here.

Options are literal; callers give names, ids and paths, which are checked (`git_names`). Commands know the
repository by its absolute address, so no variable, folder or configuration of the caller decides where they
work, and none touches the work tree, the index, HEAD, branches or FETCH_HEAD of a person's clone.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from colab_magics.errors import NoRemoteError, NoRepositoryError, RefusedError, StoreError, UnreachableError
from colab_magics.store import git_answers, git_import, git_names, git_process
from colab_magics.store.git_answers import PushOutcome, PushUpdate, Refspec
from colab_magics.store.git_names import ABSENT, EMPTY_TREE, SHA_LENGTH, check_ref, check_sha
from colab_magics.store.git_process import Finished

__all__ = [
    "ABSENT",
    "EMPTY_TREE",
    "SHA_LENGTH",
    "Change",
    "CommitInfo",
    "PushOutcome",
    "PushUpdate",
    "Refspec",
    "Repository",
    "TreeEntry",
]

LOCAL_TIMEOUT_S = 120.0
NETWORK_TIMEOUT_S = 120.0

# Two of our own processes in one clone may want the same ref at once; the loser looks again.
_LOCK_ATTEMPTS = 5
_LOCK_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of a commit's tree. `kind` is blob, tree or commit (a submodule)."""

    mode: str
    kind: str
    sha: str
    size_bytes: int | None
    path: str


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two commits. `status` is A (added), M, D (deleted) or T (type)."""

    status: str
    path: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """What a commit says about itself. Times are Unix seconds."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    authored_s: int
    committed_s: int
    message: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A handle on one git directory: addresses and settings, no state, so threads may share it.

    Attributes:
        git_dir: the git directory, absolute; of a linked worktree its own.
        common_dir: where objects and refs live; `git_dir` except in a linked worktree.
        work_tree: the top of the work tree, None for a bare repository.
        isolated: run without the machine's and the person's configuration and helpers, as a daemon does.
        token: how an isolated one logs in over HTTP; never in an argument, an address or a message.
    """

    git_dir: Path
    common_dir: Path
    work_tree: Path | None = None
    isolated: bool = False
    token: str | None = field(default=None, repr=False)
    timeout_s: float = LOCAL_TIMEOUT_S
    network_timeout_s: float = NETWORK_TIMEOUT_S

    # --- finding and making ------------------------------------------------------------------------------

    @classmethod
    def discover(cls, path: str | os.PathLike[str] = ".") -> Repository:
        """Find the repository that a folder, or any folder above it, belongs to.

        Raises:
            NoRepositoryError: there is none, or git does not trust its owner.
        """
        folder = Path(path).absolute()
        nowhere = f"{folder} is not inside a Git work tree; go to your project, or make one with git init."
        if not folder.is_dir():
            raise NoRepositoryError(nowhere)
        question = (
            "rev-parse", "--is-bare-repository", "--absolute-git-dir", "--path-format=absolute",
            "--git-common-dir", "--show-toplevel",
        )  # fmt: skip
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
        return cls(git_dir=Path(lines[1]), common_dir=Path(lines[2]), work_tree=work_tree)

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
        repository = cls(git_dir=folder, common_dir=folder, isolated=isolated, token=token)
        repository._run("init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        return repository

    def with_timeouts(self, *, timeout_s: float, network_timeout_s: float) -> Repository:
        """The same repository with other limits, seconds per command."""
        return replace(self, timeout_s=timeout_s, network_timeout_s=network_timeout_s)

    @property
    def colab_dir(self) -> Path:
        """Where the product keeps its files: never in the work tree. Made on first use."""
        folder = self.common_dir / "colab"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # --- remotes -----------------------------------------------------------------------------------------

    def remotes(self) -> list[str]:
        """The names of the remotes, in the order of the configuration."""
        return self._text("remote").splitlines()

    def remote_url(self, name: str, *, push: bool = False) -> str:
        """The address of a remote, after the person's `insteadOf` rules, checked.

        Raises:
            NoRemoteError: there is no such remote.
            StoreError: its address is of a kind that is not used (`git_names.check_url`).
        """
        direction = ("--push",) if push else ()
        answer = self._run(
            "remote", "get-url", *direction, "--", git_names.check_remote(name), ok=(0, 2, 128)
        )
        if answer.returncode:
            raise NoRemoteError(
                f"there is no remote {name!r} in {self.work_tree or self.git_dir}; add one with"
                f" git remote add {name} <address>, or name one of: {', '.join(self.remotes()) or 'none yet'}."
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

    # --- refs --------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> str | None:
        """The commit that a full ref, an object id or `HEAD` stands for; None if there is no such commit."""
        if name != "HEAD" and not name.startswith("refs/"):
            check_sha(name)
        elif name != "HEAD":
            check_ref(name)
        answer = self._run("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}", ok=(0, 1, 128))
        return answer.stdout.decode().strip() or None

    def head_branch(self) -> str | None:
        """The branch that HEAD is on, such as `main`, also before its first commit; None if detached."""
        answer = self._run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
        return os.fsdecode(answer.stdout).strip().removeprefix("refs/heads/") or None

    def refs(self, prefix: str) -> dict[str, str]:
        """All refs below a prefix such as `refs/colab/`, full name → object id."""
        if prefix != "refs/":
            check_ref(prefix.rstrip("/"))
        listed = self._text("for-each-ref", "--format=%(objectname) %(refname)", prefix)
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
        commands = []
        for ref, sha in changes.items():
            old = f"{check_sha(expected[ref])}" if ref in expected else ""
            new = check_sha(sha) if sha is not None else ABSENT
            commands.append(f"update {check_ref(ref)}\0{new}\0{old}\0")
        answer = self._locking("update-ref", "--no-deref", "-z", "--stdin", stdin="".join(commands).encode())
        if answer.returncode == 0:
            return True
        if expected and ("but expected" in answer.stderr or "already exists" in answer.stderr
                         or "unable to resolve reference" in answer.stderr):  # fmt: skip
            return False
        raise self._failure("moving refs", answer)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether a commit is another one or in its history."""
        if ancestor == descendant:
            return True
        arguments = ("merge-base", "--is-ancestor", check_sha(ancestor), check_sha(descendant))
        return self._run(*arguments, ok=(0, 1)).returncode == 0

    # --- reading -----------------------------------------------------------------------------------------

    def has(self, sha: str) -> bool:
        """Whether the object is here."""
        return self._run("cat-file", "-e", check_sha(sha), ok=(0, 1, 128)).returncode == 0

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self._text("rev-parse", "--verify", f"{check_sha(commit)}^{{tree}}")

    def ls_tree(
        self, commit: str, path: str = "", *, recursive: bool = True, sizes: bool = False
    ) -> list[TreeEntry]:
        """The entries of a commit at or below a path; with `recursive` only files. Absent is empty.

        Args:
            sizes: also fill `size_bytes`, which costs a look at every blob.
        """
        flags = [*(["-r"] if recursive else []), *(["--long"] if sizes else [])]
        where = ["--", git_names.check_path(path) + ("" if recursive else "/")] if path else []
        listed = self._run("ls-tree", "-z", "--full-tree", *flags, check_sha(commit), *where).stdout
        entries = []
        for record in listed.split(b"\0")[:-1]:
            fields, name = record.split(b"\t", 1)
            mode, kind, sha, *size = fields.decode().split()
            size_bytes = int(size[0]) if size and size[0] != "-" else None
            entries.append(TreeEntry(mode, kind, sha, size_bytes, os.fsdecode(name)))
        return entries

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
        return {
            name: content if kind == "blob" else None
            for name, kind, content in self._cat_file(wanted)
        }  # fmt: skip

    def changed(self, old: str | None, new: str, *, prefix: str = "") -> list[Change]:
        """The paths that differ between two commits, below a literal prefix. `old` None: the empty tree."""
        where = ["--", git_names.check_path(prefix.rstrip("/"))] if prefix else []
        base = check_sha(old) if old else EMPTY_TREE
        flags = ("-r", "-z", "--no-renames", "--name-status", "--no-ext-diff", "--ignore-submodules=dirty")
        listed = self._run("--literal-pathspecs", "diff-tree", *flags, base, check_sha(new), *where).stdout
        words = os.fsdecode(listed).split("\0")[:-1]
        return [Change(status, path) for status, path in zip(words[::2], words[1::2], strict=True)]

    def log_first_parent(self, new: str, *, old: str | None = None, path: str = "") -> list[str]:
        """Commits from `new` back along first parents, newest first, without those of `old`'s history.

        Args:
            path: only those that changed this path against their first parent.
        """
        exclude = [f"^{check_sha(old)}"] if old else []
        where = ["--", git_names.check_path(path)] if path else ["--"]
        arguments = ("--literal-pathspecs", "rev-list", "--first-parent", check_sha(new), *exclude, *where)
        return self._text(*arguments).splitlines()

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
        return {
            name: _parse_commit(name, content)
            for name, kind, content in self._cat_file(wanted)
            if kind == "commit"
        }

    def _cat_file(self, names: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
        if not names:
            return
        asked = os.fsencode("".join(f"{name}\n" for name in names))
        output = memoryview(self._run("cat-file", "--batch", stdin=asked).stdout)
        data, position = output.obj, 0
        assert isinstance(data, bytes)
        for name in names:
            end = data.index(b"\n", position)
            header = data[position:end]
            position = end + 1
            words = header.rsplit(b" ", 2)
            if header.endswith((b" missing", b" submodule", b" ambiguous")):
                yield name, "missing", b""
                continue
            size = int(words[2])
            yield name, words[1].decode(), bytes(output[position : position + size])
            position += size + 1

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
        target = check_ref(ref) if ref else f"refs/colab/tmp/{os.getpid()}-{os.urandom(6).hex()}"
        starts_at_parent = bool(parents) and base == parents[0]
        try:
            with tempfile.TemporaryFile(dir=self.common_dir) as stream:
                git_import.write_stream(
                    stream,
                    files=files,
                    message=message,
                    base_tree=check_sha(base) if base else None,
                    starts_at_parent=starts_at_parent,
                    parents=[check_sha(parent) for parent in parents],
                    date_s=date_s,
                    ref=target,
                    keep_ref=ref is not None,
                )
                stream.seek(0)
                answer = self._locking(
                    "fast-import", "--quiet", "--done", "--force", "--date-format=raw", stdin=stream
                )
        except OSError as error:
            raise StoreError(f"building a commit in {self.git_dir} failed: {error}.") from error
        sha = answer.stdout.decode().strip()
        if answer.returncode or len(sha) != SHA_LENGTH:
            for crash in self.git_dir.glob("fast_import_crash_*"):
                with suppress(OSError):
                    crash.unlink()
            raise self._failure("building a commit", answer)
        return sha

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
        url = self._address(remote, push=False)
        wanted = list(refspecs)
        absent: list[Refspec] = []
        flags = [
            "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--no-recurse-submodules",
            "--no-show-forced-updates", "--refmap=", "--no-prune-tags", "--prune" if prune else "--no-prune",
            *([f"--depth={int(depth)}"] if depth is not None else []),
        ]  # fmt: skip
        what = f"fetching from {git_names.redact_url(url)}"
        while wanted:
            specs = [f"+{_side(spec.source)}:{_side(spec.target)}" for spec in wanted]
            answer = self._network(
                "fetch", *flags, "--", url, *specs, url=url, what=what, timeout_s=timeout_s
            )
            if answer.returncode == 0:
                break
            gone = [
                spec for spec in wanted if f"couldn't find remote ref {spec.source}\n" in answer.stderr + "\n"
            ]
            if not gone:
                raise self._network_failure(what, answer)
            # git names the first one only; the others go in the next round.
            absent += gone
            wanted = [spec for spec in wanted if spec not in gone]
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
        url = self._address(remote, push=True)
        leases, specs = [], []
        for update in updates:
            target = check_ref(update.target)
            source = check_sha(update.source) if update.source else ""
            if update.expect is None:
                specs.append(f"+{source}:{target}")
                continue
            expected = "" if update.expect == ABSENT else check_sha(update.expect)
            leases.append(f"--force-with-lease={target}:{expected}")
            # Without `+`, which would override the lease.
            specs.append(f"{source}:{target}")
        if not specs:
            return PushOutcome.LANDED
        what = f"pushing to {git_names.redact_url(url)}"
        flags = ("--porcelain", "--atomic", "--no-verify", "--no-follow-tags", "--no-signed", "--no-progress",
                 "--recurse-submodules=no")  # fmt: skip
        answer = self._network(
            "push", *flags, *leases, "--", url, *specs, url=url, what=what, timeout_s=timeout_s
        )
        if answer.returncode == 0:
            return PushOutcome.LANDED
        stdout = answer.stdout.decode("utf-8", "replace")
        outcome = git_answers.outcome_of_push(stdout)
        if outcome is not None:
            return outcome
        missing = [u for u in updates if f"unable to delete '{u.target}': remote ref" in answer.stderr]
        if missing:
            if any(update.expect is not None for update in missing):
                return PushOutcome.REJECTED
            return self.push(url, [u for u in updates if u not in missing], timeout_s=timeout_s)
        if git_answers.has_statuses(stdout):
            said = self._say(answer) if "remote:" in answer.stderr else ""
            reasons = "; ".join(git_answers.refusal_reasons(stdout))
            detail = ": ".join(part for part in (reasons, said) if part)
            raise RefusedError(f"{what} was refused: {detail}; nothing was changed there.")
        raise self._network_failure(what, answer)

    # --- work trees --------------------------------------------------------------------------------------

    def add_worktree(self, path: str | os.PathLike[str], commit: str) -> None:
        """Check a commit out into a folder of its own, detached. What was in the folder goes away."""
        folder = Path(path).absolute()
        if os.path.lexists(folder):
            self.remove_worktree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        arguments = ("worktree", "add", "--quiet", "--detach", "--force", "--force")
        self._run(*arguments, str(folder), check_sha(commit))

    def remove_worktree(self, path: str | os.PathLike[str]) -> None:
        """Remove a folder made by `add_worktree` and all that is in it. Gone already is well."""
        folder = Path(path).absolute()
        _remove_tree(folder)
        self._run("worktree", "prune", "--expire=now")

    def object_bytes(self) -> int:
        """How much disk the repository's objects take, in bytes."""
        files = (path for path in (self.common_dir / "objects").rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)

    # --- running -----------------------------------------------------------------------------------------

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for temporary files on the repository's own disk, removed at the end."""
        try:
            folder = tempfile.mkdtemp(prefix="tmp-", dir=self.colab_dir)
        except OSError as error:
            raise StoreError(f"no temporary folder can be made in {self.common_dir}: {error}.") from error
        try:
            yield Path(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _address(self, remote: str, *, push: bool) -> str:
        if ":" in remote or remote.startswith(("/", "-", ".")):
            return git_names.check_url(remote)
        return self.remote_url(remote, push=push)

    def _environment(self) -> dict[str, str]:
        if not self.isolated:
            return {}
        nobody = {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
        }
        return nobody | ({git_process.TOKEN_VARIABLE: self.token} if self.token else {})

    def _run(
        self,
        *arguments: str,
        ok: Sequence[int] = (0,),
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float | None = None,
    ) -> Finished:
        limit = self.timeout_s if timeout_s is None else timeout_s
        try:
            answer = self._execute(arguments, stdin=stdin, timeout_s=limit)
        except TimeoutError:
            raise StoreError(
                f"git {_verb(arguments)} in {self.git_dir} did not end in {limit:g} s and was stopped."
            ) from None
        if answer.returncode not in ok:
            raise self._failure(f"git {_verb(arguments)}", answer)
        return answer

    def _execute(
        self, arguments: Sequence[str], *, timeout_s: float, stdin: bytes | IO[bytes] | None = None,
        config: Sequence[str] = (),
    ) -> Finished:  # fmt: skip
        where = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            where.append(f"--work-tree={self.work_tree}")
        settings = [word for setting in config for word in ("-c", setting)]
        return git_process.run_git(
            [*where, *settings, *arguments],
            cwd=self.git_dir,
            environment=self._environment(),
            timeout_s=timeout_s,
            stdin=stdin,
        )

    def _locking(self, *arguments: str, stdin: bytes | IO[bytes] | None) -> Finished:
        answer = self._run(*arguments, stdin=stdin, ok=range(256))
        for _ in range(_LOCK_ATTEMPTS):
            if answer.returncode == 0 or ".lock': File exists" not in answer.stderr:
                break
            time.sleep(_LOCK_PAUSE_S)
            if stdin is not None and not isinstance(stdin, bytes):
                stdin.seek(0)
            answer = self._run(*arguments, stdin=stdin, ok=range(256))
        return answer

    def _network(self, *arguments: str, url: str, what: str, timeout_s: float | None) -> Finished:
        limit = self.network_timeout_s if timeout_s is None else timeout_s
        config = []
        if self.token:
            config = git_process.login(urlsplit(url))
        try:
            return self._execute(arguments, timeout_s=limit, config=config)
        except TimeoutError:
            raise UnreachableError(
                f"{what} did not end in {limit:g} s and was stopped; try again later."
            ) from None

    def _say(self, answer: Finished) -> str:
        return git_process.say(answer, token=self.token)

    def _network_failure(self, what: str, answer: Finished) -> Exception:
        return git_answers.network_error(what, stderr=answer.stderr, said=self._say(answer))

    def _failure(self, what: str, answer: Finished) -> StoreError:
        full = "No space left on device" in answer.stderr or "Disk quota exceeded" in answer.stderr
        then = "; the disk is full: free some space and try again" if full else ""
        return StoreError(f"{what} in {self.git_dir} failed: {self._say(answer)}{then}.")

    def _text(self, *arguments: str) -> str:
        return os.fsdecode(self._run(*arguments).stdout).removesuffix("\n")


def _verb(arguments: Sequence[str]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")


def _side(name: str) -> str:
    if name.endswith("/*"):
        return check_ref(name.removesuffix("/*")) + "/*"
    return check_ref(name)


def _parse_commit(sha: str, content: bytes) -> CommitInfo:
    head, _, message = content.decode("utf-8", "surrogateescape").partition("\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.split("\n"):
        name, _, value = line.partition(" ")
        fields.setdefault(name, []).append(value)
    author, authored_s, _ = fields["author"][0].rsplit(" ", 2)
    committed_s = fields["committer"][0].rsplit(" ", 2)[1]
    parents = tuple(fields.get("parent", ()))
    return CommitInfo(sha, fields["tree"][0], parents, author, int(authored_s), int(committed_s), message)


def _remove_tree(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    # A job may have taken the write permission from its own folders.
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for directory, _, _ in os.walk(folder):
            with suppress(OSError):
                os.chmod(directory, stat.S_IRWXU)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise StoreError(f"{folder} cannot be emptied; remove it by hand.")
