"""Say how far a job is, from the job's own code."""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE_VARIABLE = "COLAB_PROGRESS_FILE"


def progress(done: float, total: float | None = None, *, label: str = "") -> None:
    """Tell whoever watches this job how far it is. Outside a job it does nothing.

    Args:
        done: how much is done, in any unit.
        total: how much there is to do in the same unit, None where that is not known.
        label: what is being done, a few words.

    Raises:
        ValueError: `done` is negative, or `total` is not above zero.
    """
    if done < 0 or (total is not None and total <= 0):
        raise ValueError(f"progress is done >= 0 of total > 0; got {done} of {total}")
    target = os.environ.get(FILE_VARIABLE)
    if not target:
        return
    draft = Path(f"{target}.{os.getpid()}")
    try:
        draft.write_text(json.dumps({"done": done, "total": total, "label": label}))
        draft.replace(target)
    except OSError:
        return  # a full disk or a folder that the job deleted itself must not end the job
