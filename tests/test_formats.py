"""Durations, sizes and lines in the form that people read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.display import formats


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (None, "", ""),
        (0, "0.0 s", "0.0s"),
        (-1, "0.0 s", "0.0s"),
        (0.42, "0.4 s", "0.4s"),
        (0.97, "1 s", "1s"),
        (59.4, "59 s", "59s"),
        (59.6, "1 min 00 s", "1m00s"),
        (185, "3 min 05 s", "3m05s"),
        (3599.7, "1 h 00 min", "1h00m"),
        (3720, "1 h 02 min", "1h02m"),
        (183_600, "2 d 03 h", "2d03h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, text, short):
    assert formats.format_duration(seconds) == text
    assert formats.format_duration(seconds, short=True) == short


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, ""),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (12_345, "12 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (61_200_000, "61.2 MB"),
        (123_400_000, "123 MB"),
        (15_843_721_216, "15.8 GB"),
        (2.5e15, "2,500 TB"),
    ],
)
def test_a_size_has_three_digits(size_bytes, text):
    assert formats.format_bytes(size_bytes) == text


def test_counts_and_numbers():
    assert formats.format_count(1, "job") == "1 job"
    assert formats.format_count(9970, "job") == "9,970 jobs"
    assert [formats.format_number(value) for value in (0.001, 1 / 3, 1e-10, True, "adam", 10)] == [
        "0.001",
        "0.333333",
        "1e-10",
        "True",
        "adam",
        "10",
    ]


@given(st.text(), st.integers(1, 40))
def test_an_ellipsis_never_exceeds_its_width(text, width):
    for shorten in (formats.ellipsis, formats.ellipsis_middle):
        assert formats.cell_width(shorten(text, width=width)) <= width
        if formats.cell_width(text) <= width:
            assert shorten(text, width=width) == text


def test_an_ellipsis_counts_wide_letters_and_emoji_as_two_columns():
    assert formats.cell_width("日本🎵e\u0301") == 7
    assert formats.ellipsis("日本語です", width=6) == "日本…"
    assert formats.ellipsis_middle("audio-lr-0-001-1a2b3c", width=12) == "audio…1a2b3c"
    assert formats.pad("日", width=4) + "|" == "日  |"
    assert formats.pad("1", width=3, right=True) == "  1"


def test_one_line_has_no_line_breaks_and_nothing_that_a_terminal_obeys():
    assert formats.one_line("a\ud800b\udcff") == "a\ufffdb\ufffd"
    assert formats.one_line("a\n\tb\x1b[2Jc\x00\u202ed\u2028e") == "a b[2Jcd e"


def test_a_bar_grows_by_eighths():
    assert formats.progress_bar(0, width=4) == "    "
    assert formats.progress_bar(0.5, width=4) == "██  "
    assert formats.progress_bar(0.55, width=4) == "██▎ "
    assert formats.progress_bar(7, width=4) == "████"


@given(st.lists(st.text(min_size=1)).map(" ".join), st.integers(12, 60))
def test_wrapped_text_keeps_every_word_and_its_width(text, width):
    lines = formats.wrap_text(text, width=width, indent="  └ ")
    assert all(formats.cell_width(line) <= width for line in lines)
    assert "".join("".join(lines).removeprefix("  └ ").split()) == "".join(text.split())
