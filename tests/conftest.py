"""Fixtures that every test may ask for, and the rules that hold for a whole session.

- A session has a HOME of its own: nothing of the person's is read or written.
- A session that leaves processes behind fails.
- Where everything is required (CI), a skipped test fails, except those marked `gpu`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import colab_pins
import git_http
import harness
import kernel_environments
import pytest
from git_http import GitHttpServer
from kernel_environments import Stack

_RESTORE = pytest.StashKey[dict[str, str | None]]()
_HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Move HOME and its kin before any test module, and with it IPython or Jupyter, is imported."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun in the background of a script: everything that is started from here would ignore it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="colab-home-"))
    config.stash[_HOME] = home
    config.stash[_RESTORE] = harness.install_environment(harness.isolated_environment(home))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _RESTORE in config.stash:
        harness.install_environment(config.stash[_RESTORE])
        harness.remove_folder(config.stash[_HOME])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
        pytest.skip("no NVIDIA GPU on this machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    unwanted = report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("gpu")
    if unwanted and harness.everything_is_required():
        report.outcome = "failed"
        report.longrepr = f"skipped where everything is required: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and harness.everything_is_required():
        report.outcome = "failed"
        report.longrepr = f"skipped where everything is required: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> str:
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    yield
    left = harness.end_left_over_processes(os.environ[harness.SESSION_MARK])
    if left:
        pytest.fail("processes were left behind by the tests:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def bare_remote(tmp_path: Path) -> Path:
    """An empty bare repository; its address is `bare_remote.as_uri()`."""
    return harness.make_bare_remote(tmp_path / "remote.git")


@pytest.fixture
def project(tmp_path: Path, bare_remote: Path) -> Path:
    """A work tree with one commit on `main`, pushed to `origin`, which is `bare_remote` over file://."""
    return harness.make_project(tmp_path / "project", remote_url=bare_remote.as_uri())


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the test's own where running jobs tell how they are found."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=[Stack.NEWEST, Stack.COLAB])
def job_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter that jobs run in: this environment's, and one with what Colab's machine has."""
    return kernel_environments.python_of(request.param)


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from this checkout as `pip install` would build it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    harness.run([*pip, "wheel", "-q", "--no-deps", "--wheel-dir", folder, harness.ROOT])
    (wheel,) = folder.glob("colab_magics-*.whl")
    return wheel


@pytest.fixture(scope="session")
def colab_python(tmp_path_factory: pytest.TempPathFactory, built_wheel: Path) -> Iterator[Path]:
    """A Python with Colab's pins, Colab's IPython configuration, a faked `google.colab`, and our wheel.

    Every ipykernel that is started plainly with it gets the faked kernel class, as on Colab.
    """
    if colab_pins.interpreter() is None:
        harness.missing(f"no Python {' or '.join(colab_pins.VERSIONS)} on this machine")
    target = tmp_path_factory.mktemp("colab") / "machine"
    python = colab_pins.copy_environment(colab_pins.pinned_environment(), target)
    harness.run([python, "-m", "pip", "install", "-q", built_wheel])
    yield python
    harness.remove_folder(target)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHttpServer]:
    """A Git server over HTTP with passwords, without a repository yet; what uses it is marked `git_http`."""
    absent = git_http.what_is_missing()
    if absent:
        harness.missing(absent)
    with GitHttpServer(tmp_path / "served") as running:
        yield running
