"""What it means when a runtime does not do as it is asked: one error, and one sentence, for each cause.

A sentence has three parts: what was tried, what was found, what to do next. No token is in it.

One status has several causes: 403 is a wrong token, or a Host header that the server does not take; 404 is a
kernel that is gone, or a runtime that is. They are told apart by the server's front door, `/api`, which a
Jupyter Server shows to everybody, and which is looked at after a refusal.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field

from colab_kernel.errors import AccessError, KernelGoneError, RemoteError, UnreachableError
from colab_kernel.runtime import Access, Runtime

CONNECT = "type `python -m colab_kernel connect URL --token stdin`"
"""Nearly every way out: `stdin` asks for the token, which a command line would show to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A request, for use in a sentence.

    Attributes:
        method, url: as in HTTP; the address without query.
        kernel_id: which kernel it was about; empty if about none.
        shown: whether a token was shown.
        websocket: whether it asked for a websocket.
    """

    method: str
    url: str
    kernel_id: str = ""
    shown: bool = True
    websocket: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.url}{' (websocket)' if self.websocket else ''}"


def tried(
    method: str,
    path: str,
    *,
    runtime: Runtime,
    access: Access,
    kernel_id: str = "",
) -> Tried:
    """The request `method path` to a runtime, shown `access`."""
    shown = bool(access.query) or dict(access.headers) != dict(runtime.headers)
    websocket = path.endswith("/channels")
    url = f"{runtime.url}{path}"
    return Tried(method=method, url=url, kernel_id=kernel_id, shown=shown, websocket=websocket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, as far as it tells something.

    Attributes:
        status: of HTTP.
        body: as much of it as was read.
        location: where a redirect leads to.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    location: str = ""

    @property
    def message(self) -> str | None:
        """What a Jupyter Server says went wrong; None if it is not in its words, an object of JSON.

        Source: https://github.com/jupyter-server/jupyter_server/blob/main/jupyter_server/base/handlers.py
        (APIHandler.write_error), read in 2.21; the same in 2.14
        """
        said = self._member("message")
        return " ".join(said.split())[:200] if said is not None and self.status >= 400 else None

    @property
    def version(self) -> str | None:
        """The version that a Jupyter Server's front door tells; None if it is none."""
        return self._member("version") if self.status == 200 else None

    def _member(self, name: str) -> str | None:
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        value = found.get(name) if isinstance(found, dict) else None
        return value if isinstance(value, str) else None


class Door(enum.StrEnum):
    """What stands at `/api`."""

    JUPYTER = "a Jupyter Server"
    HOST_REFUSED = (
        "a Jupyter Server that does not take the Host header: it refuses even what is for everybody"
    )
    SHUT = "somebody who lets nobody in without a token"
    ENDED = "a proxy that has nobody behind it"
    OTHER = "something else"
    UNKNOWN = "nobody knows: it did not answer"


