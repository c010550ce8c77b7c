"""What Linux and macOS have and Windows has not: refused there in one sentence, before it is imported."""

from __future__ import annotations

import sys

from colab_magics.errors import UsageError


def need_posix(what: str, *, instead: str = "") -> None:
    """Refuse on Windows. UsageError: this is Windows; the sentence says what does not work, and `instead`."""
    if sys.platform == "win32":
        advice = f": {instead}" if instead else ""
        raise UsageError(f"{what} needs Linux or macOS, and this is Windows{advice}")
