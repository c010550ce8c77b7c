"""Git's one door, against real repositories: over files, over HTTP with passwords, and against peers that
refuse, hang or lie."""

from __future__ import annotations

import gzip
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import harness
import psutil
import pytest
from git_http import PASSWORDS, GitHttpServer
from harness import git, refs, try_git, write

from colab_magics.errors import NoRemoteError, NoRepositoryError, RefusedError, StoreError, UnreachableError
from colab_magics.store import git_answers, git_names, git_process, git_upkeep
from colab_magics.store.git import ABSENT, PushOutcome, PushUpdate, Refspec, Repository

MAIN = "refs/heads/gpu-results"
TRACKED = "refs/colab/remote/origin/gpu-results"


@pytest.fixture
def repository(project: Path) -> Repository:
    return Repository.discover(project)


def one_commit(repository: Repository, text: str = "one", parents: tuple[str, ...] = ()) -> str:
    base = parents[0] if parents else None
    content = {"state.json": text.encode()}
    return repository.build_commit(content, message="Add", date_s=1, base=base, parents=parents)


# --- finding and making ----------------------------------------------------------------------------------


def test_a_repository_is_found_from_any_folder_in_it(project: Path) -> None:
    (project / "src" / "deep").mkdir(parents=True)
    found = Repository.discover(project / "src" / "deep")
    assert found.work_tree == project
    assert found.git_dir == found.common_dir == project / ".git"


def test_a_linked_worktree_shares_the_refs_and_has_its_own_head(project: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "--quiet", "-b", "side", tmp_path / "side")
    found = Repository.discover(tmp_path / "side")
    assert found.work_tree == tmp_path / "side"
    assert found.git_dir != found.common_dir == project / ".git"
    assert found.head_branch() == "side"
    assert Repository.discover(project).head_branch() == "main"


def test_a_detached_head_has_a_commit_and_no_branch(project: Path, repository: Repository) -> None:
    git(project, "checkout", "--quiet", "--detach")
    assert repository.head_branch() is None
    assert repository.resolve("HEAD") == git(project, "rev-parse", "HEAD")


def test_before_the_first_commit_there_is_a_branch_and_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk", "new")
    found = Repository.discover(tmp_path / "new")
    assert (found.head_branch(), found.resolve("HEAD")) == ("trunk", None)


def test_a_shallow_clone_is_found(project: Path, bare_remote: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", bare_remote.as_uri(), "shallow")
    assert Repository.discover(tmp_path / "shallow").resolve("HEAD") == git(project, "rev-parse", "HEAD")


@pytest.mark.parametrize("folder", [".", "not-there"])
def test_no_repository_is_one_sentence_that_says_what_to_do(tmp_path: Path, folder: str) -> None:
    with pytest.raises(NoRepositoryError, match=r"is not inside a Git work tree; go to your project"):
        Repository.discover(tmp_path / folder)


def test_inside_the_git_folder_there_is_no_work_tree(project: Path) -> None:
    with pytest.raises(NoRepositoryError, match="is not inside a Git work tree"):
        Repository.discover(project / ".git" / "refs")


def test_a_bare_repository_has_no_work_tree(bare_remote: Path) -> None:
    found = Repository.discover(bare_remote)
    assert (found.work_tree, found.git_dir) == (None, bare_remote)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_said_to_be_that(project: Path) -> None:
    for path in (project, project / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(NoRepositoryError, match=r"git config --global --add safe\.directory"):
        Repository.discover(project)


def test_making_a_bare_repository_twice_keeps_what_is_in_it(tmp_path: Path) -> None:
    first = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    commit = one_commit(first)
    first.set_refs({MAIN: commit})
    assert Repository.init_bare(tmp_path / "cache.git", isolated=True).refs("refs/") == {MAIN: commit}


def test_a_bare_repository_cannot_be_made_of_a_file(tmp_path: Path) -> None:
    write(tmp_path / "file", "x")
    with pytest.raises(StoreError, match="cannot be made a repository"):
        Repository.init_bare(tmp_path / "file")


# --- the environment -------------------------------------------------------------------------------------


def test_variables_that_point_git_elsewhere_do_not_reach_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = harness.make_project(tmp_path / "other", files={"other.txt": "x"})
    trace = tmp_path / "trace"
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(tmp_path / "no-index"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "no-objects"),
        "GIT_COMMON_DIR": str(other / ".git"),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "remote.origin.url",
        "GIT_CONFIG_VALUE_0": "https://evil.example/x",
        "GIT_TRACE": str(trace),
    }.items():
        monkeypatch.setenv(name, value)
    found = Repository.discover(project)
    assert found.work_tree == project
    assert found.remote_url("origin").startswith("file://")
    commit = one_commit(found)
    assert found.push("origin", [PushUpdate(commit, MAIN, ABSENT)]) is PushOutcome.LANDED
    monkeypatch.undo()
    assert git(project, "ls-remote", "origin", MAIN).split() == [commit, MAIN]
    assert not trace.exists()


def test_what_a_person_set_for_logging_in_does() -> None:
    theirs = {"GIT_ASKPASS": "x", "GIT_SSH_COMMAND": "x", "GIT_SSL_CAINFO": "x", "GIT_CONFIG_GLOBAL": "x"}
    assert git_process.foreign_variables({**theirs, "GIT_DIR": "x", "PATH": "x"}) == ["GIT_DIR"]


def test_a_persons_configuration_and_hooks_change_nothing(project: Path, repository: Repository) -> None:
    for name, value in {
        "commit.gpgSign": "true",
        "push.gpgSign": "true",
        "push.followTags": "true",
        "fetch.prune": "true",
        "fetch.pruneTags": "true",
        "fetch.recurseSubmodules": "true",
        "core.logAllRefUpdates": "always",
        "core.quotePath": "true",
        "color.ui": "always",
        "diff.renames": "copies",
        "status.showUntrackedFiles": "no",
        "remote.origin.mirror": "true",
        "remote.origin.tagOpt": "--tags",
    }.items():
        git(project, "config", name, value)
    for hook in ("pre-push", "reference-transaction", "post-checkout"):
        script = write(project / ".git" / "hooks" / hook, "#!/bin/sh\nexit 1\n")
        script.chmod(0o755)
    git(project, "-c", "core.hooksPath=/dev/null", "tag", "mine")
    before = harness.untouched_state(project)
    commit = repository.build_commit({"é.txt": b"x"}, message="Add", date_s=1, ref="refs/colab/mine")
    assert repository.push("origin", [PushUpdate(commit, MAIN, ABSENT)]) is PushOutcome.LANDED
    assert repository.fetch("origin", [Refspec(MAIN, TRACKED)]) == frozenset()
    assert repository.refs("refs/colab/") == {"refs/colab/mine": commit, TRACKED: commit}
    assert [entry.path for entry in repository.ls_tree(commit)] == ["é.txt"]
    assert harness.untouched_state(project) == before
    assert not (project / ".git" / "logs" / "refs" / "colab").exists()
    assert set(harness.refs(Path(git(project, "remote", "get-url", "origin").removeprefix("file://")))) == {
        "refs/heads/main",
        MAIN,
    }


# --- addresses and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/ada/lab.git",
        "https://token@github.com/ada/lab",
        "ssh://git@host:2222/ada/lab.git",
        "git@github.com:ada/lab.git",
        "file:///srv/git/lab.git",
        "/srv/git/lab.git",
        "http://127.0.0.1:8080/lab.git",
        "http://localhost/lab.git",
    ],
)
def test_these_addresses_are_used(url: str) -> None:
    assert git_names.check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-oProxyCommand=evil",
        "--upload-pack=evil",
        "ext::sh -c evil",
        "fd::17",
        "git://host/lab",
        "http://host/lab",
        "ftp://host/lab",
        "file://host/lab",
        "https:///lab",
        "ssh://-oProxyCommand=evil/x",
        "../lab",
        "lab",
        "git@host:-x",
        "https://host/a\nb",
    ],
)
def test_these_addresses_are_refused(repository: Repository, url: str) -> None:
    with pytest.raises(StoreError):
        git_names.check_url(url)


