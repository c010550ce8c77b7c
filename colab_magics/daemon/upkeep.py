"""Keeping the daemon's clone small, in a thread of its own: it may take minutes, and nobody waits for it."""

from __future__ import annotations

import logging
import threading

from colab_magics.errors import StoreError
from colab_magics.store.base import Store

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0


class Upkeep:
    """Has the store compact itself now and then, where there is reason to."""

    def __init__(self, store: Store, *, every_s: float) -> None:
        self._store, self._every_s = store, every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="colab-upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Begin nothing more. What is under way may be cut off: it loses nothing."""
        self._closing.set()
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while not self._closing.wait(self._every_s):
            try:
                self._store.compact()
            except StoreError as error:
                logger.warning("the clone could not be compacted: %s", error)
            except Exception:  # a bug of ours must not end a daemon whose clone merely grows
                logger.exception("the clone could not be compacted")
