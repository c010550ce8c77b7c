"""Places in a notebook's output, one below the other, whose contents change: what running jobs show now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from colab_magics.display.outputs import Bundle

EMPTY = Bundle({"text/plain": ""})


class Slots:
    """Shows some mimebundles in place of those before. Nothing is sent for one that stays as it is."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        self._shown: list[Bundle] = []

    def update(self, items: Sequence[Bundle]) -> None:
        """Show these; a place that is not needed any more is left empty for the next."""
        from IPython.display import display

        unused = [EMPTY] * (len(self._shown) - len(items))
        for number, item in enumerate([*items, *unused]):
            if number == len(self._handles):
                made: Any = display(item.data, metadata=item.metadata, raw=True, display_id=True)  # type: ignore[no-untyped-call]
                self._handles.append(made)
                self._shown.append(item)
            elif self._shown[number] != item:
                self._handles[number].update(item.data, metadata=item.metadata, raw=True)
                self._shown[number] = item