def test_credentials_are_split_from_an_address_and_masked_in_a_text() -> None:
    assert git_names.split_credentials("https://x:tok%2F1@h/p") == ("https://x@h/p", "tok/1")
    token = "glpat-0123456789abcd"
    assert git_names.split_credentials(f"https://{token}@h/p") == ("https://h/p", token)
    assert git_names.split_credentials("https://ada@h/p") == ("https://ada@h/p", None)
    assert git_names.split_credentials("git@h:p") == ("git@h:p", None)
    assert git_names.redact_url("https://x:tok@h:1/p?token=tok") == "https://h:1/p"
    shown = git_process.mask("fatal: unable to access 'https://x:s3cret@h/p': s3cret-2", token="s3cret-2")
    assert shown == "fatal: unable to access 'https://***@h/p': ***"


@pytest.mark.parametrize(
    "ref",
    ["HEAD", "main", "refs/heads/-x", "refs/heads/a..b", "refs/heads/a b", "refs/heads/x.lock", "refs//x",
     "refs/heads/a:b", "refs/heads/*", "refs/heads/a@{1}", "refs/heads/.a", "refs/heads/a\n", "-d"],
)  # fmt: skip
def test_names_that_are_no_full_refs_are_refused(ref: str) -> None:
    with pytest.raises(StoreError, match="is no ref"):
        git_names.check_ref(ref)


def test_full_refs_in_any_language_are_not() -> None:
    for ref in ("refs/heads/main", "refs/colab/live/w-1.2", "refs/heads/größe/ü@x"):
        assert git_names.check_ref(ref) == ref


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", ".git/config", "a/.GIT/x", "a\0b", "a\nb", "a//b", "", "."]
)
def test_paths_that_cannot_be_in_a_tree_are_refused(repository: Repository, path: str) -> None:
    with pytest.raises(StoreError, match="cannot be a path in a commit"):
        repository.build_commit({path: b"x"}, message="Add", date_s=1)


def test_no_such_remote_names_those_that_there_are(repository: Repository) -> None:
    assert repository.remotes() == ["origin"]
    with pytest.raises(NoRemoteError, match=r"there is no remote 'upstream'.*there are: origin"):
        repository.remote_url("upstream")
    with pytest.raises(NoRemoteError):
        repository.fetch("upstream", [Refspec(MAIN, TRACKED)])


def test_the_persons_own_rules_for_addresses_hold(
    project: Path, repository: Repository, bare_remote: Path
) -> None:
    git(project, "remote", "set-url", "origin", "lab:remote.git")
    git(project, "config", f"url.{bare_remote.parent.as_uri()}/.insteadOf", "lab:")
    assert repository.remote_url("origin") == bare_remote.as_uri()
    git(project, "remote", "set-url", "origin", "../remote.git")
    assert repository.remote_url("origin") == str(bare_remote)


# --- refs, reading, writing ------------------------------------------------------------------------------


