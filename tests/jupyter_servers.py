"""Real Jupyter Servers, each a process of its own on a free port of the loopback interface, with a token.

with jupyter_server(tmp_path) as server:
    kernel_id = server.start_kernel()
    server.api("GET", f"/api/kernels/{kernel_id}")
    server.kill()  # its kernels notice within some seconds, as in life
    server.restart()  # on the same port

Without configuration of this machine's and without extensions it is up in about a second. Nothing of it is
left when the block ends: not the server, not a kernel, not what a kernel started, whatever was done to them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import harness
import psutil

TOKEN = "t0k-5f1c77aa0d9e"
"""Long enough that a test can search a text for it."""

UNLIMITED = (
    "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=0",
    "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=0",
)
"""Options: let no output be dropped, however much there is."""

_START_S = 60.0


def ping_options(*, interval_s: int, timeout_s: int) -> tuple[str, ...]:
    """Options: how often the server pings a websocket (by default 30 s), and when it gives one up (90 s)."""
    return (
        f"--ZMQChannelsWebsocketConnection.websocket_ping_interval={interval_s * 1000}",
        f"--ZMQChannelsWebsocketConnection.websocket_ping_timeout={timeout_s * 1000}",
    )


@contextmanager
def jupyter_server(
    folder: Path,
    *,
    python: str | Path = sys.executable,
    token: str = TOKEN,
    options: Sequence[str] = (),
    port: int = 0,
    ip: str = "127.0.0.1",
    base_path: str = "",
    certificate: Certificate | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[JupyterServer]:
    """Run a Jupyter Server until the block ends.

    Args:
        folder: an empty or absent folder: its root, its log and its runtime directory are in there.
        python: the interpreter of the environment to take it from.
        token: what lets in; empty: everybody.
        options: more of its command line (`UNLIMITED`, `ping_options(…)`, "--ServerApp.…=…").
        port: 0 for a free one.
        base_path: where its addresses begin ("/user/ada"), without a slash at the end.
        certificate: for https; without one it is http.
        env: variables on top of this process's own.

    Raises:
        AssertionError: it did not come up; the message has its log.
    """
    server = JupyterServer(
        folder,
        python=python,
        token=token,
        options=options,
        port=port,
        ip=ip,
        base_path=base_path,
        certificate=certificate,
        env=env,
    )
    try:
        server.start()
        yield server
    finally:
        server.end_all()


class JupyterServer:
    """One server, which may be stopped and started again. Use `jupyter_server` to make one.

    Attributes:
        url: its base address, without token and without a slash at the end.
        token, port, root, log_file: what they say; `root` is the folder where its kernels start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        python: str | Path,
        token: str,
        options: Sequence[str],
        port: int,
        ip: str,
        base_path: str,
        certificate: Certificate | None,
        env: Mapping[str, str] | None,
    ) -> None:
        self.root, self.log_file = folder / "root", folder / "server.log"
        self.root.mkdir(parents=True, exist_ok=True)
        self._runtime = folder / "runtime"
        self.token, self.port = token, port
        self._python, self._ip, self._base_path = python, ip, base_path
        self._options, self._certificate, self._env = tuple(options), certificate, dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}

    @property
    def url(self) -> str:
        scheme = "https" if self._certificate else "http"
        host = f"[{self._ip}]" if ":" in self._ip else self._ip
        return f"{scheme}://{host}:{self.port}{self._base_path}"

    @property
    def pid(self) -> int:
        """The process's id. Only while it runs."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written so far, all runs of it."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    # --- its life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers; after `kill` or `terminate`, on the same port again."""
        assert self._process is None, "the server runs"
        for _ in range(1 if self.port else 5):
            chosen = self.port or _free_port(self._ip)
            self._spawn(chosen)
            # Somebody else may have taken the port meanwhile: then it ends, and another one is tried.
            process = self._process
            assert process is not None
            harness.wait_until(
                lambda process=process, chosen=chosen: process.poll() is not None or self._answers(chosen),
                what=f"jupyter server on port {chosen} to come up or end",
                timeout_s=_START_S,
            )
            if process.poll() is None:
                self.port = chosen
                return
            self._process = None
        raise AssertionError(f"jupyter server did not come up:\n{self.log}")

    def restart(self, *, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, if it runs, by a signal, and start it on the same port. Its kernels are gone."""
        if self._process is not None:
            self._stop(how)
        self.start()

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody. Its kernels notice by themselves and end, some seconds later."""
        self._stop(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, and wait for its end: it shuts its kernels down and closes its websockets."""
        self._stop(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and the machine takes new ones, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end_all(self) -> None:
        """End the server and everything that it started, now. Ended already is well."""
        if self._process is not None:
            self._stop(signal.SIGKILL)
        for process in self._seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._seen.values(), timeout=10)
        self._seen.clear()

    def _stop(self, how: signal.Signals) -> None:
        process = self._process
        assert process is not None, "the server does not run"
        if process.poll() is None:
            # Held still while it is looked at: otherwise a kernel could start right after.
            process.send_signal(signal.SIGSTOP)
            self._remember_children()
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.wait(timeout=10)
            self._process = None

    def _remember_children(self) -> None:
        for child in psutil.Process(self.pid).children(recursive=True):
            self._seen[child.pid] = child

    def _spawn(self, port: int) -> None:
        command = [
            *(str(self._python), "-m", "jupyter_server"),
            *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.ip={self._ip}"),
            *(f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.root}"),
            *("--ServerApp.open_browser=False", f"--ServerApp.base_url={self._base_path}/"),
            # Started by root, as in a container, it would refuse.
            "--allow-root",
        ]
        if self._certificate:
            command += [
                f"--ServerApp.certfile={self._certificate.public}",
                f"--ServerApp.keyfile={self._certificate.private}",
            ]
        env = {
            **os.environ,
            "JUPYTER_NO_CONFIG": "1",
            "JUPYTER_RUNTIME_DIR": str(self._runtime),
            **self._env,
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self.root,
                start_new_session=True,
            )

    # --- what is asked of it -----------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request, with the token unless `headers` has another Authorization.

        Args:
            path: below the base path: "/api/kernels".
            body: becomes JSON; None: no body.

        Returns:
            The status and the body.

        Raises:
            OSError: it does not answer.
        """
        return self._ask(self.port, method, path, body, headers=headers)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Send one request that must succeed; return its JSON, None if there is none."""
        status, answer = self.ask(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer.decode(errors='replace')}\n{self.log}"
        return json.loads(answer) if answer else None

    def start_kernel(self, *, name: str | None = None) -> str:
        """Start a kernel and return its id. It may take a second more until it answers."""
        model = self.api("POST", "/api/kernels", None if name is None else {"name": name})
        return str(model["id"])

    def kernel_ids(self) -> list[str]:
        return [str(model["id"]) for model in self.api("GET", "/api/kernels")]

    def connections(self, kernel_id: str) -> int:
        """How many websockets the server has open to a kernel."""
        return int(self.api("GET", f"/api/kernels/{kernel_id}")["connections"])

    def kernel_process(self, kernel_id: str) -> psutil.Process:
        """The process of a kernel, to be killed, stopped, looked at."""
        self._remember_children()
        for process in self._seen.values():
            with contextlib.suppress(psutil.Error):
                if f"kernel-{kernel_id}.json" in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"no process of kernel {kernel_id} among {sorted(self._seen)}")

    def _ask(
        self,
        port: int,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = (
            http.client.HTTPSConnection(
                self._ip,
                port,
                timeout=60,
                context=ssl._create_unverified_context(),
            )
            if self._certificate
            else http.client.HTTPConnection(self._ip, port, timeout=60)
        )
        access = {"Authorization": f"token {self.token}"} if self.token else {}
        try:
            connection.request(
                method,
                f"{self._base_path}{path}",
                body=None if body is None else json.dumps(body),
                headers={**access, "Content-Type": "application/json", **(headers or {})},
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answers(self, port: int) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            # Only this server lets this token in.
            return self._ask(port, "GET", "/api/status")[0] == 200
        return False


# --- TLS ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself: whoever is to trust it names `public` as an authority."""

    public: Path
    private: Path


def make_certificate(
    folder: Path, *, names: Sequence[str] = ("IP:127.0.0.1", "DNS:localhost")
) -> Certificate:
    """Make a certificate for `names`; needs the program `openssl`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(public=folder / "certificate.pem", private=folder / "key.pem")
    try:
        harness.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-keyout", made.private, "-out", made.public, "-subj", "/CN=colab-magics test"),
                *("-addext", f"subjectAltName={','.join(names)}"),
            ]
        )
    except FileNotFoundError:
        harness.missing("openssl is not on this machine")
    return made


def _free_port(ip: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.bind((ip, 0))
        return int(probe.getsockname()[1])


# --- servers that are none ---------------------------------------------------------------------------------


@contextmanager
def web_server(
    status: int, *, body: str = "<html>", headers: Mapping[str, str] | None = None, chunked: bool = False
) -> Iterator[WebServer]:
    """Run a web server that answers every request alike: with a page of a proxy, of a captive portal."""
    seen: list[tuple[str, str, Mapping[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            data = body.encode()
            self.send_header(
                *(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", len(data)))
            )
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if chunked else data)
            self.close_connection = True

        do_POST = do_DELETE = do_GET

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield WebServer(url=f"http://127.0.0.1:{server.server_address[1]}", seen=seen)
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, slots=True)
class WebServer:
    """Where it is, and what it was asked: method, path with query, headers."""

    url: str
    seen: list[tuple[str, str, Mapping[str, str]]]
