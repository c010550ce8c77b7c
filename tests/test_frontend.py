"""The frontend's side: against jupyter_client's `Session` on real sockets, and against others."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

from colab_kernel.connection_file import ConnectionFile
from colab_kernel.errors import KernelError, SchemeError
from colab_kernel.frontend import Frontend
from colab_kernel.iopub import QUEUED_BYTES
from colab_kernel.messages import Channel, Message
from colab_kernel.zmq_wire import Signer, serialize

KEY = b"a0436f6c-1916-498b-8eb9-e81ab9368e84"
SIGNER = Signer.from_key(KEY)
PEERS = {
    Channel.SHELL: zmq.DEALER,
    Channel.CONTROL: zmq.DEALER,
    Channel.STDIN: zmq.DEALER,
    Channel.IOPUB: zmq.SUB,
    Channel.HB: zmq.REQ,
}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]


def fields(*, key: bytes = KEY) -> dict[str, Any]:
    ports = free_ports(len(Channel))
    return {
        "transport": "tcp",
        "ip": "127.0.0.1",
        "key": key.decode(),
        "signature_scheme": "hmac-sha256",
        **{f"{channel}_port": port for channel, port in zip(Channel, ports, strict=True)},
    }


def read(folder: Path, content: Any) -> ConnectionFile:
    path = folder / "kernel-1.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return ConnectionFile.read(path)


def message(channel: Channel = Channel.IOPUB, *, content: bytes = b"{}", **parts: Any) -> Message:
    header = json.dumps({"msg_id": uuid.uuid4().hex, "msg_type": "status"}).encode()
    whole = {"header": header, "parent_header": b"{}", "metadata": b"{}", "content": content}
    return Message(channel=channel, **(whole | parts))


@dataclass
class Client:
    """A frontend's sockets, as jupyter_client makes them: one identity for shell, control and stdin."""

    connection: ConnectionFile
    context: zmq.Context[zmq.Socket[bytes]]
    session: Session
    identity: bytes
    open: dict[Channel, zmq.Socket[bytes]]

    def socket(self, channel: Channel) -> zmq.Socket[bytes]:
        if channel not in self.open:
            made = self.context.socket(PEERS[channel])
            made.linger = 0
            if channel is Channel.IOPUB:
                made.setsockopt(zmq.SUBSCRIBE, b"")
            elif channel is not Channel.HB:
                made.routing_id = self.identity
            made.connect(self.connection.address(channel))
            self.open[channel] = made
        return self.open[channel]

    def send(self, channel: Channel, msg_type: str, content: Any = None, **more: Any) -> dict[str, Any]:
        return self.session.send(self.socket(channel), msg_type, content=content or {}, **more)

    def recv(self, channel: Channel) -> dict[str, Any]:
        assert self.socket(channel).poll(20_000), f"nothing came on {channel}"
        _, read = self.session.recv(self.socket(channel), mode=0)
        return read


Clients = Callable[[ConnectionFile], Client]


@pytest.fixture
def clients() -> Iterator[Clients]:
    made: list[Client] = []

    def make(connection: ConnectionFile) -> Client:
        session = Session(key=KEY, signature_scheme="hmac-sha256")
        made.append(Client(connection, zmq.Context(), session, session.session.encode(), {}))
        return made[-1]

    yield make
    for client in made:
        client.context.destroy(linger=0)


