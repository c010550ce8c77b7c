"""The websocket to a remote kernel: against real Jupyter Servers, over bad networks, and frame by frame."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import select
import socket
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import harness
import jupyter_servers
import pytest
import wire_samples
from jupyter_servers import JupyterServer, jupyter_server, web_server
from tcp_proxies import TcpProxy, Way
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from colab_kernel import remote, ws_wire
from colab_kernel.errors import (
    AccessError,
    KernelGoneError,
    RemoteError,
    UnframeableError,
    UnreachableError,
)
from colab_kernel.messages import Channel, Message
from colab_kernel.remote import Link
from colab_kernel.runtime import MAX_MESSAGE_BYTES, AuthScheme, Runtime, TokenPlace
from colab_kernel.ws_wire import Subprotocol

GONE = "11111111-2222-3333-4444-555555555555"
DEFAULT_ONLY = "--ZMQChannelsWebsocketConnection.kernel_ws_protocol="
WAIT_S = 60.0


def runtime_at(url: str, **fields: object) -> Runtime:
    return Runtime(name="r", url=url, **fields)  # type: ignore[arg-type]


def open_link(
    url: str,
    kernel_id: str,
    *,
    session_id: str = "",
    token: str = jupyter_servers.TOKEN,
    timeout_s: float = 60,
    **fields: object,
) -> Link:
    runtime = runtime_at(url, **fields)
    session = session_id or uuid.uuid4().hex
    access = runtime.access(token)
    return Link.open(runtime, access, kernel_id=kernel_id, session_id=session, timeout_s=timeout_s)


@contextmanager
def link_to(url: str, kernel_id: str, **more: object) -> Iterator[Link]:
    link = open_link(url, kernel_id, **more)  # type: ignore[arg-type]
    try:
        yield link
    finally:
        link.close()


def request(msg_type: str, content: object, *, buffers: tuple[bytes, ...] = ()) -> Message:
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": "s",
        "username": "u",
        "date": "2026-01-02T03:04:05.000000Z",
        "version": "5.4",
    }
    return Message(
        channel=Channel.SHELL,
        header=json.dumps(header).encode(),
        parent_header=b"{}",
        metadata=b"{}",
        content=json.dumps(content).encode(),
        buffers=buffers,
    )


def execute(code: str) -> Message:
    return request("execute_request", {"code": code, "silent": False, "store_history": False})


def turn(link: Link) -> list[Message]:
    """What a loop does once: wait until there is something to do on the link, and do it."""
    if not link.has_more:
        ready = select.select([link], [link] if link.wants_write else [], [], WAIT_S)
        assert any(ready), "nothing happens on the link"
    link.flush()
    return link.receive()


def until(link: Link, condition: Callable[[list[Message]], bool]) -> list[Message]:
    got: list[Message] = []
    while not condition(got):
        got += turn(link)
        assert link.closed is None, link.closed
    return got


def until_closed(link: Link) -> str:
    while link.closed is None:
        turn(link)
    return link.closed


def is_done(asked: Message) -> Callable[[list[Message]], bool]:
    """Whether reply and idle of a request are among what came."""

    def done(got: list[Message]) -> bool:
        mine = [message for message in got if message.parent_msg_id == asked.msg_id]
        idle = any(m.msg_type == "status" and m.parsed_content["execution_state"] == "idle" for m in mine)
        return idle and any(m.msg_type.endswith("_reply") for m in mine)

    return done


def run(link: Link, code: str) -> list[Message]:
    asked = execute(code)
    link.send(asked)
    got = until(link, is_done(asked))
    errors = [message.content for message in got if message.msg_type == "error"]
    assert errors == []
    return got


def printed(messages: list[Message]) -> str:
    streams = [message.parsed_content for message in messages if message.msg_type == "stream"]
    return "".join(str(stream["text"]) for stream in streams if stream["name"] == "stdout")


@pytest.fixture(scope="module", params=list(Subprotocol), ids=["v1", "default"])
def jupyter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    options = [*jupyter_servers.UNLIMITED, *([] if request.param else [DEFAULT_ONLY])]
    folder = tmp_path_factory.mktemp("server")
    with jupyter_server(folder, base_path="/user/ada", options=options) as server:
        yield server


@pytest.fixture(scope="module")
def kernel_id(jupyter: JupyterServer) -> str:
    return jupyter.start_kernel()


@pytest.fixture
def link(jupyter: JupyterServer, kernel_id: str) -> Iterator[Link]:
    with link_to(jupyter.url, kernel_id) as link:
        yield link


# --- with a real kernel ----------------------------------------------------------------------------------


def test_the_server_chooses_the_framing_and_code_runs_in_both(
    request: pytest.FixtureRequest, jupyter: JupyterServer, link: Link
) -> None:
    assert link.subprotocol is request.node.callspec.params["jupyter"]
    assert printed(run(link, "print('hello 🎈')")) == "hello 🎈\n"
    assert link.dropped == 0


def test_buffers_arrive_whole_both_ways_empty_ones_too(link: Link) -> None:
    run(
        link,
        "def opened(comm, message):\n"
        "    comm.on_msg(lambda m: comm.send(m['content']['data'], buffers=m['buffers'][::-1]))\n"
        "get_ipython().kernel.comm_manager.register_target('echo', opened)",
    )
    buffers = (b"", bytes(range(256)), b"", b"\x00" * 70_000)
    opening = request("comm_open", {"comm_id": "e", "target_name": "echo", "data": {}})
    asked = request("comm_msg", {"comm_id": "e", "data": {"n": 1}}, buffers=buffers)
    link.send(opening)
    link.send(asked)
    got = until(link, lambda got: any(m.msg_type == "comm_msg" for m in got))
    echoed = next(message for message in got if message.msg_type == "comm_msg")
    assert tuple(bytes(buffer) for buffer in echoed.buffers) == buffers[::-1]


def test_fifty_megabytes_come_down_in_one_message(link: Link) -> None:
    got = run(
        link,
        "try:\n"
        "    from comm import create_comm\n"
        "except ImportError:  # as on Colab\n"
        "    from ipykernel.comm import Comm as create_comm\n"
        "create_comm(target_name='big', data={}, buffers=[b'ab' * 25_000_000, b''])",
    )
    (opened,) = [message for message in got if message.msg_type == "comm_open"]
    big, empty = opened.buffers
    assert (len(big), len(empty)) == (50_000_000, 0)
    assert bytes(big[:4]) + bytes(big[-4:]) == b"abababab"


def sized(link: Link, payload_bytes: int) -> Message:
    """A comm message that is so long on the websocket."""
    message = request("comm_msg", {"comm_id": "nobody's", "data": {}}, buffers=(b"",))
    bare = ws_wire.serialize(message, subprotocol=link.subprotocol)
    assert isinstance(bare, bytes)
    return dataclasses.replace(message, buffers=(bytes(payload_bytes - len(bare)),))


@pytest.mark.parametrize("size", [10_483_760, MAX_MESSAGE_BYTES])
def test_up_to_ten_mebibytes_go_up(link: Link, size: int) -> None:
    link.send(sized(link, size))
    assert link.unsent_bytes > size
    assert printed(run(link, "print(1)")) == "1\n"
    assert (link.unsent_bytes, link.wants_write) == (0, False)


def test_what_is_longer_is_not_sent_and_the_link_lives_on(link: Link) -> None:
    with pytest.raises(UnframeableError, match="10,485,761 bytes is longer"):
        link.send(sized(link, MAX_MESSAGE_BYTES + 1))
    assert printed(run(link, "print(2)")) == "2\n"


def test_a_server_that_takes_less_than_we_believe_closes_with_1009(
    jupyter: JupyterServer, kernel_id: str
) -> None:
    with link_to(jupyter.url, kernel_id, max_message_bytes=1 << 40) as link:
        link.send(sized(link, MAX_MESSAGE_BYTES + 1))
        assert until_closed(link).endswith("a message was longer than it takes (1009)")


def test_a_ping_is_a_sign_of_life(link: Link) -> None:
    run(link, "")
    link.take_heard()
    assert not link.take_heard()
    link.ping()
    while not link.heard:
        assert turn(link) == []
    assert link.take_heard()


def test_the_servers_pings_are_answered(tmp_path: Path) -> None:
    # With a second between two pings and two until it gives up, it would be gone within the cell.
    options = jupyter_servers.ping_options(interval_s=1, timeout_s=2)
    started = jupyter_server(tmp_path / "s", options=options)
    with started as server, link_to(server.url, server.start_kernel()) as link:
        assert printed(run(link, "import time\ntime.sleep(6)\nprint('there')")) == "there\n"


def test_a_planned_end_waits_for_the_servers_goodbye(link: Link) -> None:
    run(link, "")
    link.finish(timeout_s=WAIT_S)
    assert link.closed == "the server closed the websocket (1000)"
    assert link.finish(timeout_s=WAIT_S) == []


def test_the_same_session_gets_what_came_while_there_was_no_link(
    jupyter: JupyterServer, kernel_id: str
) -> None:
    session_id = uuid.uuid4().hex
    asked = execute("print('while away')")
    with link_to(jupyter.url, kernel_id, session_id=session_id) as link:
        run(link, "")
        link.send(asked)
        assert all(message.msg_type != "stream" for message in link.finish(timeout_s=0))
    harness.wait_until(lambda: jupyter.connections(kernel_id) == 0, what="the server to see the link go")
    with link_to(jupyter.url, kernel_id, session_id=session_id) as link:
        assert printed(until(link, is_done(asked))) == "while away\n"


def test_a_token_in_the_query_opens_a_link_too(jupyter: JupyterServer, kernel_id: str) -> None:
    with link_to(jupyter.url, kernel_id, token_in=TokenPlace.QUERY) as link:
        run(link, "")


def test_a_link_over_tls_carries_more_than_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = jupyter_servers.make_certificate(tmp_path / "tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.public))
    options = jupyter_servers.UNLIMITED
    started = jupyter_server(tmp_path / "s", certificate=certificate, options=options)
    with started as server, link_to(server.url, server.start_kernel()) as link:
        code = "for n in range(300): print(n, 'x' * 5_000, flush=True)"
        lines = printed(run(link, code)).splitlines()
        assert [line.split()[0] for line in lines] == [str(n) for n in range(300)]
        link.send(sized(link, MAX_MESSAGE_BYTES))
        assert printed(run(link, "print(3)")) == "3\n"
        server.kill()
        assert until_closed(link)


def test_a_link_over_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        harness.missing("no IPv6 on the loopback interface")
    started = jupyter_server(tmp_path / "s", ip="::1")
    with started as server, link_to(server.url, server.start_kernel()) as link:
        run(link, "")


# --- handshakes that are refused -------------------------------------------------------------------------


def refusal_of(url: str, kernel_id: str, kind: type[RemoteError], **more: object) -> str:
    with pytest.raises(RemoteError) as caught:
        open_link(url, kernel_id, **more)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    said = str(caught.value)
    assert jupyter_servers.TOKEN not in said
    assert f"/api/kernels/{kernel_id}/channels (websocket)" in said
    return said


def test_a_wrong_token_opens_no_link(jupyter: JupyterServer, kernel_id: str) -> None:
    said = refusal_of(jupyter.url, kernel_id, AccessError, token="wr0ng")
    assert "403: the token is not the right one" in said
    said = refusal_of(jupyter.url, kernel_id, AccessError, token="wr0ng", token_in=TokenPlace.QUERY)
    assert "wr0ng" not in said
    assert "without a token" in refusal_of(jupyter.url, kernel_id, AccessError, token="")


def test_a_kernel_that_is_gone_opens_no_link(jupyter: JupyterServer) -> None:
    assert "no such kernel any more" in refusal_of(jupyter.url, GONE, KernelGoneError)


def test_a_host_that_the_server_does_not_take_opens_no_link(jupyter: JupyterServer, kernel_id: str) -> None:
    said = refusal_of(jupyter.url, kernel_id, RemoteError, headers={"Host": "runtime.example"})
    assert "--ServerApp.allow_remote_access=True" in said


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (200, RemoteError, "not a Jupyter Server"),
        (302, RemoteError, "302 to /elsewhere:"),
        (403, AccessError, "the token is not the right one"),
        (404, UnreachableError, "session has ended"),
        (502, UnreachableError, "session has ended"),
    ],
)
def test_what_is_no_jupyter_server_opens_no_link(
    status: int, kind: type[RemoteError], words: str, chunked: bool
) -> None:
    with web_server(status, headers={"Location": "/elsewhere"}, chunked=chunked) as web:
        said = refusal_of(web.url, GONE, kind, auth=AuthScheme.COLAB)
        assert web.seen[0][2]["X-Colab-Runtime-Proxy-Token"] == jupyter_servers.TOKEN
    assert words in said or "/elsewhere: it sends the request elsewhere" in said


def test_a_proxy_that_lets_no_websocket_through_is_told(jupyter: JupyterServer, kernel_id: str) -> None:
    with TcpProxy(jupyter.port) as network:
        url = jupyter.url.replace(str(jupyter.port), str(network.port))
        # What strips the header, as far as the server sees it.
        said = refusal_of(url, kernel_id, RemoteError, headers={"Upgrade": "nothing"})
    assert "no websocket gets through to it" in said


def test_nobody_there_opens_no_link(jupyter: JupyterServer, kernel_id: str) -> None:
    with TcpProxy(jupyter.port) as network:
        url = jupyter.url.replace(str(jupyter.port), str(network.port))
        network.hold()
        said = refusal_of(url, kernel_id, UnreachableError, timeout_s=0.3)
        assert "no answer within" in said
        network.release()
        network.when(b"Upgrade", Way.UP, network.abort)
        assert "ended the connection" in refusal_of(url, kernel_id, UnreachableError)
        network.when(b"Upgrade", Way.UP, network.cut)
        assert "ended the connection" in refusal_of(url, kernel_id, UnreachableError)
        network.when(b"101", Way.DOWN, network.cut)
        assert "ended the connection" in refusal_of(url, kernel_id, UnreachableError)
        network.refuse()
        assert "nobody listens there" in refusal_of(url, kernel_id, UnreachableError)
    said = refusal_of("http://no-such-host.invalid", kernel_id, UnreachableError)
    assert "no such host is known" in said


def test_a_certificate_that_is_not_trusted_opens_no_link(tmp_path: Path) -> None:
    certificate = jupyter_servers.make_certificate(tmp_path / "tls")
    with jupyter_server(tmp_path / "s", certificate=certificate) as server:
        assert "is not trusted" in refusal_of(server.url, GONE, UnreachableError)


@contextmanager
def forward_proxy(port: int) -> Iterator[tuple[str, list[bytes]]]:
    """An HTTP proxy that connects to `port` whatever it is asked; yields its address, what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT_S)

    def serve() -> None:
        with contextlib.suppress(OSError):  # either end may reset at the end
            carry()

    def carry() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            asked.append(head)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            other = {client: server, server: client}
            while True:
                for end in select.select([client, server], [], [], WAIT_S)[0]:
                    data = end.recv(65_536)
                    if not data:
                        return
                    other[end].sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with listener:
            yield f"http://anna:p%40ss@127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        thread.join()


