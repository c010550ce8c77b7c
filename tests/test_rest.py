"""The REST API against real Jupyter Servers, and against what may stand where one is expected."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import jupyter_servers
import pytest
from jupyter_servers import JupyterServer, jupyter_server, web_server
from tcp_proxies import TcpProxy

from colab_kernel.errors import (
    AccessError,
    KernelGoneError,
    RegistryError,
    RemoteError,
    UnreachableError,
)
from colab_kernel.link_watch import Reach
from colab_kernel.rest import Server
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace

GONE = "11111111-2222-3333-4444-555555555555"


def server_at(url: str, *tokens: str, **fields: object) -> Server:
    """A Server whose token's source gives one token after another; the last for ever."""
    left = list(tokens) or [jupyter_servers.TOKEN]
    runtime = Runtime(name="r", url=url, **fields)  # type: ignore[arg-type]
    return Server(runtime, read_token=lambda: left.pop(0) if len(left) > 1 else left[0])


def error_of(call: Callable[[], object], kind: type[RemoteError]) -> str:
    """The sentence of the error that `call` raises, of exactly this kind; no token is in it."""
    with pytest.raises(RemoteError) as caught:
        call()
    assert type(caught.value) is kind
    said = str(caught.value)
    assert jupyter_servers.TOKEN not in said
    assert "\n" not in said
    return said


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server") / "a b", base_path="/user/ada") as server:
        yield server


# --- what it is for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", TokenPlace)
def test_a_kernel_lives_from_its_start_to_its_deletion(jupyter: JupyterServer, place: TokenPlace) -> None:
    server = server_at(jupyter.url, token_in=place)
    kernel_id = server.start_kernel()
    assert server.kernel(kernel_id)["id"] == kernel_id
    assert kernel_id in [model["id"] for model in server.kernels()]
    server.interrupt(kernel_id)
    server.delete_kernel(kernel_id)
    assert kernel_id not in jupyter.kernel_ids()


def test_a_kernel_starts_in_the_folder_that_was_asked_for(jupyter: JupyterServer) -> None:
    (jupyter.root / "deep/er").mkdir(parents=True)
    kernel_id = server_at(jupyter.url, kernel_name="python3").start_kernel(path="deep/er")
    assert Path(jupyter.kernel_process(kernel_id).cwd()) == (jupyter.root / "deep/er").resolve()


def test_a_server_tells_its_version_and_its_kernelspecs(jupyter: JupyterServer) -> None:
    info = server_at(jupyter.url).probe()
    assert info.version == jupyter.api("GET", "/api")["version"]
    assert info.default_kernelspec == "python3"
    assert "python3" in info.kernelspecs
    assert info.is_python()
    assert info.is_python("python3")
    assert not info.is_python("julia")


def test_a_server_that_wants_no_token_is_used_without(tmp_path: Path) -> None:
    with jupyter_server(tmp_path / "s", token="") as jupyter:
        server = server_at(jupyter.url, "")
        server.delete_kernel(server.start_kernel())


def test_access_is_the_token_as_it_is_now() -> None:
    server = server_at("http://127.0.0.1:1", "one", "two", auth=AuthScheme.COLAB)
    assert server.access().headers == {"X-Colab-Runtime-Proxy-Token": "one"}
    assert server.access().headers == {"X-Colab-Runtime-Proxy-Token": "two"}


def test_a_server_of_its_own_behind_colabs_proxy_is_shown_both_tokens() -> None:
    runtime = Runtime(name="r", url="http://127.0.0.1:1")
    server = Server(runtime, read_token=lambda: "its", read_proxy_token=lambda: "the-proxys")
    assert server.access().headers == {
        "Authorization": "token its",
        "X-Colab-Runtime-Proxy-Token": "the-proxys",
    }


# --- the token -------------------------------------------------------------------------------------------


def test_a_wrong_token_is_an_access_error(jupyter: JupyterServer) -> None:
    server = server_at(jupyter.url, "wr0ng-t0ken")
    for call in (server.probe, server.kernels, server.start_kernel, lambda: server.kernel(GONE)):
        said = error_of(call, AccessError)
        assert "403: the token is not the right one" in said
        assert "wr0ng-t0ken" not in said
    assert "lets nobody in without a token" in error_of(server_at(jupyter.url, "").kernels, AccessError)


