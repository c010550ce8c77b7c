"""A project on both sides: a real server, two folders, and what a person and somebody there do to them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest
import tunnel_stage
from debug_cell import Cell, NotebookDebugger
from jupyter_servers import TOKEN, jupyter_server
from kernel_client import Frontend
from proxy_process import proxy_process

from colab_kernel import sessions
from colab_kernel.runtime import Runtime, TokenSource
from colab_magics.errors import NoRepositoryError, SnapshotError, TunnelError, UsageError
from colab_magics.tunnel import book
from colab_magics.tunnel.hand import Hand
from colab_magics.tunnel.project import Synced, project_at, sync

Sync = Callable[..., Synced]

FILES = {
    "model.py": "size = 1\n",
    "pkg/__init__.py": "",
    "pkg/layers.py": "depth = 1\n",
    "run.sh": "#!/bin/sh\n",
    "ä ö.txt": "umlauts\n",
    ".gitignore": "ignored/\n",
    ".github/workflows/ci.yml": "on: push\n",
}


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    with jupyter_server(tmp_path_factory.mktemp("server")) as server:
        runtime = Runtime(name="far", url=server.url, token=TokenSource(value=TOKEN))
        with Hand.open(runtime) as one:
            yield one


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The project: committed files, an edit, a deletion, a new file, an executable and a link."""
    project = harness.make_project(tmp_path / "project", files={**FILES, "gone.py": "old\n"})
    harness.write(project / "model.py", "size = 2\n")
    (project / "gone.py").unlink()
    harness.write(project / "new.py", "new = 1\n")
    harness.write(project / "ignored/data.bin", "large")
    (project / "run.sh").chmod(0o755)
    (project / "link").symlink_to("model.py")
    return project


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "machine" / "project"


@pytest.fixture
def bring(hand: Hand, here: Path, there: Path) -> Sync:
    def run(*, accept: bool = False, root: str = str(there), folder: Path = here) -> Synced:
        return sync(hand, project_at(folder), remote_root=root, accept=accept, max_file_bytes=5_000_000)

    return run


def files(folder: Path) -> dict[str, str]:
    """Every file but Git's: its text, and what a link leads to."""
    return {
        path.relative_to(folder).as_posix(): f"→ {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.relative_to(folder).parts and (path.is_symlink() or path.is_file())
    }


# --- from here to there ------------------------------------------------------------------------------------


def test_the_project_comes_as_it_is_on_disk_and_nothing_here_is_touched(
    bring: Sync, here: Path, there: Path
) -> None:
    before = harness.untouched_state(here)
    synced = bring()
    assert harness.untouched_state(here) == before
    assert files(there) == {
        **FILES,
        "model.py": "size = 2\n",
        "new.py": "new = 1\n",
        "link": "→ model.py",
    }
    assert os.access(there / "run.sh", os.X_OK)
    assert (synced.remote_root, synced.modules, synced.diff) == (str(there), (), "")
    assert harness.git(there, "status", "--porcelain") == ""


def test_the_second_time_only_what_changed_goes(bring: Sync, here: Path, there: Path) -> None:
    bring()
    assert bring().sent == 0
    untouched = (there / "pkg/layers.py").stat().st_mtime_ns
    harness.write(here / "pkg/__init__.py", "from pkg.layers import depth\n")
    (here / "new.py").unlink()
    (here / "ä ö.txt").unlink()
    harness.write(here / "ä ö.txt/is now/a folder.txt", "deep\n")
    synced = bring()
    assert files(there) == {
        name: text for name, text in files(here).items() if not name.startswith("ignored/")
    }
    assert synced.modules == ("pkg",)
    assert (there / "pkg/layers.py").stat().st_mtime_ns == untouched


def test_a_large_project_comes_in_pieces(bring: Sync, here: Path, there: Path) -> None:
    content = os.urandom(2_400_000).hex()
    harness.write(here / "large.txt", content)
    bring()
    assert (there / "large.txt").read_text() == content


