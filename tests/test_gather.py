from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from colab_magics.daemon.assignment import Limits
from colab_magics.daemon.gather import Gathered, gather_artifacts, is_safe
from colab_magics.daemon.masking import Masker


def gather(tmp_path: Path, *patterns: str, limits: Limits | None = None) -> Gathered:
    for name in ("output", "code"):
        (tmp_path / name).mkdir(exist_ok=True)
    return gather_artifacts(
        tmp_path / "output",
        checkout=tmp_path / "code",
        patterns=patterns,
        into=tmp_path / "into",
        kept=tmp_path / "kept",
        kept_as="kept/audio-1.2/",
        limits=limits or Limits(),
        mask=Masker(["secret-secret"]).mask,
    )


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_files_of_the_output_folder_and_of_patterns_are_copied(tmp_path: Path) -> None:
    put(tmp_path / "output/plots/a.png", b"png")
    put(tmp_path / "code/runs/1/deep/m.pt", b"model")
    put(tmp_path / "code/runs/1/notes.txt", b"notes")
    put(tmp_path / "code/.git/HEAD", b"ref")
    found = gather(tmp_path, "runs/**/*.pt", "runs/1", "**/HEAD")
    assert {name: path.read_bytes() for name, path in found.files.items()} == {
        "plots/a.png": b"png",
        "runs/1/deep/m.pt": b"model",
        "runs/1/notes.txt": b"notes",
    }
    assert found.stored[0].sha256 == hashlib.sha256(b"png").hexdigest()
    assert found.notes == ["the artifact pattern '**/HEAD' matched nothing"]


@pytest.mark.parametrize("pattern", ["../*", "/etc/passwd", "runs/../../x"])
def test_patterns_that_leave_the_folder_are_refused(tmp_path: Path, pattern: str) -> None:
    found = gather(tmp_path, pattern)
    assert found.files == {}
    assert found.notes == [f"the artifact pattern {pattern!r} was refused: it must stay in the job's folder"]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "outside/secret", b"x")
    put(tmp_path / "output/own", b"own")
    (tmp_path / "output/file").symlink_to(tmp_path / "outside/secret")
    (tmp_path / "output/folder").symlink_to(tmp_path / "outside")
    (tmp_path / "output/dangling").symlink_to("nowhere")
    (tmp_path / "output/inside").symlink_to("own")
    (tmp_path / "output/loop").symlink_to("loop")
    os.mkfifo(tmp_path / "output/pipe")
    found = gather(tmp_path)
    assert sorted(found.files) == ["inside", "own"]
    why = {each.path: each.why_not for each in found.stored if not each.stored}
    assert sorted(why) == ["dangling", "file", "folder", "loop", "pipe"]
    assert why["file"] == why["folder"] == "it is a link to a file outside of its folder"
    assert why["pipe"] == "it is not a regular file"


def test_what_is_too_large_is_noted_and_kept_on_the_machine(tmp_path: Path) -> None:
    put(tmp_path / "output/a.bin", b"a" * 100)
    put(tmp_path / "output/b.bin", b"b" * 60)
    put(tmp_path / "output/c.bin", b"c" * 60)
    found = gather(tmp_path, limits=Limits(artifact_bytes=80, artifacts_total_bytes=100))
    assert sorted(found.files) == ["b.bin"]
    assert len(found.notes) == 2
    assert "over the limit" in found.notes[0]
    assert all(
        note.endswith("; it stays in the daemon's folder under kept/audio-1.2/") for note in found.notes
    )
    assert (tmp_path / "kept/a.bin").read_bytes() == b"a" * 100
    assert (tmp_path / "kept/c.bin").exists()


@pytest.mark.parametrize("pattern", ["data/*", "data/deep", "data/deep/*", "data", "**/*"])
def test_what_is_behind_a_link_out_of_the_folder_is_neither_stored_nor_moved(
    tmp_path: Path, pattern: str
) -> None:
    drive = tmp_path / "drive"
    put(drive / "small.txt", b"mine")
    put(drive / "large.bin", b"x" * 100)
    put(drive / "deep/a.txt", b"mine")
    put(drive / "deep/large.bin", b"x" * 100)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/data").symlink_to(drive)
    found = gather(tmp_path, pattern, limits=Limits(artifact_bytes=80))
    assert found.files == {}
    assert not any(each.stored for each in found.stored)
    assert not (tmp_path / "kept").exists()
    assert len([path for path in drive.rglob("*") if path.is_file()]) == 4


def test_what_is_too_large_is_copied_out_of_a_checkout(tmp_path: Path) -> None:
    put(tmp_path / "code/runs/a.bin", b"a" * 100)
    (tmp_path / "code/link").symlink_to("runs")
    found = gather(tmp_path, "runs/*", "link/*", limits=Limits(artifact_bytes=80))
    assert found.files == {}
    assert (tmp_path / "code/runs/a.bin").read_bytes() == b"a" * 100
    assert (tmp_path / "kept/runs/a.bin").read_bytes() == b"a" * 100


def test_secrets_in_files_are_masked_and_the_digest_is_of_what_is_stored(tmp_path: Path) -> None:
    put(tmp_path / "output/a.bin", b"\0secret-secret\xff")
    found = gather(tmp_path)
    data = found.files["a.bin"].read_bytes()
    assert data == b"\0" + b"*" * 13 + b"\xff"
    assert found.stored[0].sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a/../b", "/a", "", ".git/config", "a/.GIT/x", "a\nb"])
def test_names_that_git_would_not_take_are_refused(name: str) -> None:
    assert not is_safe(name)


@pytest.mark.parametrize("name", ["a", "a/b.txt", "ü/🎉", ".gitignore"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert is_safe(name)


def test_a_name_that_is_no_utf8_is_noted(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "output") + b"/\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = gather(tmp_path)
    assert found.files == {}
    assert found.stored[0].why_not == "its name cannot stand in a repository"
    found.stored[0].path.encode()
