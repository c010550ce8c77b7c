"""notebooks/colab_vscode_tunnel.ipynb on Colab's versions, `google.colab` faked, with a real relay."""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import colab_pins
import harness
import kernel_environments
import nbclient
import psutil
import pytest
import tunnel_stage
from kernel_client import Frontend
from proxy_process import proxy_process
from ssh_server import SshMachine, free_port, reaches
from test_notebooks import fill_form, read, text_of

from colab_magics.errors import ColabError, TunnelError
from colab_magics.tunnel.in_notebook import Wish, offer_in_notebook

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(1800)]

TOKEN = "a-token-of-the-tests-9f2c81d7b3"
PATIENCE_S = 120.0
NAME = "daemon-notebook"
NOTEBOOK = "colab_vscode_tunnel.ipynb"


@dataclass(frozen=True)
class Machine:
    """Colab's, as far as the notebook sees it: its kernel, its secrets, what it was asked to give back."""

    folder: Path
    kernel_name: str

    @property
    def was_given_back(self) -> bool:
        return (self.folder / "unassigned").exists()

    def keep_secrets(self, **secrets: str) -> None:
        (self.folder / "secrets.json").write_text(json.dumps(secrets))

    @contextmanager
    def run_all(self, notebook: Any) -> Iterator[Run]:
        """Run all cells; if the last one still runs at the end of the block, its stop button is pressed."""
        resources = {"metadata": {"path": str(self.folder / "content")}}
        client = nbclient.NotebookClient(
            notebook, timeout=600, kernel_name=self.kernel_name, resources=resources
        )
        with ThreadPoolExecutor(1) as pool:
            run = Run(notebook, client, pool.submit(lambda: asyncio.run(client.async_execute())))
            try:
                yield run
            finally:
                if not run.done.done():
                    run.press_the_stop_button()
                run.done.result(PATIENCE_S)


@dataclass(frozen=True)
class Run:
    """A notebook whose cells are being run."""

    notebook: Any
    client: nbclient.NotebookClient
    done: Future[Any]

    @property
    def text(self) -> str:
        return text_of(self.notebook)

    def press_the_stop_button(self) -> None:
        self.client.km.provisioner.process.send_signal(signal.SIGINT)

    def line_to_paste(self) -> str:
        """What stands behind `%colab_tunnel` in the line that is printed for the other machine."""

        def found() -> str | None:
            if self.done.done():
                self.done.result()
            lines = [line.strip() for line in self.text.splitlines()]
            return next((line for line in lines if line.startswith("%colab_tunnel ")), None)

        line = harness.wait_until(found, what="the line to paste", timeout_s=PATIENCE_S)
        assert line is not None
        return line.removeprefix("%colab_tunnel ")


@pytest.fixture
def bare_python(tmp_path: Path) -> Iterator[Path]:
    """A Python with Colab's pins and nothing of ours."""
    if colab_pins.interpreter() is None:
        harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
    folder = tmp_path / "python"
    yield colab_pins.copy_environment(colab_pins.pinned_environment(), folder)
    harness.remove_folder(folder)


