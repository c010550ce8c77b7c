"""The session registry: which runtimes there are, which of them is current, and how their tokens are read.

It holds tokens, so it is a file of its owner's alone, and nothing that is raised or shown here has one in it.
What its JSON means: docs/reference/runtimes.md.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from jupyter_core.paths import jupyter_runtime_dir

from colab_kernel.errors import RegistryError
from colab_kernel.runtime import AuthScheme, Runtime, TokenPlace, TokenSource

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

COMMAND = "python -m colab_kernel"
_VERSION = 1
_MOST_BYTES = 1024 * 1024  # more is no registry, and no token either
_LOCK_TIMEOUT_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[!-~]+")  # what a header can hold; an HTTP client's error would quote anything else
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-colab-runtime-proxy-token"})


@dataclass(frozen=True, slots=True)
class Registry:
    """What the registry's file says.

    Attributes:
        runtimes: in the file's order; their names are distinct.
        current: the name of the one that is meant where none is named; it may be gone.
        path: the file.
    """

    runtimes: tuple[Runtime, ...] = ()
    current: str | None = None
    path: Path = Path("colab-runtimes.json")

    def get(self, name: str | None) -> Runtime:
        """The runtime of that name; without one, the current runtime.

        RegistryError: there is none; the sentence names those that are there, and a command.
        """
        wanted = self.current if name is None else name
        for runtime in self.runtimes:
            if runtime.name == wanted:
                return runtime
        if not self.runtimes:
            how = f"`{COMMAND} connect URL` registers one, by the address that a Jupyter Server prints"
            raise RegistryError(f"no runtime is registered in {self.path}: {how}")
        found = "no runtime is the current one" if wanted is None else f"there is no runtime {wanted!r}"
        names = ", ".join(runtime.name for runtime in self.runtimes)
        raise RegistryError(
            f"{found}; there are {names}: `{COMMAND} use NAME` makes one of them the current one, "
            f"`{COMMAND} connect URL` registers another"
        )


def registry_path() -> Path:
    """Where the registry is: in Jupyter's runtime directory, which its environment variables may move.

    Source: https://docs.jupyter.org/en/latest/use/jupyter-directories.html#runtime-files
    """
    return Path(jupyter_runtime_dir()) / "colab-runtimes.json"


def load(path: Path | None = None) -> Registry:
    """Read the registry, at `registry_path()` unless another path is given; without a file it is empty.

    RegistryError: there is a file that cannot be trusted, or understood whole; it was left as it is.
    """
    return _read(registry_path() if path is None else path)[1]


def save_runtime(runtime: Runtime, *, make_current: bool = True) -> None:
    """Write a runtime's entry in place of what was there under its name; other entries stay as they are.

    RegistryError: it is no valid entry, or the registry cannot be read or written; it is as it was.
    """
    entry = _to_entry(checked(runtime))

    def edit(document: dict[str, Any]) -> bool:
        document["runtimes"][runtime.name] = entry
        if make_current:
            document["current"] = runtime.name
        return True

    _change(edit)


def checked(runtime: Runtime) -> Runtime:
    """The runtime as it will be read when it has been saved. RegistryError: it could not be."""
    try:
        return _parse_entry(runtime.name, _to_entry(runtime))
    except ValueError as error:
        raise RegistryError(f"runtime {runtime.name[:64]!r} cannot be registered: {error}") from None


def forget(name: str) -> bool:
    """Take a runtime out, its token with it; tell whether it was there. RegistryError: as `save_runtime`."""

    def edit(document: dict[str, Any]) -> bool:
        if document.get("current") == name:
            document["current"] = None
        return document["runtimes"].pop(name, None) is not None

    return _change(edit)


def set_current(name: str) -> None:
    """Make a runtime the current one. RegistryError: as `save_runtime`, or it is not registered."""

    def edit(document: dict[str, Any]) -> bool:
        _parse(document, path=registry_path()).get(name)
        document["current"] = name
        return True

    _change(edit)


def read_token(source: TokenSource) -> str:
    """Read a token now; empty if the runtime asks for none.

    RegistryError: it is not where it should be, or what is there is no token. Nothing of it is shown.
    """
    found, where = source.value, "in the registry"
    try:
        if source.env is not None:
            where = f"in the environment variable {source.env}"
            found = os.environ.get(source.env)
            _need(found is not None, "the variable is not set in this process, nor where it was started from")
        elif source.file is not None:
            where = f"in {source.file}"
            found = _text_in_file(Path(source.file).expanduser(), key=source.key)
        token = "" if found is None else found.strip()
        _need(token or source == TokenSource(), "it is empty")
        _need(not token or _TOKEN.fullmatch(token), "a space, a line's end or a letter beyond ASCII is in it")
    except (OSError, RuntimeError, ValueError) as error:
        advice = f"put one there, or type `{COMMAND} connect URL --token stdin`"
        raise RegistryError(f"there is no token to be read {where}: {_told(error)}; {advice}") from None
    return token


def _text_in_file(path: Path, *, key: tuple[str, ...]) -> str:
    """A file's whole text, or one text in its JSON. OSError, RecursionError, ValueError: there is none."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    _need(len(data) <= _MOST_BYTES, f"it is longer than {_MOST_BYTES:,} bytes")
    if not key:
        return data.decode()
    found: Any = json.loads(data)
    for at, step in enumerate(key, start=1):
        _need(isinstance(found, dict) and step in found, f"its JSON has no {'.'.join(key[:at])}")
        found = found[step]
    _need(isinstance(found, str), f"its JSON has something else than a text at {'.'.join(key)}")
    return str(found)


