"""Escape sequences of terminals: what programs print to colour a text, to draw over it, or worse."""

from __future__ import annotations

import html
import re

_SEQUENCE = re.compile(
    r"""
    \x1b\[ [0-?]* [ -/]* [@-~]              # CSI: colours (…m), cursor movement, clearing
    | \x1b[\]PX^_] .*? (?: \x07 | \x1b\\ )  # OSC and other strings: titles, links, clipboard
    | \x1b[\]PX^_] .* \Z                    # the same, never ended
    | \x1b [ -/]* [0-~]                     # two-character sequences
    | \x1b
    """,
    re.VERBOSE | re.DOTALL,
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")

_PALETTE = ("#3e424d", "#e75c58", "#00a250", "#ba8b00", "#208ffb", "#d160c4", "#60a6a6", "#a1a6b2")
_BRIGHT = ("#6b7080", "#ff6b68", "#27c06d", "#d9a514", "#53a9ff", "#e086d5", "#7fc4c4", "#c5c1b4")
"""IPython's colours, a little lighter: each can be read on white and on black."""


def strip_ansi(text: str) -> str:
    """`text` without escape sequences and control characters, except line breaks and tabs."""
    return _CONTROL.sub("", _SEQUENCE.sub("", overwrite(text)))


def keep_colours(text: str) -> str:
    """`text` with the sequences that colour it; any other, that a terminal would obey, is taken out."""
    kept = _SEQUENCE.sub(lambda match: match[0] if _COLOUR.fullmatch(match[0]) else "", overwrite(text))
    return _CONTROL.sub("", kept)


def overwrite(text: str) -> str:
    """`text` as a screen shows it in the end, where it went back to the start of a line and over it.

    A progress bar that was drawn a thousand times is left as one line. A later text that is shorter takes the
    place of the longer one as a whole: the remains of a bar help nobody.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        drawn = [part for part in line.split("\r") if part]
        lines.append(drawn[-1] if drawn else "")
    return "\n".join(lines)


def ansi_to_html(text: str) -> str:
    """`text` as HTML for a `<pre>`: escaped, colours and bold as spans with inline styles."""
    pieces = []
    style: dict[str, str] = {}
    position = 0
    clean = keep_colours(text)
    for match in _COLOUR.finditer(clean):
        pieces.append(_span(clean[position : match.start()], style))
        style = _apply(match[0][2:-1], style)
        position = match.end()
    pieces.append(_span(clean[position:], style))
    return "".join(pieces)


def _span(text: str, style: dict[str, str]) -> str:
    if not text or not style:
        return html.escape(text)
    css = ";".join(f"{key}:{value}" for key, value in style.items())
    return f'<span style="{css}">{html.escape(text)}</span>'


def _apply(codes: str, style: dict[str, str]) -> dict[str, str]:
    """The style after the parameters of one SGR sequence.

    Source: https://www.ecma-international.org/publications-and-standards/standards/ecma-48/ (8.3.117)
    """
    # Cut: Python reads no number of more than 4300 digits, and none of more than three means anything here.
    numbers = [int(code[:9]) if code else 0 for code in codes.replace(":", ";").split(";")]
    after = dict(style)
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            after = {}
        elif code in (1, 3, 4):
            key, value = {
                1: ("font-weight", "bold"),
                3: ("font-style", "italic"),
                4: ("text-decoration", "underline"),
            }[code]
            after[key] = value
        elif code in (22, 23, 24, 39, 49):
            after.pop(
                {22: "font-weight", 23: "font-style", 24: "text-decoration", 39: "color", 49: "background"}[
                    code
                ],
                None,
            )
        elif 30 <= code <= 37 or 40 <= code <= 47:
            after["color" if code < 40 else "background"] = _PALETTE[code % 10]
        elif 90 <= code <= 97 or 100 <= code <= 107:
            after["color" if code < 100 else "background"] = _BRIGHT[code % 10]
        elif code in (38, 48):
            colour, numbers = _extended(numbers)
            if colour:
                after["color" if code == 38 else "background"] = colour
    return after


def _extended(numbers: list[int]) -> tuple[str, list[int]]:
    """The colour of `5;n` or `2;r;g;b`, and the parameters that follow it."""
    if numbers[:1] == [5] and len(numbers) >= 2:
        return _from_256(min(numbers[1], 255)), numbers[2:]
    if numbers[:1] == [2] and len(numbers) >= 4:
        red, green, blue = (min(part, 255) for part in numbers[1:4])
        return f"#{red:02x}{green:02x}{blue:02x}", numbers[4:]
    return "", []


def _from_256(number: int) -> str:
    if number < 8:
        return _PALETTE[number]
    if number < 16:
        return _BRIGHT[number - 8]
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    cube = number - 16
    red, green, blue = (0 if part == 0 else 55 + 40 * part for part in (cube // 36, cube // 6 % 6, cube % 6))
    return f"#{red:02x}{green:02x}{blue:02x}"
