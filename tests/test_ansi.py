"""Escape sequences are kept as colours or taken out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from colab_magics.display.ansi import ansi_to_html, keep_colours, overwrite, strip_ansi

escapes = st.lists(st.sampled_from("\x1b[]0;1m38:5;255mHJ\x07\\a<&>\"'\n\r\x9b8ü")).map("".join)


def test_colours_go_with_everything_else_when_plain_text_is_wanted():
    assert strip_ansi("\x1b[1;31mred\x1b[0m \x1b]0;title\x07x\x1b[2J\x08\ty\x1b(B") == "red x\ty"


def test_a_link_or_clipboard_sequence_does_not_reach_the_terminal():
    link = "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"
    text = f"{link} \x1b]52;c;ZXZpbA==\x07\x1b[31mred\x1b[m \x1b[5A\x1b]never ended"
    assert keep_colours(text) == "link \x1b[31mred\x1b[m "


def test_a_progress_bar_is_what_it_was_in_the_end():
    assert overwrite("a\n 10%\r 50%\r100%\nb\r\n") == "a\n100%\nb\n"
    assert overwrite("50%\r") == "50%"


def test_html_has_the_colours_as_inline_styles():
    assert ansi_to_html("\x1b[1;31mE\x1b[0m <&>") == (
        '<span style="font-weight:bold;color:#e75c58">E</span> &lt;&amp;&gt;'
    )
    assert ansi_to_html("\x1b[38;5;196mx\x1b[48;2;1;2;300my\x1b[39;49mz") == (
        '<span style="color:#ff0000">x</span><span style="color:#ff0000;background:#0102ff">y</span>z'
    )
    assert ansi_to_html("\x1b[38;5mx\x1b[;mz\x1b[92mb") == 'xz<span style="color:#27c06d">b</span>'
    nines = "9" * 5000
    assert (
        ansi_to_html(f"\x1b[{nines}mx\x1b[38;5;{nines}my\x1b[0m") == 'x<span style="color:#eeeeee">y</span>'
    )
    assert 'color:#eeeeee">' in ansi_to_html("\x1b[38;5;255mx")


@given(escapes)
def test_no_text_makes_html_of_its_own(text):
    page = ansi_to_html(text)
    for tag in page.split("<")[1:]:
        assert tag.startswith(("span style=", "/span>"))
    assert "\x1b" not in page


@given(escapes)
def test_plain_text_has_no_control_characters(text):
    assert not set(strip_ansi(text)) & set("\x1b\x07\x08\r\x9b")