# --- one entry as JSON -----------------------------------------------------------------------------------

_NAMES = [each.name for each in fields(Runtime) if each.name not in {"name", "url", "token"}]
_DEFAULTS = {name: getattr(Runtime(name="", url=""), name) for name in _NAMES}


def _to_entry(runtime: Runtime) -> dict[str, Any]:
    """A runtime as its JSON; what has its default is left out."""
    source = runtime.token
    token = {"value": source.value, "env": source.env, "file": source.file, "key": list(source.key) or None}
    others = {key: getattr(runtime, key) for key in _DEFAULTS}
    return {
        "url": runtime.url,
        "token": {key: value for key, value in token.items() if value is not None},
        **{key: value for key, value in others.items() if value != _DEFAULTS[key]},
    }


def _parse_entry(name: str, entry: Any) -> Runtime:
    """The runtime that an entry's JSON means; keys that are unknown here are for others.

    Raises:
        ValueError: it means none. The sentence has no value of the entry in it: any may be a secret.
    """
    _need(_NAME.fullmatch(name), "a name is 1 to 64 ASCII letters, digits, dots, hyphens and underscores")
    _need(isinstance(entry, dict), "it is no JSON object")
    found = {**_DEFAULTS, "token": {}, **{key: value for key, value in entry.items() if value is not None}}
    _need(found["auth"] in list(AuthScheme), f"auth is none of {', '.join(AuthScheme)}")
    _need(found["token_in"] in list(TokenPlace), f"token_in is none of {', '.join(TokenPlace)}")
    _need(_is_text(found["kernel_name"]), "kernel_name is no printable text")
    roots = found["local_root"], found["remote_root"]
    both = all(map(_is_absolute, roots))
    fits = both or roots == (None, None)
    _need(fits, "local_root and remote_root: absolute paths, both of them or neither")
    most, patience_s = found["max_message_bytes"], found["gone_after_s"]
    _need(type(most) is int and 0 < most < 1 << 53, "max_message_bytes is no whole number above 0")
    _need(type(patience_s) in (int, float) and 0 <= patience_s < 1 << 53, "gone_after_s is no number from 0")
    plain = {"kernel_name", "local_root", "remote_root", "max_message_bytes", "gone_after_s"}
    return Runtime(
        name=name,
        url=_url(found.get("url")),
        token=_token_source(found["token"]),
        auth=AuthScheme(found["auth"]),
        token_in=TokenPlace(found["token_in"]),
        headers=_headers(found["headers"]),
        **{key: found[key] for key in plain},
    )


