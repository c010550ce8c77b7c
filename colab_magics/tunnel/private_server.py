"""A private Jupyter Server for one owner: `open` finds or starts it, `close` ends it, `status` tells of it.

A program of its own: it is sent to machines that have Jupyter Server and ipykernel and nothing of ours, so it
imports nothing of ours either, and runs on Python 3.9. It listens on loopback only, wants a token that it
makes itself, reads nobody's Jupyter or IPython configuration, and ends when nobody has used it for a while.

What it does otherwise than a plain server, each for a loss or a delay that was measured:
- Nagle's algorithm is off: tornado leaves it on, which costs 40 ms a request behind a tunnel.
- No limit on output a second: what is beyond Jupyter Server's is dropped for good.
- Messages up to 256 MiB: beyond tornado's 10 MiB it would close the websocket.
- Kernels are plain ipykernel even where the machine's configuration names another class, as Colab's does, and
  are ready for a debugger. One whose messages nobody signs is not started.

Source: https://jupyter-server.readthedocs.io/en/latest/other/full-config.html; googlecolab/backend-info
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = 1  # of what `open` prints

LEAST_TOKEN = 20
"""How many letters one has at least that its owner has chosen."""

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
IDLE_STOP_MIN = 60.0
START_S = 60.0
STOP_S = 10.0
LOOK_S = 2.0
"""How often it looks whether its owner is still there, and whether somebody uses it."""

KERNEL_FLAGS = (
    "--IPKernelApp.kernel_class=ipykernel.ipkernel.IPythonKernel",
    "--InteractiveShellApp.extensions=[]",
    "--IPKernelApp.capture_fd_output=True",
)

Facts = dict[str, Any]


class Refused(Exception):
    """What was asked cannot be done; the text is one sentence."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; what it prints is one JSON object: with `error`, if it failed."""
    arguments = _parser().parse_args(argv)
    try:
        print(json.dumps(arguments.run(arguments)), flush=True)
    except Refused as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="private_server", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True, dest="verb")
    for name, run in (("open", _open), ("close", _close), ("status", _status), ("serve", _serve)):
        verb = verbs.add_parser(name)
        verb.set_defaults(run=run)
        verb.add_argument("--name", default="default", help="which of its owner's servers")
        if name in ("open", "serve"):
            verb.add_argument("--root", type=Path, help="its folder; the home folder by default")
            verb.add_argument("--idle-stop", type=float, default=IDLE_STOP_MIN, metavar="MIN")
            verb.add_argument("--owner-pid", type=int, help="end with that process")
            verb.add_argument("--port", type=int, default=0, help="where a tunnel of its owner's leads to")
            verb.add_argument("--allow-host", action="append", default=[], help="its name; * for any")
            verb.add_argument("--token-stdin", action="store_true", help="its token is the first line there")
    return parser


# --- its folder --------------------------------------------------------------------------------------------


def home(name: str) -> Path:
    """The folder of one server: its owner's alone. What is in it: server.json, server.log, kernels/.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/ (XDG_STATE_HOME)
    """
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "colab-magics" / "servers" / name


