"""A commit as a stream for `git fast-import`: one process writes any number of files.

Source: git-fast-import(1), "INPUT FORMAT"; works with git 2.34.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from colab_magics.errors import StoreError
from colab_magics.store.git_names import ABSENT, SHA_LENGTH, check_path, check_ref
from colab_magics.store.git_runner import GitRunner

_CHUNK_BYTES = 1 << 20

IDENTITY = "colab-magics <colab-magics@localhost>"
"""Who made the product's commits: always the same, so that the same content has the same id."""


def build_commit(
    runner: GitRunner,
    *,
    files: Mapping[str, bytes | Path | None],
    message: str,
    base_tree: str | None,
    starts_at_parent: bool,
    parents: Sequence[str],
    date_s: int,
    ref: str | None,
) -> str:
    """Write a commit and return its id.

    Args:
        files: path → content, a file to copy it from, or None to delete the path (a whole folder, too).
        base_tree: the tree to start from; None is the empty one.
        starts_at_parent: start from the first parent's tree instead, as git does by itself.
        date_s: author and committer date, Unix seconds.
        ref: a ref to set to it.

    Raises:
        StoreError: it could not be written; no ref moved.
    """
    # fast-import builds commits on refs only, so one is lent and taken back.
    target = check_ref(ref) if ref else f"refs/colab/tmp/{os.getpid()}-{os.urandom(6).hex()}"
    try:
        with tempfile.TemporaryFile(dir=runner.git_dir) as stream:
            _write_head(stream, ref=target, message=message, parents=parents, date_s=date_s)
            _write_files(stream, files=files, base_tree=base_tree, starts_at_parent=starts_at_parent)
            stream.write(b"\nget-mark :1\n")
            if ref is None:
                stream.write(f"reset {target}\nfrom {ABSENT}\n\n".encode())
            stream.write(b"done\n")
            stream.seek(0)
            arguments = ("fast-import", "--quiet", "--done", "--force", "--date-format=raw")
            answer = runner.run_locking(*arguments, stdin=stream)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        told = f"{error}; the disk is full: free some space and try again" if is_full else str(error)
        raise StoreError(f"building a commit in {runner.git_dir} failed: {told}.") from error
    sha = answer.stdout.decode().strip()
    if answer.returncode or len(sha) != SHA_LENGTH:
        for report in runner.git_dir.glob("fast_import_crash_*"):
            report.unlink(missing_ok=True)
        raise runner.failure("building a commit", answer)
    return sha


def _write_head(stream: IO[bytes], *, ref: str, message: str, parents: Sequence[str], date_s: int) -> None:
    text = message.encode()
    stream.write(f"commit {ref}\nmark :1\n".encode())
    for role in ("author", "committer"):
        stream.write(f"{role} {IDENTITY} {date_s} +0000\n".encode())
    stream.write(b"data %d\n%s\n" % (len(text), text))
    for number, parent in enumerate(parents):
        stream.write(f"{'merge' if number else 'from'} {parent}\n".encode())


def _write_files(
    stream: IO[bytes],
    *,
    files: Mapping[str, bytes | Path | None],
    base_tree: str | None,
    starts_at_parent: bool,
) -> None:
    if not starts_at_parent:
        stream.write(b"deleteall\n")
    if base_tree is not None:
        stream.write(f'M 040000 {base_tree} ""\n'.encode())
    # Deletions first, so that a file can take the place of a folder and the reverse.
    for path, content in sorted(files.items(), key=lambda item: item[1] is not None):
        quoted = _quote(path)
        if content is None:
            stream.write(b"D %s\n" % quoted)
            continue
        stream.write(b"M 100644 inline %s\n" % quoted)
        if isinstance(content, Path):
            _copy(content, stream)
        else:
            stream.write(b"data %d\n" % len(content))
            stream.write(content)
        stream.write(b"\n")


def _quote(path: str) -> bytes:
    escaped = check_path(path).replace("\\", "\\\\").replace('"', '\\"')
    return b'"%s"' % escaped.encode("utf-8", "surrogateescape")


def _copy(path: Path, stream: IO[bytes]) -> None:
    with path.open("rb") as source:
        size = source.seek(0, 2)
        source.seek(0)
        stream.write(b"data %d\n" % size)
        before = stream.tell()
        # At most `size`: a file that grows meanwhile must not spill into the next command.
        remaining = size
        while remaining and (chunk := source.read(min(remaining, _CHUNK_BYTES))):
            stream.write(chunk)
            remaining -= len(chunk)
        if stream.tell() - before != size:
            raise StoreError(f"{path} shrank while it was being committed; try again.")
