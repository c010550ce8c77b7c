"""Which sessions are open: a file beside the registry of runtimes, its owner's alone, without a secret.

It is `colab-tunnels.json` in Jupyter's runtime directory: `{"version": 1, "sessions": {NAME: {"target": …,
"kind": …, "held": {…}}}}`. A file that does not parse is an error, never an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from colab_kernel import private_files, sessions
from colab_magics.errors import TunnelError
from colab_magics.tunnel.plan import Reached

_MOST_BYTES = 1024 * 1024
_VERSION = 1


def book_path() -> Path:
    """Where it is."""
    return sessions.registry_path().with_name("colab-tunnels.json")


def load() -> dict[str, Reached]:
    """The open sessions by name, in the order in which they were opened.

    Raises:
        TunnelError: the file cannot be trusted or read; it was left as it is.
    """
    path = book_path()
    try:
        data = private_files.read(path, most_bytes=_MOST_BYTES)
        if data is None:
            return {}
        document = json.loads(data)
        if document["version"] != _VERSION:
            raise ValueError(f"its version is {document['version']}, and this release reads {_VERSION}")
        return {
            name: Reached(name=name, target=entry["target"], kind=entry["kind"], held=dict(entry["held"]))
            for name, entry in document["sessions"].items()
        }
    except OSError as error:
        raise TunnelError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TunnelError(
            f"the list of open sessions, {path}, was not used: {error}. It was left as it is: put it "
            "right, or move it away"
        ) from error


def remember(reached: Reached) -> None:
    """Put a session in, in place of one of its name. TunnelError: as `load`, or it cannot be written."""
    _change(lambda known: known.__setitem__(reached.name, reached))


def forget(name: str) -> None:
    """Take a session out, if it is there. TunnelError: as `remember`."""
    _change(lambda known: known.pop(name, None))


def _change(edit: Callable[[dict[str, Reached]], Any]) -> None:
    path = book_path()
    try:
        private_files.make_folder_of(path)
        with private_files.locked(path.with_suffix(".lock")):
            known = load()
            edit(known)
            entries = {
                one.name: {"target": one.target, "kind": one.kind, "held": dict(one.held)}
                for one in known.values()
            }
            document = {"version": _VERSION, "sessions": entries}
            private_files.replace(path, json.dumps(document, indent=2).encode() + b"\n")
    except TimeoutError as error:
        raise TunnelError(str(error)) from error
    except OSError as error:
        raise TunnelError(f"{path} cannot be written ({error.strerror})") from error
