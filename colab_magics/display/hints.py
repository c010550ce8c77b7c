"""What a person may type next, as it is typed where they sit: a magic in IPython, a command in a terminal."""

from __future__ import annotations

import sys


def in_ipython() -> bool:
    """Whether this process is an IPython, where magics are typed. Does not import it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def typed(verb: str, *, magics: bool | None = None) -> str:
    """`%colab_sync` or `jupyter colab sync`, for the verb `sync`.

    Args:
        verb: `sync` or `queue`.
        magics: whether magics are typed there; None looks.
    """
    return f"%colab_{verb}" if (in_ipython() if magics is None else magics) else f"jupyter colab {verb}"
