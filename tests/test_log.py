from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from colab_magics.daemon.log import Log, settle
from colab_magics.daemon.masking import Masker


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log.txt")
    yield log
    log.close()


def same(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"a\rb\rc\nd", b"c\nd"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"b\r"),
        (b"\ra", b"a"),
        (b"plain\n", b"plain\n"),
    ],
)
def test_redrawn_lines_are_shown_as_they_ended(written: bytes, shown: bytes) -> None:
    assert settle(written) == shown


def test_a_short_log_is_whole(log: Log) -> None:
    log.append(b"one\n\xfftwo")
    assert log.shortened(100, mask=same) == b"one\n\xfftwo"
    assert log.tail(100, mask=same) == "one\n\ufffdtwo"


def test_a_long_log_keeps_whole_lines_of_its_head_and_tail(log: Log) -> None:
    log.append(b"".join(b"line %d\n" % number for number in range(100_000)))
    shown = log.shortened(1000, mask=same)
    first, said, last = (
        shown.split(b"\n\n")[0],
        *[part for part in shown.split(b"\n") if b"left out" in part],
        shown,
    )
    assert first.startswith(b"line 0\nline 1\n")
    assert last.endswith(b"\nline 99999\n")
    assert len(shown) < 1100
    kept = sum(len(line) + 1 for line in shown.split(b"\n") if line.startswith(b"line "))
    left_out = int(said.split()[1].replace(b",", b""))
    assert left_out + kept == log.size_bytes()


def test_a_bar_redrawn_a_million_times_is_one_line(log: Log) -> None:
    log.append(b"start\n" + b"".join(b"\r%7d/1000000" % number for number in range(1, 300_001)) + b"\nend\n")
    assert log.shortened(1000, mask=same) == b"start\n 300000/1000000\nend\n"


def test_one_endless_line_is_shortened(log: Log) -> None:
    log.append(b"x" * 5_000_000)
    shown = log.shortened(10_000, mask=same)
    assert len(shown) < 10_200
    assert b"left out here" in shown


@pytest.mark.parametrize("shift", range(0, 40, 3))
def test_a_secret_across_a_cut_is_masked(log: Log, shift: int) -> None:
    masker = Masker(["secret-secret-secret"])
    log.append(b"." * shift + b"secret-secret-secret" * 500)
    for shown in (
        log.shortened(1000, mask=masker.mask, margin_bytes=masker.longest_bytes),
        log.tail(1000, mask=masker.mask, margin_bytes=masker.longest_bytes).encode(),
    ):
        assert b"ecr" not in shown
        assert b"***" in shown


def test_the_tail_begins_at_a_line_and_holds_the_last_ones(log: Log) -> None:
    log.append("".join(f"zeile {number} ö\n" for number in range(1000)).encode())
    tail = log.tail(200, mask=same)
    assert tail.startswith("zeile ")
    assert tail.endswith("zeile 999 ö\n")
    assert len(tail.encode()) <= 200


def test_a_log_whose_file_is_gone_can_still_be_read(log: Log, tmp_path: Path) -> None:
    log.append(b"a")
    (tmp_path / "log.txt").unlink()
    log.append(b"b")
    assert log.shortened(10, mask=same) == b"ab"


def test_a_log_that_would_fill_the_disk_keeps_its_beginning_and_goes_on(log: Log) -> None:
    log.append(b"first\n" + b"x" * 10_000 + b"\n")
    log.limit_disk(20_000, head_bytes=6)
    log.append(b"y" * 10_000 + b"\n")
    log.limit_disk(20_000, head_bytes=6)
    log.append(b"last\n")
    assert log.size_bytes() == 6 + 10_001 + 10_001 + 5
    assert log.end(100) == b"last\n"
    assert log.tail(100, mask=same) == "last\n"
    shown = log.shortened(10_000, mask=same)
    assert shown.startswith(b"first\n")
    assert shown.endswith(b"last\n")
    assert b"20,002 of 20,013 bytes are left out here" in shown
