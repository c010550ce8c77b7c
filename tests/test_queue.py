from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import pytest
from workers import Worker, text_output

from colab_magics import queue
from colab_magics.errors import JobFailedError, RefusedError, SpecError, StoreError, UsageError, VariableError
from colab_magics.handles import JobHandle
from colab_magics.job_set import JobSet
from colab_magics.jobs.request import Request
from colab_magics.settings import Settings
from colab_magics.store import git_process
from colab_magics.store.branches import BranchStore
from colab_magics.store.git import Repository
from colab_magics.store.locate import Queue, find_project, remote_queue


class Client:
    """A person at a project with a remote, and a worker that has another clone of it."""

    def __init__(self, project: Path, remote: Path, elsewhere: Path) -> None:
        self.project, self.remote = project, remote
        self.repository = find_project(project)
        self.queue: Queue = remote_queue(self.repository)
        cache = Repository.init_bare(elsewhere, isolated=True)
        self.worker = Worker(BranchStore(cache, remote=remote.as_uri(), label="queue"))

    def prepare(
        self,
        cell: str | None = "x = 1",
        namespace: Mapping[str, object] | None = None,
        settings: Settings | None = None,
        **request: Any,
    ) -> queue.Prepared:
        return queue.prepare(
            self.repository,
            Request(**request),
            cell=cell,
            namespace=namespace or {},
            settings=settings or Settings(),
            remote="origin",
            folder=self.project,
        )

    def submit(self, cell: str | None = "x = 1", **more: Any) -> Any:
        return queue.submit(self.queue, self.prepare(cell, **more))

    def entries(self) -> list[dict[str, Any]]:
        text = harness.git(self.remote, "show", "gpu-experiments:experiments.json")
        return json.loads(text)  # type: ignore[no-any-return]

    def file(self, path: str) -> str:
        return harness.git(self.remote, "show", f"gpu-experiments:{path}")


@pytest.fixture
def client(project: Path, bare_remote: Path, tmp_path: Path) -> Client:
    return Client(project, bare_remote, tmp_path / "worker.git")


def test_a_cell_is_queued_exactly_as_it_is_written(client: Client) -> None:
    cell = "# Train\n%matplotlib inline\n!ls\nx = 1  \n"
    handle = client.submit(cell)
    [entry] = client.entries()
    assert (entry["name"], entry["id"]) == ("Train", handle.job_id)
    assert client.file(entry["cell"]) == cell.removesuffix("\n")
    assert entry["command"] == f"ipython {entry['cell']}"


def test_the_code_is_what_is_on_disk_and_nothing_of_the_persons_changes(client: Client) -> None:
    harness.write(client.project / "train.py", "print('edited')\n")
    harness.write(client.project / "new.py", "print('new')\n")
    before = harness.untouched_state(client.project)
    handle = client.submit()
    assert harness.untouched_state(client.project) == before
    code = harness.refs(client.remote)[f"refs/colab/code/{handle.commit[:16]}"]
    assert harness.git(client.remote, "show", f"{code}:train.py") == "print('edited')"
    assert harness.git(client.remote, "show", f"{code}:new.py") == "print('new')"


def test_a_grid_is_one_push(client: Client) -> None:
    jobs = client.submit(name="audio", axes=(("lr", (0.1, 0.2)), ("bs", (16, 32, 64))))
    assert isinstance(jobs, JobSet)
    assert len(jobs) == 6
    assert client.entries()[0]["name"] == "audio lr=0.1 bs=16"
    assert harness.git(client.remote, "rev-list", "--count", "gpu-experiments") == "1"
    assert jobs.state == {"queued": 6}


def test_variables_go_along_in_open_formats(client: Client) -> None:
    client.submit(inputs=("data",), namespace={"data": [1, 2]}, outputs=("acc",))
    [entry] = client.entries()
    assert entry["in"]["data"]["kind"] == "json"
    assert "[1" in client.file(entry["in"]["data"]["path"])
    assert entry["out"] == ["acc"]