def test_a_link_goes_through_the_proxy_of_the_environment(
    jupyter: JupyterServer, kernel_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy(jupyter.port) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy)
        url = jupyter.url.replace("127.0.0.1", "runtime.example")
        with link_to(url, kernel_id, headers={"Host": "localhost"}) as link:
            run(link, "")
    (head,) = asked
    assert head.startswith(b"CONNECT runtime.example:%d " % jupyter.port)
    assert b"Proxy-Authorization: Basic YW5uYTpwQHNz" in head


# --- a bad network ---------------------------------------------------------------------------------------


@pytest.fixture
def network(jupyter: JupyterServer) -> Iterator[TcpProxy]:
    with TcpProxy(jupyter.port) as network:
        yield network


@pytest.fixture
def shaky(jupyter: JupyterServer, kernel_id: str, network: TcpProxy) -> Iterator[Link]:
    """A link through `network`, with nothing on its way."""
    with link_to(jupyter.url.replace(str(jupyter.port), str(network.port)), kernel_id) as link:
        run(link, "")
        yield link


def test_a_connection_that_ends_without_a_goodbye_is_told(shaky: Link, network: TcpProxy) -> None:
    network.cut()
    assert until_closed(shaky) == "the connection ended without a goodbye"
    shaky.send(execute(""))
    shaky.flush()
    shaky.ping()
    assert (shaky.unsent_bytes, shaky.receive()) == (0, [])