@pytest.fixture(params=["tcp", "ipc"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConnectionFile]:
    # A socket's path is short (107 bytes on Linux), and pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        ipc = {f"{channel}_port": at for at, channel in enumerate(Channel, start=1)}
        ipc |= {"transport": "ipc", "ip": f"{folder}/k"}
        yield read(tmp_path, fields() | (ipc if request.param == "ipc" else {}))


@pytest.fixture
def frontend(connection: ConnectionFile) -> Iterator[Frontend]:
    made = Frontend.bind(connection)
    yield made
    made.close(linger_s=0)


@pytest.fixture
def on_tcp(tmp_path: Path) -> Iterator[tuple[ConnectionFile, Frontend]]:
    connection = read(tmp_path, fields())
    made = Frontend.bind(connection)
    yield connection, made
    made.close(linger_s=0)


@contextlib.contextmanager
def impatient(folder: Path, *, stalled_s: float) -> Iterator[tuple[ConnectionFile, Frontend]]:
    connection = read(folder, fields())
    made = Frontend.bind(connection, stalled_s=stalled_s)
    yield connection, made
    made.close(linger_s=0)


def receive(frontend: Frontend, channel: Channel) -> tuple[tuple[bytes, ...], Message]:
    assert frontend.sockets()[channel].poll(20_000), f"nothing came on {channel}"
    (received,) = frontend.receive(channel, limit=1)
    return received


def subscribe(frontend: Frontend, client: Client) -> None:
    before = frontend.subscribers
    client.socket(Channel.IOPUB)
    harness.wait_until(
        lambda: frontend.take_subscriptions() or frontend.subscribers > before, what="a subscription"
    )


# --- the connection file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_connection_file_of_jupyter_client_is_read(tmp_path: Path, transport: str) -> None:
    path, written = write_connection_file(
        str(tmp_path / "kernel-1.json"), transport=transport, ip="", key=KEY, kernel_name="colab"
    )
    read_back = ConnectionFile.read(path)
    assert read_back.transport == transport
    assert read_back.ports == {channel: written[f"{channel}_port"] for channel in Channel}
    frames = serialize(message(), signer=read_back.signer)
    Session(key=KEY).deserialize(frames[1:])


def test_an_address_is_where_jupyter_client_looks(connection: ConnectionFile, tmp_path: Path) -> None:
    theirs = BlockingKernelClient(connection_file=str(tmp_path / "kernel-1.json"))
    theirs.load_connection_file()
    for channel in Channel:
        assert connection.address(channel) == theirs._make_url(channel)


def test_what_a_connection_file_says_beyond_is_passed_over(tmp_path: Path) -> None:
    more = {"kernel_name": "colab", "curve_publickey": "x", "curve_secretkey": "y", "jupyter_session": "z"}
    assert read(tmp_path, fields() | more).transport == "tcp"


def test_a_connection_file_without_a_key_signs_nothing(tmp_path: Path) -> None:
    without = fields()
    del without["key"]
    assert read(tmp_path, without).signer.sign([b"{}"]) == b""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"control_port": None}, "has no control_port"),
        ({"hb_port": 0}, "hb_port in the connection file .* is 0, which is not a port"),
        ({"shell_port": "5000"}, "which is not a port"),
        ({"stdin_port": True}, "which is not a port"),
        ({"iopub_port": 65536}, "which is not a port"),
        ({"key": 7}, "key in the connection file .* is not text"),
        ({"transport": "udp"}, "asks for the transport 'udp'; known here are tcp and ipc"),
    ],
)
def test_a_connection_file_must_say_what_is_needed(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(KernelError, match=sentence):
        read(tmp_path, fields() | change)


def test_an_unknown_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemeError, match="'hmac-rot13'"):
        read(tmp_path, fields() | {"signature_scheme": "hmac-rot13"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "does not parse as JSON"), ("[]", "not an object"), ("[" * 100_000, "does not parse as JSON")],
)
def test_a_connection_file_is_a_json_object(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(KernelError, match=sentence):
        read(tmp_path, text)


def test_a_missing_connection_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"nowhere\.json cannot be read: No such file or directory"):
        ConnectionFile.read(tmp_path / "nowhere.json")


# --- binding ------------------------------------------------------------------------------------------------


def test_an_address_in_use_is_one_sentence_and_nothing_stays_bound(tmp_path: Path) -> None:
    wanted = fields()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", wanted["hb_port"]))
        holder.listen()
        with pytest.raises(
            KernelError, match=r"the hb channel cannot be bound to tcp://.*: Address already in use;"
        ):
            Frontend.bind(read(tmp_path, wanted))
    Frontend.bind(read(tmp_path, wanted)).close(linger_s=0)


def test_two_channels_cannot_share_a_port(tmp_path: Path) -> None:
    wanted = fields()
    wanted["control_port"] = wanted["shell_port"]
    with pytest.raises(KernelError, match="Address already in use"):
        Frontend.bind(read(tmp_path, wanted))


