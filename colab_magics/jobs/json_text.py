"""JSON as everything here writes it: one line of UTF-8 that any parser reads back as the same value."""

from __future__ import annotations

import json
import math
import re

MAX_DEPTH = 100
"""Deeper lists and objects are refused: Python's own json gives up at a depth that depends on its caller."""

_ESCAPED = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def serialize_line(value: object) -> str:
    """`value` as one line of JSON that UTF-8 can carry.

    Text stays readable, except for what ends a line somewhere (U+0085, U+2028, …) or is half of a character
    (lone surrogates, which `"\\ud800"` in a file or undecodable bytes in a log leave in Python's text):
    these are escaped.
    """
    return _escape(json.dumps(value, ensure_ascii=False))


def serialize_indented(value: object) -> str:
    """The same over many lines, one for each value: for people."""
    return _escape(json.dumps(value, ensure_ascii=False, indent=1))


def find_flaw(value: object) -> str | None:
    """What keeps `value` out of a JSON file that everybody can read; None if nothing does."""
    waiting = [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        if isinstance(each, float) and not math.isfinite(each):
            return f"the number {each}, which JSON does not have"
        if not isinstance(each, dict | list | tuple):
            continue
        if depth == MAX_DEPTH:
            return f"lists or objects nested more than {MAX_DEPTH} deep"
        inner = each.values() if isinstance(each, dict) else each
        waiting += [(one, depth + 1) for one in inner]
    return None


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