def test_a_connection_that_is_reset_is_told(shaky: Link, network: TcpProxy) -> None:
    network.abort()
    assert "the connection broke: Connection reset by peer" in until_closed(shaky)


def test_a_reset_that_is_noticed_in_sending_is_told(shaky: Link, network: TcpProxy) -> None:
    network.abort()
    for _ in range(2):
        shaky.send(execute(""))
        shaky.flush()
    assert shaky.unsent_bytes == 0
    assert "the connection" in until_closed(shaky)


def test_a_hole_in_the_network_is_silence_and_loses_nothing(shaky: Link, network: TcpProxy) -> None:
    shaky.take_heard()
    network.hold()
    asked = execute("print('through')")
    shaky.send(asked)
    shaky.ping()
    assert select.select([shaky], [], [], 0.2)[0] == []
    assert shaky.receive() == []
    assert not shaky.take_heard()
    assert shaky.closed is None
    network.release()
    assert printed(until(shaky, is_done(asked))) == "through\n"
    assert shaky.take_heard()


def test_a_forgotten_connection_stays_silent_and_a_new_link_takes_its_place(
    jupyter: JupyterServer, kernel_id: str, network: TcpProxy
) -> None:
    session_id = uuid.uuid4().hex
    url = jupyter.url.replace(str(jupyter.port), str(network.port))
    with link_to(url, kernel_id, session_id=session_id) as old:
        run(old, "")
        network.swallow()
        network.let_go()
        old.ping()
        assert select.select([old], [], [], 0.2)[0] == []
        with link_to(url, kernel_id, session_id=session_id) as new:
            assert printed(run(new, "print('again')")) == "again\n"
        assert old.closed is None


