from __future__ import annotations

from pathlib import Path

import harness
import pytest

from colab_magics.errors import NoRemoteError, NoRepositoryError
from colab_magics.jobs.spec import JobSpec
from colab_magics.store.base import Submission
from colab_magics.store.git import Repository
from colab_magics.store.locate import (
    EMBEDDED,
    all_queues,
    choose_remote,
    find_project,
    local_queue,
    remote_queue,
)


def with_remotes(folder: Path, *names: str) -> Repository:
    project = harness.make_project(folder)
    for name in names:
        harness.git(project, "remote", "add", name, f"https://example.org/{name}.git")
    return find_project(project)


def with_local_queue(repository: Repository) -> Repository:
    Repository.init_bare(repository.colab_dir / EMBEDDED)
    return repository


def test_a_folder_below_the_top_belongs_to_the_project(project: Path) -> None:
    (project / "deep" / "er").mkdir(parents=True)
    assert find_project(project / "deep" / "er").work_tree == project


def test_a_project_that_is_known_is_found_without_asking_git(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = find_project(project)
    (project / "deep" / "er").mkdir(parents=True)
    monkeypatch.setattr(Repository, "discover", lambda folder: pytest.fail("git was asked"))
    assert find_project(project / "deep" / "er", known=known) is known


def test_another_project_is_not_taken_for_the_known_one(project: Path, tmp_path: Path) -> None:
    known = find_project(project)
    other = harness.make_project(tmp_path / "other")
    inner = harness.make_project(project / "inner")
    harness.git(project, "worktree", "add", "-q", "-b", "side", tmp_path / "side")
    for folder in (other, inner, tmp_path / "side"):
        (folder / "deep").mkdir()
        assert find_project(folder / "deep", known=known).work_tree == folder
    assert find_project(tmp_path / "side", known=find_project(tmp_path / "side")).head_branch() == "side"
    harness.make_bare_remote(project / "bare.git")
    with pytest.raises(NoRepositoryError, match="is a bare repository"):
        find_project(project / "bare.git" / "objects", known=known)
    harness.remove_folder(project / ".git")
    with pytest.raises(NoRepositoryError):
        find_project(project, known=known)


def test_no_repository_is_told_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(
        NoRepositoryError, match=f"^{tmp_path} is not inside a Git work tree; go to your project"
    ):
        find_project(tmp_path)


def test_a_bare_repository_has_no_files_to_run(bare_remote: Path) -> None:
    with pytest.raises(
        NoRepositoryError, match="is a bare repository, which has no files to run; go to a clone"
    ):
        find_project(bare_remote)


def test_no_remote_is_told_with_the_two_ways_on(tmp_path: Path) -> None:
    repository = with_remotes(tmp_path / "p")
    with pytest.raises(
        NoRemoteError,
        match=r"has no Git remote to queue to: add one with git remote add origin <address>, or run on this "
        r"machine with --local$",
    ):
        choose_remote(repository)


def test_origin_is_chosen_before_others(tmp_path: Path) -> None:
    assert choose_remote(with_remotes(tmp_path / "p", "fork", "origin")) == "origin"


def test_the_only_remote_is_chosen_whatever_its_name(tmp_path: Path) -> None:
    assert choose_remote(with_remotes(tmp_path / "p", "fork")) == "fork"


def test_several_remotes_without_an_origin_are_listed(tmp_path: Path) -> None:
    with pytest.raises(
        NoRemoteError,
        match=r"^there are several Git remotes, fork, mine and work, and no origin: say which with --remote$",
    ):
        choose_remote(with_remotes(tmp_path / "p", "fork", "mine", "work"))


def test_the_remote_that_is_wanted_is_chosen(tmp_path: Path) -> None:
    assert choose_remote(with_remotes(tmp_path / "p", "fork", "origin"), "fork") == "fork"


def test_an_unknown_remote_is_told_with_those_there_are(tmp_path: Path) -> None:
    repository = with_remotes(tmp_path / "p", "fork", "origin")
    with pytest.raises(
        NoRemoteError,
        match=r"^there is no Git remote 'orign'; did you mean origin\? there is fork and origin$",
    ):
        choose_remote(repository, "orign")
    with pytest.raises(NoRemoteError, match=r"^there is no Git remote 'q'; there is fork and origin$"):
        choose_remote(repository, "q")


def test_a_queue_is_told_apart_by_its_remotes_name_and_remembers_below_the_git_folder(project: Path) -> None:
    queue = remote_queue(find_project(project))
    assert (queue.label, queue.remote, queue.is_local) == ("origin", "origin", False)
    assert queue.folder == project / ".git" / "colab" / "origin"


def test_each_branch_has_an_outbox_and_refs_of_its_own_and_the_same_name_for_people(project: Path) -> None:
    repository = find_project(project)
    usual = remote_queue(repository)
    others = [remote_queue(repository, branch=each) for each in ("big-gpu", "big/gpu")]
    assert [queue.label for queue in (usual, *others)] == ["origin"] * 3
    assert len({queue.folder for queue in (usual, *others)}) == 3
    spec = JobSpec("a-1", "a", "true", None, 60.0, None)
    harness.git(project, "remote", "set-url", "origin", "http://127.0.0.1:9/queue.git")
    others[0].store.submit(Submission((spec,)))
    again = remote_queue(repository, branch="big-gpu")
    assert again.store.view().waiting == ("a-1",)
    assert (again.folder / "outbox").is_dir()
    assert [queue.store.view().waiting for queue in (usual, others[1])] == [(), ()]


def test_credentials_of_an_address_are_not_shown(tmp_path: Path) -> None:
    repository = with_remotes(tmp_path / "p")
    harness.git(tmp_path / "p", "remote", "add", "origin", "https://ada:hunter2@example.org/x.git")
    assert remote_queue(repository).address == "https://example.org/x.git"


def test_there_is_no_queue_on_this_machine_before_one_was_made(project: Path) -> None:
    repository = find_project(project)
    assert local_queue(repository) is None
    assert [queue.label for queue in all_queues(repository)] == ["origin"]


def test_both_queues_are_found(project: Path) -> None:
    repository = with_local_queue(find_project(project))
    assert [queue.label for queue in all_queues(repository)] == ["origin", "local"]


def test_the_queue_on_this_machine_needs_no_remote(tmp_path: Path) -> None:
    repository = with_local_queue(with_remotes(tmp_path / "p"))
    assert [queue.label for queue in all_queues(repository)] == ["local"]
    with pytest.raises(NoRemoteError):
        all_queues(repository, "origin")


def test_a_remote_called_local_is_not_taken_for_this_machine(tmp_path: Path) -> None:
    queue = remote_queue(with_remotes(tmp_path / "p", "local"))
    assert (queue.label, queue.is_local) == ("remote-local", False)


def test_finding_queues_changes_nothing_of_the_persons(project: Path) -> None:
    before = harness.untouched_state(project)
    all_queues(find_project(project))
    assert harness.untouched_state(project) == before