def _need(condition: object, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _told(error: Exception) -> str:
    return f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_absolute(value: Any) -> bool:
    systems = PurePosixPath, PureWindowsPath  # the remote machine may have another one
    return _is_text(value) and any(system(value).is_absolute() for system in systems)


def _url(value: Any) -> str:
    text = value.rstrip("/") if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    _need(usable and _TOKEN.fullmatch(text), "url is no address of the form https://HOST:PORT/PATH")
    is_plain = not set(text) & set("?#@")
    _need(is_plain, "url has a query, a fragment or a password; a secret belongs into token")
    return text


def _headers(value: Any) -> dict[str, str]:
    _need(isinstance(value, Mapping), "headers is no JSON object")
    for name, text in value.items():
        _need(_HEADER.fullmatch(name), "headers has a name that no header can have")
        _need(_is_text(text) and text.isascii(), f"headers: {name} is no printable ASCII text")
        _need(name.lower() not in _SECRET_HEADERS, f"headers: {name} is a secret, which belongs into token")
    return dict(value)


def _token_source(value: Any) -> TokenSource:
    _need(isinstance(value, dict), "token is no JSON object")
    ways = {way: value[way] for way in ("value", "env", "file") if value.get(way) is not None}
    _need(len(ways) <= 1, "token has more than one of value, env and file")
    for way, text in ways.items():
        _need(_is_text(text) and text, f"token.{way} is no printable text, or empty")
    _need(_TOKEN.fullmatch(ways.get("value", "-")), "token.value has a space or a letter beyond ASCII in it")
    _need("=" not in ways.get("env", ""), "token.env is no name of an environment variable")
    file, key = ways.get("file", "~"), value.get("key") or []
    _need(file.startswith("~") or _is_absolute(file), "token.file is no absolute path")
    _need(isinstance(key, list) and all(map(_is_text, key)), "token.key is no list of names")
    _need("file" in ways or not key, "token has a key without a file")
    return TokenSource(**ways, key=tuple(key))


def _parse(document: Any, *, path: Path) -> Registry:
    """The registry that a JSON document means. ValueError: it means none."""
    _need(isinstance(document, dict), "it is no JSON object")
    version, current = document.get("version"), document.get("current")
    _need(type(version) is int, "it has no version, a number")
    _need(version == _VERSION, f"its version is {version}, and this release reads version {_VERSION}")
    _need(current is None or _is_text(current), "current is no printable text")
    _need(isinstance(document.get("runtimes"), dict), "it has no runtimes, a JSON object")
    found = []
    for name, entry in document["runtimes"].items():
        try:
            found.append(_parse_entry(name, entry))
        except ValueError as error:
            raise ValueError(f"runtime {name[:64]!r}: {error}") from None
    return Registry(tuple(found), current, path)


def _read(path: Path) -> tuple[dict[str, Any], Registry]:
    """The document, with everything that is in it, and what it means. RegistryError: see `load`."""
    try:
        data = _read_private(path)
        if data is None:
            return {"version": _VERSION, "current": None, "runtimes": {}}, Registry(path=path)
        document = json.loads(data, object_pairs_hook=_distinct, parse_constant=_finite, parse_float=_finite)
        return document, _parse(document, path=path)
    except (OSError, RecursionError, ValueError) as error:
        raise RegistryError(
            f"the session registry {path} was not used: {_told(error)}. It was left as it is: put it "
            f"right, or move it away and type `{COMMAND} connect URL`"
        ) from None  # what was caught may hold the file's content, tokens and all


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _need(len(dict(pairs)) == len(pairs), "a name is in it twice")
    return dict(pairs)


def _finite(text: str) -> float:
    _need(math.isfinite(float(text)), "a number in it is too large, or none")
    return float(text)


# --- the file --------------------------------------------------------------------------------------------


def _read_private(path: Path) -> bytes | None:
    """What is in a file of ours alone; None if there is none. OSError, ValueError: it is not such a file."""
    _need(not path.is_symlink(), "it is a symbolic link, which may lead anywhere")
    # Never follow a link, nor wait for a pipe's end.
    never = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | never)) as file:
            facts = os.fstat(file.fileno())
            _need(stat.S_ISREG(facts.st_mode), "it is no regular file")
            if sys.platform != "win32":
                _need(facts.st_uid == os.geteuid(), "it belongs to another user")
                mode = stat.S_IMODE(facts.st_mode)
                end = f"`chmod 600 {shlex.quote(str(path))}` ends that"
                _need(not mode & 0o077, f"others have access to it (mode {mode:03o}); {end}")
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    _need(len(data) <= _MOST_BYTES, f"it is longer than {_MOST_BYTES:,} bytes")
    return data


def _change(edit: Callable[[dict[str, Any]], bool]) -> bool:
    """Let `edit` change the document; write it if it says that it did. After an error it is as it was."""
    path = registry_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            document, _ = _read(path)
            changed = edit(document)
            if changed:
                _replace(path, json.dumps(document, indent=2).encode() + b"\n")
            return changed
    except OSError as error:
        raise RegistryError(f"the session registry {path} cannot be written ({error.strerror})") from error


def _replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of another, at once; only its owner may read it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)  # with mode 0600
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only one, of all processes, until the block ends. The operating system lets go of what dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise RegistryError(f"another process has held {path} for {_LOCK_TIMEOUT_S:g} s: end it")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    with suppress(BlockingIOError, PermissionError):  # the second is what Windows says
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
