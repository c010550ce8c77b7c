"""Files past the kernel, at a server of ours: whole, resumed, checked; by the hand where that fails."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import pytest
from private_servers import PrivateServer, private_server
from tcp_proxies import TcpProxy

from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError
from colab_magics.tunnel import files
from colab_magics.tunnel.straight import Straight
from colab_magics.tunnel.trips import Progress

MB = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateServer]:
    folder = tmp_path_factory.mktemp("server")
    with private_server(Path(sys.executable), "--root", str(folder), state=folder / "state") as one:
        yield one


@pytest.fixture
def runtime(server: PrivateServer) -> Runtime:
    return server.runtime


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(random.Random(1).randbytes(20 * MB))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the requests for pieces, as they are made."""
    made: list[str] = []
    ask = Straight._ask

    def note(straight: Straight, method: str, **more: Any) -> Any:
        made.append(method)
        return ask(straight, method, **more)

    monkeypatch.setattr(Straight, "_ask", note)
    return made


def quiet(progress: Progress) -> None:
    """Nobody looks."""


def once(at_bytes: int, act: Callable[[], object]) -> Callable[[Progress], None]:
    """A watcher that does something when so much has crossed."""
    left = [act]

    def watch(progress: Progress) -> None:
        if progress.done_bytes >= at_bytes and left:
            left.pop()()

    return watch


def interrupt() -> None:
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_crosses_past_the_kernel_both_ways(
    runtime: Runtime, model: Path, tmp_path: Path, asked: list[str]
) -> None:
    put = files.put(runtime, model, str(tmp_path / "there/model.pt"), watch=quiet)
    assert asked[0] == "GET"
    assert set(asked[1:]) == {"PUT"}
    asked.clear()
    got = files.get(runtime, put.path, tmp_path / "back", watch=quiet)
    assert set(asked) == {"GET"}
    assert put.sha256 == got.sha256
    assert (tmp_path / "back").read_bytes() == model.read_bytes() == Path(put.path).read_bytes()
    assert names(tmp_path / "there") == ["model.pt"]


def test_interrupted_it_goes_on_where_it_stopped_both_ways(
    runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there" / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, model, str(there), watch=once(6 * MB, interrupt))
    assert not there.exists()
    put = files.put(runtime, model, str(there), watch=quiet)
    assert put.sent_bytes <= 14 * MB
    with pytest.raises(KeyboardInterrupt):
        files.get(runtime, str(there), tmp_path / "back", watch=once(6 * MB, interrupt))
    assert not (tmp_path / "back").exists()
    got = files.get(runtime, str(there), tmp_path / "back", watch=quiet)
    assert got.sent_bytes <= 14 * MB
    assert (tmp_path / "back").read_bytes() == there.read_bytes() == model.read_bytes()


def test_a_part_of_another_file_is_not_gone_on_with(runtime: Runtime, model: Path, tmp_path: Path) -> None:
    there = tmp_path / "there" / "model.pt"
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, model, str(there), watch=once(6 * MB, interrupt))
    model.write_bytes(random.Random(2).randbytes(5 * MB))
    put = files.put(runtime, model, str(there), watch=quiet)
    assert put.sent_bytes == put.size_bytes
    assert there.read_bytes() == model.read_bytes()


def test_a_line_that_breaks_is_opened_again(
    server: PrivateServer, runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there" / "model.pt"
    with TcpProxy(server.port) as network:
        far = replace(runtime, url=f"http://127.0.0.1:{network.port}")
        put = files.put(far, model, str(there), watch=once(6 * MB, network.abort))
        assert put.sent_bytes < 2 * put.size_bytes
        files.get(far, str(there), tmp_path / "back", watch=once(6 * MB, network.abort))
    assert (tmp_path / "back").read_bytes() == there.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_where_only_this_way_breaks_the_hand_brings_the_rest(
    runtime: Runtime, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ask, count = Straight._ask, [0]

    def break_off(straight: Straight, given: str, **more: Any) -> Any:
        count[0] += given == method and "offset" in more
        if count[0] == 3:
            if data := more.get("data"):  # some of it arrives
                more["data"] = (piece for number, piece in enumerate([*data, None]) if number < 1 or gone())
            else:
                raise ConnectionResetError
        return ask(straight, given, **more)

    def gone() -> bool:
        raise ConnectionResetError

    monkeypatch.setattr(Straight, "_ask", break_off)
    there = tmp_path / "there" / "model.pt"
    files.put(runtime, model, str(there), watch=quiet)
    files.get(runtime, str(there), tmp_path / "back", watch=quiet)
    assert count[0] == 3
    assert (tmp_path / "back").read_bytes() == there.read_bytes() == model.read_bytes()


def test_a_file_that_becomes_shorter_meanwhile_is_said_both_ways(
    runtime: Runtime, model: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there" / "model.pt"

    def cut(path: Path) -> Callable[[], object]:
        return lambda: path.write_bytes(b"short")

    with pytest.raises(TunnelError, match="was changed while it was put: put it again"):
        files.put(runtime, model, str(there), watch=once(6 * MB, cut(model)))
    assert not there.exists()
    there.write_bytes(random.Random(3).randbytes(20 * MB))
    with pytest.raises(TunnelError, match=r"became shorter while it was fetched|was changed while it was"):
        files.get(runtime, str(there), tmp_path / "back", watch=once(6 * MB, cut(there)))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("size_mb", [10, 40], ids=["found on the way", "known before"])
def test_a_full_disk_there_leaves_nothing(
    runtime: Runtime, tmp_path: Path, size_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        harness.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", disk])
    except (AssertionError, FileNotFoundError):
        harness.missing("a small disk wants root, to mount one")
    try:
        (tmp_path / "large").write_bytes(random.Random(4).randbytes(size_mb * MB))

        def fill() -> None:
            free = shutil.disk_usage(disk).free
            (disk / "rest").write_bytes(bytes(free - 1 * MB))

        with pytest.raises(TunnelError, match=r"^the disk there is full: .*; nothing of it stays"):
            files.put(runtime, tmp_path / "large", str(disk / "x"), watch=once(1 * MB, fill))
        assert set(names(disk)) <= {"rest"}
    finally:
        harness.run(["umount", disk])


@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_without_the_token_reads_or_writes(
    server: PrivateServer, tmp_path: Path, token: str | None
) -> None:
    (tmp_path / ".x.colab-part").write_bytes(b"what is in it")
    path = f"/colab/bytes?path={tmp_path}/.x.colab-part&offset=0&size=13"
    for method, body in (("GET", None), ("PUT", {"an": "other"})):
        status, said, _ = server.ask(method, path, token=token, body=body)
        assert status == 403
        assert "what is in it" not in said
    assert (tmp_path / ".x.colab-part").read_bytes() == b"what is in it"


def test_only_a_part_that_is_there_is_written(server: PrivateServer, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"as it was")
    (tmp_path / ".link.colab-part").symlink_to("x")
    for name in ("x", ".link.colab-part", ".absent.colab-part"):
        path = f"/colab/bytes?path={tmp_path}/{name}&offset=0&size=2"
        assert server.ask("PUT", path, token=server.token, body={})[0] == 409
    assert names(tmp_path) == [".link.colab-part", "x"]
    assert (tmp_path / "x").read_bytes() == b"as it was"
