"""Runs over there: what this machine is."""


@colab_far.verb
def facts(content, buffers):
    """Python, memory, disk, GPUs, the versions of what people ask for, and how long the machine is up."""
    import os
    import platform
    import shutil
    import socket
    import sys
    from importlib import metadata

    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    names = ("torch", "numpy", "pandas", "jax", "tensorflow", "ipykernel", "debugpy", "jupyter_server")
    versions = {name: version(name) for name in names}
    found = {
        "host": socket.gethostname(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cwd": os.getcwd(),
        "cpus": os.cpu_count(),
        "versions": {name: text for name, text in versions.items() if text},
        "is_colab": os.path.isdir("/content") and bool(os.environ.get("COLAB_RELEASE_TAG")),
        "disk_free_bytes": shutil.disk_usage(os.getcwd()).free,
    }
    found.update(colab_memory())
    found["gpus"] = colab_gpus()
    return found, []


@colab_far.verb
def load(content, buffers):
    """What is in use right now."""
    return {**colab_memory(), "gpus": colab_gpus()}, []


def colab_memory():
    """Main memory in bytes. Source: https://man7.org/linux/man-pages/man5/proc_meminfo.5.html"""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return {"memory_bytes": None, "memory_used_bytes": None}
    return {"memory_bytes": total, "memory_used_bytes": total - free}


def colab_gpus():
    """Each GPU, as nvidia-smi says; none where it is not there.

    Source: https://docs.nvidia.com/deploy/nvidia-smi/index.html (--query-gpu, nounits: MiB and per cent)
    """
    import subprocess

    names = ("name", "memory.total", "memory.used", "utilization.gpu", "driver_version", "temperature.gpu")
    command = ["nvidia-smi", "--query-gpu=" + ",".join(names), "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []

    def number(text):
        try:
            return float(text)
        except ValueError:
            return None

    found = []
    for line in done.stdout.decode(errors="replace").splitlines():
        fields = [field.strip() for field in line.split(",")]
        if done.returncode or len(fields) != len(names):
            continue
        total, used, busy, heat = (number(fields[at]) for at in (1, 2, 3, 5))
        found.append(
            {
                "name": fields[0],
                "memory_bytes": None if total is None else int(total) << 20,
                "memory_used_bytes": None if used is None else int(used) << 20,
                "busy_percent": busy,
                "driver": fields[4],
                "celsius": heat,
            }
        )
    return found