def test_requirements_go_along(client: Client) -> None:
    harness.write(client.project / "needs.txt", "einops\n")
    client.submit(requirements="needs.txt")
    [entry] = client.entries()
    assert client.file(entry["requirements"]) == "einops"


def test_requirements_that_are_not_there_are_told(client: Client) -> None:
    with pytest.raises(
        UsageError, match=r"^--requirements needs\.txt cannot be read: No such file or directory"
    ):
        client.prepare(requirements="needs.txt")


@pytest.mark.parametrize("cell", ["", "   ", "\n\n\t\n"])
def test_an_empty_cell_is_refused(client: Client, cell: str) -> None:
    with pytest.raises(SpecError, match=r"^the cell is empty: there is nothing to queue$"):
        client.prepare(cell)


def test_a_cell_of_ten_megabytes_is_refused(client: Client) -> None:
    with pytest.raises(SpecError, match=r"^the cell has 10\.0 MB, 1\.0 MB is the most; keep data in a file"):
        client.prepare("x = '" + "a" * 10_000_000 + "'")


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            "x = 1\ny = = 2",
            r"^line 2 of the cell is not Python: 'y = = 2' \(invalid syntax\); nothing was queued$",
        ),
        ("def f():\nreturn 1", r"^line 2 of the cell is not Python: 'return 1' \(expected an indented block"),
        ("return 1", r"'return' outside function"),
        ("print('a", r"^line 1 of the cell is not Python: \"print\('a\" \(unterminated string"),
        ("x = 1\0", r"nothing was queued$"),
        ("(" * 5000, r"nothing was queued$"),
    ],
)
def test_a_cell_that_is_not_python_is_refused_with_its_line(client: Client, cell: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        client.prepare(cell)
    assert "refs/heads/gpu-experiments" not in harness.refs(client.remote)


@pytest.mark.parametrize(
    "cell",
    [
        "%time x = 1",
        "%%bash\necho hi",
        "!ls",
        "x?",
        "await thing()",
        "async for x in y: pass",
        "'\\d'",
    ],
)
def test_what_ipython_understands_is_queued(client: Client, cell: str) -> None:
    assert client.prepare(cell).specs[0].cell is not None


def test_an_unknown_variable_is_told_with_the_one_that_may_be_meant(client: Client) -> None:
    with pytest.raises(
        VariableError, match=r"^--in dta: there is no variable 'dta' here; did you mean data\?$"
    ):
        client.prepare(inputs=("dta",), namespace={"data": 1, "_dta": 2})
    with pytest.raises(VariableError, match=r"there is no variable 'x' here; assign it before you queue$"):
        client.prepare(inputs=("x",))


def test_a_variable_that_cannot_be_sent_is_told_with_its_type_and_the_way_out(client: Client) -> None:
    with pytest.raises(VariableError, match=r"^lock is a .*--pickle$"):
        client.prepare(inputs=("lock",), namespace={"lock": threading.Lock})


def test_a_pickle_is_sent_with_a_warning(client: Client) -> None:
    prepared = client.prepare(inputs=("kind",), namespace={"kind": Path}, allow_pickle=True)
    assert prepared.notes[0].startswith("kind goes as a pickle, which can run any code when it is opened")
    assert prepared.specs[0].allow_pickle


def test_a_variable_over_the_limit_is_told_with_the_setting(client: Client) -> None:
    with pytest.raises(VariableError, match="max_variable_mb"):
        client.prepare(
            inputs=("x",), namespace={"x": "a" * 2_000_000}, settings=Settings(max_variable_mb=1.0)
        )


@pytest.mark.parametrize("name", ["two\nlines", "a\x1b[31m"])
def test_a_name_that_is_not_one_line_is_refused(client: Client, name: str) -> None:
    with pytest.raises(SpecError, match="has a line break or control character"):
        client.prepare(name=name)


@pytest.mark.parametrize("name", ["a/b", "../x", "..", "zażółć 🦆", "-x", "$HOME", "a" * 200])
def test_other_names_are_fine(client: Client, name: str) -> None:
    handle = client.submit(name=name)
    assert client.entries()[0]["name"] == name
    assert client.worker.job(handle.job_id).name == name


def test_a_cell_and_a_command_together_are_refused(client: Client) -> None:
    with pytest.raises(SpecError, match="either a cell or --command, not both"):
        client.prepare("x = 1", command="make")
    with pytest.raises(SpecError, match="--command is empty"):
        client.prepare(None, command="  ")


def test_a_file_that_is_too_large_is_named(client: Client) -> None:
    harness.write(client.project / "big.bin", "x" * 2_000_000)
    with pytest.raises(UsageError, match=r"big\.bin"):
        client.prepare(settings=Settings(max_file_mb=1.0))


def test_what_is_left_out_of_the_code_is_told(client: Client) -> None:
    harness.write(client.project / ".env", "TOKEN=x\n")
    assert any(".env" in note for note in client.prepare().notes)


def test_a_dry_run_tells_everything_and_sends_nothing(client: Client) -> None:
    before = harness.refs(client.remote)
    prepared = client.prepare(
        "x = 1", name="audio", axes=(("lr", (0.1, 0.2)),), inputs=("d",), namespace={"d": 1}
    )
    told = str(queue.dry_run(client.repository, "origin", prepared))
    assert told.startswith("Would queue 2 jobs to origin")
    assert "Nothing was sent" in told
    assert "cells/" in told
    assert "inputs/" in told
    assert harness.refs(client.remote) == before
    assert client.queue.store.view().waiting == ()


def test_a_grid_whose_command_ignores_it_is_told(client: Client) -> None:
    axes = (("lr", (0.1, 0.2)),)
    ignored = client.prepare(None, command="python train.py", axes=axes)
    assert "no axis of the grid is in the command: {lr} would stand for its value" in ignored.notes
    assert client.prepare(None, command="python train.py {lr}", axes=axes).notes == ()


@pytest.mark.parametrize("count", [1, 100])
def test_queueing_asks_git_little_and_the_network_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    client.submit("x = 1")
    harness.write(client.project / "new.py", "new\n")
    harness.write(client.project / "train.py", "edited\n")
    asked: list[str] = []
    usual = git_process.run_git

    def listening(arguments: Sequence[str], **more: Any) -> git_process.Finished:
        asked.append(" ".join(arguments))
        return usual(arguments, **more)

    monkeypatch.setattr(git_process, "run_git", listening)
    client.submit("x = 1", axes=(("seed", tuple(range(count))),))
    assert len([line for line in asked if " push " in line or " fetch " in line]) == 1
    assert len(asked) <= 10, asked
    assert len(client.entries()) == 1 + count


def test_a_staged_file_that_the_clone_has_lost_is_told_and_nothing_is_queued(client: Client) -> None:
    harness.write(client.project / "lost.py", "lost\n")
    harness.git(client.project, "add", "lost.py")
    blob = harness.git(client.project, "rev-parse", ":lost.py")
    (client.project / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(StoreError, match=r"lost\.py"):
        client.submit("x = 1")
    assert harness.refs(client.remote).keys() == {"refs/heads/main"}
    assert client.queue.store.view().waiting == ()


def test_without_a_network_a_job_waits_and_says_so_and_goes_with_the_next_command(
    client: Client, tmp_path: Path
) -> None:
    client.remote.rename(tmp_path / "away.git")
    harness.git(client.project, "remote", "set-url", "origin", "http://127.0.0.1:9/x.git")
    handle = client.submit(name="audio")
    assert handle.state == "waiting"
    assert "waits on this machine" in str(handle)
    assert "jupyter colab sync sends it" in str(handle)
    (tmp_path / "away.git").rename(client.remote)
    harness.git(client.project, "remote", "set-url", "origin", client.remote.as_uri())
    assert handle.refresh().state == "queued"
    assert client.entries()[0]["id"] == handle.job_id


def test_a_remote_that_refuses_leaves_nothing_queued(client: Client) -> None:
    hook = harness.write(
        client.remote / "hooks" / "pre-receive", "#!/bin/sh\necho 'no pushes today' >&2\nexit 1\n"
    )
    hook.chmod(0o755)
    with pytest.raises(RefusedError, match="no pushes today"):
        client.submit()
    assert client.queue.store.view().waiting == ()


def test_a_handle_follows_its_job(client: Client) -> None:
    handle = client.submit("acc = 1", name="audio", outputs=("acc",))
    assert isinstance(handle, JobHandle)
    assert (handle.name, handle.state, handle.is_done) == ("audio", "queued", False)
    with pytest.raises(UsageError, match=r"is queued: wait\(\) for it first"):
        handle.result()
    client.worker.succeed(
        handle.job_id, outputs=[text_output("hello\n")], variables={"acc": 0.9}, log="hello\n"
    )
    assert handle.wait(timeout_s=60).state == "succeeded"
    assert handle.result() == {"acc": 0.9}
    assert str(handle.outputs) == "hello\n"
    assert "hello" in str(handle.logs())


def test_waiting_ends_after_its_time_and_the_job_goes_on(client: Client) -> None:
    handle = client.submit()
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(TimeoutError, match="did not finish in 5 s; it goes on without you"):
        handle.wait(timeout_s=5, clock=lambda: now[0], sleep=sleep)
    assert not handle.is_done


def test_the_result_of_a_failed_job_raises_with_its_traceback(client: Client) -> None:
    handle = client.submit(name="audio")
    client.worker.fail(handle.job_id, error=ValueError("bad shape"))
    handle.refresh()
    with pytest.raises(
        JobFailedError, match=r"^audio \(.*\) failed: ValueError: bad shape\nTraceback of ValueError"
    ):
        handle.result()
    assert f"jupyter colab queue retry {handle.job_id}" in str(handle)


def test_a_job_can_be_cancelled(client: Client) -> None:
    handle = client.submit()
    handle.cancel()
    assert client.entries()[0]["cancel"] is True
    assert not client.worker.job(handle.job_id).wanted
    assert "asked to stop" in str(handle)


def test_a_retry_is_a_new_job_with_the_same_code_and_inputs(client: Client) -> None:
    handle = client.submit("acc = x", name="audio", inputs=("x",), namespace={"x": 1}, outputs=("acc",))
    with pytest.raises(UsageError, match="is queued: cancel it before you queue it again"):
        handle.retry()
    client.worker.fail(handle.job_id, error=ValueError("no"))
    harness.write(client.project / "train.py", "changed\n")
    again = handle.refresh().retry()
    first, second = client.entries()
    differing = {key for key in first if first[key] != second[key]}
    assert differing == {"id", "queued_at"}
    assert second["retry_of"] == first["id"]
    assert again.job_id == second["id"]
    assert again.commit == handle.commit


def test_a_set_of_jobs_gathers_their_results(client: Client) -> None:
    jobs = client.submit("acc = lr", name="audio", axes=(("lr", (0.1, 0.2, 0.3)),), outputs=("acc",))
    client.worker.succeed(jobs[0].job_id, variables={"acc": 0.5})
    client.worker.fail(jobs[1].job_id, error=ValueError("no"))
    jobs.refresh()
    assert jobs.state == {"succeeded": 1, "failed": 1, "queued": 1}
    assert dict(jobs.result()["acc"]) == {0.1: 0.5}
    assert list(jobs.frame["state"]) == ["succeeded", "failed"]
    again = jobs.retry()
    assert [handle.params for handle in again] == [{"lr": 0.2}]
    jobs.cancel()
    assert [entry.get("cancel", False) for entry in client.entries()] == [False, False, True, False]


def test_a_set_without_failures_has_nothing_to_retry(client: Client) -> None:
    jobs = client.submit("x = 1", axes=(("lr", (0.1, 0.2)),))
    with pytest.raises(UsageError, match="none of these jobs failed"):
        jobs.retry()


def test_the_table_has_all_jobs(client: Client) -> None:
    client.submit(name="one")
    client.submit(name="two")
    told = str(queue.table([(client.queue, client.queue.store.refresh())]))
    assert "2 jobs: 2 queued" in told
