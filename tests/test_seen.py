from __future__ import annotations

from pathlib import Path

import pytest

from colab_magics.errors import CorruptError, StoreError
from colab_magics.store.seen import Seen, load_seen, save_seen


def test_absent_is_empty(tmp_path: Path) -> None:
    assert load_seen(tmp_path / "nowhere") == Seen()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    seen = Seen("a" * 40, None, frozenset({"x", "y"}))
    save_seen(tmp_path / "new" / "folder", seen)
    assert load_seen(tmp_path / "new" / "folder") == seen


def test_two_processes_forget_nothing_of_each_other(tmp_path: Path) -> None:
    save_seen(tmp_path, Seen(jobs=frozenset({"mine"})))
    assert save_seen(tmp_path, Seen(jobs=frozenset({"theirs"}))).jobs == {"mine", "theirs"}
    assert load_seen(tmp_path).jobs == {"mine", "theirs"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2, "jobs": []}', '{"format": 1, "jobs": 3}'])
def test_corrupt_raises_and_is_never_overwritten(tmp_path: Path, content: str) -> None:
    path = tmp_path / "seen.json"
    path.write_text(content)
    with pytest.raises(CorruptError, match=r"seen\.json does not parse .*: remove it, and the next sync"):
        load_seen(tmp_path)
    with pytest.raises(CorruptError):
        save_seen(tmp_path, Seen())
    assert path.read_text() == content


def test_a_disk_that_refuses_is_told_and_leaves_what_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(StoreError):
        save_seen(file, Seen(jobs=frozenset({"x"})))
    assert file.read_text() == "in the way"
