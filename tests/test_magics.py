from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
from workers import Worker, text_output

from colab_magics import errors
from colab_magics.embedded import stop_runtime
from colab_magics.grid_values import GridValues
from colab_magics.handles import JobHandle
from colab_magics.job_set import JobSet
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.locate import find_project


class Notebook:
    """A real IPython in a project, cell by cell. `shown` is what the last cell put on the screen."""

    def __init__(self, shell: InteractiveShell, capsys: pytest.CaptureFixture[str], worker: Worker) -> None:
        self.shell, self.worker, self._capsys = shell, worker, capsys
        self.shown = ""

    def run(self, source: str) -> Any:
        """Run a cell that must succeed; returns its value."""
        self._capsys.readouterr()
        done = self.shell.run_cell(source)
        self.shown = "".join(self._capsys.readouterr())
        assert done.success, self.shown
        return done.result

    def fail(self, source: str) -> BaseException:
        """Run a cell that must fail; returns what it raised."""
        self._capsys.readouterr()
        done = self.shell.run_cell(source)
        self.shown = "".join(self._capsys.readouterr())
        error = done.error_in_exec or done.error_before_exec
        assert error is not None, self.shown
        return error

    @property
    def variables(self) -> dict[str, Any]:
        return self.shell.user_ns


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    shell.run_line_magic("load_ext", "colab_magics")
    yield shell
    shell.reset(new_session=False)
    InteractiveShell.clear_instance()


