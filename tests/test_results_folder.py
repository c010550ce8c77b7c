from __future__ import annotations

import json
from pathlib import Path

import harness
import pytest

from colab_magics.errors import CorruptError, StoreError
from colab_magics.store.results_folder import Landing, deliver_files, prepare_folder


def landing(folder: Path, files: dict[str, bytes], attempt: int = 1) -> dict[str, Landing]:
    return {each.name: each.landing for each in deliver_files(folder, files, attempt=attempt)}


def test_files_are_written_with_their_folders(tmp_path: Path) -> None:
    files = {"log.txt": b"one\n", "artifacts/models/a.pt": b"\x00\x01"}
    assert set(landing(tmp_path / "job", files).values()) == {Landing.WRITTEN}
    assert (tmp_path / "job/artifacts/models/a.pt").read_bytes() == b"\x00\x01"
    assert not list(tmp_path.rglob(".part-*"))


def test_the_same_files_again_are_left_alone(tmp_path: Path) -> None:
    landing(tmp_path, {"log.txt": b"one"})
    before = (tmp_path / "log.txt").stat().st_mtime_ns
    assert landing(tmp_path, {"log.txt": b"one"}, 2) == {"log.txt": Landing.SAME}
    assert (tmp_path / "log.txt").stat().st_mtime_ns == before


def test_a_file_that_is_as_it_was_written_is_replaced(tmp_path: Path) -> None:
    landing(tmp_path, {"log.txt": b"one"})
    assert landing(tmp_path, {"log.txt": b"two"}, 2) == {"log.txt": Landing.WRITTEN}
    assert (tmp_path / "log.txt").read_bytes() == b"two"


def test_a_file_that_the_person_changed_stays_and_the_new_one_stands_beside_it(tmp_path: Path) -> None:
    landing(tmp_path, {"plan.md": b"one"})
    (tmp_path / "plan.md").write_bytes(b"mine")
    [landed] = deliver_files(tmp_path, {"plan.md": b"two"}, attempt=2)
    assert (landed.landing, landed.path.name) == (Landing.BESIDE, "plan.md.new-2")
    assert (tmp_path / "plan.md").read_bytes() == b"mine"
    assert (tmp_path / "plan.md.new-2").read_bytes() == b"two"


def test_what_stands_beside_is_not_overwritten_either(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    landing(tmp_path, {"a": b"two"}, 1)
    (tmp_path / "a.new-1").write_bytes(b"mine too")
    landing(tmp_path, {"a": b"three"}, 1)
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name[0] == "a"}
    assert contents == {"a": b"mine", "a.new-1": b"mine too", "a.new-1.2": b"three"}
    landing(tmp_path, {"a": b"three"}, 1)
    assert not (tmp_path / "a.new-1.3").exists()


def test_a_file_that_was_there_before_is_the_persons(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(b"mine")
    assert landing(tmp_path, {"log.txt": b"theirs"}) == {"log.txt": Landing.BESIDE}


def test_a_file_that_the_person_removed_is_written_again(tmp_path: Path) -> None:
    landing(tmp_path, {"log.txt": b"one"})
    (tmp_path / "log.txt").unlink()
    assert landing(tmp_path, {"log.txt": b"one"}) == {"log.txt": Landing.WRITTEN}


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/x", "a//b", "./a", "a/./b", "", ".", "a\\b", "a\nb", "a\0b", "a/"],
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "job"
    [landed] = deliver_files(folder, {name: b"x"}, attempt=1)
    assert (landed.landing, landed.why) == (Landing.REFUSED, "its path leads out of the job's folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["job"]


@pytest.mark.parametrize("name", [".git/config", "artifacts/.GIT/hooks/post-checkout"])
def test_a_repository_inside_the_persons_is_refused(tmp_path: Path, name: str) -> None:
    [landed] = deliver_files(tmp_path / "job", {name: b"x"}, attempt=1)
    assert landed.why == "it would be a Git repository inside yours"


def test_a_symbolic_link_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "job"
    outside.mkdir()
    folder.mkdir()
    (folder / "artifacts").symlink_to(outside)
    (outside / "file").write_bytes(b"theirs")
    (folder / "log.txt").symlink_to(outside / "file")
    assert landing(folder, {"artifacts/x": b"1", "log.txt": b"2"}) == {
        "artifacts/x": Landing.REFUSED,
        "log.txt": Landing.BESIDE,
    }
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"theirs"
    assert (folder / "log.txt").is_symlink()


def test_one_file_that_cannot_be_written_does_not_keep_the_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a file")
    landed = deliver_files(tmp_path, {"a/b": b"x", "c" * 300: b"y", "d": b"z"}, attempt=1)
    assert [each.landing for each in landed] == [Landing.REFUSED, Landing.REFUSED, Landing.WRITTEN]
    assert landed[1].why == "File name too long; syncing the job by its name tries again"


def test_the_list_of_files_cannot_be_written_by_a_job(tmp_path: Path) -> None:
    assert landing(tmp_path, {".colab-files.json": b"{}"}) == {".colab-files.json": Landing.REFUSED}


def test_a_corrupt_list_raises(tmp_path: Path) -> None:
    (tmp_path / ".colab-files.json").write_text("{")
    with pytest.raises(CorruptError, match=r"\.colab-files\.json does not parse: remove it"):
        deliver_files(tmp_path, {"a": b"x"}, attempt=1)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="sync with --into DIR"):
        deliver_files(tmp_path / "file" / "job", {"a": b"x"}, attempt=1)


def test_results_are_no_part_of_the_persons_repository(project: Path) -> None:
    folder = prepare_folder(project)
    deliver_files(folder / "job", {"log.txt": b"one"}, attempt=1)
    assert harness.git(project, "status", "--porcelain", "--untracked-files=all") == ""
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_gitignore_that_the_person_wrote_stays(project: Path) -> None:
    folder = prepare_folder(project)
    (folder / ".gitignore").write_text("*.pt\n")
    prepare_folder(project)
    assert (folder / ".gitignore").read_text() == "*.pt\n"


def test_the_list_of_files_says_what_was_written(tmp_path: Path) -> None:
    landing(tmp_path, {"log.txt": b""})
    told = json.loads((tmp_path / ".colab-files.json").read_text())
    assert list(told) == ["log.txt"]