def test_a_file_beyond_the_limit_is_named_and_nothing_is_sent(bring: Sync, here: Path, there: Path) -> None:
    harness.write(here / "huge.txt", "x" * 5_000_001)
    with pytest.raises(SnapshotError, match=r"huge\.txt"):
        bring()
    assert files(there) == {}


# --- what was edited there ---------------------------------------------------------------------------------


def test_an_edit_there_is_shown_and_stays_until_it_is_accepted(bring: Sync, here: Path, there: Path) -> None:
    bring()
    harness.write(there / "pkg/layers.py", "depth = 7\n")
    (there / "run.sh").unlink()
    harness.write(here / "model.py", "size = 3\n")
    before = harness.untouched_state(here)
    synced = bring()
    assert harness.untouched_state(here) == before
    assert synced.waiting == ("pkg/layers.py", "run.sh")
    assert "-depth = 1\n+depth = 7\n" in synced.diff
    assert files(there)["pkg/layers.py"] == "depth = 7\n"
    assert files(there)["model.py"] == "size = 3\n"
    assert not (there / "run.sh").exists()

    index = (here / ".git/index").read_bytes()
    accepted = bring(accept=True)
    assert accepted.taken == ("pkg/layers.py", "run.sh")
    assert (accepted.waiting, accepted.diff) == ((), "")
    assert files(here)["pkg/layers.py"] == "depth = 7\n"
    assert not (here / "run.sh").exists()
    assert (here / ".git/index").read_bytes() == index
    assert bring().sent == 0


def test_a_file_edited_on_both_sides_loses_neither_edit(bring: Sync, here: Path, there: Path) -> None:
    bring()
    harness.write(here / "model.py", "size = 'here'\n")
    harness.write(there / "model.py", "size = 'there'\n")
    waiting = bring()
    assert waiting.waiting == ("model.py",)
    assert (files(here)["model.py"], files(there)["model.py"]) == ("size = 'here'\n", "size = 'there'\n")

    harness.write(here / "model.py.there", "somebody's own\n")
    accepted = bring(accept=True)
    assert accepted.beside == {"model.py": "model.py.there2"}
    assert files(here)["model.py"] == "size = 'here'\n"
    assert files(here)["model.py.there"] == "somebody's own\n"
    assert files(here)["model.py.there2"] == "size = 'there'\n"
    assert files(there)["model.py"] == "size = 'here'\n"
    assert bring().waiting == ()


def test_an_edit_here_of_what_was_removed_there_goes_there_again(
    bring: Sync, here: Path, there: Path
) -> None:
    bring()
    harness.write(here / "model.py", "size = 4\n")
    (there / "model.py").unlink()
    assert bring().waiting == ("model.py",)
    accepted = bring(accept=True)
    assert (accepted.beside, accepted.waiting) == ({}, ())
    assert files(there)["model.py"] == files(here)["model.py"] == "size = 4\n"


def test_an_edit_there_of_what_was_removed_here_is_kept_beside(bring: Sync, here: Path, there: Path) -> None:
    bring()
    (here / "model.py").unlink()
    harness.write(there / "model.py", "size = 5\n")
    accepted = bring(accept=True)
    assert accepted.beside == {"model.py": "model.py.there"}
    assert files(here)["model.py.there"] == "size = 5\n"
    assert not (there / "model.py").exists()


def test_the_same_edit_on_both_sides_is_none(bring: Sync, here: Path, there: Path) -> None:
    bring()
    for side in (here, there):
        harness.write(side / "model.py", "size = 6\n")
    synced = bring()
    assert (synced.waiting, synced.sent) == ((), 0)


def test_what_runs_there_left_files_stays_and_is_told(bring: Sync, here: Path, there: Path) -> None:
    bring()
    harness.write(there / "out.csv", "1,2\n")
    harness.write(there / "ignored/weights.pt", "w")
    synced = bring(accept=True)
    assert (synced.new, synced.new_count) == (("out.csv",), 1)
    assert "out.csv" not in files(here)
    harness.write(here / "out.csv", "from here\n")
    assert bring().waiting == ("out.csv",)
    assert files(there)["out.csv"] == "1,2\n"
    assert bring(accept=True).beside == {"out.csv": "out.csv.there"}
    assert (files(here)["out.csv"], files(here)["out.csv.there"]) == ("from here\n", "1,2\n")
    assert files(there)["ignored/weights.pt"] == "w"