def test_what_is_closed_can_be_bound_again_and_leaves_no_thread(connection: ConnectionFile) -> None:
    for _ in range(3):
        Frontend.bind(connection).close(linger_s=0)
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


# --- messages, as jupyter_client sends them -----------------------------------------------------------------


@pytest.mark.parametrize("channel", [Channel.SHELL, Channel.CONTROL, Channel.STDIN])
def test_a_message_comes_in_and_an_answer_goes_back(
    frontend: Frontend, connection: ConnectionFile, clients: Clients, channel: Channel
) -> None:
    client = clients(connection)
    sent = client.send(channel, "comm_msg", {"code": "é"}, buffers=[b"", b"x" * 300_000])
    identities, received = receive(frontend, channel)
    assert identities == (client.identity,)
    assert (received.channel, received.msg_id, received.msg_type) == (channel, sent["msg_id"], "comm_msg")
    assert received.parsed_content == {"code": "é"}
    assert [bytes(buffer) for buffer in received.buffers] == [b"", b"x" * 300_000]
    reply = message(channel, content=b'{"ok": 1}', parent_header=received.header, buffers=received.buffers)
    assert frontend.send(reply, identities=identities)
    heard = client.recv(channel)
    assert (heard["content"], heard["parent_header"]["msg_id"]) == ({"ok": 1}, sent["msg_id"])
    assert [bytes(buffer) for buffer in heard["buffers"]] == [b"", b"x" * 300_000]


def test_one_identity_serves_on_three_channels_at_once(
    frontend: Frontend, connection: ConnectionFile, clients: Clients
) -> None:
    """As VS Code does it, which never connects to the heartbeat."""
    client = clients(connection)
    for channel in (Channel.SHELL, Channel.CONTROL, Channel.STDIN):
        client.send(channel, "kernel_info_request")
    for channel in (Channel.SHELL, Channel.CONTROL, Channel.STDIN):
        identities, _ = receive(frontend, channel)
        frontend.send(message(channel, content=f'{{"on": "{channel}"}}'.encode()), identities=identities)
        assert client.recv(channel)["content"] == {"on": channel}


def test_a_frontend_may_come_back_with_its_identity(
    frontend: Frontend, connection: ConnectionFile, clients: Clients
) -> None:
    first, second = clients(connection), clients(connection)
    second.identity = first.identity
    for client in (first, second):
        client.send(Channel.SHELL, "kernel_info_request")
        identities, _ = receive(frontend, Channel.SHELL)
    frontend.send(message(Channel.SHELL, content=b'{"to": 2}'), identities=identities)
    assert second.recv(Channel.SHELL)["content"] == {"to": 2}


def test_as_many_are_taken_as_asked_for(
    frontend: Frontend, connection: ConnectionFile, clients: Clients
) -> None:
    client = clients(connection)
    sent = [client.send(Channel.SHELL, "execute_request")["msg_id"] for _ in range(10)]
    taken: list[list[str]] = []
    while sum(map(len, taken)) < 10:
        assert frontend.sockets()[Channel.SHELL].poll(20_000)
        taken.append([received.msg_id for _, received in frontend.receive(Channel.SHELL, limit=4)])
    assert list(itertools.chain(*taken)) == sent
    assert max(map(len, taken)) <= 4
    assert frontend.receive(Channel.SHELL, limit=4) == []


