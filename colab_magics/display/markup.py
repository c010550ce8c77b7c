"""Small pieces of HTML that look right on light and dark pages, and read right where styles are stripped.

JupyterLab, VS Code and Colab keep inline styles; GitHub strips them and `<style>`. So every piece says in
words what it says in colour, colours are see-through tints under text of the page's own colour, and nothing
depends on a class.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import NamedTuple

from colab_magics.display.formats import replace_halves


class StateStyle(NamedTuple):
    """How a state is shown: a sign, words, and the red, green and blue of its tint."""

    sign: str
    words: str
    tint: str


STATES: Mapping[str, StateStyle] = {
    "waiting": StateStyle("↥", "not pushed yet", "191,135,0"),
    "queued": StateStyle("·", "queued", "128,134,145"),
    "running": StateStyle("▸", "running", "33,118,255"),
    "held": StateStyle("■", "held at its failure", "150,80,200"),
    "paused": StateStyle("⏸", "paused", "150,80,200"),
    "succeeded": StateStyle("✓", "succeeded", "40,160,70"),
    "failed": StateStyle("✗", "failed", "220,50,47"),
    "timed_out": StateStyle("◷", "timed out", "225,110,0"),
    "cancelled": StateStyle("–", "cancelled", "128,134,145"),
    "lost": StateStyle("?", "lost", "150,80,200"),
}

MONOSPACE = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
FAINT = "opacity:.65"


def state_style(state: str) -> StateStyle:
    """The style of a state; a state of a newer version is shown by its own name."""
    return STATES.get(state, StateStyle("•", state.replace("_", " "), "128,134,145"))


def escape(text: object) -> str:
    """Any text as HTML text or attribute."""
    return html.escape(replace_halves(str(text)))


def wrap(content: str) -> str:
    """The frame around everything: type size, and no formulas made of the dollar signs in names."""
    return (
        '<div class="mathjax_ignore tex2jax_ignore" style="font-family:system-ui,-apple-system,sans-serif;'
        f'font-size:13px;line-height:1.45;max-width:100%;overflow-x:auto">{content}</div>'
    )


def pill(state: str) -> str:
    """The state as a coloured pill with its word."""
    sign, words, tint = state_style(state)
    return (
        f'<span style="display:inline-block;padding:0 8px;border-radius:9px;white-space:nowrap;'
        f'font-size:12px;background:rgba({tint},.20);border:1px solid rgba({tint},.55)">'
        f"{escape(sign)}&nbsp;{escape(words)}</span>"
    )


def bar(fraction: float, *, label: str, tint: str) -> str:
    """A progress bar with its percentage and a label, which are what is left where styles are stripped."""
    percent = min(max(fraction, 0.0), 1.0) * 100
    return (
        f'<div style="display:inline-block;vertical-align:middle;width:90px;height:7px;border-radius:4px;'
        f'overflow:hidden;background:rgba(128,134,145,.28)">'
        f'<div style="width:{percent:.0f}%;height:100%;background:rgb({tint})"></div></div> '
        f'<span style="white-space:nowrap;font-variant-numeric:tabular-nums">{percent:.0f}&nbsp;%</span> '
        f'<span style="white-space:nowrap;{FAINT}">{escape(label)}</span>'
    )


def preformatted(content_html: str) -> str:
    """Text in a fixed-width type. `content_html` is HTML already."""
    return (
        f'<pre style="{MONOSPACE};font-size:12px;line-height:1.35;margin:4px 0;padding:6px 10px;'
        f"white-space:pre-wrap;background:rgba(128,134,145,.10);color:inherit;border-radius:4px;"
        f'max-height:32em;overflow-y:auto">{content_html}</pre>'
    )
