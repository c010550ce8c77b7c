"""Queue notebook cells as batch jobs on a GPU elsewhere, through your own Git repository.

`%load_ext colab_magics` in a notebook; `jupyter colab` in a terminal; `progress` in the code of a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from colab_magics.progress import progress

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "progress"]
__version__ = "0.1.0"


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Register the magics with the running shell."""
    from colab_magics.magics import ColabMagics

    ipython.register_magics(ColabMagics)
