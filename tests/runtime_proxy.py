"""A fake of the proxy before Colab's runtimes: it lets in who has a token, and forwards to a Jupyter Server.

It knows of the real one what that one's clients show: the names of the token, that it expires, that a foreign
Origin is answered with 404, that those clients use the default websocket subprotocol. Whether open websockets
end when a token expires is not known. Here they do, in an orderly way: what the server has sent arrives.

    with RuntimeProxy(server) as proxy:
        Runtime(name="r", url=proxy.url, token=TokenSource(value=proxy.token), auth=AuthScheme.COLAB)
        proxy.rotate()          # another token: the old one is refused, open websockets end
        proxy.expire()          # no token is any good, until `rotate`
        proxy.end_session(404)  # nobody is behind it any more: a page for people, whatever is asked

With `RuntimeProxy(Port(…))` it is the way to another port, where a server has a token of its own: what lets
in there is passed on as it came, and the Host header that arrives is Google's name for the port.

Every method has happened when it returns. Source: https://github.com/googlecolab/colab-vscode and
https://github.com/googlecolab/google-colab-cli (runtime proxy), read 2026-11.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyter_servers import JupyterServer
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler
from tornado.websocket import WebSocketClientConnection, WebSocketHandler, websocket_connect

HEADER = "X-Colab-Runtime-Proxy-Token"
QUERY = "colab-runtime-proxy-token"

TOKENS_BEGIN = "pr0xy-t0k-"
"""How every token begins: what to search a text for."""

PAGE = "<!DOCTYPE html><html><body><h1>404.</h1> That&rsquo;s an error.</body></html>"

_LARGEST_BYTES = 1 << 30
_PASSED_ON = ("Content-Type", "Cookie", "X-XSRFToken", "Accept", "Authorization")
_PASSED_BACK = ("Content-Type", "Location")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the runtime, which is this machine here."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        """What Google calls it."""
        return f"{self.port}-gpu-t4-s-fake.prod.colab.dev"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: whether it asked for a websocket, the token's place ("" if it had none), the answer."""

    path: str
    is_websocket: bool
    token_in: str
    status: int


