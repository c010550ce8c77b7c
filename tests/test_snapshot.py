"""The code on disk as a commit, taken from real clones in every state that people leave them in."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import harness
import pytest
from harness import git, try_git, write

from colab_magics.errors import NoRepositoryError, SnapshotError
from colab_magics.store import git_index
from colab_magics.store.git import PushOutcome, PushUpdate, Repository
from colab_magics.store.snapshot import Snapshot, count_changed_files, looks_like_a_secret, take_snapshot


def snapshot_of(project: Path, **options: int) -> Snapshot:
    """Take a snapshot and hold that nothing of the person's changed by it."""
    before = harness.untouched_state(project)
    taken = take_snapshot(Repository.discover(project), remote="origin", **options)
    assert harness.untouched_state(project) == before
    assert list((project / ".git" / "colab").glob("*")) == [] or (project / ".git").is_file()
    return taken


def changes_of(project: Path, taken: Snapshot) -> int:
    return count_changed_files(Repository.discover(project), taken)


def files_of(project: Path, taken: Snapshot) -> dict[str, str]:
    listed = Repository.discover(project).ls_tree(taken.commit)
    return {entry.path: git(project, "cat-file", "-p", entry.sha) for entry in listed if entry.kind == "blob"}


def modes_of(project: Path, taken: Snapshot) -> dict[str, str]:
    return {entry.path: entry.mode for entry in Repository.discover(project).ls_tree(taken.commit)}


def commit_all(project: Path, *, push: bool = False) -> str:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", "More")
    if push:
        git(project, "push", "--quiet", "origin", "HEAD")
    return git(project, "rev-parse", "HEAD")


def parents_of(project: Path, commit: str) -> list[str]:
    return git(project, "rev-list", "--parents", "--max-count=1", commit).split()[1:]


def tree_that_git_add_makes(project: Path, copy: Path) -> str:
    shutil.copytree(project, copy, symlinks=True)
    git(copy, "add", "--all")
    return git(copy, "write-tree")


# --- the tree is what is on disk -------------------------------------------------------------------------


def test_edits_additions_and_deletions_are_in_it_staged_or_not(project: Path) -> None:
    for name in ("kept", "edited", "deleted", "staged", "unstaged", "uncached"):
        write(project / name, f"{name}\n")
    commit_all(project, push=True)
    write(project / "edited", "edited again\n")
    (project / "deleted").unlink()
    write(project / "staged", "staged\nfor real\n")
    git(project, "add", "staged")
    write(project / "new/deep/file.py", "new\n")
    write(project / "ignored/file", "x")
    write(project / "noise.log", "x")
    git(project, "rm", "--quiet", "unstaged")
    git(project, "rm", "--quiet", "--cached", "uncached")
    git(project, "stash", "list")
    taken = snapshot_of(project)
    assert files_of(project, taken) == {
        ".gitignore": "ignored/\n*.log",
        "train.py": "print('trained')",
        "kept": "kept",
        "edited": "edited again",
        "staged": "staged\nfor real",
        "uncached": "uncached",
        "new/deep/file.py": "new",
    }
    head = git(project, "rev-parse", "HEAD")
    assert (taken.base, taken.branch, taken.left_out) == (head, "main", ())
    assert changes_of(project, taken) == 5


def test_index_stash_and_fetch_head_stay_as_they_are(project: Path) -> None:
    write(project / "train.py", "stashed\n")
    git(project, "stash")
    git(project, "fetch", "--quiet", "origin", "main")
    write(project / "train.py", "staged\n")
    git(project, "add", "train.py")
    write(project / "train.py", "edited\n")
    stash = git(project, "stash", "list")
    taken = snapshot_of(project)
    assert files_of(project, taken)["train.py"] == "edited"
    assert git(project, "stash", "list") == stash
    assert (project / ".git" / "FETCH_HEAD").read_text()
    assert git(project, "diff", "--cached", "--name-only") == "train.py"


