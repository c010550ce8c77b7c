"""Remote kernels whose proxy was killed: a small file for each, so that a later proxy can end them.

    record(kernel_id, runtime_name, pid)  as soon as the remote kernel is there
    forget(kernel_id)                     when it is not any more
    abandoned()                           those that a process recorded which has died since

Only what this machine's processes recorded counts: a home directory may be shared among machines.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_core.paths import jupyter_runtime_dir

from colab_kernel import private_files
from colab_kernel.errors import RegistryError

_log = logging.getLogger(__name__)

_VERSION = 1
_PREFIX = "colab-remote-kernel-"
_KERNEL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MOST_BYTES = 4096

_SAME_S = 2.0
"""psutil tells a start to whole seconds of the machine's own start; a pid does not come again that soon."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What a file says.

    Attributes:
        machine: the network name of the machine that the process ran on.
        started_at: when the process started, Unix seconds.
        started_after_boot_s: the same, from the machine's start on.
    """

    version: int
    kernel_id: str
    runtime: str
    machine: str
    pid: int
    started_at: float
    started_after_boot_s: float


def record(kernel_id: str, runtime_name: str, pid: int) -> None:
    """Note that a process on this machine is the proxy of a remote kernel.

    Raises:
        RegistryError: the note cannot be written, or the process is not there.
    """
    if not _KERNEL_ID.fullmatch(kernel_id):
        raise RegistryError("the remote kernel's id is none that a file could be named by: it is not noted")
    try:
        started_at = psutil.Process(pid).create_time()
        note = _Record(
            version=_VERSION,
            kernel_id=kernel_id,
            runtime=runtime_name,
            machine=platform.node(),
            pid=pid,
            started_at=started_at,
            started_after_boot_s=started_at - psutil.boot_time(),
        )
        private_files.make_folder_of(_path(kernel_id))
        private_files.replace(_path(kernel_id), json.dumps(asdict(note), indent=2).encode() + b"\n")
    except psutil.Error as error:
        raise RegistryError(f"there is no process {pid} that could be a remote kernel's proxy") from error
    except OSError as error:
        raise RegistryError(
            f"{_path(kernel_id)} cannot be written ({error.strerror}): if this process is killed, its remote "
            "kernel will stay"
        ) from error


def forget(kernel_id: str) -> None:
    """Remove the note on a remote kernel; removed already is well.

    Raises:
        RegistryError: it cannot be removed.
    """
    if not _KERNEL_ID.fullmatch(kernel_id):
        return
    try:
        _path(kernel_id).unlink(missing_ok=True)
    except OSError as error:
        raise RegistryError(f"{_path(kernel_id)} cannot be removed ({error.strerror})") from error


def abandoned() -> list[tuple[str, str]]:
    """(kernel id, runtime's name) of each remote kernel whose proxy has died without ending it.

    A file that cannot be understood is left alone, with a line in the log.
    """
    found = []
    for path in sorted(Path(jupyter_runtime_dir()).glob(f"{_PREFIX}*.json")):
        try:
            note = _read(path)
        except FileNotFoundError:  # another process was faster
            continue
        except (OSError, RecursionError, TypeError, ValueError):
            _log.warning("%s says nothing of a remote kernel that can be understood; it is left alone", path)
            continue
        if note.machine == platform.node() and not _is_running(note):
            found.append((note.kernel_id, note.runtime))
    return found


def _path(kernel_id: str) -> Path:
    return Path(jupyter_runtime_dir()) / f"{_PREFIX}{kernel_id}.json"


def _read(path: Path) -> _Record:
    """OSError, RecursionError, TypeError, ValueError: it is no note of a version that is known here."""
    data = private_files.read(path, most_bytes=_MOST_BYTES)
    if data is None:
        raise FileNotFoundError(path)
    members: Any = json.loads(data)
    kinds = {"kernel_id": str, "runtime": str, "machine": str, "version": int, "pid": int}
    if not isinstance(members, dict) or any(
        type(value) is not kinds.get(name, float) for name, value in members.items()
    ):
        raise ValueError("something in it is of another kind")
    note = _Record(**members)
    if note.version != _VERSION or path != _path(note.kernel_id) or not 0 < note.pid < 1 << 31:
        raise ValueError("it is of another version, or of another kernel")
    if not math.isfinite(note.started_at + note.started_after_boot_s):
        raise ValueError("a number in it is none")
    return note


def _is_running(note: _Record) -> bool:
    """Whether the process that a note names is still the one that wrote it; in doubt, yes.

    A pid may be given again, so the start is compared. When somebody sets the clock, on Linux the time since
    the machine's start stays what it was, elsewhere the time of day does.
    Source: https://github.com/giampaolo/psutil/blob/master/psutil/_pslinux.py (create_time), read in 7.2
    """
    try:
        process = psutil.Process(note.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        started_at = process.create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    apart_s = min(
        abs(started_at - note.started_at),
        abs(started_at - psutil.boot_time() - note.started_after_boot_s),
    )
    return apart_s <= _SAME_S
