"""Names that a file may have, and who else is at the same file: nothing is lost, mixed up or renamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_servers import TOKEN, jupyter_server

from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import TunnelError
from colab_magics.tunnel import files
from colab_magics.tunnel.trips import PART, Progress, is_text, part_name

LARGE_BYTES = 8_000_000
LONG = "日本語" * 27 + ".bin"
"""247 bytes of the 255 that a name may have."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as server:
        yield Runtime(name="far", url=server.url, token=TokenSource(value=TOKEN))


def quiet(progress: Progress) -> None:
    """Nobody looks."""


def names(folder: Path) -> set[bytes]:
    return {os.fsencode(path.name) for path in folder.iterdir()}


@pytest.mark.parametrize("size_bytes", [100, 300_000], ids=["small", "large"])
def test_a_long_name_of_another_script_crosses(tmp_path: Path, runtime: Runtime, size_bytes: int) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / LONG).write_bytes(os.urandom(size_bytes))
    files.put(runtime, tmp_path / LONG, f"{tmp_path}/there/", watch=quiet)
    files.get(runtime, str(tmp_path / "there" / LONG), tmp_path / "back", watch=quiet, into=True)
    assert (tmp_path / "back" / LONG).read_bytes() == (tmp_path / LONG).read_bytes()


def test_two_long_names_have_parts_of_their_own() -> None:
    one, other = part_name(f"{LONG}1"), part_name(f"{LONG}2")
    assert one != other
    assert max(len(one.encode()), len(other.encode())) < 255


def test_a_link_gives_what_it_leads_to_under_its_own_name(tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "run5.pt").write_bytes(b"weights")
    (tmp_path / "latest.pt").symlink_to("run5.pt")
    moved = files.put(runtime, tmp_path / "latest.pt", f"{tmp_path}/there/", watch=quiet)
    assert moved.path == f"{tmp_path}/there/latest.pt"
    assert Path(moved.path).read_bytes() == b"weights"


def test_the_folder_that_a_dot_means_comes_under_its_own_name(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("there", "here/inner"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "inner")
    for given, name in ((".", "inner"), ("..", "here")):
        moved = files.put(runtime, Path.cwd() / given, f"{tmp_path}/there/", watch=quiet)
        assert moved.path == f"{tmp_path}/there/{name}"


def test_a_name_that_is_not_utf8_is_left_out_and_said_both_ways(tmp_path: Path, runtime: Runtime) -> None:
    source = tmp_path / "source"
    odd = source / os.fsdecode(b"d\xe9p\xf4t")
    odd.mkdir(parents=True)
    for path in (source / os.fsdecode(b"caf\xe9.txt"), odd / "inner.txt", source / "a"):
        path.write_bytes(b"x")
    put = files.put(runtime, source, str(tmp_path / "there"), watch=quiet)
    got = files.get(runtime, str(source), tmp_path / "back", watch=quiet)
    assert names(tmp_path / "there") == names(tmp_path / "back") == {b"a"}
    assert len(put.skipped) == len(got.skipped) == 2
    assert is_text("café.txt")
    assert not is_text(os.fsdecode(b"caf\xe9.txt"))


def test_a_part_belongs_to_one_name(tmp_path: Path, runtime: Runtime) -> None:
    begun = {f".model.pt.{'0' * 32}{PART}", f".model.1.{'0' * 32}{PART}"}
    for name in begun:
        (tmp_path / name).write_bytes(b"the beginning of another file")
    (tmp_path / "source").write_bytes(os.urandom(LARGE_BYTES))
    files.put(runtime, tmp_path / "source", str(tmp_path / "model"), watch=quiet)
    assert begun <= {path.name for path in tmp_path.iterdir()}


def test_two_who_fetch_the_same_file_do_not_write_into_each_other_s(tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "source").write_bytes(os.urandom(LARGE_BYTES))
    target, said = tmp_path / "target", []

    def fetch_too() -> None:
        with pytest.raises(TunnelError) as error:
            files.get(runtime, str(tmp_path / "source"), target, watch=quiet)
        said.append(str(error.value))

    def watch(progress: Progress) -> None:
        if progress.done_bytes > LARGE_BYTES // 4 and not said:
            other = threading.Thread(target=fetch_too)
            other.start()
            other.join()

    files.get(runtime, str(tmp_path / "source"), target, watch=watch)
    assert said == [f"{target} is being fetched by somebody else: wait for them, or end them"]
    assert target.read_bytes() == (tmp_path / "source").read_bytes()