def test_it_is_the_tree_that_git_add_would_make(project: Path, tmp_path: Path) -> None:
    rng = random.Random(7)
    names = [f"{a}/{b}" if b else a for a in "abcd" for b in ("", "x", "y", "x y é")]
    for round_ in range(12):
        for name in rng.sample(names, 6):
            path = project / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.parent != project and (path.parent.is_symlink() or path.parent.is_file()):
                path.parent.unlink()
            action = rng.random()
            if action < 0.2:
                path.unlink(missing_ok=True)
            elif action < 0.35:
                path.unlink(missing_ok=True)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(rng.choice(["train.py", "nowhere", "b", "."]))
            else:
                if path.is_symlink():
                    path.unlink()
                write(path, "".join(rng.choices("ab\n", k=8))).chmod(rng.choice([0o644, 0o755]))
            if rng.random() < 0.3:
                try_git(project, "add", "--all", "--", name)
        if rng.random() < 0.4:
            commit_all(project, push=rng.random() < 0.5)
        taken = snapshot_of(project)
        expected = tree_that_git_add_makes(project, tmp_path / f"copy-{round_}")
        assert git(project, "rev-parse", f"{taken.commit}^{{tree}}") == expected


def test_the_same_state_has_the_same_id_and_another_state_another(project: Path) -> None:
    write(project / "train.py", "one\n")
    one = snapshot_of(project)
    assert snapshot_of(project) == one
    write(project / "train.py", "two\n")
    assert snapshot_of(project).commit != one.commit
    write(project / "train.py", "one\n")
    assert snapshot_of(project).commit == one.commit


def test_an_edit_in_the_very_tick_of_the_index_is_seen(project: Path) -> None:
    for number in range(20):
        write(project / "train.py", f"a{number:03}\n")
        git(project, "add", "train.py")
        # Same size, and the time that the index remembers: only the index's own time gives it away.
        remembered = (project / "train.py").stat().st_mtime_ns
        write(project / "train.py", f"b{number:03}\n")
        os.utime(project / "train.py", ns=(remembered, remembered))
        index_time = (project / ".git" / "index").stat().st_mtime_ns
        os.utime(project / ".git" / "index", ns=(index_time, min(index_time, remembered)))
        taken = take_snapshot(Repository.discover(project), remote="origin")
        assert files_of(project, taken)["train.py"] == f"b{number:03}"


def test_it_is_the_whole_project_from_any_folder_in_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / "src/a.py", "a\n")
    write(project / "new.py", "n\n")
    monkeypatch.chdir(project / "src")
    taken = take_snapshot(Repository.discover("."), remote="origin")
    assert set(files_of(project, taken)) == {".gitignore", "train.py", "src/a.py", "new.py"}


def test_links_and_execute_bits_are_kept(project: Path) -> None:
    write(project / "run.sh", "#!/bin/sh\n").chmod(0o755)
    (project / "link").symlink_to("train.py")
    (project / "dangling").symlink_to("/nowhere/at/all")
    (project / "train.py").chmod(0o755)
    taken = snapshot_of(project)
    modes = modes_of(project, taken)
    assert modes["run.sh"] == modes["train.py"] == "100755"
    assert modes["link"] == modes["dangling"] == "120000"
    assert files_of(project, taken)["dangling"] == "/nowhere/at/all"


def test_any_name_that_a_disk_allows_goes_in(project: Path) -> None:
    names = {"new\nline", "tab\t", "🚀.py", 'quo"te\\', "-dash", ":(top)x", " space ", "*", "é/ü"}
    for name in names:
        write(project / name, "x")
    (project / os.fsdecode(b"latin\xe9")).write_text("x")
    taken = snapshot_of(project)
    listed = {entry.path for entry in Repository.discover(project).ls_tree(taken.commit)}
    assert listed == names | {os.fsdecode(b"latin\xe9"), ".gitignore", "train.py"}


def test_what_is_neither_file_nor_link_is_left_out(project: Path) -> None:
    (project / "train.py").unlink()
    os.mkfifo(project / "train.py")
    os.mkfifo(project / "untracked")
    taken = snapshot_of(project)
    assert taken.left_out == ("train.py (neither a file nor a link)",)
    assert set(files_of(project, taken)) == {".gitignore", "train.py"}


def test_a_file_that_vanishes_meanwhile_is_as_if_it_had_never_been(project: Path, tmp_path: Path) -> None:
    runner = Repository.discover(project).runner
    index = tmp_path / "index"
    git_index.copy_index(runner, index)
    (project / "train.py").unlink()
    git_index.update(runner, index=index, paths=["train.py", "was-here-a-moment-ago"])
    listed = git(project, "ls-tree", "--name-only", git_index.write_tree(runner, index=index))
    assert listed == ".gitignore"


