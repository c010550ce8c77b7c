"""What a terminal's text tells: where the shell begins, its exit code, what there is to put right."""

from __future__ import annotations

import subprocess

import pytest

from colab_magics.tunnel.terminal_text import TerminalText, starting_line

BEGIN, END = "\x1b]5379;w0rd;begin\x07", "\x1b]5379;w0rd;{}\x07"


@pytest.fixture
def text() -> TerminalText:
    return TerminalText("w0rd")


@pytest.fixture
def begun(text: TerminalText) -> TerminalText:
    assert text.feed(f"bash: no job control\r\n$ {starting_line('w0rd', term='xterm')}\r\n{BEGIN}") == ""
    return text


def test_nothing_is_shown_before_the_shell_begins(text: TerminalText) -> None:
    assert text.feed("Welcome!\r\n$ ") == ""
    assert text.feed(f" exec sh …\r\n{BEGIN}$ ") == "$ "


def test_the_exit_code_is_taken_out(begun: TerminalText) -> None:
    assert begun.feed("$ exit\r\n" + END.format(3) + "whatever") == "$ exit\r\n"
    assert begun.exit_code == 3


def test_in_whatever_pieces_it_comes(text: TerminalText) -> None:
    said = f"$ …{BEGIN}a\x1b[1mb\x1b]0;title\x07c{END.format(130)}"
    assert "".join(text.feed(char) for char in said) == "a\x1b[1mb\x1b]0;title\x07c"
    assert text.exit_code == 130


def test_another_terminals_word_is_text_like_any_other(begun: TerminalText) -> None:
    other = "\x1b]5379;0ther;1\x07"
    assert begun.feed(other) == other
    assert begun.exit_code is None


def test_what_the_server_repeats_after_a_break_is_shown_once(begun: TerminalText) -> None:
    begun.feed("$ make\r\none\r\n")
    begun.reconnected()
    assert begun.feed(f"$ …{BEGIN}$ make\r\none\r\ntwo\r\n") == "two\r\n"
    assert begun.feed("three\r\n") == "three\r\n"


def test_a_code_that_came_during_a_break_is_found(begun: TerminalText) -> None:
    begun.feed("$ exit 5\r\n")
    begun.reconnected()
    begun.feed(f"$ …{BEGIN}$ exit 5\r\n{END.format(5)}")
    assert begun.exit_code == 5


def test_what_the_server_no_longer_has_all_of_is_shown_as_far_as_it_goes(begun: TerminalText) -> None:
    begun.feed("long ago, and much of it has scrolled by since then\r\n")
    begun.reconnected()
    assert begun.feed("98\r\n99\r\n") == "\r\n98\r\n99\r\n"


def test_a_shell_that_does_not_begin_is_shown_as_it_is(text: TerminalText) -> None:
    text.feed("rbash: exec: restricted\r\n$ ")
    assert text.give_up_hiding() == "rbash: exec: restricted\r\n$ "
    assert text.feed("ls\r\n") == "ls\r\n"


def test_modes_that_a_program_left_on_are_put_right(begun: TerminalText) -> None:
    begun.feed("\x1b[?1049h\x1b[?25l\x1b[?1000;1006h\x1b[?2004h\x1b[?2004l")
    assert begun.leave() == "\x1b[?1000l\x1b[?1006l\x1b[?1049l\x1b[?25h\x1b[0m"


def test_a_program_that_put_them_right_itself_leaves_nothing_to_do(begun: TerminalText) -> None:
    begun.feed("\x1b[?1049h\x1b[?25l vi \x1b[?25h\x1b[?1049l")
    assert begun.leave() == ""


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_first_line_works_in(shell: str) -> None:
    line = starting_line("w0rd", term="xterm").rstrip("\r")
    done = subprocess.run(
        [shell, "-c", line],
        env={"SHELL": "/bin/false", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == BEGIN + END.format(1)


@pytest.mark.parametrize("login", ["sh", "bash"])
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_command_comes_as_it_was_given(login: str, shell: str) -> None:
    command = "printf '%s|' \"a 'b' \\$HOME\" '$x `y` 100% \\\\ ä!' '--'\nexit 3"
    line = starting_line("w0rd", term="xterm", command=command).rstrip("\r")
    assert "\n" not in line
    done = subprocess.run(
        [login, "-c", line],
        env={"SHELL": shell, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    plain = subprocess.run([shell, "-c", command], capture_output=True, check=False)
    assert plain.returncode == 3
    assert done.stdout.decode() == BEGIN + plain.stdout.decode() + END.format(3)


def test_a_command_that_is_too_long_to_be_typed_is_refused() -> None:
    with pytest.raises(
        ValueError, match="a command of 4000 letters is too long to be typed: put it into a script"
    ):
        starting_line("w0rd", term="xterm", command="x" * 4000)
