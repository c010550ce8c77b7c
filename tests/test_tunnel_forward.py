"""Forwarded ports: real connections through the helper kernel of a real, plain Jupyter Server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import psutil
import pytest
from jupyter_servers import JupyterServer, jupyter_server
from kernel_environments import Stack, python_of
from tcp_proxies import TcpProxy
from tunnel_stage import runtime_at

from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel.forward import WINDOW_BYTES, Forward, open_carrier

Serve = Callable[[socket.socket], None]

READ = """
import encodings.idna, os, socket, sys  # what comes later, another user may not be allowed to read
os.setuid(int(sys.argv[2]))
print(socket.create_connection(("127.0.0.1", int(sys.argv[1]))).makefile("rb").read())
"""
"""Connects as a user, and prints what comes."""
NOBODY = 65534


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as one:
        yield one


@contextlib.contextmanager
def service(serve: Serve) -> Iterator[int]:
    """A program there that serves each connection in a thread; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def run(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=run, args=(listener.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(30)


@contextlib.contextmanager
def forwarded(server_port: int, there: int) -> Iterator[Forward]:
    forward = Forward(lambda: open_carrier(runtime_at(server_port)), there=there)
    try:
        yield forward
    finally:
        forward.close()


def connect(forward: Forward) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", forward.port))
    connection.settimeout(60)
    return connection


def read_all(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(65536):
        connection.sendall(piece)


def answer_at_the_end(connection: socket.socket) -> None:
    connection.sendall(hashlib.sha256(read_all(connection)).hexdigest().encode())


def test_bytes_go_both_ways_at_once_and_unchanged(server: JupyterServer) -> None:
    sent = random.Random(1).randbytes(16_000_000)
    with service(echo) as there, forwarded(server.port, there) as forward, connect(forward) as connection:

        def send() -> None:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        came = read_all(connection)
        sending.join()
    assert hashlib.sha256(came).digest() == hashlib.sha256(sent).digest()


def test_who_has_said_everything_still_hears_the_answer(server: JupyterServer) -> None:
    sent = os.urandom(3_000_000)
    with (
        service(answer_at_the_end) as there,
        forwarded(server.port, there) as forward,
        connect(forward) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == hashlib.sha256(sent).hexdigest().encode()


def test_connections_do_not_wait_for_one_another(server: JupyterServer) -> None:
    with service(echo) as there, forwarded(server.port, there) as forward, contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(forward)) for _ in range(20)]
        for number, connection in enumerate(many):
            connection.sendall(b"%d\n" % number)
        for number, connection in reversed([*enumerate(many)]):
            assert connection.recv(100) == b"%d\n" % number


def test_many_small_messages_are_more_than_a_plain_server_lets_through_and_all_come(
    server: JupyterServer,
) -> None:
    with service(echo) as there, forwarded(server.port, there) as forward, connect(forward) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(2000):
            connection.sendall(b"%06d\n" % number)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).split() == [b"%06d" % number for number in range(2000)]


def test_a_reader_that_stops_holds_its_writer_back(server: JupyterServer) -> None:
    written = [0]

    def flood(connection: socket.socket) -> None:
        for _ in range(400):
            written[0] += connection.send(bytes(1_000_000))

    with service(flood) as there, forwarded(server.port, there) as forward, connect(forward) as connection:
        first = connection.recv(1)
        steady = [-1]

        def has_stopped() -> bool:
            before, steady[0] = steady[0], written[0]
            return before == written[0]

        harness.wait_until(has_stopped, what="the writer to be held back", every_s=1)
        assert first == b"\0"
        # What lies in the sockets' own buffers on three machines' worth of loopback comes on top.
        assert written[0] < WINDOW_BYTES + 40_000_000


def test_a_port_that_nobody_listens_on_there_ends_the_connection_at_once(server: JupyterServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with (
            forwarded(server.port, taken.getsockname()[1]) as forward,
            connect(forward) as connection,
            pytest.raises(ConnectionResetError),
        ):
            connection.recv(1)


def test_it_listens_on_loopback_only(server: JupyterServer) -> None:
    with service(echo) as there, forwarded(server.port, there) as forward:
        [bound] = [
            each.laddr.ip
            for each in psutil.Process().net_connections()
            if each.status == psutil.CONN_LISTEN and each.laddr.port == forward.port
        ]
    assert bound == "127.0.0.1"


def test_another_user_of_this_machine_is_refused(server: JupyterServer) -> None:
    if os.geteuid() != 0:
        harness.missing("only root can be somebody else")
    greet: Serve = lambda connection: connection.sendall(b"hello")  # noqa: E731
    said: list[str] = []
    with service(greet) as there:
        forward = Forward(lambda: open_carrier(runtime_at(server.port)), there=there, say=said.append)
        try:
            command = [sys.executable, "-c", READ, str(forward.port)]
            ours = subprocess.run([*command, "0"], capture_output=True, text=True, check=True)
            theirs = subprocess.run([*command, str(NOBODY)], capture_output=True, text=True, check=False)
        finally:
            forward.close()
    assert ours.stdout == "b'hello'\n"
    assert theirs.stdout == "b''\n", theirs.stderr
    assert said == [f"somebody else on this machine tried port {forward.port}: refused"]


def test_after_a_cut_the_next_connection_goes_through(server: JupyterServer) -> None:
    with (
        service(echo) as there,
        TcpProxy(server.port) as proxy,
        forwarded(proxy.port, there) as forward,
    ):
        with connect(forward) as connection:
            connection.sendall(b"one")
            assert connection.recv(10) == b"one"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(10)
        with connect(forward) as connection:
            connection.sendall(b"two")
            assert connection.recv(10) == b"two"
    harness.wait_until(lambda: not server.kernel_ids(), what="both helper kernels to be gone")


def test_a_port_here_that_is_taken_is_a_sentence(server: JupyterServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"^port {port} of this machine cannot be had \(.+\): name"):
            Forward(lambda: open_carrier(runtime_at(server.port)), there=1, port=port)


def test_a_machine_that_is_gone_is_a_sentence_and_leaves_no_port(server: JupyterServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TunnelError):
            Forward(lambda: open_carrier(runtime_at(free.getsockname()[1])), there=1)


@pytest.mark.colab_pins
@pytest.mark.timeout(1800)
def test_colabs_versions_carry_connections(tmp_path: Path) -> None:
    sent = os.urandom(5_000_000)
    with (
        jupyter_server(tmp_path / "server", python=python_of(Stack.COLAB)) as server,
        service(answer_at_the_end) as there,
        forwarded(server.port, there) as forward,
        connect(forward) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == hashlib.sha256(sent).hexdigest().encode()
