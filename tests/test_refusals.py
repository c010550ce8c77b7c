"""Why a runtime does not do as it is asked: the whole table, and the sentences."""

from __future__ import annotations

import http.client
import json
import socket
import ssl

import pytest

from colab_kernel import refusals
from colab_kernel.errors import AccessError, KernelGoneError, RemoteError, UnreachableError
from colab_kernel.refusals import Answer, Door, Failure, Refusal, Tried
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace

URL = "http://runtime.example:8888/api/kernels/k"
PAGE = b"<!DOCTYPE HTML><title>hello</title>"
SAYS = json.dumps({"message": "it went\n  wrong", "reason": None}).encode()
VERSION = json.dumps({"version": "2.21.1"}).encode()

KERNEL = Tried(method="GET", url=URL, kernel_id="k")
SOCKET = Tried(method="GET", url=URL + "/channels", kernel_id="k", websocket=True)
START = Tried(method="POST", url="http://runtime.example:8888/api/kernels")
UNSHOWN = Tried(method="GET", url=URL, kernel_id="k", shown=False)

DOORS = (Door.JUPYTER, Door.HOST_REFUSED, Door.SHUT, Door.ENDED, Door.OTHER, Door.UNKNOWN)

# status, doors in the order above → refusal of a kernel's address whose answer is a page for people
TABLE = {
    200: "FAILED HOST NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER",
    302: "REDIRECT REDIRECT REDIRECT REDIRECT REDIRECT REDIRECT",
    308: "REDIRECT REDIRECT REDIRECT REDIRECT REDIRECT REDIRECT",
    400: "FAILED HOST NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER",
    401: "TOKEN HOST TOKEN TOKEN TOKEN TOKEN",
    403: "TOKEN HOST TOKEN TOKEN TOKEN TOKEN",
    404: "KERNEL HOST ENDED ENDED NOT_JUPYTER ENDED",
    405: "FAILED HOST NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER",
    410: "FAILED HOST ENDED ENDED NOT_JUPYTER ENDED",
    426: "FAILED HOST NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER",
    500: "FAILED HOST NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER NOT_JUPYTER",
    502: "FAILED HOST ENDED ENDED NOT_JUPYTER ENDED",
    503: "FAILED HOST ENDED ENDED NOT_JUPYTER ENDED",
    504: "FAILED HOST ENDED ENDED NOT_JUPYTER ENDED",
    530: "FAILED HOST ENDED ENDED NOT_JUPYTER ENDED",
}
CASES = [
    (status, door, Refusal[name])
    for status, names in TABLE.items()
    for door, name in zip(DOORS, names.split(), strict=True)
]


@pytest.mark.parametrize(("status", "door", "wanted"), CASES)
def test_each_status_in_front_of_each_door_has_its_cause(status: int, door: Door, wanted: Refusal) -> None:
    assert refusals.refusal_of(KERNEL, Answer(status=status, body=PAGE), door=door) is wanted


@pytest.mark.parametrize(
    ("tried", "answer", "door", "wanted"),
    [
        (UNSHOWN, Answer(status=403, body=PAGE), Door.JUPYTER, Refusal.NO_TOKEN),
        (UNSHOWN, Answer(status=401, body=PAGE), Door.SHUT, Refusal.NO_TOKEN),
        # In a Jupyter Server's own words no door is needed, and none that contradicts is believed.
        (KERNEL, Answer(status=404, body=SAYS), Door.UNKNOWN, Refusal.KERNEL),
        (START, Answer(status=404, body=SAYS), Door.JUPYTER, Refusal.FAILED),
        (START, Answer(status=500, body=SAYS), Door.OTHER, Refusal.FAILED),
        (START, Answer(status=503, body=SAYS), Door.UNKNOWN, Refusal.FAILED),
        # A websocket: refused by the server itself, or by what is in between.
        (SOCKET, Answer(status=404, body=PAGE), Door.JUPYTER, Refusal.KERNEL),
        (
            SOCKET,
            Answer(status=400, body=b'Can "Upgrade" only to "WebSocket".'),
            Door.JUPYTER,
            Refusal.UPGRADE,
        ),
        (SOCKET, Answer(status=200, body=PAGE), Door.JUPYTER, Refusal.UPGRADE),
        (SOCKET, Answer(status=426, body=PAGE), Door.JUPYTER, Refusal.UPGRADE),
        (SOCKET, Answer(status=500, body=PAGE), Door.JUPYTER, Refusal.FAILED),
        (SOCKET, Answer(status=403, body=PAGE), Door.HOST_REFUSED, Refusal.HOST),
        (SOCKET, Answer(status=502, body=PAGE), Door.ENDED, Refusal.ENDED),
    ],
)
def test_what_was_asked_and_what_was_said_count_too(
    tried: Tried, answer: Answer, door: Door, wanted: Refusal
) -> None:
    assert refusals.refusal_of(tried, answer, door=door) is wanted


