"""A Jupyter Server's REST API, as far as a proxy kernel needs it. Every call blocks, up to its timeout.

Redirects are not followed: one could lead the token to another host. The proxy that the environment names is
gone through, except to this machine itself.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from colab_kernel import refusals
from colab_kernel.errors import KernelError, RemoteError, UnreachableError
from colab_kernel.link_watch import Reach
from colab_kernel.messages import Json, JsonObject
from colab_kernel.opening import CONNECT_S, is_this_machine
from colab_kernel.refusals import Answer, Door
from colab_kernel.runtime import Access, Runtime

ANSWER_S = 10.0

START_S = 60.0
"""A server answers when the kernel's process runs: on a busy machine, or from a slow disk, after a while."""

_BODY_BYTES = 16 * 1024 * 1024

_XSRF = {"Cookie": "_xsrf=colab-kernel", "X-XSRFToken": "colab-kernel"}
"""What a server that wants no token wants of whoever changes something: a cookie and a header that agree.

Source: https://www.tornadoweb.org/en/stable/guide/security.html#cross-site-request-forgery-protection
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """What a server says of itself.

    Attributes:
        version: jupyter_server's.
        languages: of its kernelspecs, name → language.
        default_kernelspec: the name of the one that it starts unless told otherwise.
    """

    version: str
    languages: Mapping[str, str]
    default_kernelspec: str

    @property
    def kernelspecs(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(sorted(self.languages))

    def is_python(self, kernel_name: str = "") -> bool:
        """Whether that kernelspec, or without a name the default one, is there and is a Python's."""
        return self.languages.get(kernel_name or self.default_kernelspec, "").lower() == "python"


