"""The session registry: which runtimes there are, which of them is current, and how their tokens are read.

It holds tokens, so it is a file of its owner's alone, and nothing that is raised or shown here has one in it.
What its JSON means: docs/reference/runtimes.md.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_runtime_dir

from colab_kernel import private_files, token_files
from colab_kernel.errors import RegistryError
from colab_kernel.registry_format import TOKEN, is_text, need, parse_entry, to_entry
from colab_kernel.runtime import Runtime, TokenSource

COMMAND = "python -m colab_kernel"
_VERSION = 1
_MOST_BYTES = 1024 * 1024  # more is no registry


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
    entry = to_entry(checked(runtime))

    def edit(document: dict[str, Any]) -> bool:
        document["runtimes"][runtime.name] = entry
        if make_current:
            document["current"] = runtime.name
        return True

    _change(edit)


def checked(runtime: Runtime) -> Runtime:
    """The runtime as it will be read when it has been saved. RegistryError: it could not be."""
    try:
        return parse_entry(runtime.name, to_entry(runtime))
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
    """Read a token now; empty if the runtime asks for none. One near its end is renewed first, which blocks.

    RegistryError: it is not where it should be, or what is there is no token. Nothing of it is shown.
    """
    found, where = source.value, "in the registry"
    if token_files.is_due(source, now=time.time()):
        _renew(source, needed=lambda: token_files.is_due(source, now=time.time()))
    try:
        if source.env is not None:
            where = f"in the environment variable {source.env}"
            found = os.environ.get(source.env)
            need(found is not None, "the variable is not set in this process, nor where it was started from")
        elif source.file is not None:
            where = f"in {source.file}"
            found = token_files.text_in(Path(source.file).expanduser(), key=source.key)
        token = "" if found is None else found.strip()
        need(token or source == TokenSource(), "it is empty")
        need(not token or TOKEN.fullmatch(token), "a space, a line's end or a letter beyond ASCII is in it")
    except (OSError, RuntimeError, ValueError) as error:
        advice = f"put one there, or type `{COMMAND} connect URL --token stdin`"
        raise RegistryError(f"there is no token to be read {where}: {_told(error)}; {advice}") from None
    return token


def renew_tokens(runtime: Runtime) -> None:
    """After a runtime refused: have its tokens' sources write others, if they can. Blocks until they have."""
    for source in (runtime.token, runtime.proxy_token):
        _renew(source, needed=lambda: True)


def _renew(source: TokenSource, *, needed: Callable[[], bool]) -> None:
    token_files.renew(source, folder=registry_path().parent, needed=needed)


def _parse(document: Any, *, path: Path) -> Registry:
    """The registry that a JSON document means. ValueError: it means none."""
    need(isinstance(document, dict), "it is no JSON object")
    version, current = document.get("version"), document.get("current")
    need(type(version) is int, "it has no version, a number")
    need(version == _VERSION, f"its version is {version}, and this release reads version {_VERSION}")
    need(current is None or is_text(current), "current is no printable text")
    need(isinstance(document.get("runtimes"), dict), "it has no runtimes, a JSON object")
    found = []
    for name, entry in document["runtimes"].items():
        try:
            found.append(parse_entry(name, entry))
        except ValueError as error:
            raise ValueError(f"runtime {name[:64]!r}: {error}") from None
    return Registry(tuple(found), current, path)


def _read(path: Path) -> tuple[dict[str, Any], Registry]:
    """The document, with everything that is in it, and what it means. RegistryError: see `load`."""
    try:
        data = private_files.read(path, most_bytes=_MOST_BYTES)
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
    need(len(dict(pairs)) == len(pairs), "a name is in it twice")
    return dict(pairs)


def _finite(text: str) -> float:
    need(math.isfinite(float(text)), "a number in it is too large, or none")
    return float(text)


def _told(error: Exception) -> str:
    return f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _change(edit: Callable[[dict[str, Any]], bool]) -> bool:
    """Let `edit` change the document; write it if it says that it did. After an error it is as it was."""
    path = registry_path()
    try:
        private_files.make_folder_of(path)
        with private_files.locked(path.with_suffix(".lock")):
            document, _ = _read(path)
            changed = edit(document)
            if changed:
                private_files.replace(path, json.dumps(document, indent=2).encode() + b"\n")
            return changed
    except TimeoutError as error:
        raise RegistryError(str(error)) from error
    except OSError as error:
        raise RegistryError(f"the session registry {path} cannot be written ({error.strerror})") from error
