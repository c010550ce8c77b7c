"""Private servers (`colab_magics/tunnel/private_server.py`), run as the program that they are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import psutil

from colab_kernel.runtime import Runtime
from colab_magics.tunnel.server_facts import PROGRAM, parse_facts


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """One that runs. `facts`: what `open` printed; `folder`: its own."""

    facts: Mapping[str, Any]
    folder: Path

    @property
    def pid(self) -> int:
        return int(self.facts["pid"])

    @property
    def port(self) -> int:
        return int(self.facts["port"])

    @property
    def token(self) -> str:
        return str(self.facts["token"])

    @property
    def runtime(self) -> Runtime:
        return parse_facts(json.dumps(self.facts), where="here").runtime("private")

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        return False

    def ask(
        self, method: str, path: str, *, token: str | None = None, body: object = None, **headers: str
    ) -> tuple[int, str, Mapping[str, str]]:
        """One request: the status, the body, and the headers of the answer. Nobody is logged in by itself.

        Args:
            headers: `Host` and the like; an underscore stands for a hyphen.
        """
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"token {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=given, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        try:
            response = opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return response.status, response.read().decode(errors="replace"), response.headers

    def api(self, method: str, path: str, *, body: object = None) -> Any:
        """One request of its owner, which must succeed."""
        status, said, _ = self.ask(method, path, token=self.token, body=body)
        assert status < 300, (status, said, self.log)
        return json.loads(said) if said else None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object) -> None:
        return None


def say(
    python: Path,
    *words: str,
    state: Path,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> dict[str, Any]:
    """Run the program once; the one JSON object that it prints.

    Args:
        state: the folder below which its files are.
        token: its standard input.
    """
    done = subprocess.run(
        [str(python), str(PROGRAM), *words],
        # ipykernel does not take its processes' output where it believes to be in a test.
        env={**_environment(), "XDG_STATE_HOME": str(state), **(env or {})},
        input="" if token is None else f"{token}\n",
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=cwd,
    )
    assert done.stderr == ""
    [line] = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert done.returncode == (1 if "error" in found else 0)
    return found


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@contextlib.contextmanager
def private_server(
    python: Path,
    *options: str,
    state: Path,
    name: str = "test",
    token: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[PrivateServer]:
    """Open one; it is closed afterwards, whatever becomes of it."""
    try:
        facts = say(python, "open", "--name", name, *options, state=state, token=token, env=env)
        assert "error" not in facts, facts
        yield PrivateServer(facts, state / "colab-magics/servers" / name)
    finally:
        say(python, "close", "--name", name, state=state)


def wait_for_its_end(server: PrivateServer) -> None:
    harness.wait_until(lambda: not server.is_running, what=f"the end of the server:\n{server.log}")
