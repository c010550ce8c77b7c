"""A token in a file of another program: read while that one writes, and renewed by a command at its end."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colab_kernel import sessions, token_files
from colab_kernel.runtime import Runtime, TokenSource

NOW = 1_800_000_000.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "sessions.json"


def write(file: Path, token: str, *, ends_at: object) -> None:
    file.write_text(json.dumps({"gpu": {"token": token, "ends": ends_at}}))


def source(file: Path, *, refresh: tuple[str, ...] = ()) -> TokenSource:
    return TokenSource(file=str(file), key=("gpu", "token"), expires=("gpu", "ends"), refresh=refresh)


def that_writes(file: Path, token: str) -> tuple[str, ...]:
    """A command that puts a token that lasts into the file, and notes that it ran."""
    content = json.dumps({"gpu": {"token": token, "ends": "2999-01-01T00:00:00Z"}})
    ran = f"{file}.ran"
    code = f"open({str(file)!r}, 'w').write({content!r}); open({ran!r}, 'a').write('x')"
    return (sys.executable, "-c", code)


def behind(token: TokenSource, **more: TokenSource) -> Runtime:
    return Runtime(name="gpu", url="http://127.0.0.1:1", token=token, **more)  # type: ignore[arg-type]


def runs(file: Path) -> int:
    ran = file.with_name(file.name + ".ran")
    return len(ran.read_text()) if ran.exists() else 0


@pytest.mark.parametrize(
    ("ends_at", "is_due"),
    [
        (datetime.fromtimestamp(NOW + 301, UTC).isoformat(), False),
        (datetime.fromtimestamp(NOW + 299, UTC).isoformat(), True),
        (datetime.fromtimestamp(NOW - 299, UTC).isoformat().replace("+00:00", "Z"), True),
        (datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None).isoformat(), True),
        (None, False),
        ("soon", False),
    ],
)
def test_five_minutes_before_its_end_it_is_due(file: Path, ends_at: object, is_due: bool) -> None:
    write(file, "t", ends_at=ends_at)
    assert token_files.is_due(source(file), now=NOW) is is_due


def test_what_has_no_file_or_no_end_is_never_due(file: Path) -> None:
    assert not token_files.is_due(TokenSource(value="t"), now=NOW)
    assert not token_files.is_due(TokenSource(file=str(file)), now=NOW)
    assert not token_files.is_due(source(file), now=NOW)


def test_one_that_is_due_is_renewed_before_it_is_read(file: Path) -> None:
    write(file, "old", ends_at="2020-01-01T00:00:00Z")
    assert sessions.read_token(source(file, refresh=that_writes(file, "new"))) == "new"
    assert runs(file) == 1


def test_one_that_is_good_is_only_read(file: Path) -> None:
    write(file, "good", ends_at="2999-01-01T00:00:00Z")
    assert sessions.read_token(source(file, refresh=that_writes(file, "new"))) == "good"
    assert runs(file) == 0


def test_one_that_was_refused_is_renewed_whatever_its_end(file: Path) -> None:
    write(file, "revoked", ends_at="2999-01-01T00:00:00Z")
    sessions.renew_tokens(behind(source(file, refresh=that_writes(file, "new"))))
    assert sessions.read_token(source(file)) == "new"


def test_of_two_that_let_in_each_is_renewed_by_its_own_command(file: Path) -> None:
    """A server's own token never ends; that of the proxy before it does."""
    write(file, "revoked", ends_at="2999-01-01T00:00:00Z")
    proxy_token = source(file, refresh=that_writes(file, "new"))
    sessions.renew_tokens(behind(TokenSource(value="t"), proxy_token=proxy_token))
    assert sessions.read_token(proxy_token) == "new"


@pytest.mark.parametrize("refresh", [("false",), ("/no/such/program",)])
def test_a_command_that_fails_leaves_the_token_as_it_is(file: Path, refresh: tuple[str, ...]) -> None:
    write(file, "old", ends_at="2020-01-01T00:00:00Z")
    assert sessions.read_token(source(file, refresh=refresh)) == "old"


def test_of_many_that_find_it_due_one_runs_the_command(file: Path) -> None:
    write(file, "old", ends_at="2020-01-01T00:00:00Z")
    found: list[str] = []
    mine = source(file, refresh=that_writes(file, "new"))
    threads = [threading.Thread(target=lambda: found.append(sessions.read_token(mine))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["new"] * 8
    assert runs(file) == 1


def test_it_is_not_run_again_at_once(file: Path) -> None:
    write(file, "old", ends_at="2999-01-01T00:00:00Z")
    mine = behind(source(file, refresh=that_writes(file, "new")))
    sessions.renew_tokens(mine)
    sessions.renew_tokens(mine)
    assert runs(file) == 1
    [tried] = (file.parent / "runtime").glob("colab-token-*.tried")
    before = time.time() - token_files.AGAIN_S - 1
    os.utime(tried, (before, before))
    sessions.renew_tokens(mine)
    assert runs(file) == 2


def test_a_file_that_is_being_written_is_waited_for(file: Path) -> None:
    file.write_text("")  # google-colab-cli empties it first
    writer = threading.Timer(0.1, lambda: write(file, "whole", ends_at=None))
    writer.start()
    assert sessions.read_token(source(file)) == "whole"
    writer.join()