def test_refs_move_together_or_not_at_all(repository: Repository) -> None:
    one, two = one_commit(repository), one_commit(repository, "two")
    a, b = "refs/colab/a", "refs/colab/b"
    assert repository.set_refs({a: one, b: one}, expected={a: ABSENT})
    assert not repository.set_refs({a: two, b: two}, expected={a: two})
    assert not repository.set_refs({a: two, b: two}, expected={b: ABSENT})
    assert not repository.set_refs({"refs/colab/c": two}, expected={"refs/colab/c": one})
    assert repository.refs("refs/colab/") == {a: one, b: one}
    assert repository.set_refs({a: two, b: None}, expected={b: one})
    assert repository.refs("refs/colab/") == {a: two}
    assert repository.set_refs({"refs/colab/never": None})


def test_commits_are_built_on_one_another_and_the_same_input_has_the_same_id(repository: Repository) -> None:
    first = repository.build_commit(
        {"jobs/a/state.json": b"{}", "jobs/a/log.txt": b"\x00\xff", 'odd "name"\\ é': b"x"},
        message="One\n\nBody é",
        date_s=1_700_000_000,
    )
    second = repository.build_commit(
        {"jobs/a": None, "jobs/b": b"now a file", "absent": None},
        message="Two",
        date_s=1_700_000_001,
        base=first,
        parents=[first],
    )
    assert repository.read(first, "jobs/a/log.txt") == b"\x00\xff"
    assert {entry.path for entry in repository.ls_tree(second)} == {"jobs/b", 'odd "name"\\ é'}
    assert {(c.status, c.path) for c in repository.changed(first, second)} == {
        ("D", "jobs/a/log.txt"),
        ("D", "jobs/a/state.json"),
        ("A", "jobs/b"),
    }
    assert [change.path for change in repository.changed(None, first, prefix="jobs/a/")] == [
        "jobs/a/log.txt",
        "jobs/a/state.json",
    ]
    assert repository.changed(first, second, prefix="jobs/*") == []
    about = repository.commit_info(first)
    assert (about.message, about.parents, about.committed_s) == ("One\n\nBody é", (), 1_700_000_000)
    assert about.author == "colab-magics <colab-magics@localhost>"
    assert repository.commit_info(second).parents == (first,)
    assert repository.tree_of(first) == about.tree
    assert repository.is_ancestor(first, second)
    assert not repository.is_ancestor(second, first)
    assert repository.log_first_parent(second) == [second, first]
    assert repository.log_first_parent(second, old=first) == [second]
    assert repository.log_first_parent(second, path="jobs/b") == [second]
    again = repository.build_commit(
        {'odd "name"\\ é': b"x", "jobs/a/log.txt": b"\x00\xff", "jobs/a/state.json": b"{}"},
        message="One\n\nBody é",
        date_s=1_700_000_000,
    )
    assert again == first


def test_a_commit_without_parents_can_start_from_another_ones_files(repository: Repository) -> None:
    first = one_commit(repository)
    alone = repository.build_commit({"more": b"x"}, message="Alone", date_s=2, base=first)
    assert repository.commit_info(alone).parents == ()
    assert {entry.path for entry in repository.ls_tree(alone)} == {"state.json", "more"}
    empty = repository.build_commit({"only": b"x"}, message="Next", date_s=3, parents=[alone])
    assert [entry.path for entry in repository.ls_tree(empty)] == ["only"]
    assert repository.commit_info(empty).parents == (alone,)