class Server:
    """One runtime's Jupyter Server.

    Every method but `access` and `is_reachable` raises UnreachableError if nobody answers, AccessError for a
    wrong token (once a newer one was looked for), RemoteError for every other refusal, and what the token's
    source raises.

    Args:
        read_token: reads the token from its source; called for every request.
        read_proxy_token: the same for that of the proxy before the server; empty if there is none.
        renew_token: has what was refused renewed, both tokens, if their sources can do that; blocks.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        read_token: Callable[[], str],
        read_proxy_token: Callable[[], str] = lambda: "",
        renew_token: Callable[[], None] = lambda: None,
    ) -> None:
        self._runtime = runtime
        self._read_token, self._read_proxy_token = read_token, read_proxy_token
        self._renew_token = renew_token
        is_here = is_this_machine(urlsplit(runtime.url).hostname or "")
        proxies = urllib.request.ProxyHandler({} if is_here else None)
        self._opener = urllib.request.build_opener(proxies, _NoRedirect, _Http, _Https)

    def access(self) -> Access:
        """What lets a request in, with the tokens as their sources have them now."""
        return self._runtime.access(self._read_token(), proxy_token=self._read_proxy_token())

    def newer_access(self, refused: Access) -> Access | None:
        """Another access than one that was refused, renewed if need be; None if there is none."""
        if (newer := self.access()) == refused:
            self._renew_token()
            newer = self.access()
        return newer if newer != refused else None

    def probe(self, *, timeout_s: float = ANSWER_S) -> ServerInfo:
        """See what is at the runtime's address, and that the token lets in."""
        found = self._json("GET", "/api", timeout_s=timeout_s)
        specs = self._json("GET", "/api/kernelspecs", timeout_s=timeout_s)
        match found, specs:
            case {"version": str(version)}, {"default": str(default), "kernelspecs": dict(models)}:
                languages = {name: _language(model) for name, model in models.items()}
                return ServerInfo(version=version, languages=languages, default_kernelspec=default)
        raise self._unexpected("GET", "/api/kernelspecs")

    def start_kernel(self, *, kernel_name: str = "", path: str = "", timeout_s: float = START_S) -> str:
        """Start a kernel and return its id.

        Args:
            kernel_name: its kernelspec; empty: the runtime's, or else the server's default.
            path: the folder where it starts, below the server's root; one that is not there is ignored.
        """
        name = kernel_name or self._runtime.kernel_name
        body = {key: value for key, value in (("name", name), ("path", path)) if value}
        try:
            model = self._json("POST", "/api/kernels", body=body, timeout_s=timeout_s)
        except RemoteError as error:
            # For a kernelspec that it does not have a server says 500, "Unhandled error".
            self._look_for_kernelspec(name, error, timeout_s=timeout_s)
            raise
        match model:
            case {"id": str(kernel_id)}:
                return kernel_id
        raise self._unexpected("POST", "/api/kernels")

    def kernel(self, kernel_id: str, *, timeout_s: float = ANSWER_S) -> JsonObject:
        """A kernel's model: `execution_state`, `last_activity`, `connections`, …

        Raises:
            KernelGoneError: the server has no such kernel.
        """
        model = self._json("GET", _path(kernel_id), kernel_id=kernel_id, timeout_s=timeout_s)
        if not isinstance(model, dict):
            raise self._unexpected("GET", _path(kernel_id))
        return model

    def kernels(self, *, timeout_s: float = ANSWER_S) -> list[JsonObject]:
        """The models of all kernels."""
        models = self._json("GET", "/api/kernels", timeout_s=timeout_s)
        if not isinstance(models, list):
            raise self._unexpected("GET", "/api/kernels")
        return [model for model in models if isinstance(model, dict)]

    def interrupt(self, kernel_id: str, *, timeout_s: float = ANSWER_S) -> None:
        """Interrupt what a kernel executes.

        Raises:
            KernelGoneError: the server has no such kernel.
        """
        path = f"{_path(kernel_id)}/interrupt"
        self._json("POST", path, body={}, kernel_id=kernel_id, timeout_s=timeout_s)

    def delete_kernel(self, kernel_id: str, *, timeout_s: float = ANSWER_S) -> None:
        """Shut a kernel down; the server kills one that does not end by itself.

        Raises:
            KernelGoneError: the server has no such kernel.
        """
        self._json("DELETE", _path(kernel_id), kernel_id=kernel_id, timeout_s=timeout_s)

    def start_terminal(self, *, folder: str | None = None, timeout_s: float = START_S) -> str:
        """Start a shell in a terminal of the server's and return its name.

        Args:
            folder: where it starts; one that is not there is ignored.

        Raises:
            RemoteError: 404: the server has no terminals.
        """
        body: JsonObject = {} if folder is None else {"cwd": folder}
        match self._json("POST", "/api/terminals", body=body, timeout_s=timeout_s):
            case {"name": str(name)}:
                return name
        raise self._unexpected("POST", "/api/terminals")

    def terminals(self, *, timeout_s: float = ANSWER_S) -> list[str]:
        """The names of its terminals. RemoteError: 404: it has none."""
        models = self._json("GET", "/api/terminals", timeout_s=timeout_s)
        if not isinstance(models, list):
            raise self._unexpected("GET", "/api/terminals")
        return [str(model.get("name")) for model in models if isinstance(model, dict)]

    def delete_terminal(self, name: str, *, timeout_s: float = ANSWER_S) -> None:
        """End a terminal and what runs in it. RemoteError: 404: there is no such terminal."""
        self._json("DELETE", f"/api/terminals/{quote(name, safe='')}", timeout_s=timeout_s)

    def shut_down(self, *, timeout_s: float = ANSWER_S) -> None:
        """End the server and all its kernels; it may be gone before it has answered."""
        access = self.access()
        answer = self._ask("POST", "/api/shutdown", access=access, timeout_s=timeout_s)
        if answer.status >= 400:
            tried = refusals.tried("POST", "/api/shutdown", runtime=self._runtime, access=access)
            raise refusals.error_for(tried, answer, door=Door.UNKNOWN)

    def is_reachable(self, *, timeout_s: float) -> Reach:
        """Whether the server answers, whatever it says; a proxy that has nobody behind it is no server."""
        try:
            access = self.access()
        except KernelError:
            access = self._runtime.access("")
        try:
            answer = self._ask("GET", "/api", access=access, timeout_s=timeout_s)
        except UnreachableError as error:
            return Reach.REFUSED if error.refused else Reach.SILENT
        return Reach.REFUSED if refusals.door_of(answer) is Door.ENDED else Reach.REACHABLE

    # --- inside ------------------------------------------------------------------------------------------

    def _json(
        self, method: str, path: str, *, timeout_s: float, body: JsonObject | None = None, kernel_id: str = ""
    ) -> Json:
        """What a request that succeeds is answered with; None if with nothing."""
        access = self.access()
        answer = self._ask(method, path, access=access, timeout_s=timeout_s, body=body)
        if answer.status in (401, 403) and (newer := self.newer_access(access)) is not None:
            access = newer
            answer = self._ask(method, path, access=access, timeout_s=timeout_s, body=body)
        if answer.status == 204:
            return None
        if 200 <= answer.status < 300:
            try:
                found: Json = json.loads(answer.body)
            except (ValueError, RecursionError):
                pass  # a page for people: not a Jupyter Server
            else:
                return found
        try:
            door = refusals.door_of(self._ask("GET", "/api", access=access, timeout_s=timeout_s))
        except UnreachableError:
            door = Door.UNKNOWN
        tried = refusals.tried(method, path, runtime=self._runtime, access=access, kernel_id=kernel_id)
        raise refusals.error_for(tried, answer, door=door)

    def _ask(
        self, method: str, path: str, *, access: Access, timeout_s: float, body: JsonObject | None = None
    ) -> Answer:
        """The answer, whatever its status. Raises UnreachableError if there is none."""
        query = f"?{urlencode(access.query)}" if access.query else ""
        headers = {"Content-Type": "application/json", **({} if method == "GET" else _XSRF), **access.headers}
        data = None if body is None else json.dumps(body).encode()
        # The registry has addresses of http and https only.
        url = f"{self._runtime.url}{path}{query}"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
        began = time.monotonic()
        try:
            try:
                response = self._opener.open(request, timeout=timeout_s)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                location = response.headers.get("Location") or ""
                return Answer(status=response.status, body=response.read(_BODY_BYTES), location=location)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None)  # urllib's envelope
            cause = reason if isinstance(reason, Exception) else error
            tried = refusals.tried(method, path, runtime=self._runtime, access=access)
            is_late = time.monotonic() - began >= timeout_s
            waited_s = timeout_s if is_late else min(timeout_s, CONNECT_S)
            raise refusals.no_answer(tried, cause, timeout_s=waited_s) from error

    def _look_for_kernelspec(self, name: str, error: RemoteError, *, timeout_s: float) -> None:
        """Raise a better error if a kernel could not be started for want of its kernelspec."""
        if type(error) is not RemoteError or not name:
            return
        known = self.probe(timeout_s=timeout_s).kernelspecs
        if name not in known:
            tried = refusals.tried("POST", "/api/kernels", runtime=self._runtime, access=self.access())
            raise refusals.no_kernelspec(tried, kernel_name=name, known=known) from error

    def _unexpected(self, method: str, path: str) -> RemoteError:
        tried = refusals.tried(method, path, runtime=self._runtime, access=self._runtime.access(""))
        return refusals.error_for(tried, Answer(status=200), door=Door.OTHER)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an answer like any other."""

    def redirect_request(self, *args: object) -> None:
        return None


class _HttpConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        answer_s, self.timeout = self.timeout, min(self.timeout or CONNECT_S, CONNECT_S)
        super().connect()
        self.sock.settimeout(answer_s)


class _HttpsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        answer_s, self.timeout = self.timeout, min(self.timeout or CONNECT_S, CONNECT_S)
        super().connect()
        self.sock.settimeout(answer_s)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, request)


def _path(kernel_id: str) -> str:
    return f"/api/kernels/{quote(kernel_id, safe='')}"


def _language(model: Json) -> str:
    match model:
        case {"spec": {"language": str(language)}}:
            return language
    return ""
