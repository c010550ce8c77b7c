"""A real Git server over HTTP with passwords, for as long as a test needs it.

nginx, fcgiwrap and `git http-backend` run as whoever runs the tests, on a free port of the loopback
interface, out of one folder; no system service. Two people may come in, anybody else gets 401:

- `writer` may fetch and push;
- `reader` may fetch; a push answers 403, as a hosting site does to somebody without permission.

Source: <https://git-scm.com/docs/git-http-backend>; <https://nginx.org/en/docs/http/ngx_http_fastcgi_module.html>.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import harness

PASSWORDS = {"writer": "w-7d1f0a9c", "reader": "r-52be8841"}
"""Who may come in, and with what. Long enough that a test can search a text for them."""

_NGINX = """\
daemon off;
master_process on;
worker_processes 2;
pid {run}/nginx.pid;
error_log {run}/error.log warn;
{user}
events {{ worker_connections 128; }}
http {{
    access_log {run}/access.log;
    client_body_temp_path {run}/body;
    fastcgi_temp_path {run}/fastcgi;
    proxy_temp_path {run}/proxy;
    uwsgi_temp_path {run}/uwsgi;
    scgi_temp_path {run}/scgi;

    # Everybody but the writer who asks for a push: known by name, and refused.
    map "$remote_user $uri $arg_service" $refused {{
        default 0;
        "~^(?!writer )[^ ]+ .*git-receive-pack" 1;
    }}

    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 0;
        auth_basic "git";
        auth_basic_user_file {run}/users;
        location / {{
            if ($refused) {{ return 403; }}
            fastcgi_pass unix:{run}/fcgi.sock;
            fastcgi_read_timeout 300s;
            # A push goes to a file first: http-backend then knows its length, and a slow one blocks nobody.
            fastcgi_request_buffering on;
            # A fetch goes through as it comes.
            fastcgi_buffering off;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param SERVER_PROTOCOL $server_protocol;
            fastcgi_param REMOTE_ADDR $remote_addr;
            fastcgi_param REMOTE_USER $remote_user;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param GIT_PROJECT_ROOT {root};
            fastcgi_param GIT_HTTP_EXPORT_ALL "";
            fastcgi_param GIT_PROTOCOL $http_git_protocol;
            fastcgi_param GIT_CONFIG_NOSYSTEM 1;
            fastcgi_param HOME {run};
            fastcgi_param PATH $path_of_git;
        }}
    }}

    map "" $path_of_git {{ default "{path}"; }}
}}
"""


def what_is_missing() -> str | None:
    """Say which program of the server is not on this machine, with how to get it, or None."""
    absent = [name for name in ("nginx", "fcgiwrap") if _program(name) is None]
    if _backend() is None:
        absent.append("git http-backend")
    if not absent:
        return None
    return f"{', '.join(absent)} not found (apt-get install nginx-light fcgiwrap)"


class GitHttpServer:
    """Bare repositories under `root`, served over HTTP between `with` and its end.

    with GitHttpServer(tmp_path / "served") as server:
        server.create("lab")
        git(tmp_path, "clone", server.url("lab", user="writer"))
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        # A socket's path has room for about 100 characters, more than a test's folder leaves.
        self._run = Path(tempfile.mkdtemp(prefix="git-http-"))
        self._port = 0
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        harness.remove_folder(self._run)

    def create(self, name: str) -> Path:
        """Create the empty bare repository `name` and return its folder, for hooks and inspection."""
        return harness.make_bare_remote(self.root / f"{name}.git")

    def url(self, name: str, *, user: str | None = None) -> str:
        """Return the address of a repository; with `user`, that person's name and password in it."""
        credentials = "" if user is None else f"{user}:{PASSWORDS[user]}@"
        return f"http://{credentials}127.0.0.1:{self._port}/{name}.git"

    def access_log(self) -> list[str]:
        """Return one line for each request answered so far, in nginx's format `combined`."""
        log = self._run / "access.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def start(self) -> None:
        """Serve; after `stop`, on the same port again.

        Raises:
            AssertionError: the server did not come up; the message has its log.
        """
        (self._run / "users").write_text("".join(f"{u}:{{PLAIN}}{p}\n" for u, p in PASSWORDS.items()))
        (self._run / "fcgi.sock").unlink(missing_ok=True)
        self._spawn("fcgiwrap", "-f", "-c", "8", "-s", f"unix:{self._run}/fcgi.sock")
        tries = 1 if self._port else 5
        for _ in range(tries):
            port = self._port or _free_port()
            self._configure(port=port)
            nginx = self._spawn("nginx", "-e", self._run / "error.log", "-c", self._run / "nginx.conf")
            # Somebody else may have taken the port meanwhile: then nginx ends, and another port is tried.
            harness.wait_until(partial(self._settled, nginx), what="nginx to come up or end")
            if nginx.poll() is None:
                self._port = port
                harness.wait_until(lambda: _answers(self._port), what=f"nginx on port {self._port}")
                harness.wait_until((self._run / "fcgi.sock").exists, what="fcgiwrap's socket")
                return
        raise AssertionError(f"nginx did not come up:\n{(self._run / 'error.log').read_text()}")

    def stop(self) -> None:
        """End the server's processes; requests find nobody. Stopped already is well."""
        for process in reversed(self._processes):
            # Its whole group: fcgiwrap does not end the programs that it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
        self._processes.clear()

    def _settled(self, nginx: subprocess.Popen[bytes]) -> bool:
        return nginx.poll() is not None or (self._run / "nginx.pid").exists()

    def _configure(self, *, port: int) -> None:
        # Started by root, nginx would give its workers to another user, who may not open the socket.
        root = os.geteuid() == 0
        user = f"user {getpass.getuser()} {grp.getgrgid(os.getegid()).gr_name};" if root else ""
        text = _NGINX.format(
            run=self._run,
            root=self.root,
            port=port,
            user=user,
            backend=_backend(),
            path=os.environ.get("PATH", os.defpath),
        )
        (self._run / "nginx.conf").write_text(text, encoding="utf-8")

    def _spawn(self, name: str, *args: str | Path) -> subprocess.Popen[bytes]:
        program = _program(name)
        assert program is not None, what_is_missing()
        with (self._run / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                [program, *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self._run,
            )
        self._processes.append(process)
        return process


def _program(name: str) -> str | None:
    # A person's PATH often leaves out the folder where Debian puts servers.
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def _backend() -> Path | None:
    asked = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    backend = Path(asked.stdout.strip()) / "git-http-backend"
    return backend if backend.exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
