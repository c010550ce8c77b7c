"""Opens a websocket to a runtime's server, the way there and the handshake included. All of it blocks.

Source: https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from typing import cast
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.typing import Subprotocol as Offer
from websockets.uri import parse_uri

from colab_kernel import refusals
from colab_kernel.errors import RemoteError
from colab_kernel.refusals import Answer, Tried
from colab_kernel.runtime import Access, Runtime
from colab_kernel.ws_wire import Subprotocol

OPEN_S = 75.0
"""A server's handshake may wait for the kernel to answer, up to `kernel_info_timeout`, 60 s.

Source: https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/services/kernels/kernelmanager.py
"""

CONNECT_S = 15.0
"""How long a connection may take, TLS included, however long the answer may take after that."""

_ANSWER_BYTES = 256 * 1024

_TRANSPORT_ERRORS = (OSError, http.client.HTTPException, EOFError)  # ssl's are OSErrors


@dataclass(frozen=True, slots=True)
class Websocket:
    """One that is open, for whoever goes on with it.

    Attributes:
        socket: connected, with TCP_NODELAY.
        protocol: past its handshake.
        early: frames that came right behind the server's answer.
    """

    socket: socket.socket
    protocol: ClientProtocol
    early: list[Frame]


def open_websocket(
    runtime: Runtime,
    access: Access,
    *,
    path: str,
    kernel_id: str = "",
    session_id: str = "",
    timeout_s: float = OPEN_S,
) -> Websocket:
    """Open a websocket of that runtime's server.

    Args:
        path: below its address.
        kernel_id, session_id: of a kernel's, which has a framing to agree on.

    Raises:
        RemoteError: there is none to be had, or one of its kin: see `refusals`.
    """
    tried = refusals.tried("GET", path, runtime=runtime, access=access, kernel_id=kernel_id)
    began = time.monotonic()
    with contextlib.ExitStack() as on_failure:
        try:
            sock = on_failure.enter_context(_connect(runtime, timeout_s=min(timeout_s, CONNECT_S)))
            protocol = _offer(runtime, access, path=path, session_id=session_id)
            early = _shake_hands(sock, protocol, deadline=began + timeout_s)
        except _TRANSPORT_ERRORS as error:
            waited_s = round(time.monotonic() - began)
            raise refusals.no_answer(tried, error, timeout_s=waited_s) from error
        if protocol.state is not State.OPEN:
            raise _refused(tried, runtime=runtime, access=access, path=path)
        on_failure.pop_all()
    return Websocket(sock, protocol, early)


def http_connection(runtime: Runtime, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to a runtime, through the proxy that is meant for it; it opens with its first request."""
    return _connection(urlsplit(runtime.url), timeout_s=timeout_s)


def is_this_machine(host: str) -> bool:
    """Whether that is this machine itself, to which no proxy leads."""
    return host in ("localhost", "::1") or host.startswith("127.")


def kernel_path(kernel_id: str) -> str:
    """Where the websocket of a kernel is."""
    return f"/api/kernels/{quote(kernel_id, safe='')}/channels"


def _offer(runtime: Runtime, access: Access, *, path: str, session_id: str) -> ClientProtocol:
    """A handshake, ready to be sent. Without permessage-deflate, which is slower than all but a slow line."""
    split = urlsplit(runtime.url)
    scheme = "wss" if split.scheme == "https" else "ws"
    query = urlencode({**({"session_id": session_id} if session_id else {}), **access.query})
    uri = parse_uri(f"{scheme}://{split.netloc}{split.path}{path}?{query}")
    offers = [Offer(Subprotocol.V1.value)] if session_id else None
    protocol = ClientProtocol(uri, subprotocols=offers, max_size=None)
    request = protocol.connect()
    for name, value in access.headers.items():
        request.headers.pop(name, None)
        request.headers[name] = value
    protocol.send_request(request)
    return protocol


def _shake_hands(sock: socket.socket, protocol: ClientProtocol, *, deadline: float) -> list[Frame]:
    """Wait for the answer, good or bad; return the frames that came right behind it."""
    sock.sendall(b"".join(protocol.data_to_send()))
    frames = []
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        data = sock.recv(_ANSWER_BYTES)
        if not data:
            raise EOFError
        protocol.receive_data(data)
        frames += [event for event in protocol.events_received() if isinstance(event, Frame)]
    return frames


def _refused(tried: Tried, *, runtime: Runtime, access: Access, path: str) -> RemoteError:
    """The error for a handshake that was answered otherwise than with a websocket.

    Asked again by plain HTTP the same handler says the same, and `http.client` can read any answer: not every
    release of websockets reads one whose body comes in chunks.
    """
    try:
        answer = _get(runtime, access, path)
    except _TRANSPORT_ERRORS as error:
        return refusals.no_answer(tried, error, timeout_s=CONNECT_S)
    try:
        door = refusals.door_of(_get(runtime, access, "/api"))
    except _TRANSPORT_ERRORS:
        door = refusals.Door.UNKNOWN
    return refusals.error_for(tried, answer, door=door)


def _get(runtime: Runtime, access: Access, path: str) -> Answer:
    split = urlsplit(runtime.url)
    with contextlib.closing(_connection(split, timeout_s=CONNECT_S)) as connection:
        query = f"?{urlencode(access.query)}" if access.query else ""
        connection.request("GET", f"{split.path}{path}{query}", headers=dict(access.headers))
        response = connection.getresponse()
        location = response.getheader("Location") or ""
        return Answer(status=response.status, body=response.read(_ANSWER_BYTES), location=location)


def _connect(runtime: Runtime, *, timeout_s: float) -> socket.socket:
    """A connection to the server's port, TLS included, with TCP_NODELAY, which `http.client` sets."""
    connection = _connection(urlsplit(runtime.url), timeout_s=timeout_s)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return cast(socket.socket, connection.sock)


def _connection(split: SplitResult, *, timeout_s: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    host = split.hostname or ""
    proxy = _proxy(split.scheme, host)
    if proxy is None:
        return kind(host, split.port, timeout=timeout_s)
    login = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
    headers = {"Proxy-Authorization": f"Basic {b64encode(login).decode()}"} if proxy.username else None
    connection = kind(proxy.hostname or "", proxy.port or 80, timeout=timeout_s)
    connection.set_tunnel(host, split.port or kind.default_port, headers=headers)
    return connection


def _proxy(scheme: str, host: str) -> SplitResult | None:
    """The proxy to go through, by the variables that curl and urllib go by; never for this machine itself."""
    url = urllib.request.getproxies().get(scheme)
    if not url or is_this_machine(host) or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(url if "://" in url else f"http://{url}")