def test_files_are_copied_from_disk_and_read_back_in_one_go(repository: Repository, tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(big)
    files: dict[str, bytes | Path | None] = {f"d/{number}": b"%d" % number for number in range(300)}
    commit = repository.build_commit({**files, "big": tmp_path / "big"}, message="Add", date_s=1)
    sizes = {entry.path: entry.size_bytes for entry in repository.ls_tree(commit, sizes=True)}
    assert (sizes["big"], sizes["d/299"]) == (3_000_000, 3)
    names = [f"{commit}:d/{number}" for number in range(300)]
    found = repository.read_many([*names, f"{commit}:big", f"{commit}:absent", f"{commit}:d", "1" * 40])
    assert found[f"{commit}:big"] == big
    assert [found[name] for name in names] == [b"%d" % number for number in range(300)]
    assert (found[f"{commit}:absent"], found[f"{commit}:d"], found["1" * 40]) == (None, None, None)
    assert repository.read(commit, "absent") is None
    assert repository.ls_tree(commit, "absent") == []
    assert {(e.kind, e.path) for e in repository.ls_tree(commit, recursive=False)} == {
        ("tree", "d"),
        ("blob", "big"),
    }
    assert len(repository.ls_tree(commit, "d", recursive=False)) == 300


def test_building_a_commit_leaves_no_ref_and_no_reports_behind(project: Path, repository: Repository) -> None:
    before = harness.refs(project)
    one_commit(repository)
    with pytest.raises(StoreError, match="building a commit"):
        one_commit(repository, parents=("1" * 40,))
    with pytest.raises(StoreError, match="No such file"):
        repository.build_commit({"x": project / "not-there"}, message="Add", date_s=1)
    assert harness.refs(project) == before
    assert not list((project / ".git").glob("fast_import_crash_*"))
    assert not repository.has("1" * 40)
    assert repository.commit_infos(["1" * 40]) == {}


def test_a_commit_can_be_built_at_a_ref_wherever_that_was(repository: Repository) -> None:
    first = repository.build_commit({"a": b"1"}, message="Add", date_s=1, ref="refs/colab/mine")
    second = repository.build_commit({"a": b"2"}, message="Add", date_s=1, ref="refs/colab/mine")
    assert first != second == repository.resolve("refs/colab/mine")


# --- fetching and pushing --------------------------------------------------------------------------------


def test_a_push_lands_and_others_fetch_it(repository: Repository, bare_remote: Path, tmp_path: Path) -> None:
    commit = one_commit(repository)
    live = "refs/colab/live/w1"
    updates = [PushUpdate(commit, MAIN, ABSENT), PushUpdate(commit, live)]
    assert repository.push("origin", updates) is PushOutcome.LANDED
    other = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    absent = other.fetch(
        bare_remote.as_uri(),
        [
            Refspec(MAIN, MAIN),
            Refspec("refs/heads/nobody", "refs/heads/nobody"),
            Refspec("refs/heads/nothing", "refs/heads/nothing"),
            Refspec("refs/colab/live/*", "refs/colab/live/*"),
        ],
    )
    assert absent == {"refs/heads/nobody", "refs/heads/nothing"}
    assert other.refs("refs/") == {MAIN: commit, live: commit}


def test_what_the_remote_no_longer_has_goes_away_here(repository: Repository, bare_remote: Path) -> None:
    commit = one_commit(repository)
    repository.push("origin", [PushUpdate(commit, MAIN), PushUpdate(commit, "refs/colab/live/a")])
    specs = [Refspec(MAIN, TRACKED), Refspec("refs/colab/live/*", "refs/colab/remote/origin/live/*")]
    assert repository.fetch("origin", specs, prune=True) == frozenset()
    assert len(repository.refs("refs/colab/remote/")) == 2
    git(bare_remote, "update-ref", "-d", MAIN)
    git(bare_remote, "update-ref", "-d", "refs/colab/live/a")
    assert repository.fetch("origin", specs, prune=True) == {MAIN}
    assert repository.refs("refs/colab/remote/") == {}


def test_of_two_clones_that_race_one_lands_and_the_other_is_told(
    repository: Repository, bare_remote: Path, tmp_path: Path
) -> None:
    other = Repository.discover(harness.clone(bare_remote.as_uri(), tmp_path / "other"))
    base = one_commit(repository)
    repository.push("origin", [PushUpdate(base, MAIN, ABSENT)])
    for clone in (repository, other):
        clone.fetch("origin", [Refspec(MAIN, TRACKED)])
    mine = one_commit(repository, "mine", parents=(base,))
    theirs = one_commit(other, "theirs", parents=(base,))
    with ThreadPoolExecutor(2) as both:
        outcomes = both.map(
            lambda pair: pair[0].push("origin", [PushUpdate(pair[1], MAIN, base)]),
            [(repository, mine), (other, theirs)],
        )
        assert sorted(outcomes) == [PushOutcome.LANDED, PushOutcome.REJECTED]


def test_many_that_race_for_one_ref_are_all_answered_and_exactly_one_lands(
    bare_remote: Path, repository: Repository, tmp_path: Path
) -> None:
    commits = [one_commit(repository, str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as all_at_once:
        outcomes = list(
            all_at_once.map(lambda c: repository.push("origin", [PushUpdate(c, MAIN, ABSENT)]), commits)
        )
    assert outcomes.count(PushOutcome.LANDED) == 1
    assert harness.refs(bare_remote)[MAIN] == commits[outcomes.index(PushOutcome.LANDED)]


def test_a_stale_lease_moves_none_of_the_refs(repository: Repository, bare_remote: Path) -> None:
    one, two = one_commit(repository), one_commit(repository, "two")
    repository.push("origin", [PushUpdate(one, MAIN, ABSENT)])
    before = harness.refs(bare_remote)
    for expect in (two, ABSENT):
        updates = [PushUpdate(two, MAIN, expect), PushUpdate(two, "refs/colab/live/w")]
        assert repository.push("origin", updates) is PushOutcome.REJECTED
    assert repository.push("origin", [PushUpdate(two, "refs/colab/none", one)]) is PushOutcome.REJECTED
    assert harness.refs(bare_remote) == before


def hold_that_a_push_tracks(repository: Repository, remote: str) -> None:
    """What lands moves the tracking ref and nothing else of the clone; what is refused moves nothing."""
    project = repository.git_dir.parent
    before = harness.untouched_state(project)
    first = one_commit(repository)
    assert repository.push(remote, [PushUpdate(first, MAIN, ABSENT, TRACKED)]) is PushOutcome.LANDED
    assert repository.refs("refs/colab/") == {TRACKED: first}
    second = one_commit(repository, "two", (first,))
    late = PushUpdate(second, MAIN, second, TRACKED)
    assert repository.push(remote, [late]) is PushOutcome.REJECTED
    fallen = [PushUpdate(second, MAIN, first, TRACKED), PushUpdate(second, "refs/colab/x", second)]
    assert repository.push(remote, fallen) is PushOutcome.REJECTED
    assert repository.refs("refs/colab/") == {TRACKED: first}
    git(project, "update-ref", "-d", TRACKED)
    assert repository.push(remote, [PushUpdate(first, MAIN, None, TRACKED)]) is PushOutcome.LANDED
    assert repository.refs("refs/colab/") == {TRACKED: first}, "also by one that was there already"
    assert harness.untouched_state(project) == before


def test_what_a_push_moved_is_tracked_here(repository: Repository) -> None:
    hold_that_a_push_tracks(repository, "origin")


@pytest.mark.git_http
def test_what_a_push_moved_over_http_is_tracked_here(repository: Repository, server: GitHttpServer) -> None:
    server.create("lab")
    hold_that_a_push_tracks(repository, server.url("lab", user="writer"))


def test_pushing_again_what_is_there_has_landed(repository: Repository) -> None:
    one, two = one_commit(repository), one_commit(repository, "two")
    repository.push("origin", [PushUpdate(one, MAIN, ABSENT)])
    repository.push("origin", [PushUpdate(two, MAIN, one)])
    assert repository.push("origin", [PushUpdate(two, MAIN, one)]) is PushOutcome.LANDED
    assert repository.push("origin", []) is PushOutcome.LANDED


def test_refs_are_deleted_also_those_that_are_gone(repository: Repository, bare_remote: Path) -> None:
    one = one_commit(repository)
    repository.push("origin", [PushUpdate(one, MAIN), PushUpdate(one, "refs/colab/live/a")])
    gone = [PushUpdate(None, "refs/colab/live/a"), PushUpdate(None, "refs/colab/live/never")]
    assert repository.push("origin", gone) is PushOutcome.LANDED
    assert repository.push("origin", [PushUpdate(None, MAIN, one)]) is PushOutcome.LANDED
    assert repository.push("origin", [PushUpdate(None, MAIN, one)]) is PushOutcome.REJECTED
    assert set(harness.refs(bare_remote)) == {"refs/heads/main"}


@pytest.mark.parametrize("hook", ["pre-receive", "update"])
def test_a_hook_that_declines_is_a_refusal_with_its_words(
    repository: Repository, bare_remote: Path, hook: str
) -> None:
    script = write(
        bare_remote / "hooks" / hook, "#!/bin/sh\necho 'Quota reached: timed out, 12 GB.' >&2\nexit 1\n"
    )
    script.chmod(0o755)
    commit = one_commit(repository)
    updates = [PushUpdate(commit, MAIN, ABSENT), PushUpdate(commit, "refs/colab/live/w")]
    with pytest.raises(RefusedError, match=r"hook declined: .*Quota reached"):
        repository.push("origin", updates)
    assert set(harness.refs(bare_remote)) == {"refs/heads/main"}


def test_a_branch_that_may_not_be_deleted_is_a_refusal(repository: Repository, bare_remote: Path) -> None:
    git(bare_remote, "config", "receive.denyDeletes", "true")
    with pytest.raises(RefusedError, match="deletion prohibited"):
        repository.push("origin", [PushUpdate(None, "refs/heads/main")])


def test_a_path_that_is_no_repository_is_refused(
    project: Path, repository: Repository, tmp_path: Path
) -> None:
    git(project, "remote", "set-url", "origin", (tmp_path / "gone.git").as_uri())
    with pytest.raises(RefusedError, match=r"fetching from file://.*gone\.git was refused"):
        repository.fetch("origin", [Refspec(MAIN, TRACKED)])
    with pytest.raises(RefusedError, match="check the address"):
        repository.push("origin", [PushUpdate(one_commit(repository), MAIN)])


def test_a_shallow_clone_pushes_and_fetches(project: Path, bare_remote: Path, tmp_path: Path) -> None:
    for number in range(3):
        write(project / "train.py", f"{number}\n")
        git(project, "commit", "--quiet", "--all", "--message", "More")
    git(project, "push", "--quiet", "origin", "main")
    git(tmp_path, "clone", "--quiet", "--depth=1", bare_remote.as_uri(), "shallow")
    shallow = Repository.discover(tmp_path / "shallow")
    head = shallow.resolve("HEAD")
    assert head is not None
    commit = one_commit(shallow, parents=(head,))
    assert shallow.push("origin", [PushUpdate(commit, MAIN, ABSENT)]) is PushOutcome.LANDED
    assert shallow.fetch("origin", [Refspec(MAIN, TRACKED)]) == frozenset()
    assert git(bare_remote, "rev-list", "--count", MAIN) == "5"


def test_a_fetch_of_given_depth_brings_only_so_much(
    repository: Repository, bare_remote: Path, tmp_path: Path
) -> None:
    first = one_commit(repository)
    second = one_commit(repository, "two", parents=(first,))
    repository.push("origin", [PushUpdate(second, MAIN)])
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    cache.fetch(bare_remote.as_uri(), [Refspec(MAIN, MAIN)], depth=1)
    assert (cache.has(second), cache.has(first)) == (True, False)


def test_another_process_that_holds_a_lock_is_waited_for(project: Path, repository: Repository) -> None:
    commit = one_commit(repository)
    repository.push("origin", [PushUpdate(commit, MAIN)])
    lock = write(project / ".git" / "refs/colab/remote/origin/gpu-results.lock", "")
    release = threading.Timer(0.3, lock.unlink)
    release.start()
    repository.fetch("origin", [Refspec(MAIN, TRACKED)])
    release.join()
    assert repository.resolve(TRACKED) == commit


# --- peers that do not answer, or say no -----------------------------------------------------------------


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/lab.git"


@contextmanager
def answering_server(status: int, *, body: bytes = b"") -> Iterator[str]:
    """Answers everything with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/lab.git"
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def listing_server(heard: list[tuple[str | None, bytes]]) -> Iterator[str]:
    """Offers git's protocol 2 and refuses what is asked then: its encoding and its bytes are in `heard`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            offer = b"".join(b"%04x%s\n" % (len(line) + 5, line) for line in (b"version 2", b"ls-refs"))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
            self.send_header("Content-Length", str(len(offer) + 4))
            self.end_headers()
            self.wfile.write(offer + b"0000")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.headers["Content-Encoding"], body))
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/lab.git"
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("names", [["gpu-experiments", "gpu-results"], ["x"], ["a-rather-" + "long-" * 40]])
def test_over_http_few_bytes_ask_for_exact_refs(repository: Repository, names: list[str]) -> None:
    heard: list[tuple[str | None, bytes]] = []
    refspecs = [Refspec(f"refs/heads/{name}", f"refs/colab/remote/x/{name}") for name in names]
    refspecs.append(Refspec("refs/colab/live/*", "refs/colab/remote/x/live/*"))
    with listing_server(heard) as url, pytest.raises(RefusedError):
        repository.fetch(url, refspecs, prune=True)
    ((encoding, body),) = heard
    assert encoding == "gzip"
    assert len(body) < 350
    asked = {line[4:] for line in gzip.decompress(body).split(b"\n") if b"ref-prefix " in line}
    spellings = ("", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/")
    exact = {f"{spelling}refs/heads/{name}" for spelling in spellings for name in names}
    exact |= {f"refs/remotes/refs/heads/{name}/HEAD" for name in names} | {"refs/colab/live/"}
    assert asked == {f"ref-prefix {name}".encode() for name in exact}


def processes_about(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and text in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_server_that_never_answers_is_unreachable_and_no_process_is_left(repository: Repository) -> None:
    commit = one_commit(repository)
    with silent_server() as url:
        with ThreadPoolExecutor(1) as aside:
            pushing = aside.submit(repository.push, url, [PushUpdate(commit, MAIN, ABSENT)], timeout_s=3)
            running = harness.wait_until(lambda: processes_about(url), what="git to be at it")
            assert any("git" in process.name() for process in running)
            with pytest.raises(UnreachableError, match="did not end in 3 s and was stopped"):
                pushing.result()
        assert processes_about(url) == []
        with pytest.raises(UnreachableError, match="fetching from http://127"):
            repository.fetch(url, [Refspec(MAIN, TRACKED)], timeout_s=0.5)
        assert processes_about(url) == []


def test_a_command_that_does_not_end_in_time_is_stopped(repository: Repository) -> None:
    hasty = repository.with_timeouts(timeout_s=1e-6, network_timeout_s=1)
    with pytest.raises(StoreError, match="did not end in 1e-06 s"):
        hasty.refs("refs/")


@contextmanager
def a_process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
        yield process
        git_process.end_group(process)


def test_a_process_gets_its_input_and_all_that_it_says_is_read() -> None:
    data = os.urandom(3_000_000)
    with a_process("sh", "-c", "cat; echo done >&2") as process:
        assert git_process.converse(process, data, timeout_s=60) == (data, b"done\n")
        assert process.returncode == 0


def test_a_process_need_not_read_its_input() -> None:
    with a_process("sh", "-c", "exec <&-; echo no; exit 3") as process:
        assert git_process.converse(process, b"x" * 3_000_000, timeout_s=60) == (b"no\n", b"")
        assert process.returncode == 3


def test_the_end_of_a_process_is_seen_without_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system tells nobody when a process ends")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it slept"))
    with a_process("sh", "-c", "exec >&- 2>&-; cat >/dev/null; sleep 0.05") as process:
        git_process.converse(process, b"", timeout_s=60)
        assert process.returncode == 0


@pytest.mark.parametrize("command", ["sleep 600", "exec >&- 2>&-; sleep 600"])
def test_a_process_that_goes_on_is_told_apart_and_left_running(command: str) -> None:
    with a_process("sh", "-c", command) as process:
        with pytest.raises(TimeoutError):
            git_process.converse(process, b"", timeout_s=0.1)
        assert process.poll() is None


def test_a_process_that_ignores_the_first_signal_dies_too(tmp_path: Path) -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; sleep 600 & sleep 600; sleep 600"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"ready\n"
    children = psutil.Process(stubborn.pid).children(recursive=True)
    git_process.end_group(stubborn, grace_s=0.1)
    assert stubborn.returncode == -9
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_nobody_at_the_address_is_unreachable(repository: Repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match="nobody answered"):
        repository.push(f"http://127.0.0.1:{port}/x", [PushUpdate(one_commit(repository), MAIN)])


def test_a_server_in_trouble_is_unreachable(repository: Repository) -> None:
    with answering_server(503) as url, pytest.raises(UnreachableError, match="503"):
        repository.fetch(url, [Refspec(MAIN, TRACKED)])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_says_no_is_a_refusal(repository: Repository, status: int) -> None:
    with answering_server(status) as url:
        with pytest.raises(RefusedError, match="check the address, the token"):
            repository.fetch(url, [Refspec(MAIN, TRACKED)])
        with pytest.raises(RefusedError):
            repository.push(url, [PushUpdate(one_commit(repository), MAIN)])


def test_no_message_has_a_password_in_it(repository: Repository) -> None:
    with answering_server(403) as url:
        address = url.replace("http://", "http://ada:s3cret@")
        with pytest.raises(RefusedError) as refused:
            repository.fetch(address, [Refspec(MAIN, TRACKED)])
    with pytest.raises(StoreError) as unusable:
        repository.fetch("ftp://ada:s3cret@host/x", [Refspec(MAIN, TRACKED)])
    assert "s3cret" not in f"{refused.value}{unusable.value}"
    assert "s3cret" not in repr(replace(repository, runner=replace(repository.runner, token="s3cret")))


@pytest.mark.git_http
def test_a_daemon_logs_in_with_its_token_and_nothing_shows_it(server: GitHttpServer, tmp_path: Path) -> None:
    served = server.create("lab")
    url, token = git_names.split_credentials(server.url("lab", user="writer"))
    assert (url.count("writer@"), token) == (1, PASSWORDS["writer"])
    daemon = Repository.init_bare(tmp_path / "cache.git", isolated=True, token=token)
    commit = one_commit(daemon)
    assert daemon.push(url, [PushUpdate(commit, MAIN, ABSENT)]) is PushOutcome.LANDED
    assert daemon.push(url, [PushUpdate(one_commit(daemon, "x"), MAIN, ABSENT)]) is PushOutcome.REJECTED
    assert daemon.fetch(url, [Refspec(MAIN, TRACKED)]) == frozenset()
    assert harness.refs(served) == {MAIN: commit}
    for user, token in (("writer", "wrong-token"), ("reader", PASSWORDS["reader"])):
        stranger = Repository.init_bare(tmp_path / "cache.git", isolated=True, token=token)
        with pytest.raises(RefusedError) as refused:
            stranger.push(url.replace("writer", user), [PushUpdate(one_commit(stranger, "y"), MAIN)])
        assert token not in str(refused.value)
    without = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    with pytest.raises(RefusedError, match="was refused"):
        without.fetch(url, [Refspec(MAIN, TRACKED)])


@pytest.mark.git_http
def test_a_daemon_is_asked_for_its_password_once(server: GitHttpServer, tmp_path: Path) -> None:
    server.create("lab")
    url, token = git_names.split_credentials(server.url("lab", user="writer"))
    daemon = Repository.init_bare(tmp_path / "cache.git", isolated=True, token=token)
    assert daemon.push(url, [PushUpdate(one_commit(daemon), MAIN, ABSENT)]) is PushOutcome.LANDED
    before = len(server.access_log())
    daemon.fetch(url, [Refspec(MAIN, TRACKED)])
    new = harness.wait_until(
        lambda: log if len(log := server.access_log()[before:]) == 3 else None, what="three requests"
    )
    assert [(line.split()[2], line.split()[8]) for line in new] == [
        ("-", "401"),
        ("writer", "200"),
        ("writer", "200"),
    ]


def test_a_token_goes_to_the_host_that_it_is_for_and_into_no_argument(repository: Repository) -> None:
    with silent_server() as url, ThreadPoolExecutor(1) as aside:
        trusted = replace(repository, runner=replace(repository.runner, token="s3cret"))
        fetching = aside.submit(trusted.fetch, url, [Refspec(MAIN, TRACKED)], timeout_s=2)
        running = harness.wait_until(lambda: processes_about(url), what="git to be at it")
        arguments = " ".join(word for process in running for word in process.cmdline())
        with pytest.raises(UnreachableError):
            fetching.result()
    host = url.removesuffix("/lab.git")
    assert f"credential.{host}.helper=!" in arguments
    assert "s3cret" not in arguments


# --- answers that no server here gives -------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "[rejected] (stale info)",
        "[rejected] (fetch first)",
        "[rejected] (non-fast-forward)",
        "[remote rejected] (failed to update ref)",
        "[remote rejected] (failed)",
        "[remote rejected] (cannot lock ref 'refs/heads/x': is at 1 but expected 2)",
        "[remote rejected] (cannot lock ref 'refs/heads/x': reference already exists)",
        "[remote rejected] (incorrect old value provided)",
        "[remote rejected] (atomic transaction failed)",
    ],
)
def test_these_answers_are_a_lost_race(reason: str) -> None:
    fell_with_it = "!\ta:refs/colab/y\t[remote rejected] (atomic push failure)"
    output = f"To x\n!\ta:refs/heads/x\t{reason}\n{fell_with_it}\nDone\n"
    assert git_answers.outcome_of_push(output) is PushOutcome.REJECTED


