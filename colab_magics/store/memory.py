"""A store in this process: the contract in its plainest form, for tests of what stands on a store."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from colab_magics.errors import CorruptError, StoreError, UnreachableError
from colab_magics.jobs.board import Summary, broken_file, fold, join, ledger_files, read_entries
from colab_magics.jobs.codec import Live
from colab_magics.jobs.intent import append_entries, parse_intent, replace_entries
from colab_magics.jobs.paths import job_folder
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec, to_entry
from colab_magics.jobs.state import Event, JobState
from colab_magics.store.base import Receipt, Recorded, Submission, View


@dataclass(slots=True)
class MemoryRemote:
    """What several memory stores share, as clones share a remote. `reachable` is the network.

    `intents` are all versions of experiments.json, the latest last; `written` counts ledger commits.
    """

    intents: list[bytes] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    ledger: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, JobState] = field(default_factory=dict)
    written: int = 0
    lives: dict[str, Live] = field(default_factory=dict)
    code: dict[str, Path] = field(default_factory=dict)
    checkpoints: dict[str, tuple[int, dict[str, bytes]]] = field(default_factory=dict)
    reachable: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """What a worker wants written, and the ledger that it decided on."""

    parent: str | None
    changed: Mapping[str, JobState]
    files: Mapping[str, bytes]
    live: Live | None


class MemoryStore:
    """One participant's view of a MemoryRemote; see store.base.Store."""

    def __init__(self, remote: MemoryRemote) -> None:
        self._remote = remote
        self._outbox: list[Submission] = []
        self._cancels: set[str] = set()
        self._view = View()
        self._entries: list[Job] = []
        self._ledger: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        self._unsettled: _Unsettled | None = None

    def submit(self, submission: Submission) -> Receipt:
        self._outbox.append(submission)
        try:
            return self._flush_or_wait()
        except StoreError:
            self._outbox.remove(submission)
            raise

    def cancel(self, job_ids: Iterable[str]) -> Receipt:
        wanted = set(job_ids)
        added = wanted - self._cancels
        self._cancels |= added
        left = [
            replace(each, specs=tuple(spec for spec in each.specs if spec.job_id not in wanted))
            for each in self._outbox
        ]
        self._outbox = [each for each in left if each.specs]
        try:
            return self._flush_or_wait()
        except StoreError:
            self._cancels -= added
            raise

    def flush(self) -> Receipt:
        if not self._outbox and not self._cancels:
            return Receipt(commit=self._view.intent)
        remote = self._reach()
        with remote.lock:
            before = remote.intents[-1] if remote.intents else None
            intent = before
            for each in self._outbox:
                entries = [{**to_entry(spec), **each.extras} for spec in each.specs]
                intent = append_entries(intent, entries)
                remote.blobs.update(each.blobs)
            if self._cancels:
                jobs = _read(intent)
                intent = replace_entries(
                    intent,
                    lambda index, entry: (
                        {**entry.value, "cancel": True}
                        if isinstance(entry.value, dict) and jobs[index].job_id in self._cancels
                        else None
                    ),
                )
            if intent is not None and intent != before:
                remote.intents.append(intent)
        self._outbox, self._cancels = [], set()
        return Receipt(commit=str(len(remote.intents)))

    def refresh(self) -> View:
        remote = self._reach()
        with remote.lock:
            self._entries, note = _read_latest(remote.intents)
            self._view = View(
                jobs=join(self._entries, remote.states, removal_counts=not note),
                lives=dict(remote.lives),
                intent=str(len(remote.intents)) if remote.intents else None,
                ledger=str(remote.written) if remote.written else None,
                note=note,
            )
            self._ledger, self._blobs = dict(remote.ledger), dict(remote.blobs)
        return self.view()

    def view(self) -> View:
        specs = [spec for each in self._outbox for spec in each.specs]
        unsent = [Job(spec.job_id, spec, JobState(spec.job_id, name=spec.name)) for spec in specs]
        return replace(
            self._view, jobs=(*self._view.jobs, *unsent), waiting=tuple(spec.job_id for spec in specs)
        )

    def read(self, job_id: str, name: str) -> bytes | None:
        return self._ledger.get(f"{job_folder(job_id)}/{name}")

    def files(self, job_id: str) -> dict[str, int]:
        prefix = f"{job_folder(job_id)}/"
        return {
            path.removeprefix(prefix): len(data)
            for path, data in self._ledger.items()
            if path.startswith(prefix)
        }

    def read_input(self, path: str) -> bytes | None:
        return self._blobs.get(path)

    def record(
        self,
        view: View,
        events: Sequence[Event],
        *,
        summaries: Mapping[str, Summary],
        files: Mapping[str, bytes | Path],
        live: Live | None = None,
    ) -> Recorded:
        changed = fold(view.jobs, events, summaries)
        contents = {
            path: data if isinstance(data, bytes) else data.read_bytes() for path, data in files.items()
        }
        self._unsettled = _Unsettled(view.ledger, changed, contents, live)
        return self.settle()

    def settle(self) -> Recorded:
        asked, remote = self._unsettled, self._remote
        if asked is None:
            return Recorded.LOST
        if not remote.reachable:
            self._unsettled = replace(asked, live=None)  # by then it would be an old one
            return Recorded.UNKNOWN
        self._unsettled = None
        with remote.lock:
            if asked.parent != (str(remote.written) if remote.written else None):
                return Recorded.LOST
            remote.ledger.update(ledger_files(asked.changed, remote.states))
            remote.ledger.update(asked.files)
            remote.states.update(asked.changed)
            remote.written += 1
            if asked.live is not None:
                remote.lives[asked.live.worker] = asked.live
            self._ledger = dict(remote.ledger)
            jobs = join(self._entries, remote.states, removal_counts=not self._view.note)
            self._view = replace(self._view, jobs=jobs, ledger=str(remote.written))
        return Recorded.LANDED

    def publish(self, live: Live) -> None:
        self._reach().lives[live.worker] = live

    def retire(self, worker: str) -> None:
        self._reach().lives.pop(worker, None)

    def save_checkpoint(self, job_id: str, attempt: int, files: Mapping[str, Path]) -> None:
        remote = self._reach()
        with remote.lock:
            if attempt >= remote.checkpoints.get(job_id, (0, {}))[0]:
                remote.checkpoints[job_id] = (
                    attempt,
                    {name: path.read_bytes() for name, path in files.items()},
                )

    def load_checkpoint(self, job_id: str, folder: Path) -> bool:
        _, files = self._reach().checkpoints.get(job_id, (0, {}))
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return bool(files)

    def drop_checkpoint(self, job_id: str) -> None:
        self._reach().checkpoints.pop(job_id, None)

    def checkout(self, spec: JobSpec, folder: Path) -> str:
        source = self._remote.code.get(spec.code or "")
        if source is None:
            raise StoreError(
                f"the code of {spec.job_id} ({spec.code}) is not in the store any more: queue it again"
            )
        shutil.copytree(source, folder)
        return spec.code or ""

    def remove_checkout(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def compact(self) -> None:
        return

    def _reach(self) -> MemoryRemote:
        if not self._remote.reachable:
            raise UnreachableError("the memory remote cannot be reached: set reachable = True")
        return self._remote

    def _flush_or_wait(self) -> Receipt:
        try:
            return self.flush()
        except UnreachableError as error:
            return Receipt(commit=None, reason=str(error))


def _read_latest(intents: Sequence[bytes]) -> tuple[list[Job], str]:
    """The jobs of the latest version that parses, behind what stands for a broken one, and what is wrong."""
    broken: list[Job] = []
    for data in reversed(intents):
        try:
            return [*broken, *_read(data)], broken[0].rejection or "" if broken else ""
        except CorruptError as error:
            broken = broken or [broken_file(data, str(error))]
    return broken, broken[0].rejection or "" if broken else ""


def _read(intent: bytes | None) -> list[Job]:
    return read_entries([entry.value for entry in parse_intent(intent)], {})