@pytest.mark.parametrize(
    ("answer", "door"),
    [
        (None, Door.UNKNOWN),
        (Answer(status=200, body=VERSION), Door.JUPYTER),
        (Answer(status=200, body=PAGE), Door.OTHER),
        (Answer(status=200, body=b"[]"), Door.OTHER),
        (Answer(status=200, body=b'{"version": 2}'), Door.OTHER),
        (Answer(status=200, body=b"[" * 100_000), Door.OTHER),
        (Answer(status=403, body=SAYS), Door.HOST_REFUSED),
        (Answer(status=403, body=PAGE), Door.SHUT),
        (Answer(status=401, body=SAYS), Door.SHUT),
        (Answer(status=302, body=PAGE), Door.OTHER),
        (Answer(status=404, body=PAGE), Door.ENDED),
        (Answer(status=404, body=SAYS), Door.OTHER),
        (Answer(status=502, body=b""), Door.ENDED),
        (Answer(status=530, body=b"error code: 1033"), Door.ENDED),
        (Answer(status=500, body=PAGE), Door.OTHER),
    ],
)
def test_the_front_door_shows_who_is_there(answer: Answer | None, door: Door) -> None:
    assert refusals.door_of(answer) is door


KINDS = {
    Refusal.TOKEN: AccessError,
    Refusal.NO_TOKEN: AccessError,
    Refusal.HOST: RemoteError,
    Refusal.KERNEL: KernelGoneError,
    Refusal.ENDED: UnreachableError,
    Refusal.REDIRECT: RemoteError,
    Refusal.UPGRADE: RemoteError,
    Refusal.FAILED: RemoteError,
    Refusal.NOT_JUPYTER: RemoteError,
}


@pytest.mark.parametrize(("status", "door", "refusal"), CASES)
def test_each_cause_is_one_error_with_a_sentence_of_its_own(
    status: int, door: Door, refusal: Refusal
) -> None:
    error = refusals.error_for(KERNEL, Answer(status=status, body=PAGE), door=door)
    assert type(error) is KINDS[refusal]
    assert str(error).startswith(f"GET {URL} was answered with {status}")
    assert refusal.value[1] in str(error)
    assert refusal.value[2] in str(error)


def test_every_cause_has_its_own_words() -> None:
    assert set(KINDS) == set(Refusal)
    assert len({refusal.value[1] for refusal in Refusal}) == len(Refusal)


def test_no_sentence_makes_a_frontend_think_of_installing_something() -> None:
    # VS Code looks for the name of the package in what a kernel says when it fails.
    said = " ".join(str(part) for refusal in [*Refusal, *Failure] for part in refusal.value)
    assert "ipykernel" not in said
    assert "No module named" not in said


def test_a_session_that_ended_counts_as_refused_by_the_machine() -> None:
    error = refusals.error_for(KERNEL, Answer(status=502), door=Door.ENDED)
    assert isinstance(error, UnreachableError)
    assert error.refused