@pytest.mark.parametrize(
    "reason",
    [
        "[remote rejected] (pre-receive hook declined)",
        "[remote rejected] (protected branch hook declined)",
        "[remote rejected] (push declined due to repository rule violations)",
        "[remote rejected] (refusing to allow a Personal Access Token to create or update workflow"
        " `.github/workflows/ci.yml` without `workflow` scope)",
        "[remote rejected] (permission denied)",
        "[remote rejected] (something that nobody has heard of)",
        "[remote rejected] (shallow update not allowed)",
    ],
)
def test_these_are_not(reason: str) -> None:
    output = f"!\ta:refs/heads/x\t{reason}\n!\ta:refs/colab/y\t[rejected] (atomic push failed)\n"
    assert git_answers.outcome_of_push(output) is None
    (said,) = git_answers.refusal_reasons(output)
    assert said in reason


LOST = """fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists."""
ACCESS = "fatal: unable to access 'https://h/'"


@pytest.mark.parametrize(
    ("kind", "stderr"),
    [
        (UnreachableError, f"{ACCESS}: Could not resolve host: h"),
        (UnreachableError, f"ssh: Could not resolve hostname h: Name or service not known\n{LOST}"),
        (UnreachableError, f"kex_exchange_identification: Connection closed by remote host\n{LOST}"),
        (UnreachableError, "error: RPC failed; curl 56 GnuTLS recv error\nfatal: the remote end hung up"),
        (UnreachableError, "fatal: the remote end hung up unexpectedly"),
        (UnreachableError, "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output"),
        (UnreachableError, f"{ACCESS}: The requested URL returned error: 500"),
        (UnreachableError, f"{ACCESS}: The requested URL returned error: 429"),
        (UnreachableError, LOST),
        (RefusedError, f"git@github.com: Permission denied (publickey).\n{LOST}"),
        (RefusedError, f"Host key verification failed.\n{LOST}"),
        (RefusedError, f"ERROR: Repository not found.\n{LOST}"),
        (
            RefusedError,
            "remote: Invalid username or password.\nfatal: Authentication failed for 'https://h/'",
        ),
        (RefusedError, "fatal: could not read Username for 'https://h': terminal prompts disabled"),
        (RefusedError, f"remote: timed out\n{ACCESS}: The requested URL returned error: 403"),
        (RefusedError, f"{ACCESS}: SSL certificate problem: self-signed certificate"),
    ],
)
def test_what_a_failed_connection_means(kind: type[StoreError], stderr: str) -> None:
    error = git_answers.network_error("fetching from x", stderr=stderr, said="words")
    assert type(error) is kind


