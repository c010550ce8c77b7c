from __future__ import annotations

from pathlib import Path

import pytest

from colab_magics.daemon.assignment import Outcome
from colab_magics.daemon.spool import drop_outcome, load_outcome, save_outcome
from colab_magics.errors import CorruptError
from colab_magics.jobs.record import Record
from colab_magics.jobs.state import Verb


def outcome_with(files: dict[str, Path]) -> Outcome:
    record = Record(job_id="a-1", name="n", attempt=1, worker="w", state="succeeded")
    return Outcome(Verb.SUCCEED, "é", record, files, b"numpy==1\n")


def test_an_outcome_survives_on_disk_with_its_files(tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"\xffhello")
    saved = save_outcome(tmp_path / "spool", outcome_with({"log.txt": source, "out/a.json": source}))
    source.unlink()
    loaded = load_outcome(tmp_path / "spool")
    assert loaded == saved
    assert loaded is not None
    assert {name: path.read_bytes() for name, path in loaded.files.items()} == {
        "log.txt": b"\xffhello",
        "out/a.json": b"\xffhello",
    }


def test_what_was_not_saved_to_its_end_is_no_outcome(tmp_path: Path) -> None:
    assert load_outcome(tmp_path / "nowhere") is None
    saved = tmp_path / "spool"
    save_outcome(saved, outcome_with({}))
    (saved / "outcome.json").rename(saved / "outcome.json.draft")
    assert load_outcome(saved) is None


def test_a_damaged_outcome_is_corrupt_and_never_empty(tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x")
    saved = save_outcome(tmp_path / "spool", outcome_with({"log.txt": source}))
    saved.files["log.txt"].unlink()
    with pytest.raises(CorruptError, match=r"log\.txt is missing"):
        load_outcome(tmp_path / "spool")
    (tmp_path / "spool/outcome.json").write_text("{")
    with pytest.raises(CorruptError, match="does not parse"):
        load_outcome(tmp_path / "spool")


def test_an_outcome_whose_removal_was_cut_short_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x")
    save_outcome(tmp_path / "spool", outcome_with({"log.txt": source}))
    monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: (folder / "files/log.txt").unlink())
    drop_outcome(tmp_path / "spool")
    assert load_outcome(tmp_path / "spool") is None


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x")
    save_outcome(tmp_path / "spool", outcome_with({"old.txt": source}))
    save_outcome(tmp_path / "spool", outcome_with({}))
    loaded = load_outcome(tmp_path / "spool")
    assert loaded is not None
    assert loaded.files == {}
    assert not (tmp_path / "spool/files/old.txt").exists()