def test_a_network_that_takes_nothing_makes_the_link_keep_it(shaky: Link, network: TcpProxy) -> None:
    # More than both ends of a connection and what is in between hold for one that does not read.
    network.hold()
    messages = [sized(shaky, MAX_MESSAGE_BYTES) for _ in range(4)]
    for message in messages:
        shaky.send(message)
    shaky.flush()
    assert shaky.wants_write
    assert shaky.unsent_bytes > MAX_MESSAGE_BYTES
    network.release()
    assert printed(run(shaky, "print('after all')")) == "after all\n"
    assert (shaky.unsent_bytes, shaky.wants_write) == (0, False)


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_server_that_ends_is_told(tmp_path: Path, how: str) -> None:
    with jupyter_server(tmp_path / "s") as server, link_to(server.url, server.start_kernel()) as link:
        run(link, "")
        getattr(server, how)()
        assert until_closed(link).startswith(("the connection ", "the server closed the websocket"))


# --- frame by frame --------------------------------------------------------------------------------------


class Peer:
    """A link whose other end is written here, frame by frame."""

    def __init__(self, *, subprotocol: Subprotocol = Subprotocol.V1, early: tuple[Message, ...] = ()) -> None:
        ours, self._socket = socket.socketpair()
        client = ClientProtocol(parse_uri("ws://h/"), state=State.OPEN, max_size=None)
        client.subprotocol = subprotocol.value or None  # type: ignore[assignment]
        frames = [Frame(Opcode.BINARY, self.payload(message)) for message in early]
        self._server = ServerProtocol(state=State.OPEN)
        self.link = Link(ours, client, early=frames, max_message_bytes=MAX_MESSAGE_BYTES)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.link.close()
        self._socket.close()

    @staticmethod
    def payload(message: Message) -> bytes:
        payload = ws_wire.serialize(message, subprotocol=Subprotocol.V1)
        assert isinstance(payload, bytes)
        return payload

    def raw(self, data: bytes) -> list[Message]:
        self._socket.sendall(data)
        return self.link.receive()

    def frames(self, *parts: tuple[int, bytes]) -> list[Message]:
        """Send frames and receive them on the link."""
        self.send(*parts)
        return self.link.receive()

    def send(self, *parts: tuple[int, bytes]) -> None:
        """Send frames, each given as its first byte and its payload."""
        data = b""
        for first, payload in parts:
            size = len(payload)
            length = struct.pack("!B", size) if size < 126 else struct.pack("!BQ", 127, size)
            data += bytes([first]) + length + payload
        self._socket.sendall(data)

    def answered(self) -> list[Frame]:
        """The frames that the link has sent."""
        self._socket.setblocking(False)
        try:
            while data := self._socket.recv(65_536):
                self._server.receive_data(data)
        except BlockingIOError:
            pass
        return [event for event in self._server.events_received() if isinstance(event, Frame)]


