"""Wishes that no remote has yet, on disk, so that neither a crash nor a lost network loses one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colab_magics.errors import CorruptError, StoreError
from colab_magics.jobs.spec import Json

FILE = "wish.json"


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing asked for: entries to add, with files beside them, or ids of jobs to cancel.

    `folder` is where it lies on disk; `code` are the snapshots that the entries run in.
    """

    entries: tuple[dict[str, Json], ...] = ()
    cancels: tuple[str, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def code(self) -> list[str]:
        """The commits that the entries run in, each once."""
        found = (entry.get("code") for entry in self.entries)
        return list(dict.fromkeys(code for code in found if isinstance(code, str)))

    @property
    def ids(self) -> list[str]:
        """The ids of the entries."""
        return [str(entry["id"]) for entry in self.entries]


class Outbox:
    """A folder of wishes in the order in which they were made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, wish: Wish) -> Wish:
        """Keep a wish until `remove`; it is on disk, whole, when this returns.

        Raises:
            StoreError: the disk refuses; nothing is kept.
        """
        return self._write(wish, number=max((_number(path) for path in self._paths()), default=0) + 1)

    def wishes(self) -> list[Wish]:
        """All that waits, oldest first.

        Raises:
            CorruptError: one does not parse; the message names its folder.
        """
        return [wish for path in self._paths() if (wish := _read(path)) is not None]

    def remove(self, wishes: Sequence[Wish]) -> None:
        """Forget wishes that the remote has, or that were taken back."""
        for wish in wishes:
            if wish.folder is not None:
                shutil.rmtree(wish.folder, ignore_errors=True)

    def withdraw(self, job_ids: set[str]) -> None:
        """Take entries out again that no remote has; those that stay keep their place."""
        for wish in self.wishes():
            left = tuple(entry for entry in wish.entries if entry["id"] not in job_ids)
            if len(left) == len(wish.entries):
                continue
            if left and wish.folder is not None:
                self._write(Wish(left, wish.cancels, wish.blobs), number=_number(wish.folder))
            self.remove([wish])

    def _write(self, wish: Wish, *, number: int) -> Wish:
        name = f"{number:08d}-{os.getpid()}-{os.urandom(3).hex()}"
        draft = self._folder / f".{name}"
        told = {"entries": wish.entries, "cancels": wish.cancels, "blobs": list(wish.blobs)}
        try:
            draft.mkdir(parents=True)
            for path, data in wish.blobs.items():
                target = draft / path
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(data)
            with (draft / FILE).open("w") as file:
                file.write(json.dumps(told))
                file.flush()
                os.fsync(file.fileno())
            folder = draft.rename(self._folder / name)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise StoreError(f"what is queued cannot be kept in {self._folder}: {error}") from error
        return Wish(wish.entries, wish.cancels, wish.blobs, folder)

    def _paths(self) -> list[Path]:
        found = self._folder.iterdir() if self._folder.is_dir() else []
        return sorted(path for path in found if path.name[:1].isdigit())


def subject(names: Sequence[str], *, cancels: int) -> str:
    """What the commit that grants some wishes says: the names of the jobs queued, how many are cancelled."""
    queued = f"Queue {names[0]}" if names else ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    cancelled = f"cancel {cancels} job{'s' * (cancels > 1)}" if cancels else ""
    told = "; ".join(part for part in (queued + more, cancelled) if part)
    return told[:1].upper() + told[1:]


def _number(folder: Path) -> int:
    return int(folder.name.split("-")[0])


def _read(folder: Path) -> Wish | None:
    try:
        told = json.loads((folder / FILE).read_text())
        blobs = {str(path): (folder / path).read_bytes() for path in told["blobs"]}
        return Wish(tuple(told["entries"]), tuple(told["cancels"]), blobs, folder)
    except FileNotFoundError:
        return None  # another process has just sent it
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{folder} holds a job that was never pushed and does not parse: look at it, then remove it"
        ) from error
