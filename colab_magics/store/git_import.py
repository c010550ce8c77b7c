"""A commit as a stream for `git fast-import`: one process writes any number of files.

Source: git-fast-import(1), "INPUT FORMAT"; works with git 2.34.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from colab_magics.errors import StoreError
from colab_magics.store.git_names import ABSENT, check_path

_CHUNK_BYTES = 1 << 20

IDENTITY = "colab-magics <colab-magics@localhost>"
"""Who made the product's commits: always the same, so that the same content has the same id."""


def write_stream(
    stream: IO[bytes],
    *,
    files: Mapping[str, bytes | Path | None],
    message: str,
    base_tree: str | None,
    starts_at_parent: bool,
    parents: Sequence[str],
    date_s: int,
    ref: str,
    keep_ref: bool,
) -> None:
    """Write the commands that build one commit and print its id.

    Args:
        files: path → content, a file to copy it from, or None to delete the path (a whole folder, too).
        base_tree: the tree to start from; None is the empty one.
        starts_at_parent: start from the first parent's tree instead, as git does by itself.
        date_s: author and committer date, Unix seconds.
        ref: fast-import builds commits on refs only; it is deleted again unless `keep_ref`.
    """
    write = stream.write
    text = message.encode()
    write(b"commit %s\nmark :1\n" % ref.encode())
    write(b"author %s %d +0000\n" % (IDENTITY.encode(), date_s))
    write(b"committer %s %d +0000\n" % (IDENTITY.encode(), date_s))
    write(b"data %d\n%s\n" % (len(text), text))
    for number, parent in enumerate(parents):
        write(b"%s %s\n" % (b"merge" if number else b"from", parent.encode()))
    if not starts_at_parent:
        write(b"deleteall\n")
    if base_tree is not None:
        write(b'M 040000 %s ""\n' % base_tree.encode())
    # Deletions first, so that a file can take the place of a folder and the reverse.
    for path, content in sorted(files.items(), key=lambda item: item[1] is not None):
        quoted = _quote(path)
        if content is None:
            write(b"D %s\n" % quoted)
            continue
        write(b"M 100644 inline %s\n" % quoted)
        if isinstance(content, Path):
            _copy(content, stream)
        else:
            write(b"data %d\n" % len(content))
            write(content)
        write(b"\n")
    write(b"\nget-mark :1\n")
    if not keep_ref:
        write(b"reset %s\nfrom %s\n\n" % (ref.encode(), ABSENT.encode()))
    write(b"done\n")


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