def test_line_ends_and_filters_are_those_of_the_project(project: Path) -> None:
    write(project / ".gitattributes", "*.txt text\n*.up filter=up\n")
    git(project, "config", "filter.up.clean", "tr a-z A-Z")
    (project / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    write(project / "b.up", "low")
    taken = snapshot_of(project)
    assert files_of(project, taken)["b.up"] == "LOW"
    assert git(project, "cat-file", "-s", f"{taken.commit}:a.txt") == "8"


# --- clones in odd states --------------------------------------------------------------------------------


def test_in_the_middle_of_a_merge_it_has_the_files_with_their_conflict_marks(project: Path) -> None:
    write(project / "both", "base\n")
    write(project / "gone", "base\n")
    commit_all(project, push=True)
    git(project, "checkout", "--quiet", "-b", "side")
    write(project / "both", "side\n")
    git(project, "rm", "--quiet", "gone")
    commit_all(project)
    git(project, "checkout", "--quiet", "main")
    write(project / "both", "main\n")
    write(project / "gone", "main\n")
    commit_all(project)
    assert try_git(project, "merge", "side").returncode == 1
    (project / "gone").unlink()
    taken = snapshot_of(project)
    files = files_of(project, taken)
    assert "<<<<<<<" in files["both"]
    assert "gone" not in files


def test_files_that_a_sparse_checkout_leaves_out_are_in_it(project: Path) -> None:
    write(project / "near/a", "a\n")
    write(project / "far/b", "b\n")
    commit_all(project, push=True)
    git(project, "sparse-checkout", "set", "near")
    assert not (project / "far").exists()
    write(project / "near/a", "edited\n")
    files = files_of(project, snapshot_of(project))
    assert (files["near/a"], files["far/b"]) == ("edited", "b")


def test_files_announced_with_intent_to_add_are_in_it(project: Path) -> None:
    for name in ("announced", "empty", "vanished"):
        write(project / name, "" if name == "empty" else "text\n")
        git(project, "add", "--intent-to-add", name)
    (project / "vanished").unlink()
    files = files_of(project, snapshot_of(project))
    assert (files["announced"], files["empty"]) == ("text", "")
    assert "vanished" not in files


def test_without_an_index_it_is_what_is_on_disk(project: Path) -> None:
    write(project / "new", "n\n")
    (project / ".git" / "index").unlink()
    taken = take_snapshot(Repository.discover(project), remote="origin")
    assert not (project / ".git" / "index").exists()
    assert set(files_of(project, taken)) == {".gitignore", "train.py", "new"}


def test_before_the_first_commit_it_stands_alone(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk", "new")
    write(tmp_path / "new/a.py", "a\n")
    taken = snapshot_of(tmp_path / "new")
    assert (taken.base, taken.branch) == (None, "trunk")
    assert changes_of(tmp_path / "new", taken) == 1
    assert parents_of(tmp_path / "new", taken.commit) == []
    assert git(tmp_path / "new", "log", "-1", "--format=%at %ct %B", taken.commit) == (
        "0 0 Code as it is on disk\n\nBranch: trunk\n"
    )


def test_an_empty_folder_is_an_empty_tree(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "new")
    assert files_of(tmp_path / "new", snapshot_of(tmp_path / "new")) == {}


def test_with_a_detached_head_there_is_no_branch(project: Path) -> None:
    git(project, "checkout", "--quiet", "--detach")
    write(project / "new", "n\n")
    taken = snapshot_of(project)
    assert (taken.branch, taken.base) == (None, git(project, "rev-parse", "HEAD"))


def test_a_linked_worktree_has_a_snapshot_of_its_own(project: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "--quiet", "-b", "side", tmp_path / "side")
    write(tmp_path / "side" / "train.py", "side\n")
    taken = take_snapshot(Repository.discover(tmp_path / "side"), remote="origin")
    assert (taken.branch, files_of(project, taken)["train.py"]) == ("side", "side")


def test_a_split_index_and_an_untracked_cache_change_nothing(project: Path) -> None:
    git(project, "update-index", "--split-index", "--untracked-cache")
    write(project / "new", "n\n")
    git(project, "status")
    write(project / "newer", "n\n")
    assert {"new", "newer"} < set(files_of(project, snapshot_of(project)))
    assert len(list((project / ".git").glob("sharedindex.*"))) == 1


def test_a_bare_repository_has_no_code_on_disk(bare_remote: Path) -> None:
    with pytest.raises(NoRepositoryError, match="has no work tree"):
        take_snapshot(Repository.discover(bare_remote), remote="origin")


def test_a_file_that_git_cannot_take_is_named(project: Path) -> None:
    write(project / ".gitattributes", "*.bad filter=broken\n")
    git(project, "config", "filter.broken.clean", "false")
    git(project, "config", "filter.broken.required", "true")
    write(project / "x.bad", "x")
    with pytest.raises(SnapshotError, match=r"x\.bad.*list it in \.gitignore"):
        snapshot_of(project)


# --- what is not sent ------------------------------------------------------------------------------------


def test_new_and_edited_files_over_the_limit_are_refused_by_name(project: Path) -> None:
    write(project / "old.bin", "x" * 3000)
    commit_all(project, push=True)
    write(project / "small.py", "s")
    snapshot_of(project, max_file_bytes=2000)
    write(project / "old.bin", "y" * 3000)
    write(project / "data/new.bin", "y" * 4_000_000)
    write(project / "ignored/huge.bin", "y" * 4000)
    with pytest.raises(SnapshotError) as refused:
        snapshot_of(project, max_file_bytes=2000)
    assert str(refused.value) == (
        "old.bin (0.003 MB), data/new.bin (4 MB) would be sent and exceed the limit of 0.002 MB a file; list"
        " them in .gitignore, or raise the limit with %config ColabMagics.max_file_mb."
    )
    snapshot_of(project)


def test_of_many_large_files_a_few_are_named(project: Path) -> None:
    for number in range(9):
        write(project / f"{number}.bin", "x" * 3000)
    with pytest.raises(SnapshotError, match=r"4\.bin \(0\.003 MB\) and 4 more would"):
        snapshot_of(project, max_file_bytes=2000)


def test_untracked_files_that_look_like_secrets_stay_here_unless_added(project: Path) -> None:
    write(project / ".env", "TOKEN=1")
    write(project / ".env.example", "TOKEN=")
    write(project / "deploy/server.pem", "x")
    write(project / "known.key", "x")
    git(project, "add", "known.key")
    taken = snapshot_of(project)
    assert set(files_of(project, taken)) == {".gitignore", "train.py", ".env.example", "known.key"}
    assert taken.left_out == (
        ".env (looks like a secret; git add it to send it)",
        "deploy/server.pem (looks like a secret; git add it to send it)",
    )


def test_what_looks_like_a_secret() -> None:
    secrets = (
        ".env .env.local a/.ENV id_rsa id_ed25519 x/key.pem .netrc kaggle.json credentials.json x.p12 .pypirc"
    )
    harmless = (
        ".env.example environment.yml monkey.py keys.py id_ed25519.pub pem train.py .envrc.md kaggle.py"
    )
    assert [name for name in secrets.split() if not looks_like_a_secret(name)] == []
    assert [name for name in harmless.split() if looks_like_a_secret(name)] == []


def test_workflows_stay_as_they_were_pushed(project: Path) -> None:
    folder = project / ".github" / "workflows"
    for name in ("edited", "deleted", "staged", "unstaged", "same"):
        write(folder / f"{name}.yml", "pushed\n")
    pushed = commit_all(project, push=True)
    write(folder / "edited.yml", "mine\n")
    (folder / "deleted.yml").unlink()
    write(folder / "staged.yml", "mine\n")
    git(project, "add", ".github/workflows/staged.yml")
    git(project, "rm", "--quiet", "--cached", ".github/workflows/unstaged.yml")
    write(folder / "new.yml", "mine\n")
    write(project / ".github" / "notes.md", "mine\n")
    taken = snapshot_of(project)
    ours = git(project, "ls-tree", "-r", taken.commit, "--", ".github/workflows/")
    assert ours == git(project, "ls-tree", "-r", pushed, "--", ".github/workflows/")
    assert ".github/notes.md" in files_of(project, taken)
    assert [note.split(" ")[0].rpartition("/")[2] for note in taken.left_out] == [
        "deleted.yml",
        "edited.yml",
        "new.yml",
        "staged.yml",
        "unstaged.yml",
    ]
    git(project, "rm", "-r", "-f", "--quiet", ".github")
    taken = snapshot_of(project)
    assert ours == git(project, "ls-tree", "-r", taken.commit, "--", ".github/workflows/")


def test_workflows_that_were_never_pushed_are_not_sent(project: Path) -> None:
    write(project / ".github/workflows/ci.yml", "x\n")
    commit_all(project)
    taken = snapshot_of(project)
    assert ".github/workflows/ci.yml" not in files_of(project, taken)
    assert taken.left_out[0].startswith(".github/workflows/ci.yml (a workflow")


def test_files_in_lfs_are_said_to_be_pointers(project: Path) -> None:
    write(project / ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    assert "Git LFS" in snapshot_of(project).left_out[0]


# --- submodules and other repositories inside ------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    files = {"lib.py": "lib\n", ".gitignore": "built/\n", "pkg/deep.py": "deep\n", "gone.py": "x\n"}
    return harness.make_project(tmp_path / "library", files=files)


@pytest.fixture
def with_submodule(project: Path, library: Path) -> Path:
    git(
        project,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        library.as_uri(),
        "vendor/lib",
    )
    commit_all(project, push=True)
    return project


def test_a_submodule_is_sent_as_the_files_on_disk(with_submodule: Path) -> None:
    lib = with_submodule / "vendor/lib"
    write(lib / "lib.py", "edited\n")
    write(lib / "new.py", "new\n")
    write(lib / "built/x.o", "x")
    write(lib / ".env", "TOKEN=1")
    (lib / "gone.py").unlink()
    before = harness.untouched_state(with_submodule)
    taken = take_snapshot(Repository.discover(with_submodule), remote="origin")
    assert harness.untouched_state(with_submodule) == before
    files = files_of(with_submodule, taken)
    assert {path: text for path, text in files.items() if path.startswith("vendor")} == {
        "vendor/lib/lib.py": "edited",
        "vendor/lib/new.py": "new",
        "vendor/lib/pkg/deep.py": "deep",
        "vendor/lib/.gitignore": "built/",
    }
    assert [note.split(" ")[0] for note in taken.left_out] == ["vendor/lib/.env"]
    assert "160000" not in modes_of(with_submodule, taken).values()


def test_submodules_of_submodules_are_too(with_submodule: Path, tmp_path: Path) -> None:
    inner = harness.make_project(tmp_path / "inner", files={"inner.py": "inner\n"})
    lib = with_submodule / "vendor/lib"
    git(lib, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.as_uri(), "third")
    taken = snapshot_of(with_submodule)
    assert files_of(with_submodule, taken)["vendor/lib/third/inner.py"] == "inner"


def test_an_unchanged_submodule_has_no_limit_on_its_files_and_a_changed_one_has(with_submodule: Path) -> None:
    lib = with_submodule / "vendor/lib"
    write(lib / "weights", "x" * 3000)
    commit_all(lib)
    snapshot_of(with_submodule, max_file_bytes=2000)
    write(lib / "weights", "y" * 3000)
    with pytest.raises(SnapshotError, match="vendor/lib/weights"):
        snapshot_of(with_submodule, max_file_bytes=2000)


def test_a_submodule_that_is_not_checked_out_is_named(with_submodule: Path, tmp_path: Path) -> None:
    origin = git(with_submodule, "remote", "get-url", "origin")
    copy = harness.clone(origin, tmp_path / "copy")
    note = "vendor/lib (a submodule that is not checked out; git submodule update --init gets it)"
    taken = snapshot_of(copy)
    assert taken.left_out == (note,)
    assert taken.commit == taken.base
    (copy / "vendor/lib").rmdir()
    assert snapshot_of(copy).left_out == (note,)


def test_a_repository_that_just_lies_there_is_sent_as_files(project: Path) -> None:
    harness.make_project(project / "other", files={"z.py": "z\n"})
    write(project / "other/untracked.py", "u\n")
    git(project, "init", "--quiet", "empty-one")
    write(project / "empty-one/first.py", "f\n")
    files = files_of(project, snapshot_of(project))
    assert {"other/z.py", "other/untracked.py", "empty-one/first.py"} < set(files)


def test_another_work_tree_of_the_same_repository_is_not(project: Path) -> None:
    git(project, "worktree", "add", "--quiet", "-b", "side", project / "side")
    taken = take_snapshot(Repository.discover(project), remote="origin")
    assert taken.left_out == ("side (another work tree of this repository)",)
    assert set(files_of(project, taken)) == {".gitignore", "train.py"}


# --- where the commit hangs ------------------------------------------------------------------------------


def test_a_clean_tree_on_a_published_head_is_that_commit(project: Path) -> None:
    taken = snapshot_of(project)
    assert taken == Snapshot(git(project, "rev-parse", "HEAD"), taken.commit, "main", ())
    assert changes_of(project, taken) == 0


def test_uncommitted_work_hangs_on_the_published_head_with_its_date(project: Path) -> None:
    write(project / "new", "n\n")
    taken = snapshot_of(project)
    assert parents_of(project, taken.commit) == [taken.base]
    date = git(project, "log", "-1", "--format=%ct")
    assert git(project, "log", "-1", "--format=%an <%ae> %at %ct%n%B", taken.commit) == (
        f"colab-magics <colab-magics@localhost> {date} {date}\n"
        f"Code as it is on disk\n\nBase-Commit: {taken.base}\nBranch: main\n"
    )


def test_unpublished_commits_are_not_sent_only_their_files(project: Path, bare_remote: Path) -> None:
    published = git(project, "rev-parse", "HEAD")
    write(project / "one", "1\n")
    secret = commit_all(project)
    write(project / "two", "2\n")
    head = commit_all(project)
    taken = snapshot_of(project)
    assert taken.base == head
    assert changes_of(project, taken) == 0
    assert parents_of(project, taken.commit) == [published]
    assert {"one", "two"} < set(files_of(project, taken))
    repository = Repository.discover(project)
    repository.push("origin", [PushUpdate(taken.commit, "refs/colab/code/x")])
    assert try_git(bare_remote, "cat-file", "-e", secret).returncode != 0


def test_the_nearest_published_commit_is_found_along_first_parents(project: Path) -> None:
    git(project, "checkout", "--quiet", "-b", "side")
    write(project / "side", "s\n")
    commit_all(project, push=True)
    git(project, "checkout", "--quiet", "main")
    write(project / "main", "m\n")
    nearest = commit_all(project, push=True)
    write(project / "more", "m\n")
    commit_all(project)
    git(project, "merge", "--quiet", "--no-edit", "side")
    assert parents_of(project, snapshot_of(project).commit) == [nearest]


def test_what_our_own_fetches_saw_counts_as_published(project: Path) -> None:
    head = commit_all(project)
    git(project, "update-ref", "refs/colab/remote/origin/code/x", head)
    assert snapshot_of(project).commit == head


def test_without_anything_published_there_is_no_parent(tmp_path: Path) -> None:
    project = harness.make_project(tmp_path / "project")
    taken = snapshot_of(project)
    assert parents_of(project, taken.commit) == []
    assert taken.base == git(project, "rev-parse", "HEAD")
    assert git(project, "rev-parse", f"{taken.commit}^{{tree}}") == git(project, "rev-parse", "HEAD^{tree}")


def test_a_shallow_clone_can_push_its_snapshot_where_it_came_from(
    project: Path, bare_remote: Path, tmp_path: Path
) -> None:
    for number in range(3):
        write(project / "train.py", f"{number}\n")
        commit_all(project, push=True)
    git(tmp_path, "clone", "--quiet", "--depth=1", bare_remote.as_uri(), "shallow")
    shallow = tmp_path / "shallow"
    write(shallow / "train.py", "edited\n")
    published = snapshot_of(shallow)
    commit_all(shallow)
    write(shallow / "train.py", "edited again\n")
    unpublished = snapshot_of(shallow)
    repository = Repository.discover(shallow)
    for taken in (published, unpublished):
        assert len(parents_of(shallow, taken.commit)) == 1
        update = PushUpdate(taken.commit, f"refs/colab/code/{taken.commit[:16]}")
        assert repository.push("origin", [update]) is PushOutcome.LANDED
    assert git(bare_remote, "rev-list", "--count", f"refs/colab/code/{published.commit[:16]}") == "5"
