"""A file system that is soon full, for tests of what happens then."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest


@contextlib.contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """A file system of `size` at `folder`, which may have files: they are taken along."""
    folder.mkdir(exist_ok=True)
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        # Without root there is no file system whose size a test can choose.
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        harness.run(["cp", "-a", f"{aside}/.", folder])
        yield folder
    finally:
        harness.run(["umount", "-l", folder])