class RuntimeProxy:
    """A port of the loopback interface behind which, for whoever has the token, a Jupyter Server is.

    Args:
        server: what is behind it.
        passes_subprotocol: whether it forwards `Sec-WebSocket-Protocol`; if not, the default one is spoken.
        lifetime_s: how long each token is good; None: until `rotate` or `expire`.

    Attributes:
        lifetime_s: may be set, for the tokens to come.
        token: the one that was issued last.
        seen: what it was asked, in order.
        subprotocols: what was agreed on for each websocket; None is the default one.
    """

    def __init__(
        self,
        server: JupyterServer | Port,
        *,
        passes_subprotocol: bool = True,
        lifetime_s: float | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.subprotocols: list[str | None] = []
        self.token = ""
        self.passes_subprotocol = passes_subprotocol
        self.server = server
        self.client: AsyncHTTPClient
        self._port = 0
        self.lifetime_s = lifetime_s
        self._is_good = False
        self._expiry: asyncio.TimerHandle | None = None
        self._ended: tuple[int, str] | None = None
        self._websockets: set[_Websocket] = set()
        self.carriers: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="runtime proxy")
        self._http: HTTPServer

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_good(self) -> bool:
        """Whether the token that was issued last still lets in."""
        return self._is_good

    @property
    def websockets(self) -> int:
        """How many are open."""
        return len(self._websockets)

    @property
    def refused(self) -> int:
        """How many requests had no good token so far."""
        return sum(seen.status == 401 for seen in self.seen)

    # --- what can happen ---------------------------------------------------------------------------------

    def rotate(self) -> str:
        """Issue another token, and return it; the one before it is refused, and open websockets end."""

        async def act() -> None:
            self._issue()
            await self._end_websockets()

        self._run(act)
        return self.token

    def expire(self) -> None:
        """Refuse every token until `rotate`; open websockets end."""
        self._run(self._expire)

    def end_session(self, status: int = 404, page: str = PAGE) -> None:
        """Answer whatever is asked with this, token or not, as if the runtime were gone; websockets break."""

        async def act() -> None:
            self._ended = (status, page)
            for websocket in [*self._websockets]:
                websocket.abort()

        self._run(act)

    def resume_session(self) -> None:
        """Forward again."""

        async def act() -> None:
            self._ended = None

        self._run(act)

    # --- inside ------------------------------------------------------------------------------------------

    def answer_for(self, request: HTTPServerRequest) -> tuple[int, str] | None:
        """The status and the page if a request is not forwarded. It is noted either way."""
        split = urlsplit(request.uri or "")
        in_query = QUERY in dict(parse_qsl(split.query))
        token_in = "header" if HEADER in request.headers else "query" if in_query else ""
        answer = self._refusal(request)
        is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        status = 101 if is_websocket else 200
        self.seen.append(Seen(split.path, is_websocket, token_in, answer[0] if answer else status))
        return answer

    def lets_in(self, request: HTTPServerRequest) -> bool:
        """Whether a request would be forwarded now."""
        return self._refusal(request) is None

    def _refusal(self, request: HTTPServerRequest) -> tuple[int, str] | None:
        origin = request.headers.get("Origin")
        token = request.headers.get(HEADER, dict(parse_qsl(urlsplit(request.uri or "").query)).get(QUERY))
        if self._ended is not None:
            return self._ended
        if origin is not None and urlsplit(origin).netloc != request.host:
            return 404, PAGE
        if not self._is_good or token != self.token:
            return 401, "<html>Unauthorized</html>"
        return None

    def upstream(self, request: HTTPServerRequest, *, scheme: str = "http") -> tuple[str, dict[str, str]]:
        """What a request becomes when it is forwarded, address and headers."""
        split = urlsplit(request.uri or "")
        query = urlencode([(key, value) for key, value in parse_qsl(split.query) if key != QUERY])
        server = urlsplit(self.server.url)
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        if isinstance(self.server, Port):
            headers["Host"] = self.server.host
        else:
            headers["Authorization"] = f"token {self.server.token}"
        return f"{scheme}://{server.netloc}{server.path}{split.path}?{query}", headers

    def joined(self, websocket: _Websocket) -> None:
        self.subprotocols.append(websocket.selected_subprotocol)
        self._websockets.add(websocket)

    def left(self, websocket: _Websocket) -> None:
        self._websockets.discard(websocket)

    def _issue(self) -> None:
        self.token, self._is_good = f"{TOKENS_BEGIN}{uuid.uuid4().hex}", True
        if self._expiry is not None:
            self._expiry.cancel()
        if self.lifetime_s is not None:
            self._expiry = self._loop.call_later(self.lifetime_s, self._expired)

    def _expired(self) -> None:
        self._expiring = self._loop.create_task(self._expire())

    async def _expire(self) -> None:
        self._is_good = False
        await self._end_websockets()

    async def _end_websockets(self) -> None:
        await asyncio.gather(*(websocket.end() for websocket in [*self._websockets]))

    async def _start(self) -> None:
        self.client = AsyncHTTPClient(force_instance=True, max_clients=100)
        handlers = [(r"/api/kernels/[^/]+/channels", _Websocket, {"proxy": self})]
        application = Application(
            [*handlers, (r".*", _Page, {"proxy": self})],
            websocket_max_message_size=_LARGEST_BYTES,
            log_function=lambda handler: None,
        )
        self._http = application.listen(0, "127.0.0.1")
        (listener,) = self._http._sockets.values()
        self._port = listener.getsockname()[1]
        self._issue()

    async def _stop(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._http.stop()
        for websocket in [*self._websockets]:
            websocket.abort()
        if self.carriers:
            await asyncio.wait(self.carriers, timeout=10)
        await self._http.close_all_connections()
        self.client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)

    def _run(self, act: Callable[[], Awaitable[None]]) -> None:
        async def acting() -> None:
            await act()

        asyncio.run_coroutine_threadsafe(acting(), self._loop).result(timeout=30)


