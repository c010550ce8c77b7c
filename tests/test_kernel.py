"""The kernel that a cell runs in, without a cell."""

from __future__ import annotations

import json
import stat
import sys
import time
from pathlib import Path

import pytest
from attempt_harness import job_environment, make_job

from colab_magics.daemon.kernel import CONNECTION, Kernel, ipykernel
from colab_magics.daemon.processes import Alarm
from colab_magics.jobs.state import Verb


@pytest.fixture
def alarm() -> object:
    alarm = Alarm()
    yield alarm
    alarm.close()


def start(folder: Path) -> Kernel:
    folder.mkdir(parents=True)
    return Kernel(
        ipykernel(Path(sys.executable)), cwd=folder, environment=job_environment(), folder=folder, token="k"
    )


@pytest.mark.parametrize("depth", [1, 6])
def test_a_kernel_answers_wherever_its_folder_is(tmp_path: Path, alarm: Alarm, depth: int) -> None:
    kernel = start(tmp_path.joinpath(*["a-long-name-of-a-folder"] * depth))
    try:
        asked = kernel.send("kernel_info_request", {})
        deadline = time.monotonic() + 60
        answers: list[str] = []
        while not answers:
            assert time.monotonic() < deadline
            for channel, message in kernel.receive(timeout_s=0.5, alarm=alarm):
                if channel == "shell" and message["parent_header"]["msg_id"] == asked:
                    answers.append(message["header"]["msg_type"])
        assert answers == ["kernel_info_reply"]
        connection = kernel.folder / CONNECTION
        assert stat.S_IMODE(connection.stat().st_mode) == 0o600
        told = json.loads(connection.read_text())
        assert len(told["key"]) == 64
        assert told["transport"] == "ipc"
        assert told["key"] not in " ".join(map(str, kernel.child.process.args))
    finally:
        kernel.close()
    assert kernel.child.poll() is not None
    assert not Path(f"{told['ip']}-1").exists()


def test_the_machines_configuration_does_not_reach_the_kernel(tmp_path: Path) -> None:
    """As Colab's does: a kernel class and an extension of its own, no capture of subprocesses."""
    config = tmp_path / "ipython" / "profile_default"
    config.mkdir(parents=True)
    (config / "ipython_config.py").write_text(
        "c.IPKernelApp.kernel_class = 'no_such_module.Kernel'\n"
        "c.InteractiveShellApp.extensions = ['no_such_extension']\n"
        "c.InteractiveShellApp.reraise_ipython_extension_failures = True\n"
        "c.IPKernelApp.capture_fd_output = False\n"
    )
    environment = job_environment(IPYTHONDIR=str(tmp_path / "ipython"))
    job = make_job(tmp_path / "job", cell="import os\nos.system('echo captured');", environment=environment)
    assert job.run().verb is Verb.SUCCEED
    assert job.text() == "captured\n"
    assert job.outputs[0]["text"] == ["captured\n"]


def test_a_kernel_that_cannot_start_says_why(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell="1", files={"ipykernel_launcher.py": "raise ImportError('no kernel here')"})
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason == "the kernel died while starting, with exit code 1"
    assert "no kernel here" in job.text()


def test_an_input_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("{")
    outcome = make_job(tmp_path / "job", cell="1", inputs={"data": ("json", path)}).run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason.startswith("an input could not be opened: ")
    assert "data" in outcome.reason