def test_what_is_no_file_there_is_not_overwritten(bring: Sync, here: Path, there: Path) -> None:
    bring()
    harness.write(there / "notes/a.txt", "mine\n")
    harness.write(there / "plots", "mine as well\n")
    harness.write(here / "notes", "a file here\n")
    harness.write(here / "plots/one.txt", "a folder here\n")
    for accept in (False, True):
        assert sorted(bring(accept=accept).kept) == ["notes", "plots/one.txt"]
    assert files(there)["notes/a.txt"] == "mine\n"
    assert files(there)["plots"] == "mine as well\n"
    assert files(here)["notes"] == "a file here\n"


def test_a_link_there_is_not_followed_out_of_the_folder(
    bring: Sync, here: Path, there: Path, tmp_path: Path
) -> None:
    bring()
    elsewhere = harness.write(tmp_path / "elsewhere/layers.py", "mine\n").parent
    (there / "pkg/layers.py").unlink()
    (there / "pkg/__init__.py").unlink()
    (there / "pkg").rmdir()
    (there / "pkg").symlink_to(elsewhere)
    harness.write(here / "pkg/layers.py", "depth = 9\n")
    bring()
    assert files(elsewhere) == {"layers.py": "mine\n"}


def test_commits_of_somebody_there_stay(bring: Sync, here: Path, there: Path) -> None:
    bring()
    harness.write(there / "model.py", "size = 8\n")
    harness.git(there, "commit", "--quiet", "--all", "--message", "Mine")
    mine = harness.git(there, "rev-parse", "HEAD")
    harness.write(here / "new.py", "new = 2\n")
    assert bring(accept=True).taken == ("model.py",)
    assert harness.git(there, "rev-parse", "HEAD") == mine
    assert files(there)["new.py"] == "new = 2\n"


# --- folders that are not ours -----------------------------------------------------------------------------


def test_a_folder_with_something_else_in_it_is_left_alone(bring: Sync, there: Path) -> None:
    harness.write(there / "thesis.tex", "years of work\n")
    with pytest.raises(UsageError, match="is there, and not empty: nothing was changed there"):
        bring()
    assert files(there) == {"thesis.tex": "years of work\n"}
    assert not (there / ".git").exists()


def test_a_repository_of_somebody_and_another_project_are_left_alone(
    bring: Sync, there: Path, tmp_path: Path
) -> None:
    harness.make_project(tmp_path / "theirs")
    before = harness.untouched_state(tmp_path / "theirs")
    with pytest.raises(UsageError, match="not empty"):
        bring(root=str(tmp_path / "theirs"))
    assert harness.untouched_state(tmp_path / "theirs") == before
    bring()
    other = harness.make_project(tmp_path / "other")
    with pytest.raises(UsageError, match="holds another project"):
        bring(folder=other)


def test_a_folder_without_a_repository_is_a_sentence(bring: Sync, tmp_path: Path) -> None:
    with pytest.raises(NoRepositoryError, match="or make one with git init"):
        bring(folder=harness.write(tmp_path / "loose/a.py", "").parent)


def test_a_clone_that_has_lost_what_was_agreed_gets_it_back(bring: Sync, here: Path, there: Path) -> None:
    bring()
    for ref in harness.refs(here):
        if ref.startswith("refs/colab/"):
            harness.git(here, "update-ref", "-d", ref)
    harness.git(here, "gc", "--quiet", "--prune=now")
    harness.write(there / "model.py", "size = 10\n")
    assert bring(accept=True).taken == ("model.py",)


