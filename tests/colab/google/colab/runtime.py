"""A FAKE of `google.colab.runtime`, for tests: it gives nothing back, and leaves a note that it was asked."""

import os
from pathlib import Path


def unassign():
    """Note it in the file that FAKE_COLAB_UNASSIGNED names, where Colab would end the machine."""
    Path(os.environ["FAKE_COLAB_UNASSIGNED"]).touch()
