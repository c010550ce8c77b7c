"""An environment with a job's own requirements on top of the machine's packages, which it never changes.

A virtual environment whose own packages come first and the machine's after them. It is kept under the digest
of the requirements and the interpreter, so the same requirements are installed once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from colab_magics.daemon.endings import End
from colab_magics.daemon.log import Log
from colab_magics.daemon.processes import Watch, start, supervise

_COMPLETE = ".complete"
_LOCK_POLL_S = 0.02
_SAID_LINES = 5
# A requirement that names a file has another meaning in another checkout.
_LOCAL = re.compile(
    r"^\s*(-r|-c|-e|--requirement|--constraint|--editable|\.|/|file:)|@\s*file:|^[^#]*[/\\]", re.M
)

_MAKE = """
import json, os, site, subprocess, sys, sysconfig, venv
target = sys.argv[1]
venv.EnvBuilder(with_pip=False, symlinks=True).create(target)
folders = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
own = sysconfig.get_path("purelib", "venv", {"base": target, "platbase": target})
lines = [f"import site; site.addsitedir({folder!r})" for folder in folders if os.path.isdir(folder)]
with open(os.path.join(own, "colab_overlay.pth"), "w", encoding="utf-8") as file:
    file.write("\\n".join(lines) + "\\n")
pip = os.path.join(target, "bin", "pip")
with open(pip, "w") as file:
    file.write('#!/bin/sh\\nexec "$(dirname "$0")/python" -m pip "$@"\\n')
os.chmod(pip, 0o755)
"""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Its interpreter; else why there is none (`problem`), or why making it was ended (`end`)."""

    python: Path | None
    problem: str = ""
    end: End | None = None


class Installer:
    """Makes overlay environments; what pip says goes to the job's log, its time is the job's time."""

    def __init__(
        self,
        envs_dir: Path,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        token: str,
        log: Log,
        watch: Watch,
    ) -> None:
        self._envs_dir, self._cwd, self._environment = envs_dir, cwd, environment
        self._token, self._log, self._watch = token, log, watch

    def install(self, requirements: bytes, *, python: Path, code: str) -> Overlay:
        """The environment for these requirements, made now or before.

        Args:
            requirements: the bytes of the requirements file; paths in it are relative to `cwd`.
            python: the interpreter whose packages lie below.
            code: the commit that `cwd` is at.

        Raises:
            OSError: the disk refuses.
        """
        folder = self._envs_dir / _key(requirements, python=python, code=code)
        self._envs_dir.mkdir(parents=True, exist_ok=True)
        own = folder / "bin" / "python"
        with _locked(folder.with_suffix(".lock"), watch=self._watch) as locked:
            if not locked:
                return Overlay(None, end=End(0, self._watch.ending()))
            if (folder / _COMPLETE).is_file():
                return Overlay(own)
            shutil.rmtree(folder, ignore_errors=True)
            end = self._run([python, "-c", _MAKE, folder])
            if end.exit_code or end.ending:
                return self._failed(end, "the environment for --requirements could not be made")
            listed = folder / "requirements.txt"
            listed.write_bytes(requirements)
            options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
            end = self._run([own, "-m", "pip", "install", *options, "-r", listed])
            if end.exit_code or end.ending:
                return self._failed(end, "pip could not install --requirements")
            (folder / _COMPLETE).touch()
            return Overlay(own)

    def _run(self, argv: list[str | os.PathLike[str]]) -> End:
        # Inside a virtual environment pip must not be told of another one, or of a target elsewhere.
        outside = (
            "PIP_USER",
            "PIP_TARGET",
            "PIP_PREFIX",
            "PYTHONHOME",
            "VIRTUAL_ENV",
            "PIP_REQUIRE_VIRTUALENV",
        )
        environment = {name: value for name, value in self._environment.items() if name not in outside}
        child = start(
            argv, cwd=self._cwd, environment=environment, output=self._log.fileno(), token=self._token
        )
        try:
            return supervise(child, watch=self._watch)
        finally:
            child.end()
            child.close()

    def _failed(self, end: End, what: str) -> Overlay:
        if end.ending is not None:
            return Overlay(None, end=end)
        said = self._log.end(4000).decode("utf-8", "replace").strip().splitlines()
        errors = [line for line in said if line.startswith("ERROR:")] or said
        return Overlay(None, problem=f"{what}: {' '.join(line.strip() for line in errors[-_SAID_LINES:])}")


def _key(requirements: bytes, *, python: Path, code: str) -> str:
    """The name of the environment: the same for the same requirements on the same interpreter."""
    target = Path(os.path.realpath(python))
    told = [os.fspath(python), os.fspath(target), str(_mtime_ns(target))]
    if _LOCAL.search(requirements.decode("utf-8", "replace")):
        told.append(code)
    digest = hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape") + b"\0" + requirements)
    return digest.hexdigest()[:16]


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@contextlib.contextmanager
def _locked(path: Path, *, watch: Watch) -> Iterator[bool]:
    """Hold a file's lock; false where the wait ended because the job's time did."""
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if watch.ending() is not None:
                    yield False
                    return
                watch.pause(_LOCK_POLL_S)
        yield True
