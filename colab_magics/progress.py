"""Say how far a job is, from the job's own code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FILE_VARIABLE = "COLAB_PROGRESS_FILE"
MOST = sys.float_info.max


def progress(done: float, total: float | None = None, *, label: str = "") -> None:
    """Tell whoever watches this job how far it is. Outside a job it does nothing.

    Args:
        done: how much is done, in any unit.
        total: how much there is to do in the same unit, None where that is not known.
        label: what is being done, a few words.

    Raises:
        ValueError: `done` is negative, `total` is not above zero, or one of them is no finite number.
    """
    if not 0 <= done <= MOST or (total is not None and not 0 < total <= MOST):
        raise ValueError(
            f"progress is done >= 0 of total > 0, both finite; got {_shown(done)} of {_shown(total)}"
        )
    target = os.environ.get(FILE_VARIABLE)
    if not target:
        return
    draft = Path(f"{target}.{os.getpid()}")
    try:
        draft.write_text(json.dumps({"done": done, "total": total, "label": label}))
        draft.replace(target)
    except OSError:
        return  # a full disk or a folder that the job deleted itself must not end the job


def _shown(number: float | None) -> str:
    """As it is, or its size: Python writes no whole number of more than 4300 digits."""
    if isinstance(number, int) and number.bit_length() > 1024:
        return f"a number of {number.bit_length():,} bits"
    return str(number)