def test_what_the_server_said_is_in_the_sentence_on_one_line_and_not_endless() -> None:
    assert "(it went wrong); look" in str(
        refusals.error_for(START, Answer(status=500, body=SAYS), door=Door.JUPYTER)
    )
    long = json.dumps({"message": "x" * 5_000}).encode()
    assert len(str(refusals.error_for(START, Answer(status=500, body=long), door=Door.JUPYTER))) < 500


def test_a_redirect_is_named_without_the_secrets_in_its_query() -> None:
    answer = Answer(status=302, location="https://login.example/sign-in?next=x&token=s3cret")
    said = str(refusals.error_for(KERNEL, answer, door=Door.OTHER))
    assert "302 to https://login.example/sign-in:" in said
    assert "s3cret" not in said


def test_a_websocket_is_called_one() -> None:
    assert "/channels (websocket) was answered with 404" in str(
        refusals.error_for(SOCKET, Answer(status=404), door=Door.JUPYTER)
    )


def test_a_missing_kernelspec_is_told_with_those_that_there_are() -> None:
    error = refusals.no_kernelspec(START, kernel_name="julia", known=("python3", "ir"))
    assert "no kernelspec 'julia', it has python3, ir;" in str(error)
    assert "it has none at all" in str(refusals.no_kernelspec(START, kernel_name="julia", known=()))


FAILURES = [
    (ConnectionRefusedError(111, "Connection refused"), Failure.REFUSED),
    (socket.gaierror(-2, "Name or service not known"), Failure.NO_HOST),
    (TimeoutError("timed out"), Failure.SILENT),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), Failure.CERTIFICATE),
    (ssl.SSLError(1, "[SSL] record layer failure"), Failure.NO_TLS),
    (ConnectionResetError(104, "Connection reset by peer"), Failure.CLOSED),
    (http.client.RemoteDisconnected("closed"), Failure.CLOSED),
    (http.client.BadStatusLine("\x15\x03"), Failure.CLOSED),
    (EOFError(), Failure.CLOSED),
    (OSError(101, "Network is unreachable"), Failure.NO_WAY),
    (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), Failure.NO_WAY),
    (OSError(), Failure.NO_WAY),
    (TimeoutError("_ssl.c:989: The handshake operation timed out"), Failure.NO_HANDSHAKE),
]


@pytest.mark.parametrize(("error", "failure"), FAILURES, ids=repr)
def test_each_way_of_not_being_answered_is_told_apart(error: Exception, failure: Failure) -> None:
    assert refusals.failure_of(error) is failure
    made = refusals.no_answer(KERNEL, error, timeout_s=7.5)
    assert made.refused is (failure is Failure.REFUSED)
    assert str(made).startswith(f"GET {URL}: ")
    assert str(made).endswith(failure.value[1])
    assert "{" not in str(made)


def test_the_details_of_a_failure_are_in_its_sentence() -> None:
    said = [str(refusals.no_answer(KERNEL, error, timeout_s=7.5)) for error, _ in FAILURES]
    assert "no answer within 7.5 s" in said[2]
    assert "certificate verify failed" in said[3]
    assert "Network is unreachable" in said[9]
    assert "407 Proxy" in said[10]
    assert "(OSError)" in said[11]


@pytest.mark.parametrize("auth", AuthScheme)
@pytest.mark.parametrize("place", TokenPlace)
def test_a_request_knows_whether_it_showed_a_token_and_never_says_it(
    auth: AuthScheme, place: TokenPlace
) -> None:
    runtime = Runtime(name="r", url="http://h/base", auth=auth, token_in=place, headers={"X-Other": "1"})
    shown = refusals.tried("GET", "/api", runtime=runtime, access=runtime.access("s3cret"))
    assert shown.shown
    assert "s3cret" not in repr(shown) + str(shown)
    unshown = refusals.tried("GET", "/api", runtime=runtime, access=runtime.access(""))
    assert not unshown.shown
    assert str(unshown) == "GET http://h/base/api"
    channels = refusals.tried(
        "GET", "/api/kernels/k/channels", runtime=runtime, access=runtime.access(""), kernel_id="k"
    )
    assert channels.websocket