def _make_home(name: str) -> Path:
    folder = home(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time, of all that open or close this server."""
    import fcntl

    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(folder: Path) -> Facts | None:
    """What is known of the server that runs; None if none does."""
    try:
        facts: Facts = json.loads((folder / "server.json").read_text())
        return facts if facts["started"] == started(facts["pid"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def started(pid: int) -> str:
    """When a process began, as text that no other process of its number has; empty if there is none."""
    try:
        fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        pass
    ps = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], stdout=subprocess.PIPE, text=True)
    return "" if ps.stdout.startswith("Z") else ps.stdout.strip()


# --- commands ----------------------------------------------------------------------------------------------


def _open(arguments: argparse.Namespace) -> Facts:
    """Find or start the server, and see that it lets in whoever has the token and nobody else."""
    _need_packages()
    folder = _make_home(arguments.name)
    with _locked(folder):
        facts = _read(folder)
        is_new = facts is None
        token = _given_token() if arguments.token_stdin else secrets.token_urlsafe(32)
        if facts is None:
            facts = _start(folder, arguments, token=token)
        elif arguments.token_stdin and not secrets.compare_digest(token, facts["token"]):
            raise Refused("a server %r runs already, with another token: close it first" % arguments.name)
    _check(facts)
    return {**facts, "is_new": is_new}


def _need_packages() -> None:
    import importlib.util

    missing = [name for name in ("jupyter_server", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        raise Refused(
            "%s has no %s: `%s -m pip install %s` brings what is missing"
            % (sys.executable, " and no ".join(missing), sys.executable, " ".join(missing))
        )


def _given_token() -> str:
    token = sys.stdin.readline(4096).strip()
    if not all("!" <= letter <= "~" for letter in token):
        raise Refused("a space or a letter beyond ASCII is in the token: choose another one")
    if len(token) < LEAST_TOKEN or len(set(token)) < LEAST_TOKEN // 2:
        raise Refused("the token could be guessed: choose a random one of %d letters or more" % LEAST_TOKEN)
    return token


def _start(folder: Path, arguments: argparse.Namespace, *, token: str) -> Facts:
    told = folder / "server.json"
    told.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "serve", "--name", arguments.name]
    root = (arguments.root or Path.home()).expanduser().absolute()
    root.mkdir(parents=True, exist_ok=True)
    command += ["--root", str(root), "--idle-stop", str(arguments.idle_stop), "--port", str(arguments.port)]
    command += ["--owner-pid", str(arguments.owner_pid)] if arguments.owner_pid else []
    command += [word for host in arguments.allow_host for word in ("--allow-host", host)]
    log = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]
            stdin.write(token.encode() + b"\n")
    finally:
        os.close(log)
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        facts = _read(folder)
        if facts is not None:
            return facts
        time.sleep(0.02)
    process.kill()
    process.wait()
    said = (folder / "server.log").read_text(errors="replace").strip().splitlines()[-1:]
    raise Refused("Jupyter Server did not start: %s (see %s)" % (" ".join(said), folder / "server.log"))


def _environment() -> dict[str, str]:
    """The environment of the server and its kernels."""
    others = ("JPY_PARENT_PID", "JUPYTER_GATEWAY_")  # of a server that we may be started from
    env = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    env["JUPYTER_NO_CONFIG"] = "1"
    # Colab sets it for its own kernels, not for shells; without it torch sees no GPU there.
    libraries = "/usr/lib64-nvidia"
    known = env.get("LD_LIBRARY_PATH", "")
    if Path(libraries).is_dir() and libraries not in known.split(":"):
        env["LD_LIBRARY_PATH"] = "%s:%s" % (libraries, known) if known else libraries
    return env


def _check(facts: Facts) -> None:
    """Refuse a server that lets in whoever asks."""
    url = "http://127.0.0.1:%d/api/kernels" % facts["port"]
    deadline = time.monotonic() + START_S
    while True:
        try:
            answers = [_status_of(url, token) for token in ("", secrets.token_hex(8), facts["token"])]
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise Refused("the private server does not answer: %s" % error) from None
            time.sleep(0.02)
    if answers != [403, 403, 200]:
        raise Refused(
            "the private server answers %s to no token, a wrong one, and its own, not 403, 403, 200" % answers
        )


def _status_of(url: str, token: str) -> int:
    headers = {"Authorization": "token " + token} if token else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def _close(arguments: argparse.Namespace) -> Facts:
    folder = home(arguments.name)
    if not folder.is_dir():
        return {"was_open": False}
    with _locked(folder):
        facts = _read(folder)
        if facts is not None:
            os.kill(facts["pid"], signal.SIGTERM)
            deadline = time.monotonic() + STOP_S
            while facts["started"] == started(facts["pid"]):
                if time.monotonic() > deadline:
                    os.kill(facts["pid"], signal.SIGKILL)
                time.sleep(0.02)
        (folder / "server.json").unlink(missing_ok=True)
    return {"was_open": facts is not None}


def _status(arguments: argparse.Namespace) -> Facts:
    return _read(home(arguments.name)) or {"pid": None}


# --- the server itself -------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> Facts:
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.paths import jupyter_config_dir
    from jupyter_server.serverapp import ServerApp
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
    from tornado.ioloop import PeriodicCallback
    from traitlets.config import Config

    folder = _make_home(arguments.name)
    token = _given_token()
    kernels = _write_kernelspec(folder / "kernels")

    class PlainKernelspecs(KernelSpecManager):
        def _kernel_dirs_default(self) -> list[str]:
            return [str(kernels)]

    class SignedKernels(AsyncMappingKernelManager):
        def pre_start_kernel(self, *given: Any) -> Any:
            made = super().pre_start_kernel(*given)
            if not made[0].session.key:
                raise RuntimeError("this kernel's messages would not be signed: it is not started")
            return made

    class PrivateServer(ServerApp):
        def _bind_http_server(self) -> None:
            server = self.http_server
            handle_stream = server.handle_stream

            def without_delay(stream: Any, address: Any) -> Any:
                stream.set_nodelay(True)
                stream.set_nodelay = lambda value: None  # tornado turns it off after each answer
                return handle_stream(stream, address)

            server.handle_stream = without_delay  # type: ignore[method-assign]
            super()._bind_http_server()

        def write_server_info_file(self) -> None:
            """Not: the token is in a file of ours already, and in no other."""

        def write_browser_open_files(self) -> None:
            """Nor here."""

    config = Config()
    config.ServerApp = Config(
        ip="127.0.0.1", port=arguments.port, port_retries=0, allow_root=True, open_browser=False, token=token,
        local_hostnames=["localhost", *arguments.allow_host], root_dir=str(arguments.root or Path.home()),
        allow_remote_access="*" in arguments.allow_host, kernel_manager_class=SignedKernels,
        kernel_spec_manager_class=PlainKernelspecs, max_body_size=2 * MAX_MESSAGE_BYTES,
        max_buffer_size=2 * MAX_MESSAGE_BYTES, cookie_secret=secrets.token_bytes(32),  # not left in a file
        jpserver_extensions={"jupyter_server_terminals": True},
        tornado_settings={"websocket_max_message_size": MAX_MESSAGE_BYTES},
    )  # fmt: skip
    config.IdentityProvider.token = token
    config.PlainKernelspecs.ensure_native_kernel = False
    config.ZMQChannelsWebsocketConnection = Config(iopub_msg_rate_limit=0, iopub_data_rate_limit=0)
    config.ContentsManager.allow_hidden = True

    app = PrivateServer.instance(config=config)
    app.initialize(argv=[])
    web: Any = app.web_app
    web.add_handlers(".*$", [(app.base_url + "colab/bytes", _bytes_handler())])
    # Beyond 1000 messages that wait ZeroMQ would drop the next ones, whatever the limits above.
    app.kernel_manager.context.setsockopt(zmq.RCVHWM, 0)
    watch = _Watch(app, owner_pid=arguments.owner_pid, idle_stop_s=60 * arguments.idle_stop)

    def begin() -> None:
        PeriodicCallback(watch.look, 1000 * LOOK_S).start()
        facts = {"version": VERSION, "name": arguments.name, "port": _port(app), "token": token}
        facts.update(pid=os.getpid(), started=started(os.getpid()), python=sys.executable)
        facts.update(root=app.root_dir, host=socket.gethostname())
        _tell(folder, {**facts, "max_message_bytes": MAX_MESSAGE_BYTES})

    app.io_loop.add_callback(begin)
    # Jupyter Server asks whether Ctrl-C is meant. What is SIG_IGN here would stay so for all that it starts.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    app.start()
    # The second is the empty one that JUPYTER_NO_CONFIG makes.
    for leave in ((folder / "server.json").unlink, Path(jupyter_config_dir()).rmdir):
        with contextlib.suppress(OSError):
            leave()
    return {}


def _bytes_handler() -> Any:
    """`/colab/bytes?path=…&offset=…[&size=…]`: a piece of a file, given or taken as it is.

    Through a kernel it costs several times the work. To begin a part and to give it its name is the kernel's.
    """
    import asyncio
    import errno

    from jupyter_server.base.handlers import APIHandler
    from tornado import web
    from tornado.iostream import StreamClosedError

    def open_part(path: str, offset: int) -> Any:
        if not path.endswith(".colab-part"):
            raise PermissionError(errno.EPERM, "it is no part")
        part = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        os.lseek(part, offset, os.SEEK_SET)
        return os.fdopen(part, "wb", buffering=0)

    def write(file: Any, held: list[bytes]) -> None:
        for chunk in held:
            data = memoryview(chunk)
            while data:
                data = data[file.write(data) :]

    @web.stream_request_body
    class Bytes(APIHandler):
        async def prepare(self, **more: Any) -> None:
            self._file: Any = None
            self._held: list[bytes] = []
            await super().prepare(**more)
            if not self.current_user:
                raise web.HTTPError(403)
            self.set_header("X-Colab-Bytes", "1")
            if self.request.method == "PUT":
                self._file = await self._do(open_part, *self._place())

        async def data_received(self, chunk: bytes) -> None:
            if self._file is not None:  # else it was refused
                self._held.append(chunk)
            if len(self._held) >= 16:  # of 64 KiB
                await self._write()

        async def _write(self) -> None:
            held, self._held = self._held, []
            await self._do(write, self._file, held)

        async def put(self) -> None:
            await self._write()
            self.set_status(204)

        async def get(self) -> None:
            if not self.get_query_argument("path", ""):
                self.set_status(204)
                return
            (path, offset), left = self._place(), int(self.get_query_argument("size"))
            self._file = await self._do(open, path, "rb", 0)
            self._file.seek(offset)
            self.set_header("Content-Length", str(left))
            with contextlib.suppress(StreamClosedError):  # nobody wants it any more
                while data := await self._do(self._file.read, min(left, 1 << 20)):
                    left -= len(data)
                    self.write(data)
                    await self.flush()
            if left:  # it became shorter: end without the rest
                connection: Any = self.request.connection
                connection.stream.close()

        def on_finish(self) -> None:
            if self._file is not None:
                self._file.close()

        def on_connection_close(self) -> None:
            self._file = None  # closed when no thread uses it any more

        def _place(self) -> tuple[str, int]:
            return self.get_query_argument("path"), int(self.get_query_argument("offset"))

        async def _do(self, work: Any, *what: Any) -> Any:
            try:
                return await asyncio.get_running_loop().run_in_executor(None, work, *what)
            except (OSError, ValueError) as error:  # a closed file's is a ValueError
                is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
                raise web.HTTPError(507 if is_full else 409) from error

    return Bytes


class _Watch:
    """Ends the server when its owner is gone, or when nobody has used it for long enough."""

    def __init__(self, app: Any, *, owner_pid: int | None, idle_stop_s: float) -> None:
        self._app = app
        self._owner = (owner_pid, started(owner_pid)) if owner_pid else None
        self._idle_stop_s = idle_stop_s
        self._used_at = time.monotonic()
        self._last_request: Any = None

    def look(self) -> None:
        if self._owner is not None and started(self._owner[0]) != self._owner[1]:
            self._app.log.info("the process that owns this server is gone")
            self._app.stop()
        if self._is_used():
            self._used_at = time.monotonic()
        elif time.monotonic() - self._used_at > self._idle_stop_s:
            self._app.log.info("nobody has used this server for %g s", self._idle_stop_s)
            self._app.stop()

    def _is_used(self) -> bool:
        """A request, a kernel that works, or somebody who is connected to one: each is use."""
        last = self._app.web_app.last_activity()
        came = last != self._last_request
        self._last_request = last
        kernels = self._app.kernel_manager
        busy = any(
            kernels.get_kernel(each).execution_state == "busy" or kernels._kernel_connections.get(each)
            for each in kernels.list_kernel_ids()
        )
        return bool(came or busy)


def _port(app: Any) -> int:
    [bound] = app.http_server._sockets.values()
    return int(bound.getsockname()[1])


def _write_kernelspec(folder: Path) -> Path:
    """Write the kernelspec of a plain kernel into a folder that is returned."""
    spec = folder / "python3"
    spec.mkdir(parents=True, exist_ok=True)
    frozen = ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []
    argv = [sys.executable, *frozen, "-m", "ipykernel_launcher", "-f", "{connection_file}", *KERNEL_FLAGS]
    kernel = {
        "argv": argv,
        "display_name": "Python %d.%d" % sys.version_info[:2],
        "language": "python",
        "env": {
            "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1",
            "COLAB_SERVER_KERNELS": str(folder),
            # Nobody's own profile, which could name other classes.
            "IPYTHONDIR": str(folder.with_name("ipython")),
        },
        "metadata": {"debugger": True},
    }
    (spec / "kernel.json").write_text(json.dumps(kernel))
    return folder


def _tell(folder: Path, facts: Facts) -> None:
    """Write server.json at once, for its owner alone."""
    new = folder / "server.json.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        json.dump(facts, file)
    os.replace(new, folder / "server.json")


if __name__ == "__main__":
    sys.exit(main())