_ENDED = frozenset({404, 410, 502, 503, 504, *range(520, 531)})
"""How a proxy says that there is nobody behind it; from 520 on Cloudflare's, whose quick tunnels are common.

Source: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""


def door_of(answer: Answer | None) -> Door:
    """What the answer of `/api` shows; None: there was none."""
    if answer is None:
        return Door.UNKNOWN
    if answer.version is not None:
        return Door.JUPYTER
    if answer.status in (401, 403):
        return Door.HOST_REFUSED if answer.status == 403 and answer.message is not None else Door.SHUT
    return Door.ENDED if answer.status in _ENDED and answer.message is None else Door.OTHER


class Refusal(enum.Enum):
    """Why a request was refused: the error to raise, what was found, what to do next."""

    TOKEN = AccessError, "the token is not the right one", f"get the server's present one and {CONNECT}"
    NO_TOKEN = AccessError, "it lets nobody in without a token", f"get the server's token and {CONNECT}"
    HOST = (
        RemoteError,
        "the server does not accept this name in the Host header",
        "start it with --ServerApp.allow_remote_access=True, or reach it through a tunnel to 127.0.0.1",
    )
    KERNEL = (
        KernelGoneError,
        "the server has no such kernel any more: it was shut down or culled, or the server was restarted",
        "restart the kernel here to have a new one there",
    )
    ENDED = (
        UnreachableError,
        "no Jupyter Server is behind this address: the runtime's session has ended, its tunnel is down, "
        "or the path is wrong",
        f"start the runtime again and {CONNECT}",
    )
    REDIRECT = (
        RemoteError,
        "it sends the request elsewhere, where a token is not carried",
        f"with the address of the Jupyter Server itself {CONNECT}",
    )
    UPGRADE = (
        RemoteError,
        "the server answers, but no websocket gets through to it",
        "let whatever stands in between pass the headers Upgrade and Connection",
    )
    FAILED = RemoteError, "the server could not do it", "look at what it wrote to its log"
    NOT_JUPYTER = (
        RemoteError,
        "what answers there is not a Jupyter Server",
        f"check the address; with the right one {CONNECT}",
    )


def refusal_of(tried: Tried, answer: Answer, *, door: Door) -> Refusal:
    """Why `tried` got this answer, in front of this door."""
    if answer.status // 100 == 3:
        return Refusal.REDIRECT
    if door is Door.HOST_REFUSED:
        return Refusal.HOST
    if answer.status in (401, 403):
        return Refusal.TOKEN if tried.shown else Refusal.NO_TOKEN
    if door is Door.JUPYTER or answer.message is not None:
        if answer.status == 404 and tried.kernel_id:
            return Refusal.KERNEL
        return Refusal.UPGRADE if tried.websocket and answer.status < 500 else Refusal.FAILED
    if answer.status in _ENDED and door is not Door.OTHER:
        return Refusal.ENDED
    return Refusal.NOT_JUPYTER


def error_for(tried: Tried, answer: Answer, *, door: Door) -> RemoteError:
    """The error for an answer that is not the one that was asked for."""
    refusal = refusal_of(tried, answer, door=door)
    kind, found, advice = refusal.value
    detail = f" ({answer.message})" if refusal is Refusal.FAILED and answer.message else ""
    where = f" to {_without_query(answer.location)}" if answer.location else ""
    sentence = f"{tried} was answered with {answer.status}{where}: {found}{detail}; {advice}"
    return UnreachableError(sentence, refused=True) if kind is UnreachableError else kind(sentence)


def no_kernelspec(tried: Tried, *, kernel_name: str, known: tuple[str, ...]) -> RemoteError:
    """The error for a kernelspec that the runtime does not have."""
    has = f"it has {', '.join(known)}" if known else "it has none at all"
    return RemoteError(
        f"{tried}: the server has no kernelspec {kernel_name!r}, {has}; "
        "with one that it has type `python -m colab_kernel connect URL --kernel NAME --token stdin`"
    )


# --- nobody answers --------------------------------------------------------------------------------------


class Failure(enum.Enum):
    """Why there was no answer at all: what was found, what to do next."""

    REFUSED = (
        "nobody listens there",
        f"start the Jupyter Server or its tunnel; if it is elsewhere now, {CONNECT}",
    )
    NO_HOST = (
        "no such host is known",
        f"check this machine's network; if the address is not the right one, {CONNECT}",
    )
    SILENT = (
        "no answer within {timeout_s:g} s",
        f"check the network, and that the runtime still runs; if it is elsewhere now, {CONNECT}",
    )
    CERTIFICATE = (
        "its TLS certificate is not trusted ({detail})",
        "name its authority in SSL_CERT_FILE where the frontend is started, "
        f"or with the address that it is for {CONNECT}",
    )
    NO_TLS = (
        "it does not speak TLS ({detail})",
        f"if the address begins with http://, {CONNECT}",
    )
    NO_HANDSHAKE = (
        "it takes connections, and does not speak TLS within {timeout_s:g} s",
        f"check the network; if the address begins with http://, {CONNECT}",
    )
    CLOSED = (
        "it ended the connection without an answer",
        f"if the address begins with https://, {CONNECT}",
    )
    NO_WAY = (
        "it cannot be reached ({detail})",
        f"check this machine's network; if the address is not the right one, {CONNECT}",
    )


_FAILURES = (
    # By name: to name the class itself would be to import the library that does the I/O. First match wins.
    ("SSLCertVerificationError", Failure.CERTIFICATE),
    ("SSLError", Failure.NO_TLS),
    ("gaierror", Failure.NO_HOST),
    ("TimeoutError", Failure.SILENT),
    ("ConnectionRefusedError", Failure.REFUSED),
    ("ConnectionError", Failure.CLOSED),
    ("HTTPException", Failure.CLOSED),
    ("EOFError", Failure.CLOSED),
)


def failure_of(error: BaseException) -> Failure:
    """Which failure an exception of `socket`, `ssl` or `http.client` is."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "TimeoutError" in names and "handshake" in str(error):
        return Failure.NO_HANDSHAKE
    return next((failure for name, failure in _FAILURES if name in names), Failure.NO_WAY)


def no_answer(tried: Tried, error: BaseException, *, timeout_s: float) -> UnreachableError:
    """The error for a request that was not answered, by the exception that ended it."""
    failure = failure_of(error)
    found, advice = failure.value
    said = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    detail = said or type(error).__name__
    sentence = f"{tried}: {found.format(timeout_s=timeout_s, detail=detail)}; {advice}"
    return UnreachableError(sentence, refused=failure is Failure.REFUSED)


def _without_query(url: str) -> str:
    return url.partition("?")[0][:200]