def test_a_pack_that_is_damaged_on_the_way_changes_nothing(
    hand: Hand, bring: Sync, here: Path, there: Path
) -> None:
    bring()
    hand.ask("project_write", root=str(there), offset=0, buffers=[b"PACK, but no more"])
    agreed = harness.git(there, "rev-parse", "refs/colab/agreed")
    with pytest.raises(TunnelError, match="index-pack"):
        hand.ask("project_agree", root=str(there), commit=agreed, agreed=agreed, has_pack=True, settled={})
    assert bring().sent == 0
    assert not (there / ".git/colab-incoming").exists()


# --- as a person does it -----------------------------------------------------------------------------------


@pytest.fixture
def own_home(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "far"))
    (tmp_path / "far").mkdir()
    yield tmp_path
    for name in list(book.load()):
        colab(here, "close", name)


def colab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return tunnel_stage.colab("tunnel", *words, cwd=folder)


MODULE = """\
def double(n):
    result = n * 2
    return result
"""


def test_a_breakpoint_in_a_module_of_the_project_holds_in_a_cell_that_imports_it_there(
    own_home: Path, here: Path
) -> None:
    module = harness.write(here / "helper.py", MODULE)
    opened = colab(here, "local", "--project", ".")
    assert opened.returncode == 0, opened.stderr
    root = sessions.load().get("local").remote_root
    assert root is not None
    assert Path(root).parent == own_home / "far/colab"
    assert f"{here} is at {root} there" in opened.stdout
    cell = Cell(
        "import helper\nnumber = helper.double(21)\nprint(number, helper.__file__)\n", "W8sZmlsZQ%3D%3D"
    )
    with (
        proxy_process(own_home, own_home / "runtime", arguments=["--runtime", "local"]) as proxy,
        Frontend(proxy.connection) as ada,
    ):
        notebook = NotebookDebugger(ada, (cell,))
        notebook.initialize()
        attach = notebook.attach()
        notebook.dump(cell)
        [became] = notebook.debugger.success(notebook.ask_breakpoints(str(module), [{"line": 2}]))[
            "breakpoints"
        ]
        assert became["verified"] is True
        notebook.configure(attach)
        executing = notebook.run(cell)
        thread = notebook.debugger.stopped("breakpoint")
        inner = notebook.debugger.frames(thread)[0]
        assert (inner["source"]["path"], inner["line"]) == (str(module), 2)
        assert notebook.debugger.locals(inner)["n"] == "21"
        notebook.debugger.body("continue", threadId=thread)
        assert ada.done(executing).stdout == f"42 {root}/helper.py\n"


def test_sync_tells_what_is_stale_and_what_waits_and_yes_takes_it(own_home: Path, here: Path) -> None:
    assert colab(here, "local", "--project", ".", "--remote-root", str(own_home / "r")).returncode == 0
    harness.write(here / "model.py", "size = 3\n")
    harness.write(own_home / "r/new.py", "new = 'there'\n")
    said = colab(here / "pkg", "sync")
    assert said.returncode == 0, said.stderr
    assert "+new = 'there'" in said.stdout
    assert "Edited there, and left as it is there: new.py. jupyter colab tunnel sync --yes" in said.stdout
    assert "Kernels that have imported model still run the old code" in said.stdout
    taken = colab(here, "sync", "--yes")
    assert "Edited there, and taken: new.py." in taken.stdout
    assert (here / "new.py").read_text() == "new = 'there'\n"


def test_a_session_without_a_project_gets_one_by_sync_and_keeps_it(own_home: Path, here: Path) -> None:
    assert colab(here, "local").returncode == 0
    assert sessions.load().get("local").local_root is None
    assert colab(here / "pkg", "sync").returncode == 0
    assert sessions.load().get("local").local_root == str(here)
    assert colab(here, "local").returncode == 0
    assert sessions.load().get("local").local_root == str(here)
    assert str(here) in colab(here, "status").stdout


def test_a_project_that_cannot_be_brought_opens_no_session(own_home: Path, here: Path) -> None:
    said = colab(here, "local", "--project", ".", "--remote-root", str(here / "inside"))
    assert said.returncode == 2
    assert "is inside the project itself" in said.stderr
    assert "No session is open." in colab(here, "status").stdout