BINARY, TEXT, CONT, CLOSE, PING, PONG, FIN = 2, 1, 0, 8, 9, 10, 0x80
SAMPLE = wire_samples.MESSAGE
RAW = Peer.payload(SAMPLE)


def test_a_message_may_come_in_fragments_with_pings_in_between() -> None:
    with Peer() as peer:
        assert peer.frames((BINARY, RAW[:10]), (FIN | PING, b"?"), (CONT, b"")) == []
        assert [(frame.opcode, bytes(frame.data)) for frame in peer.answered()] == [(Opcode.PONG, b"?")]
        assert peer.frames((FIN | CONT, RAW[10:]), (FIN | BINARY, RAW)) == [SAMPLE, SAMPLE]


def test_text_may_come_in_fragments_that_cut_a_letter() -> None:
    text = ws_wire.serialize(dataclasses.replace(SAMPLE, buffers=()), subprotocol=Subprotocol.DEFAULT)
    assert isinstance(text, str)
    data = text.encode()
    cut = data.index("ü".encode()) + 1
    with Peer(subprotocol=Subprotocol.DEFAULT) as peer:
        assert peer.frames((TEXT, data[:cut]), (FIN | CONT, data[cut:]))[0].msg_id == SAMPLE.msg_id


def test_what_came_with_the_handshake_is_received_first() -> None:
    with Peer(early=(SAMPLE,)) as peer:
        assert peer.link.has_more
        other = dataclasses.replace(SAMPLE, content=b"{}")
        assert peer.frames((FIN | BINARY, Peer.payload(other))) == [SAMPLE, other]
        assert not peer.link.has_more


