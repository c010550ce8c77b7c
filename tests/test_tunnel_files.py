"""Files to a session's machine and back, through a real Jupyter Server with its usual limits."""

from __future__ import annotations

import os
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest
from jupyter_servers import TOKEN, JupyterServer, jupyter_server
from small_disks import small_disk
from tcp_proxies import TcpProxy

from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import FullDiskError, TunnelError, UsageError
from colab_magics.tunnel import files
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.trips import KEPT_S, PART, Progress, sweep

MB = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The project's folder on the other machine, which is this one."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def at(port: int, there: Path) -> Runtime:
    return Runtime(
        name="far",
        url=f"http://127.0.0.1:{port}",
        token=TokenSource(value=TOKEN),
        local_root=str(there),
        remote_root=str(there),
    )


@pytest.fixture
def runtime(server: JupyterServer, there: Path) -> Runtime:
    return at(server.port, there)


def make_file(path: Path, size_bytes: int, *, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    path.chmod(mode)
    os.utime(path, ns=(10**18 + 7, 10**18 + 7))
    return path


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes, mode and time."""
    found = [(stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns) for path in (one, other)]
    return one.read_bytes() == other.read_bytes() and found[0] == found[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def quiet(progress: Progress) -> None:
    """Nobody looks."""


class Once:
    """A watcher that does something when so much has crossed, once."""

    def __init__(self, at_bytes: int, act: Callable[[], object]) -> None:
        self._at_bytes, self._act = at_bytes, act
        self.notes: list[str] = []

    def __call__(self, progress: Progress) -> None:
        self.notes += [progress.note] if progress.note else []
        if progress.done_bytes >= self._at_bytes:
            self._at_bytes, act = 1 << 60, self._act
            act()


def interrupt() -> None:
    raise KeyboardInterrupt


# --- one file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 1, 64 * 1024, 64 * 1024 + 1, 9 * MB])
def test_a_file_goes_there_and_comes_back(
    runtime: Runtime, there: Path, tmp_path: Path, size_bytes: int
) -> None:
    model = make_file(tmp_path / "here/model.pt", size_bytes, mode=0o750)
    put = files.put(runtime, model, "model.pt", watch=quiet)
    assert (put.path, put.size_bytes, put.sent_bytes) == (str(there / "model.pt"), size_bytes, size_bytes)
    assert same(model, there / "model.pt")
    got = files.get(runtime, "model.pt", tmp_path / "back.pt", watch=quiet)
    assert got.sha256 == put.sha256
    assert same(model, tmp_path / "back.pt")
    assert names(there) == ["model.pt"]  # no part of it is left
    assert list(tmp_path.glob(".*")) == []


def test_more_than_a_server_says_in_a_while_comes_whole(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    make_file(there / "data.bin", 30 * MB)
    files.get(runtime, "data.bin", tmp_path, watch=quiet)
    assert same(there / "data.bin", tmp_path / "data.bin")


def test_where_it_goes(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    note = make_file(tmp_path / "note.txt", 5)
    (there / "old").mkdir()
    for remote, path in [("old", "old/note.txt"), ("new/", "new/note.txt"), ("a/b.txt", "a/b.txt")]:
        assert files.put(runtime, note, remote, watch=quiet).path == str(there / path)
    assert files.put(runtime, note, f"{there}/abs.txt", watch=quiet).path == str(there / "abs.txt")
    assert files.put(runtime, note, "~/.colab-test", watch=quiet).path == str(Path.home() / ".colab-test")
    (Path.home() / ".colab-test").unlink()


def test_a_link_there_goes_on_leading_to_the_file(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    make_file(there / "real.txt", 3)
    (there / "link.txt").symlink_to("real.txt")
    files.put(runtime, make_file(tmp_path / "new.txt", 8), "link.txt", watch=quiet)
    assert (there / "link.txt").is_symlink()
    assert same(tmp_path / "new.txt", there / "real.txt")


def test_what_is_not_there_is_one_sentence(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^there is no .*/nothing here$"):
        files.put(runtime, tmp_path / "nothing", "x", watch=quiet)
    with pytest.raises(TunnelError, match=r"^.*/there/nothing: No such file or directory$"):
        files.get(runtime, "nothing", tmp_path, watch=quiet)
    make_file(there / "file", 1)
    with pytest.raises(
        TunnelError, match=r"^.*/there/file is a file there, and what is to go there is a fold"
    ):
        files.put(runtime, there, "file", watch=quiet)


def test_a_file_that_was_changed_there_meanwhile_is_not_replaced(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    mine, theirs = make_file(tmp_path / "mine", 10), make_file(there / "file", 11)
    before = files.get(runtime, "file", tmp_path / "copy", watch=quiet).sha256
    theirs.write_text("theirs")
    with pytest.raises(TunnelError, match=r"was changed there meanwhile, and was left as it is$"):
        files.put(runtime, mine, "file", watch=quiet, instead_of=before)
    assert theirs.read_text() == "theirs"
    with pytest.raises(TunnelError, match="was changed there meanwhile"):
        files.put(runtime, mine, "file", watch=quiet, instead_of="")
    assert names(there) == ["file"]


# --- folders -----------------------------------------------------------------------------------------------


def make_folder(folder: Path) -> Path:
    for at_ in range(20):
        make_file(folder / f"src/pkg/m{at_}.py", 100 + at_)
    make_file(folder / "weights.bin", MB)
    (folder / "empty").mkdir()
    (folder / "elsewhere").symlink_to("/usr")
    (folder / "linked.py").symlink_to("src/pkg/m0.py")
    return folder


def test_a_folder_goes_there_and_comes_back(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    here = make_folder(tmp_path / "here")
    put = files.put(runtime, here, "project", watch=quiet)
    assert (put.files, put.skipped) == (22, (str(here / "elsewhere"),))
    got = files.get(runtime, "project", tmp_path / "back", watch=quiet)
    assert got.files == 22
    for path in here.rglob("*"):
        below = path.relative_to(here)
        if path.is_file():
            assert same(path, there / "project" / below)
            assert same(path, tmp_path / "back" / below)
    assert (tmp_path / "back/empty").is_dir()
    assert not (there / "project/elsewhere").exists()


def test_what_of_a_folder_is_there_is_not_sent_again(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    here = make_folder(tmp_path / "project")
    files.put(runtime, here, "", watch=quiet)
    make_file(here / "src/pkg/m3.py", 3)
    again = files.put(runtime, here, "", watch=quiet)
    assert (again.files, again.sent_bytes) == (22, 3)
    assert same(here / "src/pkg/m3.py", there / "project/src/pkg/m3.py")
    assert files.get(runtime, "project", tmp_path, watch=quiet).sent_bytes == 0


def test_a_new_folder_has_its_name_when_all_of_it_is_there(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    here = make_folder(tmp_path / "here")
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, here, "project", watch=Once(MB // 2, interrupt))
    assert not (there / "project").exists()
    rest = files.put(runtime, here, "project", watch=quiet)
    assert rest.sent_bytes < rest.size_bytes
    assert names(there) == ["project"]
    with pytest.raises(KeyboardInterrupt):
        files.get(runtime, "project", tmp_path / "back", watch=Once(MB // 2, interrupt))
    assert not (tmp_path / "back").exists()
    files.get(runtime, "project", tmp_path / "back", watch=quiet)
    assert same(here / "weights.bin", tmp_path / "back/weights.bin")


# --- what goes wrong on the way ----------------------------------------------------------------------------


def test_an_interrupted_upload_goes_on_where_it_stopped(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    model = make_file(tmp_path / "model.pt", 9 * MB)
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, model, "model.pt", watch=Once(4 * MB, interrupt))
    [part] = names(there)
    assert re.fullmatch(r"\.model\.pt\.\w+\.colab-part", part)
    assert stat.S_IMODE((there / part).stat().st_mode) == 0o600
    rest = files.put(runtime, model, "model.pt", watch=quiet)
    assert rest.sent_bytes <= 5 * MB
    assert same(model, there / "model.pt")
    assert names(there) == ["model.pt"]


def test_an_interrupted_download_goes_on_where_it_stopped(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    make_file(there / "model.pt", 9 * MB)
    with pytest.raises(KeyboardInterrupt):
        files.get(runtime, "model.pt", tmp_path, watch=Once(4 * MB, interrupt))
    assert not (tmp_path / "model.pt").exists()
    rest = files.get(runtime, "model.pt", tmp_path, watch=quiet)
    assert rest.sent_bytes <= 5 * MB
    assert same(there / "model.pt", tmp_path / "model.pt")
    assert not list(tmp_path.glob(".model*"))


def test_a_part_of_another_file_is_not_gone_on_with(runtime: Runtime, there: Path, tmp_path: Path) -> None:
    first, second = make_file(tmp_path / "a/x", 9 * MB), make_file(tmp_path / "b/x", 9 * MB + 1)
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, first, "x", watch=Once(4 * MB, interrupt))
    assert files.put(runtime, second, "x", watch=quiet).sent_bytes == 9 * MB + 1
    assert same(second, there / "x")
    with pytest.raises(KeyboardInterrupt):
        files.get(runtime, "x", tmp_path / "y", watch=Once(4 * MB, interrupt))
    shutil.copy2(first, there / "x")
    files.get(runtime, "x", tmp_path / "y", watch=quiet)
    assert same(first, tmp_path / "y")


def test_a_line_that_breaks_is_opened_again_and_both_ways_go_on(
    server: JupyterServer, there: Path, tmp_path: Path
) -> None:
    model = make_file(tmp_path / "model.pt", 9 * MB)
    with TcpProxy(server.port) as network:
        watch = Once(4 * MB, network.abort)
        put = files.put(at(network.port, there), model, "model.pt", watch=watch)
        assert "the connection was lost; trying again" in watch.notes
        assert same(model, there / "model.pt")
        assert put.sent_bytes < 2 * put.size_bytes
        back = Once(4 * MB, network.abort)
        files.get(at(network.port, there), "model.pt", tmp_path / "back", watch=back)
        assert back.notes
        assert same(model, tmp_path / "back")


def test_a_server_that_vanished_leaves_no_half_file(
    server: JupyterServer, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AGAIN_S", 0.0)
    model = make_file(tmp_path / "model.pt", 9 * MB)
    with TcpProxy(server.port) as network:

        def vanish() -> None:
            network.refuse()
            network.abort()

        with pytest.raises(TunnelError, match=r"the same line goes on with model\.pt where it stopped$"):
            files.put(at(network.port, there), model, "model.pt", watch=Once(4 * MB, vanish))
        assert not (there / "model.pt").exists()
    rest = files.put(at(server.port, there), model, "model.pt", watch=quiet)
    assert rest.sent_bytes < rest.size_bytes


def test_answers_that_were_lost_are_asked_for_again(
    runtime: Runtime, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_file(tmp_path / "model.pt", 9 * MB)
    make_file(tmp_path / "small/a", 10)
    make_file(tmp_path / "small/b", 10)
    load = Hand.load

    def load_and_lose(hand: Hand, *pieces: str) -> None:
        load(hand, *pieces)
        hand.run(LOSE)

    monkeypatch.setattr(Hand, "load", load_and_lose)
    files.put(runtime, model, "model.pt", watch=quiet)
    files.get(runtime, "model.pt", tmp_path / "back", watch=quiet)
    files.put(runtime, tmp_path / "small", "", watch=quiet)
    monkeypatch.undo()
    assert same(model, there / "model.pt")
    assert same(model, tmp_path / "back")
    assert same(tmp_path / "small/b", there / "small/b")


LOSE = """
def colab_lose(receive, came=[]):
    def receive_and_lose(message):
        comm, verb = colab_far.comm, message["content"]["data"]["verb"]
        send = comm.send
        if verb in ("take", "give", "take_whole"):
            came.append(verb)
            if len(came) % 3 == 0:
                comm.send = lambda *args, **more: None
        try:
            receive(message)
        finally:
            comm.send = send
    return receive_and_lose

colab_far.comm.on_msg(colab_lose(colab_far.receive))
"""


def test_a_machine_cannot_write_beside_the_folder_that_was_asked_for(
    runtime: Runtime, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Hand.load

    def load_and_lie(hand: Hand, *pieces: str) -> None:
        load(hand, *pieces)
        hand.run("survey = colab_far.verbs['survey']\n" + LIE)

    monkeypatch.setattr(Hand, "load", load_and_lie)
    with pytest.raises(TunnelError, match=r"the machine offered '\.\./evil', which is not below"):
        files.get(runtime, "", tmp_path / "back", watch=quiet)
    assert not list(tmp_path.rglob("evil"))


LIE = """
def lie(content, buffers):
    answer, buffers = survey(content, buffers)
    answer["files"].append(["../evil", 4, 0o644, 0])
    return answer, buffers
colab_far.verbs["survey"] = lie
"""


def test_a_full_disk_there_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with jupyter_server(tmp_path / "server", python=python_with_a_small_disk(tmp_path, disk)) as server:
        runtime = at(server.port, disk)
        too_large = make_file(tmp_path / "too-large", 30 * MB)
        with pytest.raises(
            TunnelError, match=r"^the disk there is full: .* needs 30,000,000 bytes more, and"
        ):
            files.put(runtime, too_large, "x", watch=quiet)
        with Hand.open(runtime) as hand:
            large = make_file(tmp_path / "large", 12 * MB)
            fill = Once(2 * MB, lambda: hand.run(FILL.format(disk)))
            with pytest.raises(
                TunnelError, match=r"^the disk there is full: .*/x was not put; nothing of it s"
            ):
                files.put(runtime, large, "x", watch=fill)
        assert [entry["name"] for entry in files.list_folder(runtime, "")["entries"]] == ["rest"]


@pytest.mark.parametrize("is_known_before", [True, False], ids=["known before", "found on the way"])
def test_a_full_disk_there_leaves_nothing_of_a_new_folder(
    runtime: Runtime, there: Path, tmp_path: Path, is_known_before: bool
) -> None:
    here = make_folder(tmp_path / "here")
    make_file(here / "z/large", (30 if is_known_before else 12) * MB)
    with small_disk(there, size="20m"):
        fill = Once(2 * MB, lambda: exec(FILL.format(there)))
        with pytest.raises(
            FullDiskError, match=r"^the disk there is full: .*/project was not put; nothing of it stays"
        ):
            files.put(runtime, here, "project", watch=quiet if is_known_before else fill)
        assert names(there) == ([] if is_known_before else ["rest"])


def test_a_full_disk_there_leaves_no_half_file_in_a_folder_that_was_there(
    runtime: Runtime, there: Path, tmp_path: Path
) -> None:
    here = make_folder(tmp_path / "project")
    make_file(here / "z/large", 30 * MB)
    with small_disk(there, size="20m"):
        (there / "project").mkdir()
        with pytest.raises(FullDiskError, match="of it stays what had arrived whole"):
            files.put(runtime, here, "", watch=quiet)
        assert list(there.rglob(".*")) == []
        assert same(here / "weights.bin", there / "project/weights.bin")


@pytest.mark.parametrize("is_new", [True, False], ids=["a new folder", "a folder that was there"])
def test_a_full_disk_here_leaves_no_half_file(
    runtime: Runtime, there: Path, tmp_path: Path, is_new: bool
) -> None:
    make_folder(there / "project")
    make_file(there / "project/z/large", 30 * MB)
    (tmp_path / "here").mkdir()
    with small_disk(tmp_path / "here", size="20m") as here:
        target = here / "project"
        if not is_new:
            target.mkdir()
        stays = "nothing of it stays" if is_new else "of it stays what had arrived whole"
        with pytest.raises(TunnelError, match=f"^the disk here is full: {target} was not fetched; {stays}$"):
            files.get(runtime, "project", here, watch=quiet)
        assert list(here.rglob(".*")) == []
        assert target.exists() is not is_new


def test_what_nobody_goes_on_with_for_a_week_is_taken_away(
    runtime: Runtime, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_folder(tmp_path / "here")
    make_file(here / "z/large", 9 * MB)
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, here, "project", watch=Once(4 * MB, interrupt))
    with pytest.raises(KeyboardInterrupt):
        files.put(runtime, here / "z/large", "large", watch=Once(4 * MB, interrupt))
    note = make_file(tmp_path / "note", 5)
    files.put(runtime, note, "", watch=quiet)
    assert len(names(there)) == 3
    load = Hand.load

    def load_a_week_later(hand: Hand, *pieces: str) -> None:
        load(hand, *pieces)
        hand.run("COLAB_KEPT_S = 0.0")

    monkeypatch.setattr(Hand, "load", load_a_week_later)
    files.put(runtime, note, "", watch=quiet)
    assert names(there) == ["note"]


def test_here_too_it_is_taken_away(tmp_path: Path) -> None:
    make_file(tmp_path / f".project{PART}/a", 5)
    make_file(tmp_path / f".large{PART}", 5)
    make_file(tmp_path / f"mine{PART}", 5)
    sweep(tmp_path, now=time.time() + KEPT_S - 60)
    assert len(names(tmp_path)) == 3
    sweep(tmp_path, now=time.time() + KEPT_S + 60)
    assert names(tmp_path) == [f"mine{PART}"]


FILL = """
try:
    with open("{}/rest", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
except OSError:
    pass
"""


def python_with_a_small_disk(tmp_path: Path, disk: Path) -> Path:
    """An interpreter that sees a disk of 20 MB at that place, which nobody else sees."""
    if shutil.which("unshare") is None:
        harness.missing("unshare is not on this machine")
    mount = f"mount -t tmpfs -o size=20m none {disk}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        harness.missing("this machine lets nobody have a name space of their own")
    inside = harness.write(tmp_path / "inside", f'#!/bin/sh\n{mount} && exec {sys.executable} "$@"\n')
    python = harness.write(tmp_path / "python", f'#!/bin/sh\nexec unshare -rm sh {inside} "$@"\n')
    python.chmod(0o755)
    return python