# --- checkouts, disk -------------------------------------------------------------------------------------


def test_each_job_gets_a_checkout_of_its_own_commit(tmp_path: Path, project: Path, bare_remote: Path) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    cache.fetch(bare_remote.as_uri(), [Refspec("refs/heads/main", "refs/colab/code/main")])
    commit = cache.resolve("refs/colab/code/main")
    assert commit is not None
    for name in ("one", "two"):
        cache.add_checkout(tmp_path / "work" / name, commit)
        assert (tmp_path / "work" / name / "train.py").read_text() == "print('trained')\n"
    # A job deletes its folder, or leaves files and folders without permissions in it; the next attempt comes.
    shutil.rmtree(tmp_path / "work" / "one")
    locked = write(tmp_path / "work" / "two" / "locked" / "x", "x").parent
    locked.chmod(0)
    for name in ("one", "two"):
        cache.add_checkout(tmp_path / "work" / name, commit)
        assert {path.name for path in (tmp_path / "work" / name).iterdir()} == {
            ".git",
            ".gitignore",
            "train.py",
        }
        cache.remove_checkout(tmp_path / "work" / name)
        cache.remove_checkout(tmp_path / "work" / name)
    assert list((tmp_path / "work").iterdir()) == []
    assert cache.object_bytes() > 100


