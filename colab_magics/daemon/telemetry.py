"""What a job ran on and how much memory it took. What cannot be found out is None, never an error."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

import psutil

from colab_magics.daemon.processes import Child
from colab_magics.daemon.room import Free
from colab_magics.jobs.spec import Json

_FIRST_SAMPLES_S = (0.02, 0.05, 0.1, 0.2)
_SAMPLE_S = 0.5


def describe_machine(*, python_version: str | None = None) -> dict[str, Json]:
    """Host name, platform, Python, CPUs, memory in bytes."""
    return {
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "python": python_version or platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def visible_gpus(visible: str | None, uuids: Sequence[str]) -> list[int]:
    """The indices of the GPUs that CUDA shows to a process, in its order.

    The list ends at the first entry that is none of them, as it does for CUDA. Indices are taken in the order
    of the bus (CUDA_DEVICE_ORDER=PCI_BUS_ID), which differs from CUDA's own order only on a machine with GPUs
    of several kinds.

    Args:
        visible: CUDA_VISIBLE_DEVICES: `1,0`, `GPU-8932f937`, `MIG-GPU-8932f937…/1/2`; None where it is not
            set.
        uuids: those of the machine's GPUs, by index.

    Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars
    """
    if visible is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for entry in visible.split(","):
        index = _gpu_index(entry.strip(), uuids)
        if index is None:
            break
        found.append(index)
    return list(dict.fromkeys(found))  # several parts of one GPU may be named


def _gpu_index(entry: str, uuids: Sequence[str]) -> int | None:
    if re.fullmatch(r"[0-9]+", entry):
        return int(entry) if int(entry) < len(uuids) else None
    name = entry.removeprefix("MIG-").split("/")[0]
    if entry.startswith("MIG-") and len(uuids) == 1:
        return 0  # a part of a GPU, by an identifier of its own: there is only one that it can be a part of
    if not name.startswith("GPU-"):
        return None
    matching = [index for index, uuid in enumerate(uuids) if uuid.startswith(name)]
    return matching[0] if len(matching) == 1 else None


def describe_gpu(visible: str | None = None) -> dict[str, Json] | None:
    """The first visible GPU's name, memory in bytes and driver, and their count; None where there is none.

    Args:
        visible: the job's CUDA_VISIBLE_DEVICES, None where it is not set.
    """
    with _nvml() as nvml:
        if nvml is None:
            return None
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        chosen = visible_gpus(visible, [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles])
        if not chosen:
            return None
        handle = handles[chosen[0]]
        return {
            "name": _text(nvml.nvmlDeviceGetName(handle)),
            "driver": _text(nvml.nvmlSystemGetDriverVersion()),
            "memory_bytes": int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
            "count": len(chosen),
        }
    return None


def free_memory(visible: str | None = None) -> Free:
    """What of this machine's memory is free at this moment.

    Args:
        visible: the jobs' CUDA_VISIBLE_DEVICES, None where it is not set.
    """
    host = psutil.virtual_memory()
    return Free(host=host.available / host.total, gpu=min(_free_gpus(visible), default=None))


def _free_gpus(visible: str | None) -> list[float]:
    """The free share of each visible GPU's memory."""
    with _nvml() as nvml:
        if nvml is None:
            return []
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        chosen = visible_gpus(visible, [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles])
        memory = [nvml.nvmlDeviceGetMemoryInfo(handles[index]) for index in chosen]
        return [int(each.free) / int(each.total) for each in memory]
    return []


class MemoryMeter:
    """Samples the memory of a job's processes; its `tick` goes into a `Watch`.

    `peak_host_bytes` is the largest sum over the processes alive at once (pages that they share count for
    each), `peak_gpu_bytes` the driver's figure for them, or for the whole GPU beyond what was used before,
    where the driver cannot tell processes apart (in a container).
    """

    def __init__(self, *, has_gpu: bool) -> None:
        self.peak_host_bytes: int | None = None
        self.peak_gpu_bytes: int | None = None
        self._has_gpu = has_gpu
        self._gpu_before = _gpu_used(set())[1] if has_gpu else None
        self._samples = 0
        self._next_at = 0.0

    def tick(self, child: Child) -> float:
        """Take a sample if one is due; return the seconds until the next."""
        now = time.monotonic()
        if now < self._next_at:
            return self._next_at - now
        step_s = _FIRST_SAMPLES_S[self._samples] if self._samples < len(_FIRST_SAMPLES_S) else _SAMPLE_S
        if self._samples:
            self._sample(child)
        self._samples += 1
        self._next_at = time.monotonic() + step_s
        return step_s

    def finish(self, child: Child) -> None:
        """Take the exit's own figure into account, which knows the peak between samples."""
        # A child begins with the memory of the process that it is forked from, and the figure remembers it.
        if child.peak_rss_bytes is not None and child.peak_rss_bytes > _own_peak_bytes():
            self.take_host(child.peak_rss_bytes)

    def take_host(self, size_bytes: int | None) -> None:
        """A figure from elsewhere counts if it is larger."""
        if size_bytes is not None:
            self.peak_host_bytes = max(self.peak_host_bytes or 0, size_bytes)

    def take_guest(self, told: Mapping[str, int | None]) -> None:
        """What the job's kernel says of itself (guest.py): torch's allocator knows better than the driver."""
        self.take_host(told.get("host"))
        if told.get("gpu") is not None:
            self.peak_gpu_bytes = told["gpu"]

    def _sample(self, child: Child) -> None:
        processes = child.remember_descendants()
        total = 0
        for process in processes:
            with contextlib.suppress(psutil.Error, OSError):
                total += process.memory_info().rss
        if total:
            self.take_host(total)
        if self._has_gpu:
            own, used = _gpu_used({process.pid for process in processes})
            if own is None and used is not None and self._gpu_before is not None:
                own = max(0, used - self._gpu_before)
            if own:
                self.peak_gpu_bytes = max(self.peak_gpu_bytes or 0, own)


def _gpu_used(pids: set[int]) -> tuple[int | None, int | None]:
    """Bytes that these processes use on all GPUs (None: the driver does not say), and that all use."""
    with _nvml() as nvml:
        if nvml is None:
            return None, None
        own, total = None, 0
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            total += int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid in pids and process.usedGpuMemory:
                    own = (own or 0) + int(process.usedGpuMemory)
        return own, total
    return None, None


@contextlib.contextmanager
def _nvml() -> Iterator[ModuleType | None]:
    """The driver's library, or None. Any error of it inside ends the block without a result."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older package of the same name says that it is deprecated
            import pynvml
        pynvml.nvmlInit()
    except Exception:
        yield None
        return
    try:
        with contextlib.suppress(pynvml.NVMLError):
            yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _own_peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