@pytest.fixture
def notebook(
    shell: InteractiveShell,
    project: Path,
    bare_remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Notebook:
    monkeypatch.chdir(project)
    cache = Repository.init_bare(tmp_path / "worker.git", isolated=True)
    worker = Worker(BranchStore(cache, remote=bare_remote.as_uri(), label="queue"))
    return Notebook(shell, capsys, worker)


def test_a_cell_is_queued_and_its_value_is_the_handle(notebook: Notebook) -> None:
    handle = notebook.run("%%colab_queue --name audio --timeout 2h\nx = 1")
    assert isinstance(handle, JobHandle)
    assert (handle.name, handle.state) == ("audio", "queued")
    assert handle.job_id in notebook.shown
    assert handle.commit[:10] in notebook.shown
    assert notebook.worker.job(handle.job_id).spec.timeout_s == 7200  # type: ignore[union-attr]


def test_the_cell_does_not_run_here(notebook: Notebook) -> None:
    notebook.run("%%colab_queue\nx_that_stays_away = 1")
    assert "x_that_stays_away" not in notebook.variables


def test_a_grid_goes_there_and_comes_back(notebook: Notebook) -> None:
    notebook.run("data = [1, 2, 3]")
    jobs = notebook.run(
        "%%colab_queue --name audio --grid lr=0.1,0.2 --param epochs=3 --in data --out acc\n"
        "acc = sum(data) * lr"
    )
    assert isinstance(jobs, JobSet)
    for number, handle in enumerate(jobs):
        notebook.worker.succeed(
            handle.job_id, outputs=[text_output(f"run {number}\n")], variables={"acc": float(number)}
        )
    report = notebook.run("%colab_sync")
    assert "run 0" in notebook.shown
    assert "run 1" in notebook.shown
    assert isinstance(notebook.variables["acc"], GridValues)
    assert notebook.run("acc[0.2]") == 1.0
    assert list(notebook.run("acc.frame").columns) == ["lr", "acc"]
    assert "acc: 2 values of the grid audio" in str(report)
    assert str(notebook.run("%colab_sync")) == "Nothing new: 2 succeeded"


def test_hints_are_magics_in_a_notebook(notebook: Notebook) -> None:
    assert "No jobs yet. Put %%colab_queue" in str(notebook.run("%colab_queue"))
    assert "%colab_sync brings its results" in str(notebook.run("%%colab_queue\nx = 1"))


def test_the_line_alone_is_the_table(notebook: Notebook) -> None:
    notebook.run("%colab_queue")
    assert "No jobs yet" in notebook.shown
    handle = notebook.run("%%colab_queue --name audio\nx = 1")
    notebook.run("%colab_queue")
    assert handle.job_id in notebook.shown


def test_a_command_with_quotes_and_braces_is_queued_as_it_is(notebook: Notebook) -> None:
    notebook.run("lr = 'the notebook has its own'")
    notebook.run("%colab_queue --command \"python train.py --lr {lr} --to '$HOME'\" --grid lr=0.1,0.2")
    commands = [job.spec.command for job in notebook.worker._store.refresh().jobs if job.spec]
    assert commands == ["python train.py --lr 0.1 --to '$HOME'", "python train.py --lr 0.2 --to '$HOME'"]


def test_the_verbs_take_the_beginning_of_an_id_or_a_name(notebook: Notebook) -> None:
    first = notebook.run("%%colab_queue --name audio\nx = 1")
    second = notebook.run("%%colab_queue --name video\nx = 1")
    assert notebook.run(f"%colab_queue show {first.job_id[:-3]}").job_id == first.job_id
    notebook.run("%colab_queue cancel video")
    assert not notebook.worker.job(second.job_id).wanted
    assert f"asked {second.job_id} to stop" in notebook.shown
    notebook.worker.fail(first.job_id, error=ValueError("no"), log="what it printed\n")
    notebook.run("%colab_queue logs audio")
    assert "what it printed" in notebook.shown
    again = notebook.run("%colab_queue retry --failed")
    assert again.name == "audio"
    assert again.job_id != first.job_id


def test_following_a_log_ends_with_the_job(notebook: Notebook) -> None:
    handle = notebook.run("%%colab_queue --name audio\nx = 1")
    notebook.worker.succeed(handle.job_id, log="all of it\n")
    notebook.run("%colab_queue logs audio --follow")
    assert "all of it" in notebook.shown


def test_a_dry_run_sends_nothing(notebook: Notebook, bare_remote: Path) -> None:
    before = harness.refs(bare_remote)
    notebook.run("%%colab_queue --dry-run --grid lr=0.1,0.2\nx = 1")
    assert "Would queue 2 jobs" in notebook.shown
    assert harness.refs(bare_remote) == before


def test_queueing_and_syncing_touch_nothing_of_the_persons(notebook: Notebook, project: Path) -> None:
    harness.write(project / "train.py", "print('edited')\n")
    before = harness.untouched_state(project)
    handle = notebook.run("%%colab_queue\nx = 1")
    notebook.worker.succeed(handle.job_id)
    assert harness.untouched_state(project) == before
    notebook.run("%colab_sync")
    after = harness.untouched_state(project)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert all(key.startswith("tree colab_results") for key in changed)


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("%%colab_queue --in nothing\nx", errors.VariableError, "there is no variable 'nothing' here"),
        ("%%colab_queue\nx = = 1", errors.SpecError, "line 1 of the cell is not Python: 'x = = 1'"),
        ("%%colab_queue\n   \n", errors.SpecError, "the cell is empty"),
        ("%%colab_queue --timeout soon\nx", errors.SpecError, "found 'soon'"),
        ("%%colab_queue --grid lr\nx", errors.SpecError, "lr"),
        ("%%colab_queue --retries many\nx", errors.UsageError, "--retries is a whole number"),
        ("%%colab_queue --nonsense\nx", errors.UsageError, "unrecognized arguments: --nonsense"),
        ("%%colab_queue audio\nx", errors.UsageError, "--name audio names a job"),
        ("%%colab_queue --name 'open\nx", errors.UsageError, "does not end its quotes"),
        ("%%colab_queue show x\nx", errors.UsageError, "show takes no cell"),
        ("%%colab_queue --command ls\nx", errors.SpecError, "either a cell or --command"),
        ("%%colab_queue --failed\nx", errors.UsageError, "--failed goes with retry"),
        ("%%colab_queue --remote nobody\nx", errors.NoRemoteError, "there is no Git remote 'nobody'"),
        ("%colab_queue show", errors.UsageError, "show needs a job"),
        ("%colab_queue show nothing", errors.UsageError, "there is no job 'nothing': the queue is empty"),
        ("%colab_queue --local", errors.UsageError, "nothing was queued on this machine yet"),
        ("%colab_queue retry --failed", errors.UsageError, "no job failed"),
        ("%colab_sync nothing", errors.UsageError, "there is no job 'nothing'"),
    ],
)
def test_bad_input_is_one_sentence_and_the_cell_has_failed(
    notebook: Notebook, bare_remote: Path, source: str, kind: type[Exception], told: str
) -> None:
    error = notebook.fail(source)
    assert type(error) is kind
    assert told in str(error)
    assert len(notebook.shown.strip().splitlines()) == 1
    assert told in notebook.shown
    assert "Traceback" not in notebook.shown
    assert "refs/heads/gpu-experiments" not in harness.refs(bare_remote)


