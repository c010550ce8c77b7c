"""The hand: a helper kernel behind a real Jupyter Server, on whose side our code runs."""

from __future__ import annotations

from collections.abc import Iterator

import harness
import pytest
from jupyter_servers import JupyterServer, jupyter_server
from tcp_proxies import TcpProxy
from tunnel_stage import runtime_at

from colab_magics.errors import TunnelError
from colab_magics.tunnel.hand import Hand

ECHO = """
@colab_far.verb
def echo(content, buffers):
    return {"was": content}, buffers

@colab_far.verb
def fail(content, buffers):
    raise ValueError("not today")

@colab_far.verb
def count(content, buffers):
    for n in range(content["to"]):
        colab_far.tell({"n": n}, [bytes([n])])
    return {}, []
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def hand(server: JupyterServer) -> Iterator[Hand]:
    with Hand.open(runtime_at(server.port)) as one:
        yield one


def test_code_runs_there_and_what_it_prints_comes_back(hand: Hand) -> None:
    assert hand.run("print('sum', 1 + 2)") == "sum 3\n"


def test_what_code_raises_is_a_sentence(hand: Hand) -> None:
    with pytest.raises(TunnelError, match=r"^ZeroDivisionError: division by zero$"):
        hand.run("1 / 0")
    assert hand.run("print('and on')") == "and on\n"


def test_a_verb_gets_json_and_bytes_and_answers_with_both(hand: Hand) -> None:
    hand.run(ECHO)
    answer = hand.ask("echo", buffers=[b"\0\xff", b""], path="ä", n=3)
    assert answer.content == {"was": {"path": "ä", "n": 3}}
    assert [bytes(each) for each in answer.buffers] == [b"\0\xff", b""]


def test_what_a_verb_raises_is_a_sentence(hand: Hand) -> None:
    hand.run(ECHO)
    with pytest.raises(TunnelError, match=r"^ValueError: not today$"):
        hand.ask("fail")
    with pytest.raises(TunnelError, match="nobody"):
        hand.ask("nobody")


def test_answers_come_in_order_however_many_are_asked_at_once(hand: Hand) -> None:
    hand.run(ECHO)
    asked = [hand.begin("echo", n=n) for n in range(100)]
    assert [each.result(60).content["was"]["n"] for each in asked] == list(range(100))


def test_what_nobody_asked_is_told(server: JupyterServer) -> None:
    told: list[tuple[int, bytes]] = []
    with Hand.open(
        runtime_at(server.port),
        on_event=lambda content, buffers: told.append((content["n"], bytes(buffers[0]))),
    ) as hand:
        hand.run(ECHO)
        hand.ask("count", to=5)
        assert told == [(n, bytes([n])) for n in range(5)]


def test_the_machine_is_described(hand: Hand) -> None:
    hand.load("facts")
    facts = hand.ask("facts").content
    assert facts["cpus"] > 0
    assert facts["memory_bytes"] >= facts["memory_used_bytes"] > 0
    assert facts["versions"]["ipykernel"]
    assert facts["gpus"] == [] or facts["gpus"][0]["name"]


def test_its_kernel_is_gone_afterwards(server: JupyterServer) -> None:
    before = set(server.kernel_ids())
    with Hand.open(runtime_at(server.port)):
        assert len(set(server.kernel_ids()) - before) == 1
    assert set(server.kernel_ids()) == before


def test_a_connection_that_breaks_ends_what_was_asked(server: JupyterServer) -> None:
    with TcpProxy(server.port) as network, Hand.open(runtime_at(network.port)) as hand:
        hand.run(ECHO)
        slow = hand.begin("echo")
        slow.result(60)
        network.abort()
        with pytest.raises(TunnelError, match=r"^the connection to the machine was lost"):
            hand.ask("echo")


def test_a_kernel_that_is_not_to_be_had_is_a_sentence() -> None:
    with pytest.raises(TunnelError, match="nobody listens there"):
        Hand.open(runtime_at(1))


def test_an_answer_that_does_not_come_is_given_up(hand: Hand) -> None:
    with pytest.raises(TunnelError, match=r"^the machine did not answer in 0\.2 s$"):
        hand.run("import time; time.sleep(1)", timeout_s=0.2)
    harness.wait_until(lambda: hand.run("print(1)") == "1\n", what="the next answer")
