"""google-colab-cli, the real one, before a FAKE of Google: no login, and a backend on this machine.

It needs Python 3.12, so it has an environment of its own, built once and kept outside the repository. What is
faked is the login and the address of the backend; what it asks there, and what it writes, is its own code's.

    with Backend(proxy) as google:
        google.colab("new", "--session", "gpu", "--gpu", "T4")   # writes its state file
        google.command                                           # for COLAB_MAGICS_COLAB_CLI
        google.ports[8899]                                       # the proxy of a port that was asked for

Source: google-colab-cli 0.7.5, colab_cli/client.py (the requests and what they answer), read 2026-11
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import harness
from runtime_proxy import Port, RuntimeProxy

VERSION = "0.7.5"

FAKES = """\
import os
import requests
import colab_cli.common as common
from colab_cli.client import Prod

fake = os.environ["FAKE_COLAB"]
common.get_credentials = lambda *given, **more: requests.Session()
common.Prod = lambda: Prod(domain=fake, api=fake)
"""
"""What every Python that finds it as `sitecustomize` does before anything else."""

ENDPOINT = "gpu-t4-s-fake"


@functools.cache
def python() -> Path:
    """The interpreter that has google-colab-cli; skips the test where there is no Python for it."""
    base = harness.find_interpreter("3.12", "3.13")
    if base is None:
        harness.missing("no Python 3.12 or 3.13 on this machine, which google-colab-cli needs")
    digest = hashlib.sha256(f"{base}\0{VERSION}".encode()).hexdigest()[:12]
    folder = harness.cache_folder() / f"google-colab-cli-{digest}"
    with (harness.cache_folder() / "google-colab-cli.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            harness.remove_folder(folder)
            harness.run([base, "-m", "venv", folder])
            pip = [folder / "bin/python", "-m", "pip", "install", "-q"]
            harness.run([*pip, f"google-colab-cli=={VERSION}"], timeout_s=1500)
            (folder / "complete").touch()
    return folder / "bin/python"


class Backend:
    """A FAKE of Colab's backend: at most one runtime, which is behind `proxy`.

    Attributes:
        on_asked: called before it tells a token; such as `proxy.rotate`.
        lasts_s: how long it says that a token is good.
        asked: how often it told one.
        ports: the proxies of other ports of it, each made when its token is first asked for.
        gives_ports: whether it tells tokens of other ports at all.
        is_assigned: whether it has a runtime; a person may take it away.
    """

    def __init__(self, folder: Path, proxy: RuntimeProxy) -> None:
        self.on_asked: Callable[[], Any] = lambda: None
        self.lasts_s = 3600
        self.asked = 0
        self.is_assigned = False
        self.ports: dict[int, RuntimeProxy] = {}
        self.gives_ports = True
        self._proxy = proxy
        self._fakes = harness.write(folder / "fakes/sitecustomize.py", FAKES).parent
        # It would ask PyPI for a newer release.
        settings = json.dumps({"enable_update_check": False})
        harness.write(Path.home() / ".config/colab-cli/settings.json", settings)
        self.state = folder / "sessions.json"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, name="fake Google"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        for port in self.ports.values():
            port.__exit__(kind, error, trace)

    @property
    def command(self) -> str:
        """The program as COLAB_MAGICS_COLAB_CLI names it."""
        here = f"FAKE_COLAB=http://127.0.0.1:{self._http.server_address[1]}"
        program = python().with_name("colab")
        return shlex.join(
            ["env", here, f"PYTHONPATH={self._fakes}", str(program), "--config", str(self.state)]
        )

    def colab(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What a person types."""
        return harness.run([*shlex.split(self.command), *words], env={"NO_COLOR": "1"})

    def answer(self, method: str, path: str, query: Mapping[str, str]) -> Any:
        """What Google says, or None for what this fake does not know."""
        told = {"endpoint": ENDPOINT, "accelerator": "T4", "variant": 1, "machineShape": 0}
        if path == "/tun/m/assign" and method == "GET":
            return {"acc": "T4", "nbh": "x", "token": "xsrf", "variant": "GPU"}
        if path == "/tun/m/assign":
            self.is_assigned = True
            return {**told, "runtimeProxyInfo": self._token()}
        if path == "/tun/m/assignments":
            return {"assignments": [{**told, "runtimeProxyInfo": self._token()}] if self.is_assigned else []}
        if path == "/v1/runtime-proxy-token" and query.get("endpoint") == ENDPOINT and self.gives_ports:
            return self._port_token(int(query["port"]))
        return None

    def _port_token(self, port: int) -> dict[str, Any]:
        if port not in self.ports:
            self.ports[port] = RuntimeProxy(Port(port), passes_subprotocol=False).__enter__()
        proxy = self.ports[port]
        token = proxy.token if proxy.is_good else proxy.rotate()
        return {"token": token, "tokenTtl": f"{self.lasts_s}s", "url": proxy.url}

    def _token(self) -> dict[str, Any]:
        self.asked += 1
        self.on_asked()
        info = {"token": self._proxy.token, "tokenExpiresInSeconds": self.lasts_s, "url": self._proxy.url}
        return info


def _handler(backend: Backend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            found = backend.answer(self.command, split.path, dict(parse_qsl(split.query)))
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(b")]}'\n" + json.dumps(found).encode())

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            return

    return Handler


def tokens_in(path: Path) -> dict[str, str]:
    """The tokens that a state file has, by session."""
    return {name: one["token"] for name, one in json.loads(path.read_text(encoding="utf-8")).items()}


def write_state(path: Path, **sessions: dict[str, Any]) -> Path:
    """A state file as google-colab-cli writes it, with its own file mode: others may read it."""
    defaults: dict[str, Any] = {
        "endpoint": ENDPOINT, "variant": "GPU", "accelerator": "T4", "machine_shape": "STANDARD",
        "token_expires_at": None, "kernel_id": None, "session_id": None, "last_execution": None,
        "running": None,
    }  # fmt: skip
    found = {name: {"name": name, **defaults, **one} for name, one in sessions.items()}
    harness.write(path, json.dumps(found, indent=2))
    path.chmod(0o644)
    return path
