"""The person's project on the machine of a session: brought as it is on disk, edits there brought back.

Both sides remember the commit that they last agreed on. What differs from it here goes there; what differs
from it there is shown and comes here once it is accepted. Where a file was edited on both sides nothing is
lost: this side's goes there, and the other one comes as a file beside it.
"""

from __future__ import annotations

import hashlib
import platform
import re
import tempfile
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colab_magics.errors import TunnelError, UsageError
from colab_magics.store import exchange
from colab_magics.store.exchange import Content
from colab_magics.store.git import Repository
from colab_magics.store.git_index import Staged
from colab_magics.store.snapshot import take_snapshot
from colab_magics.tunnel.hand import Answer, Hand
from colab_magics.tunnel.plan import Say

CHUNK_BYTES = 1 << 20
CHUNKS_AT_ONCE = 8
GIT_S = 600.0
"""Git there may have a large project to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a sync did.

    Attributes:
        local_root, remote_root: the project's folder here and there.
        sent: how many files changed there. sent_bytes: what it took.
        taken: files of here that are now as they were edited there.
        beside: file → the name under which the other side's edit of it now lies here.
        waiting: files that were edited there and not accepted; `diff` is what was edited.
        kept: where something else is there, or came while this ran: it stays as it is.
        new: files that are only there, some of them; new_count: how many.
        modules: Python modules that are new there: who has imported them still has the old ones.
        left_out: files here that were not sent, each with the reason.
    """

    local_root: Path
    remote_root: str
    sent: int
    sent_bytes: int
    taken: tuple[str, ...] = ()
    beside: Mapping[str, str]
    waiting: tuple[str, ...] = ()
    diff: str = ""
    kept: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    new_count: int = 0
    modules: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def project_at(folder: Path) -> Repository:
    """The project that a folder belongs to.

    Raises:
        NoRepositoryError: none; the sentence says how to make one.
        UsageError: it has no files of its own.
    """
    repository = Repository.discover(folder)
    if repository.work_tree is None:
        raise UsageError(f"{repository.git_dir} has no work tree: there are no files to bring")
    return repository


def default_root(repository: Repository) -> str:
    """Where a project goes if nobody says where: a folder for this project of this machine alone."""
    assert repository.work_tree is not None
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", repository.work_tree.name).strip("-.") or "project"
    return f"~/colab/{name}-{_key(repository)[:8]}"


def sync(
    hand: Hand,
    repository: Repository,
    *,
    remote_root: str | None,
    accept: bool,
    max_file_bytes: int,
    say: Say = lambda sentence: None,
) -> Synced:
    """Have both sides agree, as far as the person accepts.

    Args:
        remote_root: None for the default.
        accept: whether what was edited there comes here.
        max_file_bytes: files that differ from the last commit may not be larger.

    Raises:
        UsageError: the folder there is not ours, or the code here cannot be sent.
        TunnelError, StoreError: it failed; both sides have what they had, or what was accepted.
    """
    hand.load("project")
    exchanging = _Exchange(hand, repository, remote_root or default_root(repository), say)
    exchanging.look()
    here = take_snapshot(repository, remote=None, max_file_bytes=max_file_bytes)
    exchanging.look_for(here.commit)
    settled, taken, beside = exchanging.accept(here.commit) if accept else ({}, (), {})
    if taken or beside:
        here = take_snapshot(repository, remote=None, max_file_bytes=max_file_bytes)
    return exchanging.agree(here.commit, settled, taken, beside, here.left_out)


