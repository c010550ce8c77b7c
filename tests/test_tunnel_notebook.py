"""notebooks/colab_vscode_tunnel.ipynb, run as on Colab: its versions and kernel, `google.colab` faked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colab_pins
import harness
import kernel_environments
import nbclient
import pytest
from kernel_client import Frontend
from proxy_process import proxy_process
from test_notebooks import fill_form, read, text_of

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import UsageError
from colab_magics.tunnel.in_notebook import trust_relay
from colab_magics.tunnel.private_server import started

pytestmark = [pytest.mark.notebook, pytest.mark.colab_pins, pytest.mark.timeout(1800)]

TOKEN = "t0ken-of-the-persons-own-choosing-4711"


class Colab:
    """A machine with Colab's pins, and one notebook on it that runs in a thread."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.unassigned = folder / "unassigned"
        self.notebook: Any = None
        self.failed: BaseException | None = None
        self._client: nbclient.NotebookClient
        self._thread: threading.Thread

    def run(self, **form: object) -> None:
        """Fill in the form and run all; it goes on until the last cell has ended."""
        self.notebook = read("colab_vscode_tunnel.ipynb")
        fill_form(self.notebook, **form)
        resources = {"metadata": {"path": str(self.folder)}}
        self._client = nbclient.NotebookClient(
            self.notebook, timeout=900, kernel_name="as-on-colab", resources=resources
        )
        self._thread = threading.Thread(target=self._execute, name="run all")
        self._thread.start()

    def _execute(self) -> None:
        try:
            asyncio.run(self._client.async_execute())
        except BaseException as error:
            self.failed = error

    def wait_for_the_server(self) -> dict[str, Any]:
        told = self.folder / "state/colab-magics/servers/daemon-notebook/server.json"

        def look() -> bool:
            assert self.failed is None, self.failed
            return "Stop the cell to end it" in text_of(self.notebook)

        harness.wait_until(look, what="the session to be offered", timeout_s=600)
        facts: dict[str, Any] = json.loads(told.read_text())
        return facts

    def press_the_stop_button(self) -> None:
        self._client.km.provisioner.process.send_signal(signal.SIGINT)

    def wait_for_its_end(self) -> str:
        """What all cells have shown."""
        self._thread.join(600)
        assert not self._thread.is_alive()
        shown = json.dumps(self.notebook)
        assert TOKEN not in shown
        return text_of(self.notebook)


@pytest.fixture
def colab(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Colab]:
    """Nothing of ours is installed there."""
    if colab_pins.interpreter() is None:
        harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
    machine = tmp_path_factory.mktemp("colab") / "machine"
    python = colab_pins.copy_environment(colab_pins.pinned_environment(), machine)
    one = Colab(tmp_path, python)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "specs"))
    kernel_environments.write_kernelspec(
        tmp_path / "specs",
        name="as-on-colab",
        # Plainly, so that it is Colab's kernel. `pip` in a cell is this machine's.
        argv=[str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        env={
            "FAKE_SECRET_COLAB_TUNNEL_TOKEN": TOKEN,
            "FAKE_UNASSIGNED": str(one.unassigned),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PATH": f"{machine / 'bin'}:{os.environ['PATH']}",
        },
    )
    try:
        yield one
    finally:
        with contextlib.suppress(Exception):
            one._client.km.provisioner.process.kill()
        harness.remove_folder(machine)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_run_all_open_it_from_the_other_side_and_stop(colab: Colab, built_wheel: Path) -> None:
    before = colab_pins.installed(colab.python)
    port = free_port()
    colab.run(EXPOSE="loopback", PORT=port, PACKAGE=str(built_wheel))
    server = colab.wait_for_the_server()
    assert server["port"] == port
    # On the other side: the line that was printed, and the token typed where it asks. No terminal asks here.
    asked = f"http://127.0.0.1:{port}"
    assert f"%colab_tunnel {asked}\n" in text_of(colab.notebook)
    sessions.save_runtime(Runtime(name="vm", url=asked, token=TokenSource(value=TOKEN)))
    opened = subprocess.run(
        [sys.executable, "-m", "colab_magics.cli", "tunnel", asked],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert opened.returncode == 0, opened.stderr
    with (
        proxy_process(colab.folder, colab.folder / "runtime", arguments=["--runtime", "vm"]) as proxy,
        Frontend(proxy.connection) as frontend,
    ):
        code = "import sys; print(type(get_ipython().kernel).__module__, sys.executable)"
        assert frontend.run(code).stdout == f"ipykernel.ipkernel {colab.python}\n"
    colab.press_the_stop_button()
    shown = colab.wait_for_its_end()
    assert colab.failed is None
    assert shown.index("Google's terms") < shown.index("NO GPU") < shown.index("%colab_tunnel")
    assert shown.rstrip().endswith("Stopped.")
    harness.wait_until(lambda: not started(server["pid"]), what="the server's end")
    assert not colab.unassigned.exists()
    after = colab_pins.installed(colab.python)
    assert before.items() <= after.items()


def test_unused_it_ends_and_gives_the_machine_back(colab: Colab, built_wheel: Path) -> None:
    colab.run(EXPOSE="loopback", PORT=free_port(), PACKAGE=str(built_wheel), IDLE_STOP_MINUTES=0.1)
    shown = colab.wait_for_its_end()
    assert colab.failed is None, colab.failed
    assert "It ended: nobody had used it for 0.1 minutes." in shown
    assert colab.unassigned.exists()


def test_a_tunnel_of_the_persons_own_is_told_with_its_address(colab: Colab, built_wheel: Path) -> None:
    port = free_port()
    colab.run(EXPOSE="url:https://gpu.example.org", PORT=port, PACKAGE=str(built_wheel))
    colab.wait_for_the_server()
    colab.press_the_stop_button()
    assert "    %colab_tunnel https://gpu.example.org\n" in colab.wait_for_its_end()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"EXPOSE": "what"}, "--expose is one of loopback, url:https://HOST"),
        ({"EXPOSE": ""}, "--expose is one of loopback"),
        ({"PACKAGE": ""}, "say where to install colab-magics from"),
    ],
)
def test_what_is_missing_is_said(
    colab: Colab, built_wheel: Path, form: dict[str, str], sentence: str
) -> None:
    colab.run(**{"EXPOSE": "loopback", "PACKAGE": str(built_wheel), **form})
    colab.wait_for_its_end()
    assert sentence in str(colab.failed)


def test_a_relays_keys_are_the_persons_alone(tmp_path: Path) -> None:
    folder = tmp_path / "ssh"
    for _ in range(2):
        trust_relay(key="PRIVATE", host_key="relay.example.org ssh-ed25519 AAAA", folder=folder)
    assert (folder / "id_ed25519").read_text() == "PRIVATE\n"
    assert (folder / "known_hosts").read_text() == "relay.example.org ssh-ed25519 AAAA\n"
    assert stat.S_IMODE((folder / "id_ed25519").stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="another key already"):
        trust_relay(key="ANOTHER", host_key=None, folder=folder)
