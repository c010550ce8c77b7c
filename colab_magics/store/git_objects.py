"""What the objects of a repository say: many of them in one process, parsed from git's own formats."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from colab_magics.errors import CorruptError
from colab_magics.store.git_runner import GitRunner


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


def cat_file(runner: GitRunner, names: Sequence[str]) -> Iterator[tuple[str, str, bytes]]:
    """Read objects in one process: `(name, kind, content)` for each; kind `missing` if it is not there.

    Source: git-cat-file(1), "BATCH OUTPUT".
    """
    if not names:
        return
    asked = os.fsencode("".join(f"{name}\n" for name in names))
    output = runner.run("cat-file", "--batch", stdin=asked).stdout
    position = 0
    for name in names:
        end = output.find(b"\n", position)
        header = output[position:end]
        position = end + 1
        if end < 0:
            raise CorruptError(f"an object in {runner.git_dir} cannot be read: git fsck tells more.")
        if header.endswith((b" missing", b" submodule", b" ambiguous")):
            yield name, "missing", b""
            continue
        _, kind, size = header.rsplit(b" ", 2)
        yield name, kind.decode(), output[position : position + int(size)]
        position += int(size) + 1


def parse_commit(sha: str, content: bytes) -> CommitInfo:
    """Parse a raw commit object."""
    head, _, message = content.decode("utf-8", "surrogateescape").partition("\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.split("\n"):
        name, _, value = line.partition(" ")
        fields.setdefault(name, []).append(value)
    author, authored_s, _ = fields["author"][0].rsplit(" ", 2)
    committed_s = fields["committer"][0].rsplit(" ", 2)[1]
    return CommitInfo(
        sha=sha,
        tree=fields["tree"][0],
        parents=tuple(fields.get("parent", ())),
        author=author,
        authored_s=int(authored_s),
        committed_s=int(committed_s),
        message=message,
    )


def parse_tree(listed: bytes, *, suffix: str = "") -> list[TreeEntry]:
    """Parse `git ls-tree -z`, with or without --long; only what ends in `suffix`."""
    entries, wanted = [], os.fsencode(suffix)
    for record in listed.split(b"\0")[:-1]:
        if not record.endswith(wanted):
            continue
        fields, name = record.split(b"\t", 1)
        mode, kind, sha, *size = fields.decode().split()
        size_bytes = int(size[0]) if size and size[0] != "-" else None
        entries.append(TreeEntry(mode, kind, sha, size_bytes, os.fsdecode(name)))
    return entries


def parse_changes(listed: bytes) -> list[Change]:
    """Parse `git diff-tree -z --name-status`."""
    words = os.fsdecode(listed).split("\0")[:-1]
    return [Change(status, path) for status, path in zip(words[::2], words[1::2], strict=True)]
