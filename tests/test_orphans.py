"""Remote kernels whose proxy was killed: found, but only when it was."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_kernel import orphans
from colab_kernel.errors import RegistryError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime directory; nothing is there yet."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed, or the block ends."""
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def note(folder: Path, **changes: Any) -> Path:
    """Change what the note on kernel `k-1` says; return its path."""
    path = folder / "colab-remote-kernel-k-1.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}), encoding="utf-8")
    return path


def test_without_notes_nothing_is_abandoned(folder: Path) -> None:
    assert orphans.abandoned() == []
    orphans.forget("k-1")
    assert not folder.exists()


def test_a_kernel_is_abandoned_when_its_proxy_was_killed() -> None:
    with process() as proxy, process() as other:
        orphans.record("k-1", "gpu", proxy.pid)
        orphans.record("k-2", "gpu", other.pid)
        assert orphans.abandoned() == []
        proxy.kill()
        proxy.wait()
        assert orphans.abandoned() == [("k-1", "gpu")]
        assert orphans.abandoned() == [("k-1", "gpu")]  # until it is forgotten
        orphans.forget("k-1")
        orphans.forget("k-1")
        assert orphans.abandoned() == []


def test_a_proxy_that_was_killed_and_not_yet_buried_is_dead() -> None:
    with process() as proxy:
        orphans.record("k-1", "gpu", proxy.pid)
        proxy.kill()
        os.waitid(os.P_PID, proxy.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(proxy.pid).status() == psutil.STATUS_ZOMBIE
        assert orphans.abandoned() == [("k-1", "gpu")]


def test_a_process_that_has_the_pid_by_now_is_another_one(folder: Path) -> None:
    orphans.record("k-1", "gpu", os.getpid())
    known = json.loads(note(folder).read_bytes())
    note(
        folder,
        started_at=known["started_at"] - 60,
        started_after_boot_s=known["started_after_boot_s"] - 60,
    )
    assert orphans.abandoned() == [("k-1", "gpu")]


@pytest.mark.parametrize("clock", ["started_at", "started_after_boot_s"])
def test_a_clock_that_was_set_kills_nobody(folder: Path, clock: str) -> None:
    """One of the two moves with it, which one is the operating system's choice."""
    orphans.record("k-1", "gpu", os.getpid())
    note(folder, **{clock: json.loads(note(folder).read_bytes())[clock] + 3600})
    assert orphans.abandoned() == []


def test_a_process_that_nothing_is_told_of_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    orphans.record("k-1", "gpu", os.getpid())

    def deny(self: psutil.Process) -> float:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "create_time", deny)
    assert orphans.abandoned() == []


def test_another_machines_processes_are_not_judged(folder: Path) -> None:
    with process() as proxy:
        orphans.record("k-1", "gpu", proxy.pid)
    path = note(folder, machine="somewhere-else")
    assert orphans.abandoned() == []
    assert path.exists()


def test_the_note_is_its_owners_alone_and_whole(folder: Path) -> None:
    before = os.umask(0)
    try:
        orphans.record("k-1", "gpu", os.getpid())
    finally:
        os.umask(before)
    (path,) = folder.iterdir()
    assert path.name == "colab-remote-kernel-k-1.json"
    assert [each.stat().st_mode & 0o777 for each in (folder, path)] == [0o700, 0o600]


CORRUPT: dict[str, Any] = {
    "nothing": b"",
    "cut short": b'{"version": 1, "kern',
    "no object": b"[]",
    "nested too deeply": b"[" * 4000,
    "no UTF-8": b'{"version": "\xff"}',
    "another version": {"version": 2},
    "a version that is true": {"version": True},
    "another kernel": {"kernel_id": "k-2"},
    "a kernel that is a path": {"kernel_id": "../k-1"},
    "a pid of a group": {"pid": -1},
    "a pid that is none": {"pid": 0},
    "a pid beyond all": {"pid": 1 << 40},
    "a pid in a text": {"pid": "1"},
    "a time that is none": {"started_at": float("nan")},
    "a time in a text": {"started_at": "yesterday"},
    "a runtime that is none": {"runtime": None},
    "more than is known": {"more": 1.0},
    "a list for a value": {"machine": []},
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_note_is_left_alone_and_logged(
    folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    with process() as proxy:
        orphans.record("k-0", "gpu", proxy.pid)
        orphans.record("k-1", "gpu", proxy.pid)
    corrupt = CORRUPT[kind]
    if isinstance(corrupt, bytes):
        path = note(folder)
        path.write_bytes(corrupt)
    else:
        path = note(folder, **corrupt)
    before = path.read_bytes()
    assert orphans.abandoned() == [("k-0", "gpu")]
    assert path.read_bytes() == before
    (line,) = caplog.messages
    assert str(path) in line


def test_a_note_that_others_could_have_written_is_left_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with process() as proxy:
        orphans.record("k-1", "gpu", proxy.pid)
    path = note(folder)
    path.chmod(0o666)
    assert orphans.abandoned() == []
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    path.with_name("elsewhere").chmod(0o600)
    assert orphans.abandoned() == []
    assert len(caplog.messages) == 2


@given(data=st.binary(max_size=100))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_are_a_note_or_are_left_alone(folder: Path, data: bytes) -> None:
    logging.disable()
    try:
        folder.mkdir(exist_ok=True)
        path = folder / "colab-remote-kernel-k-1.json"
        path.write_bytes(data)
        path.chmod(0o600)
        assert orphans.abandoned() == []
        assert path.read_bytes() == data
    finally:
        logging.disable(logging.NOTSET)


def test_what_cannot_be_noted_is_told(folder: Path) -> None:
    for kernel_id in ("", "../k-1", "a/b", "k" * 200):
        with pytest.raises(RegistryError, match="not noted"):
            orphans.record(kernel_id, "gpu", os.getpid())
        orphans.forget(kernel_id)
    with process() as proxy:
        pass
    with pytest.raises(RegistryError, match=f"no process {proxy.pid}"):
        orphans.record("k-1", "gpu", proxy.pid)
    assert not folder.exists()
    folder.write_text("a file")
    with pytest.raises(RegistryError, match="its remote kernel will stay"):
        orphans.record("k-1", "gpu", os.getpid())
