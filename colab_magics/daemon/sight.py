"""What may be seen of a job while it runs, whatever the job does to it: masked, and never an error."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from colab_magics.daemon.assignment import Limits
from colab_magics.daemon.bars import find_progress
from colab_magics.daemon.cell import CellView
from colab_magics.daemon.harvest import read_progress
from colab_magics.daemon.log import Log
from colab_magics.daemon.masking import Masker
from colab_magics.daemon.workspace import Workspace
from colab_magics.jobs.record import Progress

_LABEL_CHARS = 100

logger = logging.getLogger(__name__)


class Sight:
    """Looks at one attempt. None of it raises: a part that cannot be read is left out."""

    def __init__(
        self, job_id: str, *, view: CellView, workspace: Workspace, limits: Limits, masker: Masker
    ) -> None:
        self._job_id, self._view, self._workspace = job_id, view, workspace
        self._limits, self._masker = limits, masker

    def log(self, log: Log) -> tuple[str, str]:
        """The log's end as it may be shown, and as it was written."""
        limit, margin = self._limits.tail_bytes, self._masker.longest_bytes
        try:
            tail = log.tail(limit, mask=self._masker.mask, margin_bytes=margin)
            return tail, log.end(limit).decode("utf-8", "replace")
        except Exception as error:
            self._leave_out("log", error)
            return "", ""

    def outputs(self) -> tuple[Mapping[str, Any], ...]:
        """The last outputs of the cell."""
        try:
            shown = self._view.last_outputs(limit_bytes=self._limits.live_outputs_bytes)
            return tuple(self._masker.mask_all(shown))
        except Exception as error:
            self._leave_out("outputs", error)
            return ()

    def progress(self, raw_tail: str) -> Progress | None:
        """What the job said last of how far it is, or drew."""
        try:
            told = read_progress(self._workspace.progress)
            found = Progress(*told) if told else self._view.progress() or find_progress(raw_tail)
        except Exception as error:
            self._leave_out("progress", error)
            return None
        if found is None or not all(map(math.isfinite, (found.done, found.total or 0.0))):
            return None
        return Progress(found.done, found.total, self._masker.mask_text(found.label)[:_LABEL_CHARS])

    def _leave_out(self, what: str, error: Exception) -> None:
        logger.warning("the %s of %s cannot be shown: %s", what, self._job_id, type(error).__name__)
