"""The entry of `.vscode/launch.json` that F5 attaches by. What else is in the file stays as it is written.

Source: https://code.visualstudio.com/docs/python/debugging#_debugging-by-attaching-over-a-network-connection
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from colab_magics.errors import UsageError
from colab_magics.tunnel import jsonc

_NEW = """{
    // https://code.visualstudio.com/docs/python/debugging
    "version": "0.2.0",
    "configurations": []
}
"""
HERE = "${workspaceFolder}"
FILE = ".vscode/launch.json"


def entry(name: str, *, port: int, remote_root: str | None = None) -> dict[str, Any]:
    """An entry that attaches to a debugger behind a port of this machine.

    Args:
        remote_root: the project's folder there; None if what listens knows both folders.
    """
    wanted: dict[str, Any] = {
        "name": name,
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": port},
    }
    if remote_root is not None:
        wanted["pathMappings"] = [{"localRoot": HERE, "remoteRoot": remote_root}]
    return wanted


def write_entry(project: Path, wanted: dict[str, Any]) -> Path:
    """Have the entry in the project's launch.json, in place of what it set before; the file's path.

    Raises:
        UsageError: the file cannot be understood or written; it is as it was.
    """
    path = project / FILE
    try:
        text = path.read_bytes().decode() if path.exists() else _NEW
        new = with_entry(text, wanted)
        if not path.exists() or new != text:
            path.parent.mkdir(exist_ok=True)
            _replace(path.resolve(), new.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not what VS Code writes there, and was left as it is: {error}") from None
    return path


def with_entry(text: str, wanted: dict[str, Any]) -> str:
    """The text of a launch.json with the entry; one of its name keeps what else it has.

    ValueError: it is none.
    """
    document = jsonc.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("configurations", []), list):
        raise ValueError("it has no list of configurations")
    if "configurations" not in document:
        return jsonc.put(text, (), "configurations", [wanted])
    for at, each in enumerate(document["configurations"]):
        if isinstance(each, dict) and each.get("name") == wanted["name"]:
            return jsonc.update(text, ("configurations", at), wanted)
    return jsonc.put(text, ("configurations",), None, wanted)


def known_port(project: Path, name: str) -> int:
    """The port that the entry of that name has; 0 if there is none."""
    try:
        document = jsonc.loads((project / FILE).read_text(encoding="utf-8"))
        ports = [each["connect"]["port"] for each in document["configurations"] if each["name"] == name]
        return int(ports[0])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".launch-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