def test_a_token_that_expired_is_read_again_and_the_request_goes_through(jupyter: JupyterServer) -> None:
    assert isinstance(server_at(jupyter.url, "expired", jupyter.token).kernels(), list)
    kernel_id = server_at(jupyter.url, "expired", jupyter.token).start_kernel()
    server_at(jupyter.url, "expired", jupyter.token).delete_kernel(kernel_id)


def test_a_token_that_has_not_changed_is_not_tried_again() -> None:
    with web_server(403) as web:
        error_of(server_at(web.url).kernels, AccessError)
        assert [path for _, path, _ in web.seen] == ["/api/kernels", "/api"]


def test_an_error_of_the_tokens_source_comes_through() -> None:
    def unreadable() -> str:
        raise RegistryError("the token's file is gone")

    server = Server(Runtime(name="r", url="http://127.0.0.1:1"), read_token=unreadable)
    with pytest.raises(RegistryError):
        server.kernels()


def test_a_token_goes_to_no_other_address() -> None:
    with web_server(200, body="[]") as other, web_server(302, headers={"Location": other.url}) as web:
        said = error_of(server_at(web.url).kernels, RemoteError)
        assert f"302 to {other.url}: it sends the request elsewhere" in said
        assert other.seen == []


# --- refusals --------------------------------------------------------------------------------------------


def test_a_host_that_the_server_does_not_take_is_no_wrong_token(jupyter: JupyterServer) -> None:
    server = server_at(jupyter.url, headers={"Host": "runtime.example"})
    for call in (server.probe, server.kernels, server.start_kernel):
        assert "--ServerApp.allow_remote_access=True" in error_of(call, RemoteError)
    assert server.is_reachable(timeout_s=10) is Reach.REACHABLE


def test_a_kernel_that_is_not_there_any_more_is_gone(jupyter: JupyterServer) -> None:
    server = server_at(jupyter.url)
    for call in (server.kernel, server.interrupt, server.delete_kernel):
        assert "no such kernel any more" in error_of(lambda call=call: call(GONE), KernelGoneError)


def test_a_kernelspec_that_is_not_there_is_told_with_those_that_are(jupyter: JupyterServer) -> None:
    said = error_of(lambda: server_at(jupyter.url).start_kernel(kernel_name="julia"), RemoteError)
    assert "no kernelspec 'julia'" in said
    assert "python3" in said
    assert "no kernelspec 'r'" in error_of(server_at(jupyter.url, kernel_name="r").start_kernel, RemoteError)


def test_a_kernel_that_cannot_start_is_the_servers_failure(jupyter: JupyterServer) -> None:
    spec = Path(os.environ["JUPYTER_DATA_DIR"]) / "kernels/broken/kernel.json"
    harness.write(spec, '{"argv": ["/nowhere/python"], "display_name": "B", "language": "python"}')
    try:
        said = error_of(lambda: server_at(jupyter.url).start_kernel(kernel_name="broken"), RemoteError)
    finally:
        harness.remove_folder(spec.parent)
    assert "was answered with 500: the server could not do it" in said


@pytest.mark.parametrize("path", ["", "/nothing/here"])
def test_a_page_for_people_is_not_a_jupyter_server(path: str) -> None:
    with web_server(200) as web:
        server = server_at(f"{web.url}{path}")
        for call in (server.probe, server.kernels, server.start_kernel, lambda: server.kernel(GONE)):
            assert "is not a Jupyter Server" in error_of(call, RemoteError)


def test_a_wrong_path_on_a_jupyter_server_is_not_a_jupyter_server(jupyter: JupyterServer) -> None:
    # Above its base path a server redirects, or says 404.
    error_of(server_at(jupyter.url.removesuffix("/user/ada")).probe, UnreachableError)


@pytest.mark.parametrize("body", ["[1]", "null", '{"id": 5}', '"text"', '{"default": 1, "kernelspecs": []}'])
def test_json_that_is_not_as_a_jupyter_servers_is_refused(body: str) -> None:
    with web_server(200, body=body) as web:
        server = server_at(web.url)
        for call in (server.probe, server.start_kernel):
            assert "is not a Jupyter Server" in error_of(call, RemoteError)
        if not body.startswith("{"):
            error_of(lambda: server.kernel(GONE), RemoteError)
        if not body.startswith("["):
            error_of(server.kernels, RemoteError)