class _Exchange:
    """One sync under way."""

    def __init__(self, hand: Hand, repository: Repository, root: str, say: Say) -> None:
        self._hand, self._repository, self._say = hand, repository, say
        self._root = root
        self._agreed: str | None = None
        self._before: dict[str, Staged] = {}
        self._edits: dict[str, Content] = {}
        self._new: tuple[tuple[str, ...], int] = ((), 0)
        self._blocked: list[str] = []

    def look(self) -> None:
        """Learn what was agreed on, and what was edited there since; have the objects of both."""
        found = self._ask("project_look", project=_key(self._repository))
        self._root = found["root"]
        if found["state"] != "ready":
            whose = {"foreign": "is there, and not empty", "other": "holds another project"}[found["state"]]
            raise UsageError(
                f"{self._root} {whose}: nothing was changed there; name another folder with --remote-root"
            )
        self._agreed = found["agreed"]
        self._new = (tuple(found.get("new", ())), found.get("new_count", 0))
        self._edits = {path: Staged(*one) if one else None for path, one in found["edits"].items()}
        if self._agreed is not None and not self._repository.has(self._agreed):
            self._fetch([self._agreed], whole=True)
        self._before = exchange.contents(self._repository, self._agreed)

    def look_for(self, commit: str) -> None:
        """Learn what is in the way there of files that are new here; have what was edited there."""
        fresh = [path for path in exchange.contents(self._repository, commit) if path not in self._before]
        found = self._ask("project_in_the_way", paths=fresh)["found"] if fresh else {}
        self._edits |= {path: Staged(*one) for path, one in found.items() if one[1]}
        self._blocked = [path for path, one in found.items() if not one[1]]
        blobs = [one.sha for one in self._edits.values() if one is not None]
        lacking = exchange.missing(self._repository, blobs)
        if lacking:
            self._fetch(lacking, whole=False)

    def accept(self, commit: str) -> tuple[dict[str, Content], tuple[str, ...], dict[str, str]]:
        """Bring here what was edited there.

        Returns:
            What may be overwritten there, since it is safe here; files that were taken; files beside others.
        """
        here = exchange.contents(self._repository, commit)
        settled: dict[str, Content] = {}
        write: dict[str, Content] = {}
        beside: dict[str, str] = {}
        for path, theirs in self._edits.items():
            ours, before = here.get(path), self._before.get(path)
            if ours == theirs:
                continue
            if ours == before:
                write[path] = theirs
                continue
            settled[path] = theirs
            if theirs is not None:
                beside[path] = exchange.free_name(self._repository, path, tuple(beside.values()))
        for path, now in exchange.on_disk(self._repository, write).items():
            if now != (one.sha if (one := self._before.get(path)) else None):
                del write[path]  # edited here a moment ago
        taken = tuple(write)
        write |= {name: self._edits[path] for path, name in beside.items()}
        exchange.write_files(self._repository, write)
        return settled, taken, beside

    def agree(
        self,
        commit: str,
        settled: Mapping[str, Content],
        taken: tuple[str, ...],
        beside: Mapping[str, str],
        left_out: tuple[str, ...],
    ) -> Synced:
        """Send what is here; what was edited there and is not settled stays."""
        here = exchange.contents(self._repository, commit)
        held = [
            path for path, theirs in self._edits.items() if here.get(path) != theirs and path not in settled
        ]
        apart = {path: self._before.get(path) for path in (*held, *self._blocked)}
        agreed = exchange.amend(self._repository, commit, apart)
        diff, first = "", self._agreed is None
        if held and self._agreed is not None:
            diff = exchange.diff(self._repository, self._agreed, {path: self._edits[path] for path in held})
        sent_bytes, written, kept = self._move(agreed, settled)
        if kept:  # edited there a moment ago: not agreed on
            agreed = exchange.amend(self._repository, agreed, {path: self._before.get(path) for path in kept})
            self._move(agreed, {})
        self._repository.set_refs({_pin(self._repository, self._root): agreed})
        after = exchange.contents(self._repository, agreed)
        changed = [path for path, one in after.items() if self._before.get(path) != one]
        changed += [path for path in settled if path not in changed]
        return Synced(
            local_root=self._work_tree,
            remote_root=self._root,
            sent=written,
            sent_bytes=sent_bytes,
            taken=taken,
            beside=beside,
            waiting=tuple(held),
            diff=diff,
            kept=(*self._blocked, *kept),
            new=self._new[0],
            new_count=self._new[1],
            modules=() if first else tuple(sorted(filter(None, map(_module, changed)))),
            left_out=left_out,
        )

    def _move(self, commit: str, settled: Mapping[str, Content]) -> tuple[int, int, list[str]]:
        """Have it agree on a commit: the bytes that went, the files that changed, those that did not."""
        sent_bytes = self._send(commit)
        told = {path: [one.mode, one.sha] if one else None for path, one in settled.items()}
        answer = self._ask(
            "project_agree", commit=commit, agreed=self._agreed, has_pack=sent_bytes > 0, settled=told
        )
        self._agreed = commit
        return sent_bytes, answer["written"], answer["kept"]

    # --- packs -------------------------------------------------------------------------------------------

    def _send(self, commit: str) -> int:
        if commit == self._agreed:
            return 0
        with tempfile.TemporaryDirectory(dir=self._repository.colab_dir) as folder:
            file = Path(folder) / "pack"
            size_bytes = exchange.pack(self._repository, want=commit, have=self._agreed, into=file)
            self._say(f"Sending {size_bytes / 1e6:.3g} MB to {self._root} …")
            under_way: deque[Future[Answer]] = deque()
            with file.open("rb") as stream:
                offset = 0
                while data := stream.read(CHUNK_BYTES):
                    if len(under_way) == CHUNKS_AT_ONCE:
                        _done(under_way.popleft())
                    begun = self._hand.begin("project_write", buffers=[data], root=self._root, offset=offset)
                    under_way.append(begun)
                    offset += len(data)
            for each in under_way:
                _done(each)
        return size_bytes

    def _fetch(self, objects: list[str], *, whole: bool) -> None:
        size_bytes = self._ask("project_pack", objects=objects, whole=whole)["size_bytes"]
        self._say(f"Fetching {size_bytes / 1e6:.3g} MB from {self._root} …")
        parts = [
            self._hand.begin("project_read", root=self._root, offset=offset, count=CHUNK_BYTES)
            for offset in range(0, size_bytes, CHUNK_BYTES)
        ]
        with tempfile.TemporaryDirectory(dir=self._repository.colab_dir) as folder:
            file = Path(folder) / "pack"
            with file.open("wb") as stream:
                for part in parts:
                    stream.write(bytes(_done(part).buffers[0]))
            exchange.unpack(self._repository, file)

    def _ask(self, verb: str, **content: Any) -> Mapping[str, Any]:
        return self._hand.ask(verb, timeout_s=GIT_S, root=self._root, **content).content

    @property
    def _work_tree(self) -> Path:
        assert self._repository.work_tree is not None
        return self._repository.work_tree


def _done(begun: Future[Answer]) -> Answer:
    try:
        return begun.result(GIT_S)
    except TimeoutError:
        raise TunnelError(f"the machine did not answer in {GIT_S:g} s") from None


def _key(repository: Repository) -> str:
    """Which project of which machine: the mark of its folder there."""
    return hashlib.sha256(f"{platform.node()}\0{repository.work_tree}".encode()).hexdigest()[:16]


def _pin(repository: Repository, root: str) -> str:
    """The ref that keeps here what was agreed on with a folder there."""
    return f"refs/colab/tunnel/{hashlib.sha256(f'{_key(repository)}{root}'.encode()).hexdigest()[:16]}"


def _module(path: str) -> str | None:
    """The name that a file is imported by from the project's folder; None if it is no module."""
    if not path.endswith(".py") or not all(part.isidentifier() for part in path[:-3].split("/")):
        return None
    return path[:-3].replace("/", ".").removesuffix(".__init__")
