"""A clone that a daemon works in for months stays small: what no ref reaches any more goes away.

Each sign of life is a commit that the next one replaces, and git throws nothing away by itself here.
"""

from __future__ import annotations

from pathlib import Path

from colab_magics.store.git_runner import GitRunner

PACKS = 50
"""Above so many packs all are made one. Source: https://git-scm.com/docs/git-gc, gc.autoPackLimit"""


def compact(runner: GitRunner, objects: Path, *, loose: int, grace_s: float) -> bool:
    """Pack what refs reach, remove the rest; whether there was reason to.

    Safe beside other commands: what one of them wrote and has not given a ref to is younger than the grace.

    Args:
        loose: with at most so many files of one object each nothing is done.
        grace_s: what no ref reaches stays for so long after it was written.

    Raises:
        StoreError: git failed; the repository is as it was, or partly compacted.
    """
    if count_loose(objects) <= loose:
        return False
    when = f"{int(grace_s)}.seconds.ago"
    many = sum(1 for _ in (objects / "pack").glob("*.pack")) > PACKS
    whole = ["-A", f"--unpack-unreachable={when}"] if many else []
    # One thread: it works beside a job.
    runner.run("repack", "--quiet", "-d", "-l", "--no-write-bitmap-index", "--threads=1", *whole)
    runner.run("prune", f"--expire={when}")
    return True


def count_loose(objects: Path) -> int:
    """How many objects lie in a file of their own."""
    return sum(1 for folder in objects.glob("[0-9a-f][0-9a-f]") for _ in folder.iterdir())


def size_bytes(objects: Path) -> int:
    """How much disk the objects take."""
    return sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