@pytest.mark.parametrize("status", [404, 410, 502, 503, 504, 530])
def test_a_runtime_whose_session_ended_is_told_as_that(status: int) -> None:
    with web_server(status) as web:
        server = server_at(web.url)
        for call in (server.probe, lambda: server.kernel(GONE)):
            assert "the runtime's session has ended" in error_of(call, UnreachableError)
        assert server.is_reachable(timeout_s=10) is Reach.REFUSED


# --- nobody answers --------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = server_at(f"http://127.0.0.1:{port}")
    assert "nobody listens there" in error_of(server.probe, UnreachableError)
    assert server.is_reachable(timeout_s=10) is Reach.REFUSED


def test_a_host_that_nobody_knows_is_told() -> None:
    server = server_at("http://no-such-host.invalid:8888")
    assert "no such host is known" in error_of(server.probe, UnreachableError)
    assert server.is_reachable(timeout_s=10) is Reach.SILENT


def test_a_server_that_does_not_answer_in_time_is_silent(jupyter: JupyterServer) -> None:
    with TcpProxy(jupyter.port) as network:
        server = server_at(f"http://127.0.0.1:{network.port}/user/ada")
        assert server.is_reachable(timeout_s=10) is Reach.REACHABLE
        network.hold()
        said = error_of(lambda: server.probe(timeout_s=0.2), UnreachableError)
        assert "no answer within 0.2 s" in said
        assert server.is_reachable(timeout_s=0.2) is Reach.SILENT
        network.release()
        assert server.is_reachable(timeout_s=10) is Reach.REACHABLE


def test_a_connection_that_ends_without_an_answer_is_told(jupyter: JupyterServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    with TcpProxy(free) as network:
        server = server_at(f"http://127.0.0.1:{network.port}")
        assert "ended the connection without an answer" in error_of(server.probe, UnreachableError)
        assert server.is_reachable(timeout_s=10) is Reach.SILENT


def test_reachable_is_whoever_answers_whatever_he_says(jupyter: JupyterServer) -> None:
    def unreadable() -> str:
        raise RegistryError("the token's file is gone")

    runtime = Runtime(name="r", url=jupyter.url)
    assert Server(runtime, read_token=unreadable).is_reachable(timeout_s=10) is Reach.REACHABLE
    for status in (200, 302, 401, 403, 500):
        with web_server(status) as web:
            assert server_at(web.url).is_reachable(timeout_s=10) is Reach.REACHABLE


# --- TLS and proxies -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JupyterServer, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    certificate = jupyter_servers.make_certificate(folder)
    with jupyter_server(folder / "server", certificate=certificate) as server:
        yield server, certificate.public


def test_a_certificate_that_is_trusted_opens_the_way(
    https: tuple[JupyterServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    jupyter, authority = https
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert server_at(jupyter.url).probe().is_python()


def test_a_certificate_that_is_not_trusted_is_told(https: tuple[JupyterServer, Path]) -> None:
    jupyter, _ = https
    said = error_of(server_at(jupyter.url).probe, UnreachableError)
    assert "its TLS certificate is not trusted (self" in said
    assert server_at(jupyter.url).is_reachable(timeout_s=10) is Reach.SILENT


def test_http_and_https_taken_for_one_another_are_told(https: tuple[JupyterServer, Path]) -> None:
    with web_server(200) as web:
        said = error_of(server_at(web.url.replace("http:", "https:")).probe, UnreachableError)
    assert "begins with http://" in said
    said = error_of(server_at(https[0].url.replace("https:", "http:")).probe, UnreachableError)
    assert "begins with https://" in said


def test_a_proxy_is_gone_through_but_not_to_this_machine(
    jupyter: JupyterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server(502, body="from the proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert server_at(jupyter.url).probe().is_python()
        assert proxy.seen == []
        error_of(server_at("http://runtime.example:8888").kernels, UnreachableError)
        assert proxy.seen[0][1] == "http://runtime.example:8888/api/kernels"