def test_what_a_job_does_with_git_stays_in_its_checkout(
    tmp_path: Path, project: Path, bare_remote: Path
) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    cache.fetch(bare_remote.as_uri(), [Refspec("refs/heads/main", "refs/colab/code/main")])
    commit = cache.resolve("refs/colab/code/main")
    assert commit is not None
    config = (tmp_path / "cache.git" / "config").read_bytes()

    one, two = tmp_path / "work" / "one", tmp_path / "work" / "two"
    cache.add_checkout(one, commit)
    assert git(one, "rev-parse", "HEAD") == commit
    assert git(one, "status", "--porcelain") == ""
    git(one, "config", "user.name", "Job")
    git(one, "config", "core.hooksPath", "hooks")
    git(one, "checkout", "-q", "-b", "main")
    write(one / "train.py", "changed")
    git(one, "commit", "-qam", "By the job")
    write(one / "train.py", "stashed")
    git(one, "stash", "-q")
    git(one, "tag", "mine")
    git(one, "gc", "-q", "--prune=now")
    git(one, "reflog", "expire", "--all", "--expire=now")

    assert (tmp_path / "cache.git" / "config").read_bytes() == config
    assert all(name.startswith("refs/colab/") for name in refs(tmp_path / "cache.git"))
    cache.add_checkout(two, commit)
    assert (two / "train.py").read_text() == "print('trained')\n"
    assert try_git(two, "config", "--local", "core.hooksPath").stdout == ""
    assert (refs(two), git(two, "rev-parse", "HEAD")) == ({}, commit)
    cache.remove_checkout(one)
    cache.remove_checkout(two)
    assert set(refs(tmp_path / "cache.git")) == {"refs/colab/code/main"}


