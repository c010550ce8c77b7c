"""Files of finished jobs in the person's work tree: written whole, and never over what they changed."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from colab_magics.errors import CorruptError, StoreError

FOLDER = "colab_results"
MANIFEST = ".colab-files.json"
"""In each job's folder: the SHA-256 of every file as it was written, to tell what the person changed."""


class Landing(enum.StrEnum):
    """What became of one file."""

    WRITTEN = "written"
    SAME = "same"
    BESIDE = "beside"
    """The person changed the file: theirs stayed, the new one stands beside it."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Landed:
    """One file of a job: its path below the job's folder, where it is now, or why it is not there."""

    name: str
    landing: Landing
    path: Path
    why: str = ""


def prepare_folder(work_tree: Path) -> Path:
    """`colab_results` in the work tree, made if needed, with a .gitignore that keeps it out of Git.

    Raises:
        StoreError: the disk refuses.
    """
    folder = work_tree / FOLDER
    ignore = folder / ".gitignore"
    try:
        folder.mkdir(exist_ok=True)
        if not ignore.exists():
            _replace(ignore, b"*\n")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}): sync with --into DIR") from error
    return folder


def deliver_files(folder: Path, files: Mapping[str, bytes], *, attempt: int) -> list[Landed]:
    """Write a job's files into its folder.

    Args:
        folder: the job's own; made if needed.
        files: relative paths with `/`, as the job named them; each is checked.
        attempt: ends the name of a file that is put beside one that the person changed.

    Raises:
        CorruptError: the folder's manifest does not parse.
        StoreError: the folder itself cannot be made or written. A single file that cannot be is told as
            refused instead.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made ({error.strerror}): sync with --into DIR") from error
    ours = _load_manifest(folder)
    landed = [_deliver(folder, name, data, ours.get(name), attempt) for name, data in files.items()]
    written = {
        each.name: _digest(files[each.name])
        for each in landed
        if each.landing in (Landing.WRITTEN, Landing.SAME)
    }
    if written.items() - ours.items():
        try:
            _replace(folder / MANIFEST, json.dumps({**ours, **written}, indent=1).encode() + b"\n")
        except OSError as error:
            raise StoreError(f"{folder / MANIFEST} cannot be written ({error.strerror})") from error
    return landed


def _deliver(folder: Path, name: str, data: bytes, ours: str | None, attempt: int) -> Landed:
    path = folder / name
    refusal = _refusal(folder, name)
    if refusal:
        return Landed(name, Landing.REFUSED, path, refusal)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _digest_of(path)
        if found == _digest(data):
            return Landed(name, Landing.SAME, path)
        if found is None or found == ours:
            _replace(path, data)
            return Landed(name, Landing.WRITTEN, path)
        beside = _free_name(path, data, attempt)
        _replace(beside, data)
        return Landed(name, Landing.BESIDE, beside)
    except OSError as error:
        why = f"{error.strerror or error}; syncing the job by its name tries again"
        return Landed(name, Landing.REFUSED, path, why)


def _refusal(folder: Path, name: str) -> str:
    """Why a path that a job named must not be written, or nothing."""
    parts = PurePosixPath(name).parts
    plain = name and "/".join(parts) == name and not any(char in name for char in "\\\0\n\r")
    if not plain or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "its path leads out of the job's folder"
    if any(part.lower() == ".git" for part in parts):
        return "it would be a Git repository inside yours"
    parent = folder
    for part in parts[:-1]:
        parent = parent / part
        if parent.is_symlink():
            return f"{parent.name} is a symbolic link"
    return "its name is taken by the list of files" if name == MANIFEST else ""


def _free_name(path: Path, data: bytes, attempt: int) -> Path:
    """A name beside `path` that nothing stands under, or under which the same content stands already."""
    number = 1
    while True:
        more = "" if number == 1 else f".{number}"
        beside = path.with_name(f"{path.name}.new-{attempt}{more}")
        if _digest_of(beside) in (None, _digest(data)):
            return beside
        number += 1


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(path: Path) -> str | None:
    """What stands under a path: None for nothing, a text that no file's digest equals for what is no file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "not a file"
    return _digest(path.read_bytes()) if path.exists() else None


def _load_manifest(folder: Path) -> dict[str, str]:
    path = folder / MANIFEST
    try:
        told = json.loads(path.read_bytes())
        return {str(name): str(digest) for name, digest in told.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise CorruptError(
            f"{path} does not parse: remove it, and files that differ from the new ones stay beside them"
        ) from error


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    draft = path.with_name(f".part-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
