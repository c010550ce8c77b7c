"""What the first link brings: all that the relay must know of the runtime at its other end."""

from __future__ import annotations

from dataclasses import dataclass

from colab_kernel.path_mapping import PathMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How to deal with one runtime.

    Attributes:
        max_message_bytes: what it takes in one message.
        mappings: folders that are here and there.
        folders: where the kernel shall work over there; the first that exists.
    """

    max_message_bytes: int
    mappings: tuple[PathMapping, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def startup_code(self) -> str:
        """Python that brings the kernel into its folder; empty if there is nothing to do."""
        if not self.folders:
            return ""
        return (
            "def _colab_kernel_enter(folders):\n"
            "    import os\n"
            "    for folder in folders:\n"
            "        if os.path.isdir(folder):\n"
            "            os.chdir(folder)\n"
            "            break\n"
            f"_colab_kernel_enter({list(self.folders)!r})\n"
            "del _colab_kernel_enter\n"
        )