def age(repository: Path, *, seconds: float) -> None:
    """Make everything in the object store older than it is."""
    for path in (repository / "objects").rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def loose_objects(repository: Path) -> int:
    return sum(1 for path in (repository / "objects").glob("??/*"))


def test_compacting_removes_what_nothing_reaches_and_keeps_what_jobs_borrow(tmp_path: Path) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    kept = cache.build_commit({"a": b"kept"}, message="Kept", date_s=1, ref="refs/colab/kept")
    borrowed = cache.build_commit({"a": b"borrowed"}, message="Borrowed", date_s=1)
    for number in range(20):
        cache.build_commit({"live.json": str(number).encode()}, message="Alive", date_s=number)
    cache.add_checkout(tmp_path / "job", borrowed)
    age(cache.git_dir, seconds=3600)
    fresh = cache.build_commit({"live.json": b"fresh"}, message="Alive", date_s=100)
    before = loose_objects(cache.git_dir)
    assert before > 60

    assert not cache.compact(loose=before, grace_s=600, timeout_s=60)
    assert loose_objects(cache.git_dir) == before
    assert cache.compact(loose=before - 1, grace_s=600, timeout_s=60)

    assert loose_objects(cache.git_dir) == 3
    assert [cache.has(each) for each in (kept, borrowed, fresh)] == [True, True, True]
    assert git(tmp_path / "job", "fsck", "--no-dangling", "--full") == ""
    cache.remove_checkout(tmp_path / "job")
    age(cache.git_dir, seconds=3600)
    assert cache.compact(loose=0, grace_s=600, timeout_s=60)
    assert not cache.has(fresh)
    assert cache.has(kept)


def test_many_packs_become_one_while_what_is_fresh_stays(tmp_path: Path) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    for number in range(git_upkeep.PACKS + 2):
        cache.build_commit({str(number): b"x"}, message="Kept", date_s=number, ref=f"refs/colab/{number}")
        cache.compact(loose=0, grace_s=600, timeout_s=60)
    assert len(list((cache.git_dir / "objects" / "pack").glob("*.pack"))) <= 2
    assert all(cache.resolve(f"refs/colab/{number}") for number in range(git_upkeep.PACKS + 2))


def test_a_checkout_of_a_commit_that_is_not_here_says_so(tmp_path: Path) -> None:
    cache = Repository.init_bare(tmp_path / "cache.git", isolated=True)
    with pytest.raises(StoreError, match=r"moving refs in .* failed"):
        cache.add_checkout(tmp_path / "work", "1" * 40)


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        # A file system's quota is nothing that a test without root can have.
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        repository = Repository.init_bare(small / "cache.git", isolated=True)
        with pytest.raises(StoreError, match="No space left on device"):
            repository.build_commit({"big": os.urandom(3_000_000)}, message="Add", date_s=1)
        write(tmp_path / "big", "").write_bytes(os.urandom(600_000))
        with pytest.raises(StoreError, match="the disk is full: free some space"):
            repository.build_commit({"big": tmp_path / "big"}, message="Add", date_s=1)
    finally:
        subprocess.run(["umount", small], check=True)
