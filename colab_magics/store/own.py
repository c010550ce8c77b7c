"""Which jobs were queued from this clone (`own.txt`, an id a line): only their variables are set unasked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from colab_magics.errors import StoreError

FILE = "own.txt"


def note_own(folder: Path, job_ids: Iterable[str]) -> None:
    """Remember that these jobs are queued from here.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write("".join(f"{job_id}\n" for job_id in job_ids))
    except OSError as error:
        raise StoreError(
            f"{folder / FILE} cannot be written ({error.strerror}); nothing was queued"
        ) from error


def load_own(folder: Path) -> frozenset[str]:
    """The ids of the jobs that were queued from here. Absent is empty.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        return frozenset((folder / FILE).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{folder / FILE} cannot be read: {error}") from error
