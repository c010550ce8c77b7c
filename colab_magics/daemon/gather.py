"""What a job leaves: files out of its output folder and by its patterns, variables, checkpoints."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from colab_magics.daemon.assignment import Limits
from colab_magics.jobs.record import Stored

Mask = Callable[[bytes], bytes]


@dataclass(slots=True)
class Gathered:
    """Files for the ledger (path below `artifacts/` → copy), what is known of each, and what was noticed."""

    files: dict[str, Path] = field(default_factory=dict)
    stored: list[Stored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather_artifacts(
    output: Path,
    *,
    checkout: Path,
    patterns: Sequence[str],
    into: Path,
    kept: Path,
    kept_as: str,
    limits: Limits,
    mask: Mask,
    but: frozenset[str] = frozenset(),
) -> Gathered:
    """Copy, masked, what the output folder holds and what the patterns match in the checkout.

    A file that is too large goes to `kept`, for whoever has access to this machine: moved out of the output
    folder, copied from the checkout. Links are followed only to files of the same folder.

    Args:
        kept_as: where a person finds what is in `kept`, for the notes.
        but: paths in `output` that are taken elsewhere.
    """
    gathered = Gathered()
    candidates: dict[str, tuple[Path, Path]] = {}
    if output.is_dir() and not output.is_symlink():
        for path in _files(output):
            name = path.relative_to(output).as_posix()
            if name not in but:
                candidates.setdefault(name, (path, output))
    else:
        gathered.notes.append("the job removed its output folder ($COLAB_OUTPUT_DIR)")
    for pattern in patterns:
        for path in _matches(pattern, checkout, gathered.notes):
            candidates.setdefault(path.relative_to(checkout).as_posix(), (path, checkout))
    left = limits.artifacts_total_bytes
    is_kept: set[str] = set()
    for name in sorted(candidates):
        path, root = candidates[name]
        stored = _store(
            name, path, root, into=into, limits=limits, left=left, mask=mask, count=len(gathered.files)
        )
        gathered.stored.append(stored)
        if stored.stored:
            gathered.files[name] = into / name
            left -= stored.size_bytes
        elif "limit" in stored.why_not and _keep(path, kept / name, own=root == output):
            is_kept.add(stored.path)
    refused = [each for each in gathered.stored if not each.stored]
    for each in refused[:10]:
        place = f"; it stays in the daemon's folder under {kept_as}" if each.path in is_kept else ""
        gathered.notes.append(f"{each.path} was not stored: {each.why_not}{place}")
    if len(refused) > 10:
        gathered.notes.append(f"… and {len(refused) - 10} more files were not stored")
    return gathered


def copy_masked(source: Path, target: Path, *, mask: Mask) -> bytes:
    """Write `source`, masked, to `target`; return what was written.

    Raises:
        OSError: it cannot be read, or the disk refuses.
    """
    data = mask(source.read_bytes())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return data


def is_safe(name: str) -> bool:
    """Whether a path can stand in a Git tree: relative, without `..`, `.git` or control characters."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not any(
        part in (".", "..", "/") or part.lower() == ".git" or any(ord(char) < 32 for char in part)
        for part in parts
    )


def _files(root: Path) -> Iterator[Path]:
    """Files and links below a folder; folders behind links are not entered."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        yield from (here / name for name in sorted((*files, *links)))


def _matches(pattern: str, checkout: Path, notes: list[str]) -> list[Path]:
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        notes.append(f"the artifact pattern {pattern!r} was refused: it must stay in the job's folder")
        return []
    if not checkout.is_dir():
        notes.append(f"the artifact pattern {pattern!r} matched nothing: the job removed its folder")
        return []
    found: list[Path] = []
    try:
        for path in checkout.glob(pattern):
            if path.is_dir() and not path.is_symlink() and _is_inside(path, checkout):
                found.extend(_files(path))
            else:
                found.append(path)
    except (ValueError, NotImplementedError, OSError) as error:
        notes.append(f"the artifact pattern {pattern!r} cannot be used: {error}")
    found = [path for path in found if ".git" not in path.relative_to(checkout).parts]
    if not found:
        notes.append(f"the artifact pattern {pattern!r} matched nothing")
    return found


def _store(
    name: str, path: Path, root: Path, *, into: Path, limits: Limits, left: int, mask: Mask, count: int
) -> Stored:
    try:
        size = path.lstat().st_size
        if not is_safe(name) or _surrogates(name):
            return _refused(name, size, "its name cannot stand in a repository")
        if mask(name.encode()) != name.encode():
            return _refused(name, size, "its name has a secret in it")
        if not _is_inside(path, root):
            behind = "a link to a file" if path.is_symlink() else "behind a link to a folder"
            return _refused(name, size, f"it is {behind} outside of its folder")
        known = path.stat()
        if not stat.S_ISREG(known.st_mode):
            return _refused(name, size, "it is not a regular file")
        size = known.st_size
        if size > limits.artifact_bytes:
            return _refused(
                name, size, f"{_mb(size)} is over the limit of {_mb(limits.artifact_bytes)} for one file"
            )
        if size > left:
            return _refused(
                name, size, f"the limit of {_mb(limits.artifacts_total_bytes)} for all files is reached"
            )
        if count >= limits.artifacts_count:
            return _refused(name, size, f"the limit of {limits.artifacts_count:,} files is reached")
        data = copy_masked(path, into / name, mask=mask)
    except OSError as error:
        return _refused(name, 0, f"it cannot be read: {error.strerror or error}")
    return Stored(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), stored=True)


def _refused(name: str, size_bytes: int, why_not: str) -> Stored:
    return Stored(path=_printable(name), size_bytes=size_bytes, sha256="", stored=False, why_not=why_not)


def _surrogates(name: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in name)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads to something in the folder, whatever links are on the way.

    Raises:
        OSError: it leads nowhere.
    """
    try:
        return path.resolve(strict=True).is_relative_to(root.resolve())
    except RuntimeError as error:  # until Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _keep(path: Path, target: Path, *, own: bool) -> bool:
    """Bring a file to where it stays; whether it did. A courtesy: the record says that it was not stored.

    Args:
        own: it is in the attempt's own output folder, so that nobody misses it there.
    """
    try:
        if path.is_symlink() or not is_safe(path.name):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        if own:
            shutil.move(path, target)
        else:
            shutil.copyfile(path, target)
    except OSError:
        with contextlib.suppress(OSError):
            target.unlink()  # the disk is full, perhaps; half a file helps nobody
        return False
    return True


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 1e7 else f"{size_bytes / 1e6:.0f} MB"