class _Page(RequestHandler):
    """A plain request: asked of the server in our name, and its answer handed back."""

    def initialize(self, proxy: RuntimeProxy) -> None:
        self._proxy = proxy

    def check_xsrf_cookie(self) -> None:
        return  # the server's business

    async def get(self) -> None:
        answer = self._proxy.answer_for(self.request)
        if answer is not None:
            self.set_status(answer[0])
            await self.finish(answer[1])
            return
        url, headers = self._proxy.upstream(self.request)
        request = HTTPRequest(
            url,
            method=self.request.method or "GET",
            headers=headers,
            body=self.request.body or None,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=120,
        )
        try:
            response = await self._proxy.client.fetch(request, raise_error=False)
        except OSError:
            raise HTTPError(502) from None
        self.set_status(599 if response.code == 599 else response.code, response.reason)
        for name in _PASSED_BACK:
            if name in response.headers:
                self.set_header(name, response.headers[name])
        if response.body:
            self.write(response.body)

    post = put = patch = delete = get


class _Websocket(WebSocketHandler):
    """A websocket: the server is asked first, so that its refusal is the answer."""

    def initialize(self, proxy: RuntimeProxy) -> None:
        self._proxy = proxy
        self._upstream: WebSocketClientConnection | None = None
        self._carrying: asyncio.Task[None] | None = None

    def check_origin(self, origin: str) -> bool:
        return True  # `answer_for` has looked at it

    async def get(self, *args: Any, **kwargs: Any) -> None:
        answer = self._proxy.answer_for(self.request)
        if answer is not None:
            self.set_status(answer[0])
            await self.finish(answer[1])
            return
        url, headers = self._proxy.upstream(self.request, scheme="ws")
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        wanted = [name.strip() for name in offered.split(",")] if offered else None
        request = HTTPRequest(url, headers=headers, connect_timeout=30, request_timeout=120)
        try:
            self._upstream = await websocket_connect(
                request,
                subprotocols=wanted if self._proxy.passes_subprotocol else None,
                max_message_size=_LARGEST_BYTES,
            )
        except HTTPClientError as error:
            body = error.response.body if error.response is not None else b""
            self.set_status(error.code if error.code != 599 else 502)
            await self.finish(body)
            return
        except OSError:
            raise HTTPError(502) from None
        if not self._proxy.lets_in(self.request):  # any more: the server has taken its time
            self._upstream.close()
            raise HTTPError(401)
        await super().get(*args, **kwargs)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return self._upstream.selected_subprotocol if self._upstream is not None else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        self._proxy.joined(self)
        self._carrying = asyncio.create_task(self._carry_down())
        self._proxy.carriers.add(self._carrying)

    async def _carry_down(self) -> None:
        assert self._upstream is not None
        while (message := await self._upstream.read_message()) is not None:
            with contextlib.suppress(Exception):  # it is closed: what comes now goes nowhere
                await self.write_message(message, binary=isinstance(message, bytes))
        self.close()

    async def on_message(self, message: str | bytes) -> None:
        assert self._upstream is not None
        with contextlib.suppress(Exception):
            await self._upstream.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        self._proxy.left(self)
        if self._upstream is not None:
            self._upstream.close()

    async def end(self) -> None:
        """Let go of the server first, hand on what it still says, and say goodbye to the client then."""
        self._proxy.left(self)
        if self._upstream is not None and self._carrying is not None:
            self._upstream.close()
            await self._carrying

    def abort(self) -> None:
        """End the connection to the client without a word."""
        self._proxy.left(self)
        if self._upstream is not None:
            self._upstream.close()
        if self.ws_connection is not None:
            self.ws_connection._abort()