def test_a_message_that_does_not_parse_is_dropped_and_the_link_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Peer() as peer, caplog.at_level(logging.WARNING):
        got = peer.frames(
            (FIN | BINARY, b"s3cret"),
            (FIN | TEXT, b"{}"),
            (FIN | TEXT, b"\xff"),
            (FIN | BINARY, b""),
            (FIN | BINARY, RAW),
        )
        assert got == [SAMPLE]
        assert peer.link.dropped == 4
        assert peer.link.closed is None
    assert len(caplog.records) == 4
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (1000, "", "(1000)"),
        (1001, "going away", "(1001 going away)"),
        (1009, "too big", "a message was longer than it takes (1009)"),
        (4000, "", "(4000)"),
    ],
)
def test_a_close_is_told_with_its_code_after_what_came_before_it(code: int, reason: str, words: str) -> None:
    with Peer() as peer:
        close = struct.pack("!H", code) + reason.encode()
        assert peer.frames((FIN | BINARY, RAW), (FIN | CLOSE, close), (FIN | BINARY, RAW)) == [SAMPLE]
        assert peer.link.closed is not None
        assert words in peer.link.closed
        assert [frame.opcode for frame in peer.answered()] == [Opcode.CLOSE]


def test_what_is_no_websocket_closes_the_link() -> None:
    with Peer() as peer:
        assert peer.raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"<html>" * 99) == []
        assert "what came is no websocket any more" in str(peer.link.closed)


def test_one_call_takes_a_bounded_amount() -> None:
    with Peer() as peer:
        for _ in range(10):
            peer.send((FIN | BINARY, RAW))
        assert len(peer.link.receive(limit_bytes=2 * len(RAW))) < 3
        got = []
        while len(got) < 8:
            got += peer.link.receive(limit_bytes=2 * len(RAW))
        assert got == [SAMPLE] * len(got)


def test_where_acknowledgements_cannot_be_asked_for_a_pong_goes_out_for_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "_QUICKACK", None)
    with Peer() as peer:
        peer.frames((FIN | BINARY, RAW), (FIN | BINARY, RAW))
        assert [frame.opcode for frame in peer.answered()] == [Opcode.PONG]
        peer.frames((FIN | PONG, b""))
        assert peer.answered() == []
        peer.frames((FIN | BINARY, RAW), (FIN | CLOSE, b""))
        assert [frame.opcode for frame in peer.answered()] == [Opcode.CLOSE]


def test_a_planned_end_loses_nothing_that_came_before_the_goodbye() -> None:
    with Peer(early=(SAMPLE,)) as peer:
        peer.send((FIN | BINARY, RAW), (FIN | CLOSE, struct.pack("!H", 1000)))
        assert peer.link.finish(timeout_s=WAIT_S) == [SAMPLE, SAMPLE]
        assert [frame.opcode for frame in peer.answered()] == [Opcode.CLOSE]


def test_a_planned_end_waits_no_longer_than_it_may() -> None:
    with Peer() as peer:
        assert peer.link.finish(timeout_s=0.05) == []
        assert peer.link.closed == "the link was closed here"


def test_close_says_goodbye_once_and_may_be_called_again() -> None:
    with Peer() as peer:
        peer.link.close()
        peer.link.close()
        assert peer.link.closed == "the link was closed here"
        assert [frame.opcode for frame in peer.answered()] == [Opcode.CLOSE]


def test_messages_go_out_as_they_were_framed() -> None:
    with Peer() as peer:
        peer.link.send(SAMPLE)
        peer.link.send(SAMPLE)
        assert peer.link.wants_write
        peer.link.flush()
        assert [bytes(frame.data) for frame in peer.answered()] == [RAW, RAW]
