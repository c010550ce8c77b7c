"""Runs over there: which jobs run here and can be stepped into, and a kernelspec for one of them."""


def colab_state_folder(name):
    import os

    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "colab-magics", name)


@colab_far.verb
def jobs(content, buffers):
    """The doors of the jobs that run, without what only their kernels need to know."""
    import glob
    import json
    import os

    found = []
    for path in glob.glob(os.path.join(colab_state_folder("jobs"), "*.json")):
        try:
            with open(path) as file:
                door = json.load(file)
            os.kill(door["pid"], 0)
        except (OSError, ValueError, KeyError):
            continue
        keys = ("job_id", "name", "attempt", "worker", "checkout", "look")
        told = {key: door[key] for key in keys}
        told.update(door=path, python=door["python"], is_ready=door["capabilities"] is not None)
        found.append(told)
    return {"jobs": found}, []


@colab_far.verb
def open_job(content, buffers):
    """Write the kernelspec of a visitor to a job; return its name."""
    import json
    import os

    folder = os.environ.get("COLAB_SERVER_KERNELS")
    if not folder:
        raise RuntimeError("this Jupyter Server was not started by colab-magics, and cannot open a job")
    name = "job-" + content["job_id"]
    spec = os.path.join(folder, name)
    os.makedirs(spec, exist_ok=True)
    argv = [content["python"], "-m", "colab_magics.visit", "-f", "{connection_file}"]
    argv += ["--door", content["door"]]
    for pair in content["folders"]:
        argv += ["--map", "=".join(pair)]
    argv += ["--pause"] if content["pause"] else []
    kernel = {
        "argv": argv,
        "display_name": "Job " + content["name"],
        "language": "python",
        "interrupt_mode": "message",
        "metadata": {"debugger": True},
    }
    with open(os.path.join(spec, "kernel.json"), "w") as file:
        json.dump(kernel, file)
    return {"kernel_name": name}, []


@colab_far.verb
def look(content, buffers):
    """The stacks of a job as it runs, from the job itself."""
    import os
    import socket

    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(content["patience_s"])
        folder = os.open(os.path.dirname(content["look"]), os.O_RDONLY)  # a socket's path must be short
        try:
            line.connect("/proc/self/fd/%d/%s" % (folder, os.path.basename(content["look"])))
        finally:
            os.close(folder)
        parts = []
        while True:
            part = line.recv(65536)
            if not part:
                break
            parts.append(part)
    return {"text": b"".join(parts).decode("utf-8", "replace")}, []