@pytest.fixture
def machine(bare_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One where every kernel that is started plainly is Colab's, with its extension loaded."""
    folder = tmp_path / "machine"
    (folder / "content").mkdir(parents=True)
    kernel_environments.write_kernelspec(
        folder,
        name="colabs",
        argv=[str(bare_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        env={
            "FAKE_COLAB_SECRETS": str(folder / "secrets.json"),
            "FAKE_COLAB_UNASSIGNED": str(folder / "unassigned"),
            "XDG_STATE_HOME": str(folder / "state"),
        },
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    (folder / "secrets.json").write_text("{}")
    return Machine(folder, "colabs")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[SshMachine]:
    with SshMachine(tmp_path / "relay") as one:
        yield one


def colab(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return tunnel_stage.colab("tunnel", *words, env=env, timeout_s=PATIENCE_S)


def server_of(machine: Machine) -> psutil.Process:
    facts = json.loads((machine.folder / "state/colab-magics/servers" / NAME / "server.json").read_text())
    return psutil.Process(facts["pid"])


@pytest.mark.colab_pins
@pytest.mark.sshd
def test_by_a_relay_a_person_elsewhere_is_let_in_until_the_cell_is_stopped(
    machine: Machine, relay: SshMachine, tmp_path: Path, built_wheel: Path
) -> None:
    harness.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "far"])
    only_to_listen = 'restrict,port-forwarding,permitlisten="127.0.0.1:*",permitopen="127.0.0.1:1"'
    with relay.authorized_keys.open("a") as allowed:
        allowed.write(f"{only_to_listen} {(tmp_path / 'far.pub').read_text()}")
    machine.keep_secrets(COLAB_TUNNEL_TOKEN=TOKEN, COLAB_RELAY_KEY=(tmp_path / "far").read_text())
    notebook = read(NOTEBOOK)
    relay_at = f"{getpass.getuser()}@127.0.0.1:{relay.port}"
    host_key = relay.host_key
    fill_form(notebook, RELAY=relay_at, RELAY_HOST_KEY=host_key, PACKAGE=str(built_wheel))

    with machine.run_all(notebook) as run:
        target = run.line_to_paste()
        assert target.startswith(f"ssh://{relay_at}/")
        server = server_of(machine)
        mine = {"COLAB_MAGICS_SSH_CONFIG": str(relay.config)}
        refused = colab(target, "--name", "far", **mine)
        assert refused.returncode == 1
        assert "token" in refused.stderr

        opened = colab(target, "--name", "far", COLAB_RUNTIME_TOKEN=TOKEN, **mine)
        assert opened.returncode == 0, opened.stderr
        try:
            code = (
                "import os; kernel = get_ipython().kernel\n"
                "print(type(kernel).__name__, os.getcwd(), 'COLAB_TUNNEL_TOKEN' in os.environ)"
            )
            with (
                proxy_process(tmp_path, tmp_path / "runtime", arguments=["--runtime", "far"]) as proxy,
                Frontend(proxy.connection, patience_s=PATIENCE_S) as frontend,
            ):
                content = machine.folder / "content"
                assert frontend.run(code).stdout == f"IPythonKernel {content} False\n"
            again = colab(target, **mine)  # its token is known from now on
            assert again.returncode == 0, again.stderr
        finally:
            assert colab("close", "far").returncode == 0

    assert run.text.index("Google's terms never allow") < run.text.index("%colab_tunnel")
    assert "Stopped. The session is closed; the machine stays." in run.text
    assert not machine.was_given_back
    harness.wait_until(lambda: not server.is_running(), what="the server's end")
    assert not reaches(int(target.rpartition("/")[2]))
    for shown in (json.dumps(notebook), opened.stdout, opened.stderr, refused.stderr):
        assert TOKEN not in shown
        assert "PRIVATE KEY" not in shown


@pytest.mark.colab_pins
def test_by_an_address_nobody_comes_and_the_machine_is_given_back(
    machine: Machine, bare_python: Path, built_wheel: Path
) -> None:
    before = colab_pins.installed(bare_python)
    machine.keep_secrets(COLAB_TUNNEL_TOKEN=TOKEN)
    port = free_port()
    notebook = read(NOTEBOOK)
    fill_form(
        notebook,
        ADDRESS=f"http://127.0.0.1:{port}",
        PORT=port,
        IDLE_STOP_MINUTES=0.05,
        PACKAGE=str(built_wheel),
    )

    with machine.run_all(notebook) as run:
        assert run.line_to_paste() == f"http://127.0.0.1:{port}"
        run.done.result(PATIENCE_S)

    assert "Nobody used the session for 3 s: it is closed." in run.text
    assert machine.was_given_back
    assert not reaches(port)
    assert TOKEN not in json.dumps(notebook)
    assert before.items() <= colab_pins.installed(bare_python).items()


@pytest.mark.colab_pins
def test_where_the_package_is_not_installed_it_says_what_to_fill_in(machine: Machine) -> None:
    with (
        pytest.raises(nbclient.exceptions.CellExecutionError) as failed,
        machine.run_all(read(NOTEBOOK)) as run,
    ):
        run.done.result(PATIENCE_S)
    assert "say where to install colab-magics from: fill in PACKAGE" in str(failed.value)


# --- what is missing, or is none ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"token": None, "relay": "relay"}, "there is no token: put a random one under COLAB_TUNNEL_TOKEN"),
        ({}, "say how this machine is reached: fill in RELAY"),
        ({"relay": "relay", "address": "https://gpu.example.org"}, "say how this machine is reached"),
        ({"relay": "relay/22"}, "RELAY has the form USER@HOST"),
        ({"relay": "ada:secret@relay"}, "an ssh target has the form"),
        ({"relay": "relay", "relay_host_key": "what"}, "RELAY_HOST_KEY is what"),
        ({"address": "https://gpu.example.org?token=abc", "port": 8899}, "without a token in it"),
        ({"address": "gpu.example.org", "port": 8899}, "ADDRESS is the https:// address"),
        ({"address": "http://gpu.example.org", "port": 8899}, "ADDRESS begins with https://"),
        ({"address": "https://gpu.example.org"}, "ADDRESS needs PORT"),
        (
            {"address": "https://gpu.example.org", "port": 8899, "token": "short"},
            "the token could be guessed",
        ),
    ],
)
def test_what_is_missing_is_one_sentence_and_starts_nothing(
    wish: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(ColabError) as refused:
        offer_in_notebook(Wish(**{"token": TOKEN, **wish}))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.glob("**/server.json")) == []
    if wish.get("token"):
        assert wish["token"] not in str(refused.value)


@pytest.mark.sshd
def test_a_relay_with_another_host_key_is_not_used(
    relay: SshMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    relay_at = f"{getpass.getuser()}@127.0.0.1:{relay.port}"
    other = relay.key.with_suffix(".pub").read_text()
    wish = Wish(token=TOKEN, relay=relay_at, relay_host_key=other, relay_key=relay.key.read_text())
    with pytest.raises(TunnelError, match="could not be used"):
        offer_in_notebook(wish)
    assert "%colab_tunnel" not in capsys.readouterr().out
    assert list(tmp_path.glob("state/**/server.json")) == []