def test_an_answer_to_nobody_is_dropped_and_the_log_says_so(
    frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert frontend.send(message(Channel.SHELL), identities=(b"nobody",))
    assert caplog.messages == ["a message on shell was for a frontend that is gone"]


def test_what_was_sent_goes_out_while_closing(connection: ConnectionFile, clients: Clients) -> None:
    frontend, client = Frontend.bind(connection), clients(connection)
    client.send(Channel.CONTROL, "shutdown_request")
    subscribe(frontend, client)
    identities, _ = receive(frontend, Channel.CONTROL)
    frontend.send(message(Channel.CONTROL, content=b'{"n": 1}'), identities=identities)
    frontend.send(message(content=b'{"n": 2}', buffers=(bytes(3_000_000),)))
    frontend.close(linger_s=20)
    assert [client.recv(channel)["content"]["n"] for channel in (Channel.CONTROL, Channel.IOPUB)] == [1, 2]


# --- bad input ----------------------------------------------------------------------------------------------

GOOD = serialize(message(Channel.SHELL), signer=SIGNER)


def signed(**parts: bytes) -> list[Any]:
    return serialize(message(Channel.SHELL, **parts), signer=SIGNER)


BAD = {
    "a wrong signature": [GOOD[0], b"0" * 64, *GOOD[2:]],
    "an empty signature under a key": [GOOD[0], b"", *GOOD[2:]],
    "another key": serialize(message(Channel.SHELL), signer=Signer.from_key(b"another")),
    "a content that was changed": [*GOOD[:-1], b'{"code": "secret"}'],
    "no delimiter": GOOD[1:],
    "nothing behind the delimiter": GOOD[:1],
    "four frames behind the delimiter": GOOD[:5],
    "one empty frame": [b""],
    "a header that is not JSON": signed(header=b"secret"),
    "a header that is a list": signed(header=b'["secret"]'),
    "a header without an id": signed(header=b'{"msg_type": "secret"}'),
    "a header without a type": signed(header=b'{"msg_id": "secret"}'),
    "a header with an empty id": signed(header=b'{"msg_id": "", "msg_type": "secret"}'),
    "a header with a number as its id": signed(header=b'{"msg_id": 7, "msg_type": "secret"}'),
    "a header nested without end": signed(header=b'{"secret":' * 100_000),
}


@pytest.mark.parametrize("channel", [Channel.SHELL, Channel.CONTROL, Channel.STDIN])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_message_is_dropped_and_the_channel_lives_on(
    on_tcp: tuple[ConnectionFile, Frontend],
    clients: Clients,
    caplog: pytest.LogCaptureFixture,
    channel: Channel,
    bad: list[Any],
) -> None:
    connection, frontend = on_tcp
    client = clients(connection)
    client.socket(channel).send_multipart(bad)
    assert frontend.sockets()[channel].poll(20_000)
    assert frontend.receive(channel, limit=10) == []
    assert [line.startswith(f"dropped on {channel}: ") for line in caplog.messages] == [True]
    assert "secret" not in caplog.text
    sent = client.send(channel, "kernel_info_request")
    assert receive(frontend, channel)[1].msg_id == sent["msg_id"]


def test_a_thousand_bad_messages_are_one_line(
    on_tcp: tuple[ConnectionFile, Frontend], clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    connection, frontend = on_tcp
    client = clients(connection)
    for _ in range(1000):
        client.socket(Channel.SHELL).send_multipart([b"x"])
    sent = client.send(Channel.SHELL, "kernel_info_request")
    received = harness.wait_until(lambda: frontend.receive(Channel.SHELL, limit=10), what="the good one")
    assert [good.msg_id for _, good in received] == [sent["msg_id"]]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("part", ["content", "metadata", "parent_header"])
def test_parts_that_are_not_read_pass_as_they_are(
    on_tcp: tuple[ConnectionFile, Frontend], clients: Clients, part: str
) -> None:
    """Whoever reads one finds out; nothing about the channel depends on them."""
    connection, frontend = on_tcp
    client = clients(connection)
    client.socket(Channel.SHELL).send_multipart(signed(**{part: b"\xff not JSON"}))
    assert getattr(receive(frontend, Channel.SHELL)[1], part) == b"\xff not JSON"


def test_a_message_of_200_megabytes_passes_and_the_channel_lives_on(
    on_tcp: tuple[ConnectionFile, Frontend], clients: Clients
) -> None:
    connection, frontend = on_tcp
    client = clients(connection)
    client.send(Channel.SHELL, "comm_msg", buffers=[bytes(200_000_000)])
    _, received = receive(frontend, Channel.SHELL)
    assert [len(buffer) for buffer in received.buffers] == [200_000_000]
    subscribe(frontend, client)
    assert frontend.send(message(buffers=received.buffers))
    assert len(client.recv(Channel.IOPUB)["buffers"][0]) == 200_000_000
    sent = client.send(Channel.SHELL, "kernel_info_request")
    assert receive(frontend, Channel.SHELL)[1].msg_id == sent["msg_id"]


@pytest.mark.parametrize("channel", list(Channel))
def test_connections_that_are_not_of_zmq_disturb_nothing(
    on_tcp: tuple[ConnectionFile, Frontend], clients: Clients, channel: Channel
) -> None:
    """VS Code looks whether a port is open by connecting and closing; others may do worse."""
    connection, frontend = on_tcp
    address = ("127.0.0.1", connection.ports[channel])
    socket.create_connection(address).close()
    with socket.create_connection(address), socket.create_connection(address) as loud:
        loud.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        with socket.create_connection(address) as half:
            half.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03")  # half of a greeting
        client = clients(connection)
        subscribe(frontend, client)
        client.socket(Channel.HB).send(b"ping")
        assert client.socket(Channel.HB).poll(20_000)
        assert client.socket(Channel.HB).recv() == b"ping"
        client.send(Channel.SHELL, "kernel_info_request")
        identities, _ = receive(frontend, Channel.SHELL)
        frontend.send(message(Channel.SHELL), identities=identities)
        frontend.send(message())
        client.recv(Channel.SHELL)
        client.recv(Channel.IOPUB)


# --- heartbeat ----------------------------------------------------------------------------------------------


def test_the_heartbeat_echoes_while_the_loop_does_something_else(
    frontend: Frontend, connection: ConnectionFile, clients: Clients
) -> None:
    """Here nobody looks at the sockets at all."""
    beats = [clients(connection).socket(Channel.HB) for _ in range(2)]
    for number in range(20):
        for beat in beats:
            beat.send(b"%d" % number)
        for beat in beats:
            assert beat.poll(20_000)
            assert beat.recv() == b"%d" % number


# --- iopub --------------------------------------------------------------------------------------------------


def test_all_subscribers_hear_what_is_published_and_are_counted(
    frontend: Frontend, connection: ConnectionFile, clients: Clients
) -> None:
    assert frontend.take_subscriptions() == 0
    both = [clients(connection) for _ in range(2)]
    both[0].socket(Channel.IOPUB)
    assert harness.wait_until(frontend.take_subscriptions, what="one subscription") == 1
    both[1].socket(Channel.IOPUB)
    assert harness.wait_until(frontend.take_subscriptions, what="another") == 1
    assert (frontend.subscribers, frontend.take_subscriptions()) == (2, 0)
    assert frontend.send(message(content=b'{"n": 1}'))
    assert [client.recv(Channel.IOPUB)["content"] for client in both] == [{"n": 1}, {"n": 1}]
    both[0].socket(Channel.IOPUB).close()
    harness.wait_until(
        lambda: frontend.take_subscriptions() == 0 and frontend.subscribers == 1, what="one to leave"
    )


def test_a_topic_can_be_named(frontend: Frontend, connection: ConnectionFile, clients: Clients) -> None:
    client = clients(connection)
    subscribe(frontend, client)
    for topic in ((), (b"stream.stdout",)):
        frontend.send(message(), identities=topic)
    heard = []
    for _ in range(2):
        assert client.socket(Channel.IOPUB).poll(20_000)
        heard.append(client.socket(Channel.IOPUB).recv_multipart()[0])
    assert heard == [b"kernel", b"stream.stdout"]


def test_without_a_subscriber_iopub_goes_nowhere_and_never_fills(frontend: Frontend) -> None:
    send_all(frontend, message(buffers=(bytes(1_000_000),)), count=300)


def test_a_subscriber_may_not_send_much(on_tcp: tuple[ConnectionFile, Frontend], clients: Clients) -> None:
    connection, frontend = on_tcp
    greedy, client = clients(connection), clients(connection)
    subscribe(frontend, client)  # first: the other one's subscription would be taken for this one
    subscribe(frontend, greedy)
    greedy.socket(Channel.IOPUB).setsockopt(zmq.SUBSCRIBE, b"x" * 20_000)
    harness.wait_until(lambda: frontend.take_subscriptions() or frontend.subscribers == 1, what="the cut")
    frontend.send(message(content=b'{"n": 1}'))
    assert client.recv(Channel.IOPUB)["content"] == {"n": 1}


SUBSCRIBER = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.SUB) as iopub:
    iopub.subscribe(b"")
    iopub.connect(sys.argv[1])
    heard = 0
    while True:
        content = iopub.recv_multipart()[6]
        heard += 1
        if content != b"{}":
            print(heard, flush=True)
"""


@dataclass
class Subscriber:
    """A frontend in a process of its own, that can be stopped, let go on, and killed."""

    process: subprocess.Popen[str]

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def has_said(self) -> bool:
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def heard(self) -> int:
        """How many messages it has had when one comes that is marked."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


Start = Callable[[ConnectionFile, Frontend], Subscriber]


@pytest.fixture
def start() -> Iterator[Start]:
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("a process cannot be stopped here")
    with contextlib.ExitStack() as stack:

        def start_one(connection: ConnectionFile, frontend: Frontend) -> Subscriber:
            command = [sys.executable, "-c", SUBSCRIBER, connection.address(Channel.IOPUB)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            harness.wait_until(frontend.take_subscriptions, what="a subscriber in another process")
            return Subscriber(process)

        yield start_one


MARKED = message(content=b'{"marked": true}')


def send_all(frontend: Frontend, what: Message, *, count: int = 1) -> None:
    for _ in range(count):
        harness.wait_until(lambda: frontend.send(what), what="a place in the queue", every_s=0.001)


def fill(frontend: Frontend, what: Message) -> int:
    """Send until it stays refused: for a while libzmq moves what is queued into the system's buffers."""
    sent, refused_since = 0, time.monotonic()
    while time.monotonic() < refused_since + 0.5:
        if frontend.send(what):
            sent, refused_since = sent + 1, time.monotonic()
    return sent


@pytest.mark.parametrize("size_bytes", [1_000, 60_000, 1_000_000, 30_000_000])
def test_a_frontend_that_does_not_read_is_felt_and_loses_nothing(
    on_tcp: tuple[ConnectionFile, Frontend], start: Start, size_bytes: int
) -> None:
    connection, frontend = on_tcp
    reader = start(connection, frontend)
    reader.stop()
    sent = fill(frontend, message(buffers=(bytes(size_bytes),)))
    in_system_bytes = 20_000_000
    assert sent * size_bytes < QUEUED_BYTES + size_bytes + in_system_bytes
    reader.go_on()
    send_all(frontend, MARKED)
    assert reader.heard() == sent + 1


def test_a_frontend_that_dies_while_it_does_not_read_holds_up_nobody(
    on_tcp: tuple[ConnectionFile, Frontend], start: Start
) -> None:
    connection, frontend = on_tcp
    dying, reader = start(connection, frontend), start(connection, frontend)
    dying.stop()
    sent = fill(frontend, message(buffers=(bytes(60_000),)))
    dying.process.kill()
    send_all(frontend, MARKED)
    assert reader.heard() == sent + 1
    harness.wait_until(
        lambda: frontend.take_subscriptions() == 0 and frontend.subscribers == 1, what="one to be gone"
    )


def test_a_single_frontend_may_be_slow_for_as_long_as_it_likes(tmp_path: Path, start: Start) -> None:
    with impatient(tmp_path, stalled_s=0) as (connection, frontend):
        reader = start(connection, frontend)
        reader.stop()
        sent = fill(frontend, message(buffers=(bytes(60_000),)))
        reader.go_on()
        send_all(frontend, MARKED)
        assert reader.heard() == sent + 1


@pytest.mark.parametrize(("size_bytes", "count"), [(20_000, 5_000), (2_000_000, 300)])
def test_one_of_several_frontends_holds_up_the_others_for_a_while_at_most(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture, size_bytes: int, count: int
) -> None:
    with impatient(tmp_path, stalled_s=0.5) as (connection, frontend):
        stalled, reader = start(connection, frontend), start(connection, frontend)
        stalled.stop()
        send_all(frontend, message(buffers=(bytes(size_bytes),)), count=count)
        send_all(frontend, MARKED)
        assert reader.heard() == count + 1
        assert len(caplog.messages) == 1
        assert "one of 2 frontends has not read iopub for 0.5 s" in caplog.text
        stalled.go_on()

        def is_back() -> bool:
            send_all(frontend, MARKED)
            return stalled.has_said()

        harness.wait_until(is_back, what="the other one to hear again")
        assert stalled.heard() < count
