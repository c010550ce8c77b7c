"""Plain Git over HTTP with passwords does what the store relies on: custom refs, atomic pushes, refusals."""

from __future__ import annotations

from pathlib import Path

import git_http
import harness
import pytest
from git_http import GitHttpServer
from harness import git, try_git

pytestmark = pytest.mark.git_http


@pytest.fixture
def lab(tmp_path: Path, server: GitHttpServer) -> Path:
    """The writer's work tree; its `origin` is the served repository `lab`."""
    server.create("lab")
    return harness.make_project(tmp_path / "lab", remote_url=server.url("lab", user="writer"))


def test_what_one_person_pushed_another_clones(server: GitHttpServer, lab: Path, tmp_path: Path) -> None:
    copy = harness.clone(server.url("lab", user="reader"), tmp_path / "copy")
    assert (copy / "train.py").read_text() == (lab / "train.py").read_text()


def test_custom_refs_are_pushed_together_or_not_at_all(server: GitHttpServer, lab: Path) -> None:
    served = server.root / "lab.git"
    git(lab, "push", "--atomic", "origin", "HEAD:refs/colab/code/one", "HEAD:refs/heads/gpu-experiments")
    before = harness.refs(served)
    assert {"refs/colab/code/one", "refs/heads/gpu-experiments", "refs/heads/main"} == set(before)

    tree = git(lab, "write-tree")
    stranger = git(lab, "commit-tree", tree, "-m", "shares no history")
    refused = try_git(
        lab,
        "push",
        "--atomic",
        "--porcelain",
        "origin",
        f"{stranger}:refs/colab/code/two",
        f"{stranger}:refs/heads/gpu-experiments",
    )
    assert refused.returncode == 1
    assert harness.refs(served) == before


def test_a_lease_on_a_ref_that_moved_is_refused(lab: Path) -> None:
    git(lab, "push", "origin", "HEAD:refs/colab/live/w1")
    orphan = git(lab, "commit-tree", git(lab, "write-tree"), "-m", "next")
    stale = try_git(
        lab, "push", "--force-with-lease=refs/colab/live/w1:", "origin", f"{orphan}:refs/colab/live/w1"
    )
    assert stale.returncode == 1
    assert "stale info" in stale.stderr


def test_an_exact_custom_ref_is_fetched(server: GitHttpServer, lab: Path, tmp_path: Path) -> None:
    git(lab, "push", "origin", "HEAD:refs/colab/code/one")
    copy = harness.clone(server.url("lab", user="reader"), tmp_path / "copy")
    assert "refs/colab/code/one" not in harness.refs(copy)
    git(copy, "fetch", "origin", "refs/colab/code/one:refs/colab/code/one")
    assert harness.refs(copy)["refs/colab/code/one"] == git(lab, "rev-parse", "HEAD")


def test_a_push_larger_than_the_post_buffer_arrives(server: GitHttpServer, lab: Path) -> None:
    content = bytes(range(256)) * 4096
    (lab / "weights.bin").write_bytes(bytes(a ^ (i >> 8) & 255 for i, a in enumerate(content)) * 4)
    git(lab, "add", "weights.bin")
    git(lab, "commit", "--quiet", "-m", "Add weights")
    git(lab, "-c", "http.postBuffer=65536", "-c", "core.compression=0", "push", "--quiet", "origin", "main")
    assert harness.refs(server.root / "lab.git")["refs/heads/main"] == git(lab, "rev-parse", "HEAD")


def test_the_reader_may_not_push(server: GitHttpServer, lab: Path, tmp_path: Path) -> None:
    copy = harness.clone(server.url("lab", user="reader"), tmp_path / "copy")
    refused = try_git(copy, "push", "origin", "HEAD:refs/heads/mine")
    assert refused.returncode == 128
    assert "403" in refused.stderr
    assert set(harness.refs(server.root / "lab.git")) == {"refs/heads/main"}


def test_somebody_without_a_password_gets_nothing(server: GitHttpServer, lab: Path) -> None:
    refused = try_git(lab, "ls-remote", server.url("lab"))
    assert refused.returncode == 128
    assert "401" in refused.stderr or "Authentication failed" in refused.stderr


def test_a_wrong_password_gets_nothing(server: GitHttpServer, lab: Path) -> None:
    address = server.url("lab", user="writer").replace(git_http.PASSWORDS["writer"], "guess")
    refused = try_git(lab, "ls-remote", address)
    assert refused.returncode == 128
    assert "Authentication failed" in refused.stderr


def test_a_server_that_was_down_answers_at_the_same_address(server: GitHttpServer, lab: Path) -> None:
    server.stop()
    assert try_git(lab, "ls-remote", "origin").returncode == 128
    server.start()
    assert git(lab, "ls-remote", "origin", "refs/heads/main")


def test_requests_are_counted(server: GitHttpServer, lab: Path) -> None:
    before = len(server.access_log())
    git(lab, "fetch", "--quiet", "origin", "refs/heads/main")
    # The log's line is written after the answer, which git may already have read.
    harness.wait_until(lambda: len(server.access_log()) > before, what="the fetch's line in the log")
