from __future__ import annotations

import os
import socket
import sys
import zipfile
from pathlib import Path

import harness
import pytest
from attempt_harness import job_environment, make_job

from colab_magics.daemon.assignment import Limits, Phase, Stop
from colab_magics.jobs.state import Verb


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package `colab_dummy` 1.0 whose module says its version."""
    path = tmp_path / "colab_dummy-1.0-py3-none-any.whl"
    info = "colab_dummy-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("colab_dummy.py", "VERSION = '1.0'\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: colab-dummy\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


OFFLINE = {"PIP_NO_INDEX": "1"}


def test_requirements_are_installed_over_the_machines_packages_and_never_into_them(
    tmp_path: Path, wheel: Path
) -> None:
    given = f"{wheel}\n".encode()
    source = (
        "import colab_dummy, psutil\nprint(colab_dummy.VERSION, colab_dummy.__file__)\nprint(psutil.__file__)"
    )
    cell = make_job(tmp_path / "1", cell=source, requirements=given, environment=job_environment(**OFFLINE))
    outcome = cell.run()
    assert outcome.verb is Verb.SUCCEED, outcome.reason
    assert "Successfully installed colab-dummy-1.0" in cell.text()
    version, place = cell.text().splitlines()[-2].split(" ", 1)
    assert version == "1.0"
    assert "envs" in place
    assert str(Path(sys.prefix)) in cell.text().splitlines()[-1]
    assert b"colab-dummy" in (outcome.environment_text or b"")
    with pytest.raises(ModuleNotFoundError):
        __import__("colab_dummy")
    command = make_job(
        tmp_path / "2",
        command="python -c 'import colab_dummy; print(colab_dummy.VERSION)'; pip --version",
        requirements=given,
        environment=job_environment(**OFFLINE),
    )
    assert command.run().verb is Verb.SUCCEED
    assert command.text().startswith("1.0\npip ")  # nothing was installed again


def test_requirements_that_cannot_be_installed_fail_the_job_with_pips_words(tmp_path: Path) -> None:
    job = make_job(
        tmp_path,
        command="true",
        requirements=b"colab-no-such-package==9\n",
        environment=job_environment(**OFFLINE),
    )
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason.startswith("pip could not install --requirements: ERROR:")
    assert "colab-no-such-package==9" in job.text()
    assert outcome.record.failure is not None
    assert outcome.record.failure.type == "RequirementsError"


def test_installing_counts_against_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that takes the call and never answers
        index = f"--index-url http://127.0.0.1:{silent.getsockname()[1]}/simple"
        job = make_job(
            tmp_path,
            command="true",
            requirements=f"{index}\nanything\n".encode(),
            environment=job_environment(PIP_CONFIG_FILE=os.devnull),
            timeout_s=4,
            limits=Limits(grace_s=1),
        )
        with job.running():
            harness.wait_until(lambda: job.attempt.live().phase is Phase.INSTALLING, what="pip to begin")
    assert job.outcome is not None
    assert job.outcome.verb is Verb.TIME_OUT
    assert job.outcome.reason == "stopped after its timeout of 4 s, while its requirements were installed"


def test_a_job_can_be_stopped_while_it_installs(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="true", requirements=b"anything\n")
    job.attempt.stop(Stop.CANCEL)
    assert job.run().verb is Verb.CANCEL