def test_outside_a_repository_it_says_so(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(notebook.fail("%%colab_queue\nx = 1"), errors.NoRepositoryError)
    assert "is not inside a Git work tree" in notebook.shown


def test_help_is_shown_and_the_docstring_has_every_option(notebook: Notebook) -> None:
    notebook.run("%colab_queue --help")
    assert "--grid" in notebook.shown
    assert "::" not in notebook.shown
    assert notebook.run("%colab_sync --help").lines[0].strip().startswith("%colab_sync [--watch]")
    assert "--dry-run" in str(notebook.shell.find_line_magic("colab_queue").__doc__)
    assert "--no-vars" in str(notebook.shell.find_line_magic("colab_sync").__doc__)


def test_config_beats_the_environment(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_MAGICS_REMOTE", "somewhere")
    assert "'somewhere'" in str(notebook.fail("%%colab_queue\nx = 1"))
    notebook.run("%config ColabMagics.remote = 'origin'")
    notebook.run("%%colab_queue\nx = 1")
    notebook.run("%config ColabMagics.max_variable_mb = 0.001")
    notebook.run("x = 'a' * 5000")
    assert "over the limit" in str(notebook.fail("%%colab_queue --in x\nx"))


def test_another_branch_counts_from_the_next_command_on(notebook: Notebook, bare_remote: Path) -> None:
    notebook.run("%%colab_queue --name first\nx = 1")
    notebook.run("%config ColabMagics.branch = 'big-gpu'")
    notebook.run("%%colab_queue --name second\nx = 1")
    for branch, name in (("gpu-experiments", "first"), ("big-gpu", "second")):
        entries = json.loads(harness.git(bare_remote, "show", f"{branch}:experiments.json"))
        assert [entry["name"] for entry in entries] == [name]


def test_config_shows_units_and_defaults(notebook: Notebook) -> None:
    notebook.run("%config ColabMagics")
    assert "the most that one sent variable may have, in MB; 20 by default" in notebook.shown
    assert "the shortest time between two looks, in seconds; 1 by default" in notebook.shown


def test_what_the_magics_define_is_all_in_the_desk() -> None:
    """About 15 lines each, and nothing that decides: the magics are an edge."""
    tree = ast.parse((harness.ROOT / "colab_magics/magics.py").read_text())
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("colab_")
    }
    assert set(lengths) == {"colab_queue", "colab_sync", "colab_tunnel"}
    assert max(lengths.values()) <= 15


def test_a_job_on_this_machine_is_queued_watched_and_brought_home(notebook: Notebook, project: Path) -> None:
    notebook.run("data = [1, 2, 3]")
    try:
        report = notebook.run(
            "%%colab_queue --local --name audio --grid lr=1,2 --in data --out acc --wait\n"
            "acc = sum(data) * lr\nprint('at', lr)\nacc"
        )
        assert notebook.variables["acc"][2] == 12
        assert "at 1" in notebook.shown
        assert len(report.jobs) == 2
        error = notebook.fail("%colab_queue --local --wait --command 'python train.py; exit 3'")
        assert isinstance(error, errors.JobFailedError)
        assert "1 of 1 job did not succeed: train-" in str(error)
        assert "trained" in notebook.shown
        assert str(notebook.run("%colab_sync")) == "Nothing new: 2 succeeded, 1 failed"
    finally:
        stop_runtime(find_project(project))
