"""The harness itself: what the other tests rely on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import harness
import pytest


def test_a_project_is_pushed_to_its_remote(project: Path, bare_remote: Path) -> None:
    assert harness.refs(bare_remote) == {"refs/heads/main": harness.git(project, "rev-parse", "HEAD")}
    assert harness.git(project, "status", "--porcelain") == ""


def test_the_identity_is_in_no_configuration(project: Path) -> None:
    assert harness.try_git(project, "config", "user.email").returncode == 1
    assert harness.git(project, "log", "-1", "--format=%ae") == "ada@example.org"


def test_git_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not a git repository"):
        harness.git(tmp_path, "status")


def test_what_the_product_must_not_touch_is_noticed(project: Path) -> None:
    before = harness.untouched_state(project)
    assert harness.untouched_state(project) == before
    harness.git(project, "update-ref", "refs/colab/code/x", "HEAD")
    assert harness.untouched_state(project) == before
    harness.git(project, "branch", "other")
    assert harness.untouched_state(project) != before


def test_waiting_in_vain_says_for_what() -> None:
    assert harness.wait_until(lambda: 7, what="seven") == 7
    with pytest.raises(AssertionError, match="for godot"):
        harness.wait_until(lambda: False, timeout_s=0, what="godot")


def test_a_session_has_a_home_of_its_own() -> None:
    assert Path.home().name.startswith("colab-home-")
    assert Path(os.environ["IPYTHONDIR"]).is_relative_to(Path.home())
    assert not harness.cache_folder().is_relative_to(Path.home())


def test_an_orphan_is_found_by_the_session_it_came_from() -> None:
    mark = "orphan-of-" + os.environ[harness.SESSION_MARK]
    makes_an_orphan = (
        "import subprocess, sys; quiet = subprocess.DEVNULL\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(subprocess.Popen(sleeper, start_new_session=True, stdout=quiet, stderr=quiet).pid)\n"
    )
    # In a process of its own, which has no children of other tests.
    ends_it = (
        "import harness, subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {makes_an_orphan!r}], check=True)\n"
        f"print(*harness.end_left_over_processes({mark!r}, grace_s=0), sep='\\n')\n"
        f"harness.wait_until(lambda: not harness.left_over_processes({mark!r}), what='its end')\n"
    )
    env = {harness.SESSION_MARK: mark, "PYTHONPATH": str(Path(harness.__file__).parent)}
    orphan, *said = harness.run([sys.executable, "-c", ends_it], env=env).stdout.splitlines()
    assert [line.split(":")[0] for line in said] == [orphan]


def test_this_version_of_python_is_found() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = harness.find_interpreter(version)
    assert found is not None
    assert harness.run([found, "-c", "print('here')"]).stdout == "here\n"
    assert harness.find_interpreter("3.0") is None
