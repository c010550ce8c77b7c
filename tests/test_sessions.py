"""The session registry: what it keeps, whom it trusts, what it never does and never says."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_kernel import private_files, registry_format, sessions
from colab_kernel.errors import RegistryError
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace, TokenSource
from colab_kernel.sessions import Registry

SECRET = "s3cr3t-0f-th3-t3st"

FULL = Runtime(
    name="gpu",
    url="https://gpu.example.org:8443/user/ada",
    token=TokenSource(value=SECRET),
    auth=AuthScheme.COLAB,
    token_in=TokenPlace.QUERY,
    headers={"X-Colab-Client-Agent": "cli"},
    kernel_name="python3",
    local_root="/home/ada/project",
    remote_root="/content/project",
    max_message_bytes=20_000_000,
    gone_after_s=12.5,
)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the registry will be; nothing is there yet."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime" / "colab-runtimes.json"


def runtime(name: str, **more: Any) -> Runtime:
    return replace(Runtime(name=name, url=f"http://{name}.example.org"), **more)


def write_private(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(0o600)
    return path


def document(**entry: Any) -> dict[str, Any]:
    """A document with one entry, `gpu`, of which keys are other than usual."""
    usual = {"url": "http://gpu.example.org", "token": {"value": SECRET}}
    return {"version": 1, "current": "gpu", "runtimes": {"gpu": {**usual, **entry}}}


# --- what it keeps ---------------------------------------------------------------------------------------


def test_without_a_file_it_is_empty_and_none_is_made(registry: Path) -> None:
    assert sessions.registry_path() == registry
    assert sessions.load() == Registry(path=registry)
    assert not registry.parent.exists()


def test_a_runtime_comes_back_as_it_was_saved(registry: Path) -> None:
    sessions.save_runtime(FULL)
    assert sessions.load() == Registry((FULL,), "gpu", registry)
    assert sessions.load().get(None) == sessions.load().get("gpu") == FULL


def test_the_file_is_its_owners_alone(registry: Path) -> None:
    before = os.umask(0)
    try:
        sessions.save_runtime(FULL)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (registry.parent, registry)] == [0o700, 0o600]
    assert sorted(path.name for path in registry.parent.iterdir()) == [
        "colab-runtimes.json",
        "colab-runtimes.lock",
    ]


def test_what_has_its_default_is_not_written(registry: Path) -> None:
    sessions.save_runtime(runtime("plain"))
    entry = json.loads(registry.read_bytes())["runtimes"]["plain"]
    assert entry == {"url": "http://plain.example.org", "token": {}}


def test_another_is_saved_without_becoming_the_current_one(registry: Path) -> None:
    sessions.save_runtime(runtime("a"))
    sessions.save_runtime(runtime("b"), make_current=False)
    found = sessions.load()
    assert (found.current, [each.name for each in found.runtimes]) == ("a", ["a", "b"])
    sessions.set_current("b")
    assert sessions.load().get(None).name == "b"


def test_a_runtime_saved_again_is_replaced(registry: Path) -> None:
    sessions.save_runtime(FULL)
    sessions.save_runtime(runtime("other"))
    sessions.save_runtime(runtime("gpu"))
    assert sessions.load().runtimes == (runtime("gpu"), runtime("other"))
    assert SECRET not in registry.read_text(encoding="utf-8")


def test_a_runtime_is_forgotten_with_its_token(registry: Path) -> None:
    sessions.save_runtime(runtime("other"))
    sessions.save_runtime(FULL)
    assert sessions.forget("gpu") is True
    assert sessions.load() == Registry((runtime("other"),), None, registry)
    assert SECRET not in registry.read_text(encoding="utf-8")
    assert sessions.forget("gpu") is False


def test_keys_that_are_unknown_here_are_kept_when_another_entry_changes(registry: Path) -> None:
    known = document(expires_at=1e9, note={"by": ["somebody", None]})
    known["machine"] = {"gpu": "T4"}
    write_private(registry, json.dumps(known))
    sessions.save_runtime(runtime("other"))
    sessions.forget("other")
    sessions.save_runtime(runtime("other"))
    sessions.set_current("gpu")
    written = json.loads(registry.read_bytes())
    del written["runtimes"]["other"]
    assert written == known


def test_an_address_loses_the_slash_at_its_end(registry: Path) -> None:
    sessions.save_runtime(runtime("a", url="http://a.example.org/base/"))
    assert sessions.load().get("a").url == "http://a.example.org/base"


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=10)
_tokens = st.one_of(
    st.just(TokenSource()),
    st.builds(TokenSource, value=st.from_regex(r"[!-~]{1,30}", fullmatch=True)),
    st.builds(TokenSource, env=st.from_regex(r"[A-Z_]{1,9}", fullmatch=True)),
    st.builds(
        TokenSource,
        file=_texts.map("/{}".format),
        key=st.lists(_texts).map(tuple),
        expires=st.lists(_texts).map(tuple),
        refresh=st.lists(_texts).map(tuple),
    ),
)
_roots = st.one_of(st.just((None, None)), st.tuples(_texts.map("/{}".format), _texts.map("C:\\{}".format)))


@given(
    name=_names,
    host=st.from_regex(r"[a-z]{1,9}(:[1-9][0-9]{0,3})?(/[a-z~]{1,5})?", fullmatch=True),
    token=_tokens,
    auth=st.sampled_from(AuthScheme),
    token_in=st.sampled_from(TokenPlace),
    kernel_name=_texts,
    roots=_roots,
    max_message_bytes=st.integers(1, 1 << 50),
    gone_after_s=st.floats(0, 1e9),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_valid_runtime_comes_back_as_it_was(
    registry: Path, name: str, host: str, roots: tuple[str | None, str | None], **more: Any
) -> None:
    given_one = Runtime(name=name, url=f"https://{host}", local_root=roots[0], remote_root=roots[1], **more)
    registry.unlink(missing_ok=True)
    sessions.save_runtime(given_one)
    assert sessions.load().get(None) == given_one


def test_a_runtime_may_have_two_tokens(registry: Path) -> None:
    token, proxy_token = TokenSource(value="its-own"), TokenSource(file="/f", key=("token",))
    both = runtime("gpu", token=token, proxy_token=proxy_token)
    sessions.save_runtime(both)
    assert sessions.load().get("gpu") == both


def test_processes_that_write_at_once_lose_nothing(registry: Path) -> None:
    program = (
        "import sys\n"
        "from colab_kernel import sessions\n"
        "from colab_kernel.runtime import Runtime\n"
        "sys.stdin.readline()\n"
        "for at in range(10):\n"
        "    sessions.save_runtime(Runtime(name=f'{sys.argv[1]}-{at}', url='http://h'))\n"
        "    if at % 2:\n"
        "        assert sessions.forget(f'{sys.argv[1]}-{at}')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(harness.ROOT / "kernel")}
    writers = [
        subprocess.Popen([sys.executable, "-c", program, name], env=environment, stdin=subprocess.PIPE)
        for name in "abc"
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    names = {each.name for each in sessions.load().runtimes}
    assert names == {f"{name}-{at}" for name in "abc" for at in range(0, 10, 2)}


# --- whom it trusts --------------------------------------------------------------------------------------


def cannot_be_used(registry: Path) -> str:
    """Assert that nothing reads or changes the registry; return what is said."""
    before = registry.read_bytes() if registry.is_file() else None
    said = set()
    attempts: list[Callable[[], object]] = [
        sessions.load,
        lambda: sessions.save_runtime(FULL),
        lambda: sessions.forget("gpu"),
        lambda: sessions.set_current("gpu"),
    ]
    for attempt in attempts:
        with pytest.raises(RegistryError) as caught:
            attempt()
        said.add(str(caught.value))
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert (registry.read_bytes() if registry.is_file() else None) == before
    (sentence,) = said
    assert str(registry) in sentence
    assert "It was left as it is" in sentence
    return sentence


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


CORRUPT = {
    "empty": "",
    "white space": " \n",
    "cut short": json.dumps(document())[:-3],
    "followed by something": json.dumps(document()) + SECRET,
    "not UTF-8": json.dumps(document()).encode() + b"\xff",
    "a list": "[]",
    "null": "null",
    "nested too deeply": nested(100_000),
    "NaN": json.dumps({**document(), "more": float("nan")}),
    "too large a number": json.dumps(document()).replace("1,", '1, "more": 1e999,', 1),
    "too long a number": json.dumps(document()).replace("1,", f'1, "more": {"9" * 5000},', 1),
    "a name twice": json.dumps(document()).replace('"url"', '"url": "http://x", "url"'),
    "no version": json.dumps({"runtimes": {}}),
    "another version": json.dumps({**document(), "version": 2}),
    "a version that is true": json.dumps({**document(), "version": True}),
    "no runtimes": json.dumps({"version": 1}),
    "runtimes in a list": json.dumps({"version": 1, "runtimes": [document()]}),
    "a current one that is a number": json.dumps({**document(), "current": 1}),
    "an entry that is text": json.dumps({"version": 1, "runtimes": {"gpu": SECRET}}),
    "an entry without a url": json.dumps({"version": 1, "runtimes": {"gpu": {}}}),
    "a name with a slash": json.dumps({"version": 1, "runtimes": {"a/b": {"url": "http://h"}}}),
    "no name": json.dumps({"version": 1, "runtimes": {"": {"url": "http://h"}}}),
    "longer than it can be": json.dumps(document()) + " " * 2_000_000,
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_file_is_an_error_and_stays_as_it_is(registry: Path, kind: str) -> None:
    write_private(registry, CORRUPT[kind])
    cannot_be_used(registry)


WRONG_ENTRIES: list[dict[str, Any]] = [
    *({"url": value} for value in (None, 1, "", "h", "ftp://h", "http://", "http://h:99999", "http://h:x")),
    *(
        {"url": f"http://{rest}"}
        for rest in (f"h?token={SECRET}", f"a:{SECRET}@h", f"h#{SECRET}", "h?", "a b")
    ),
    *({"url": f"http://[{SECRET}]"}, {"url": "http://h\n"}),
    *(
        {"token": value}
        for value in (SECRET, [SECRET], {"value": ""}, {"value": 1}, {"value": f"{SECRET} x"})
    ),
    *({"token": value} for value in ({"value": f"{SECRET}é"}, {"value": f"{SECRET}\r\nX-A: b"}, {"env": ""})),
    *({"token": value} for value in ({"env": "A=B"}, {"file": "relative"}, {"value": "x", "env": "X"})),
    *({"token": value} for value in ({"key": ["a"]}, {"file": "/f", "key": "a"}, {"file": "/f", "key": [1]})),
    *({"token": {"file": "/f", "refresh": value}} for value in ("colab", [1], ["a\n"])),
    *({"token": {"value": SECRET, name: ["a"]}} for name in ("refresh", "expires")),
    *({"proxy_token": value} for value in (SECRET, {"value": ""}, {"value": "x", "env": "X"})),
    {"proxy_token": {"value": SECRET}, "auth": "colab"},
    *({"auth": value} for value in ("basic", 1, [], {}, SECRET)),
    *({"token_in": value} for value in ("cookie", True)),
    *({"headers": value} for value in ([], {"X": 1}, {"X": f"{SECRET}\n"}, {"X Y": "z"}, {"Cookie": SECRET})),
    *({"headers": {name: SECRET}} for name in ("authorization", "X-Colab-Runtime-Proxy-Token")),
    *({"kernel_name": value} for value in (1, "a\nb")),
    *({"local_root": "/a"}, {"remote_root": "/a"}, {"local_root": "/a", "remote_root": "b"}),
    {"local_root": 1, "remote_root": 2},
    *({"max_message_bytes": value} for value in (0, -1, 1.5, True, "1", 1 << 60)),
    *({"gone_after_s": value} for value in (-1, "60", False, 1 << 70)),
]


@pytest.mark.parametrize("entry", WRONG_ENTRIES, ids=lambda entry: "-".join(entry))
def test_an_entry_that_means_nothing_is_an_error(registry: Path, entry: dict[str, Any]) -> None:
    write_private(registry, json.dumps(document(**entry)))
    assert "runtime 'gpu'" in cannot_be_used(registry)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644, 0o777])
def test_a_file_that_others_have_access_to_is_not_used(registry: Path, mode: int) -> None:
    write_private(registry, json.dumps(document())).chmod(mode)
    assert f"(mode {mode:o}); `chmod 600 {registry}` ends that" in cannot_be_used(registry)


def test_somebody_elses_file_is_not_used(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(registry, json.dumps(document()))
    monkeypatch.setattr(os, "geteuid", lambda: registry.stat().st_uid + 1)
    assert "belongs to another user" in cannot_be_used(registry)


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_not_followed(registry: Path, tmp_path: Path, there: bool) -> None:
    target = tmp_path / "elsewhere.json"
    if there:
        write_private(target, json.dumps(document()))
    registry.parent.mkdir(parents=True)
    registry.symlink_to(target)
    assert "a symbolic link" in cannot_be_used(registry)
    assert registry.is_symlink()
    assert target.exists() == there


def test_what_is_no_file_is_not_used(registry: Path) -> None:
    registry.mkdir(parents=True)
    cannot_be_used(registry)
    registry.rmdir()
    os.mkfifo(registry, 0o600)
    assert "no regular file" in cannot_be_used(registry)


@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_are_a_registry_or_an_error(registry: Path, data: bytes) -> None:
    write_private(registry, data)
    cannot_be_used(registry)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KEYS = ["url", "token", "proxy_token", "auth", "token_in", "headers", "kernel_name"]
_KEYS += ["local_root", "remote_root"]


@given(
    top=st.dictionaries(st.sampled_from(["version", "current", "runtimes"]), _json, max_size=1),
    entry=st.dictionaries(st.sampled_from([*_KEYS, "max_message_bytes", "gone_after_s"]), _json, max_size=2),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_json_is_a_registry_or_an_error(registry: Path, top: dict[str, Any], entry: dict[str, Any]) -> None:
    write_private(registry, json.dumps({**document(**entry), **top}))
    try:
        found = sessions.load()
    except RegistryError:
        cannot_be_used(registry)
        return
    for each in found.runtimes:
        sessions.save_runtime(each)
        assert sessions.load().get(each.name) == each


def test_a_runtime_that_could_not_be_read_again_is_not_saved(registry: Path) -> None:
    for wrong in (
        runtime("a/b"),
        runtime("a", url=f"http://h?token={SECRET}"),
        runtime("a", gone_after_s=float("nan")),
        runtime("a", token=TokenSource(value=f"{SECRET}\n")),
        runtime("a", token=TokenSource(value=SECRET, env="A")),
        runtime("a", local_root="/here"),
    ):
        with pytest.raises(RegistryError, match="cannot be registered") as caught:
            sessions.save_runtime(wrong)
        assert SECRET not in str(caught.value)
    assert not registry.exists()


# --- when it cannot be written ---------------------------------------------------------------------------


def test_a_full_disk_leaves_it_as_it_was(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.save_runtime(FULL)
    before = registry.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="cannot be written \\(No space left on device\\)"):
        sessions.save_runtime(runtime("other"))
    assert registry.read_bytes() == before
    assert len(list(registry.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_told(registry: Path) -> None:
    registry.parent.write_text("a file")
    with pytest.raises(RegistryError, match="cannot be written"):
        sessions.save_runtime(FULL)


def test_a_writer_that_does_not_let_go_is_told(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.save_runtime(FULL)
    program = (
        "import fcntl, sys\n"
        "fcntl.flock(held := open(sys.argv[1], 'r+b'), fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    lock = registry.with_suffix(".lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", program, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(private_files, "LOCK_TIMEOUT_S", 0.05)
        with pytest.raises(RegistryError, match="another process has held"):
            sessions.save_runtime(runtime("other"))
        assert sessions.load().runtimes == (FULL,)  # readers do not wait
    finally:
        holder.communicate()
    monkeypatch.undo()


# --- tokens ----------------------------------------------------------------------------------------------


def test_no_source_is_no_token() -> None:
    assert sessions.read_token(TokenSource()) == ""


def test_a_token_is_read_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, nested_one = tmp_path / "token", tmp_path / "sessions.json"
    for token in ("first", "second"):
        plain.write_text(f"{token}\n", encoding="utf-8")
        nested_one.write_text(json.dumps({"a": {"token": token, "other": 1}}), encoding="utf-8")
        monkeypatch.setenv("MY_TOKEN", token)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert sessions.read_token(TokenSource(file=str(plain))) == token
        assert sessions.read_token(TokenSource(file="~/token")) == token
        assert sessions.read_token(TokenSource(file=str(nested_one), key=("a", "token"))) == token
        assert sessions.read_token(TokenSource(env="MY_TOKEN")) == token
        assert sessions.read_token(TokenSource(value=token)) == token


FILES: list[tuple[bytes | None, tuple[str, ...], str]] = [
    (None, (), "No such file"),
    (b"", (), "it is empty"),
    (b"\n", (), "it is empty"),
    (f"{SECRET}\xe9".encode("latin-1"), (), "codec can't decode"),
    (f"{SECRET} more".encode(), (), "a space"),
    (f"{SECRET}\nmore".encode(), (), "a line's end"),
    (f"{SECRET}\u00e9".encode(), (), "beyond ASCII"),
    (SECRET.encode() * 100_000, (), "longer than"),
    (SECRET.encode(), ("a",), "Expecting value"),
    (json.dumps({"b": SECRET}).encode(), ("a",), "its JSON has no a"),
    (json.dumps({"a": SECRET}).encode(), ("a", "b"), "its JSON has no a.b"),
    (json.dumps([SECRET]).encode(), ("0",), "its JSON has no 0"),
    (json.dumps({"a": [SECRET]}).encode(), ("a",), "something else than a text at a"),
    (json.dumps({"a": ""}).encode(), ("a",), "it is empty"),
    (nested(100_000).encode(), ("a",), "recursion"),
]


@pytest.mark.parametrize(("data", "key", "told"), FILES, ids=[told for _, _, told in FILES])
def test_a_file_without_a_token_is_told_without_its_content(
    tmp_path: Path, data: bytes | None, key: tuple[str, ...], told: str
) -> None:
    path = tmp_path / "token"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(RegistryError, match=str(path)) as caught:
        sessions.read_token(TokenSource(file=str(path), key=key))
    assert told in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_folder_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="Is a directory"):
        sessions.read_token(TokenSource(file=str(tmp_path)))


def test_a_variable_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(RegistryError, match="MY_TOKEN: the variable is not set"):
        sessions.read_token(TokenSource(env="MY_TOKEN"))
    monkeypatch.setenv("MY_TOKEN", f"{SECRET} {SECRET}")
    with pytest.raises(RegistryError, match="a space") as caught:
        sessions.read_token(TokenSource(env="MY_TOKEN"))
    assert SECRET not in str(caught.value)


def test_no_token_is_shown_or_logged(registry: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sessions.save_runtime(FULL)
    assert SECRET in registry.read_text(encoding="utf-8")
    assert SECRET not in repr(sessions.load()) + repr(FULL) + caplog.text


# --- which one is meant ----------------------------------------------------------------------------------


def test_none_registered_says_where_it_looked_and_what_to_type(registry: Path) -> None:
    for name in (None, "gpu"):
        with pytest.raises(RegistryError) as caught:
            sessions.load().get(name)
        assert str(registry) in str(caught.value)
        assert "`python -m colab_kernel connect URL` registers one" in str(caught.value)


def test_no_current_one_names_those_that_are_there(registry: Path) -> None:
    sessions.save_runtime(runtime("a"), make_current=False)
    sessions.save_runtime(runtime("b"), make_current=False)
    with pytest.raises(RegistryError) as caught:
        sessions.load().get(None)
    assert str(caught.value).startswith(
        "no runtime is the current one; there are a, b: `python -m colab_kernel"
    )
    with pytest.raises(RegistryError, match="there is no runtime 'c'; there are a, b: "):
        sessions.load().get("c")
    with pytest.raises(RegistryError, match="there is no runtime 'c'; there are a, b: "):
        sessions.set_current("c")


def test_a_current_one_that_is_gone_can_be_replaced(registry: Path) -> None:
    write_private(registry, json.dumps({**document(), "current": "gone"}))
    with pytest.raises(RegistryError, match="there is no runtime 'gone'; there are gpu"):
        sessions.load().get(None)
    sessions.set_current("gpu")
    assert sessions.load().get(None).name == "gpu"


# --- its page --------------------------------------------------------------------------------------------


def test_the_examples_on_its_page_are_read(registry: Path) -> None:
    page = (harness.ROOT / "docs/reference/runtimes.md").read_text(encoding="utf-8")
    example = page.split("```json\n", 2)[1].split("```")[0]
    write_private(registry, example)
    found = sessions.load()
    assert found.get(None) in found.runtimes
    # Every key of an entry has a line in the table, and the example has all of them.
    keys = {key for entry in json.loads(example)["runtimes"].values() for key in entry}
    assert keys == {"url", "token", *registry_format.DEFAULTS}
    assert all(f"| `{key}` |" in page for key in keys)
