from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workers import Worker, text_output

from colab_magics.display.watching import Screen
from colab_magics.errors import CorruptError, UsageError
from colab_magics.grid_values import GridValues
from colab_magics.jobs.spec import Batch, JobSpec, Json
from colab_magics.jobs.state import Event, Verb
from colab_magics.store.base import Submission
from colab_magics.store.locate import Queue
from colab_magics.store.memory import MemoryRemote, MemoryStore
from colab_magics.store.own import note_own
from colab_magics.sync import Sync, SyncOptions, SyncReport

NOW = 1_700_000_000.0


class Place:
    """A notebook with a work tree on one memory remote, and a worker on the other side."""

    def __init__(self, folder: Path) -> None:
        self.remote = MemoryRemote()
        self.worker = Worker(MemoryStore(self.remote))
        self.work_tree = folder
        self.namespace: dict[str, Any] = {}
        self.awaited: set[str] = set()
        self.queue = self.clone("origin")
        self.now = NOW
        self.slept: list[float] = []
        self.during_sleep: list[Callable[[], None]] = []

    def clone(self, label: str, remote: MemoryRemote | None = None) -> Queue:
        store = MemoryStore(remote or self.remote)
        return Queue(label, label, f"https://example.org/{label}", store, self.work_tree / ".git" / label)

    def submit(self, *job_ids: str, outputs: Sequence[str] = ("acc",), elsewhere: bool = False) -> None:
        specs = tuple(
            JobSpec(each, each, "true", None, 60.0, None, outputs=tuple(outputs)) for each in job_ids
        )
        self.queue.store.submit(Submission(specs))
        if not elsewhere:
            note_own(self.queue.folder, job_ids)

    def submit_spec(self, spec: JobSpec) -> None:
        self.queue.store.submit(Submission((spec,)))
        note_own(self.queue.folder, [spec.job_id])

    def submit_grid(self, name: str, axis: str, values: Sequence[Json]) -> list[str]:
        batch = Batch(f"batch-{name}", name, (axis,))
        specs = tuple(
            JobSpec(
                f"{name}-{number}",
                f"{name} {axis}={value}",
                "true",
                None,
                60.0,
                None,
                params=((axis, value),),
                outputs=("acc",),
                batch=batch,
            )
            for number, value in enumerate(values)
        )
        self.queue.store.submit(Submission(specs))
        note_own(self.queue.folder, (spec.job_id for spec in specs))
        return [spec.job_id for spec in specs]

    def sync(
        self, *selectors: str, queues: Sequence[Queue] | None = None, **more: Any
    ) -> tuple[SyncReport, str]:
        """One sync; what it returned, and what it showed."""
        screen = io.StringIO()
        running = self.prepared(screen, *selectors, queues=queues, **more)
        return running.once(), screen.getvalue()

    def watch(self, *selectors: str, **more: Any) -> tuple[SyncReport, str]:
        screen = io.StringIO()
        return self.prepared(screen, *selectors, **more).watch(pause_s=1.0), screen.getvalue()

    def prepared(
        self, screen: io.StringIO, *selectors: str, queues: Sequence[Queue] | None = None, **more: Any
    ) -> Sync:
        return Sync(
            queues or [self.queue],
            SyncOptions(selectors=selectors, **more),
            work_tree=self.work_tree,
            namespace=self.namespace,
            awaited=self.awaited,
            screen=Screen(screen, notebook=False),
            clock=lambda: self.now,
            now=lambda: self.now,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if not self.during_sleep:
            raise AssertionError("it went on watching when there was nothing to wait for")
        self.during_sleep.pop(0)()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_an_empty_queue_is_one_line(place: Place) -> None:
    report, shown = place.sync()
    assert (str(report), shown) == ("Nothing new: no jobs yet", "")


def test_what_a_job_left_comes_home(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed(
        "base-1",
        outputs=[text_output("epoch 1\n")],
        variables={"acc": 0.97},
        files={"artifacts/model.bin": b"\x00"},
        log="epoch 1\n",
    )
    report, shown = place.sync()
    assert place.namespace == {"acc": 0.97}
    assert report.variables == {"acc": 0.97}
    assert "epoch 1" in shown
    assert "base-1: succeeded · 2 s · on worker-1" in shown
    home = place.work_tree / "colab_results" / "base-1"
    assert (home / "artifacts/model.bin").read_bytes() == b"\x00"
    assert (home / "log.txt").read_text() == "epoch 1\n"
    assert (home / "run.ipynb").exists()
    assert not (home / "out").exists()
    assert str(report) == "acc = 0.97 from base-1\n3 files in colab_results"


def test_only_variables_that_were_asked_for_are_set(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1, "df": "not asked for"})
    first, *_ = place.submit_grid("audio", "lr", [0.1, 0.2])
    place.worker.succeed(first, variables={"acc": 2, "df": "not asked for"})
    place.namespace["df"] = "mine"
    place.sync()
    assert set(place.namespace) == {"acc", "df"}
    assert place.namespace["df"] == "mine"


def test_names_of_python_and_ipython_are_never_set_and_that_is_told(place: Place) -> None:
    names = ("print", "get_ipython", "_hidden")
    place.submit("base-1", outputs=names)
    place.worker.succeed("base-1", variables=dict.fromkeys(names, 1))
    batch = Batch("batch-audio", "audio", ("lr",))
    spec = JobSpec(
        "audio-1", "audio", "true", None, 60.0, None, params=(("lr", 1),), outputs=("print",), batch=batch
    )
    place.submit_spec(spec)
    place.worker.succeed("audio-1", variables={"print": 1})
    report, _ = place.sync()
    assert place.namespace == {}
    assert report.variables == {}
    for name in names:
        assert f"base-1: {name} was not set, since Python or IPython has that name; --out another" in str(
            report
        )
    assert "audio: print was not set" in str(report)


def test_nothing_new_is_one_line_with_the_counts(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1")
    place.sync()
    report, shown = place.sync()
    assert (str(report), shown) == ("Nothing new: 1 succeeded", "")


def test_a_job_comes_home_once(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1})
    place.sync()
    place.namespace["acc"] = "mine"
    place.submit("base-2", outputs=["other"])
    place.worker.succeed("base-2", variables={"other": 2})
    report, _ = place.sync()
    assert place.namespace == {"acc": "mine", "other": 2}
    assert report.jobs == ["base-2"]


def test_a_job_that_is_named_comes_home_again(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", outputs=[text_output("hello\n")], variables={"acc": 1})
    place.sync()
    place.namespace.clear()
    report, shown = place.sync("base")
    assert place.namespace == {"acc": 1}
    assert "hello" in shown
    assert report.files == []


def test_a_job_that_another_notebook_got_comes_to_the_one_that_queued_it(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1})
    place.sync()
    place.namespace.clear()
    place.awaited.add("base-1")
    place.sync()
    assert place.namespace == {"acc": 1}
    assert place.awaited == set()
    assert str(place.sync()[0]) == "Nothing new: 1 succeeded"


def test_an_unknown_job_is_told(place: Place) -> None:
    place.submit("base-1")
    with pytest.raises(UsageError, match="there is no job 'nothing'"):
        place.sync("nothing")


def test_a_failed_job_shows_its_traceback(place: Place) -> None:
    place.submit("base-1")
    place.worker.fail("base-1", error=ZeroDivisionError("division by zero"), log="before\n")
    report, shown = place.sync()
    assert "before" in shown
    assert "Traceback of ZeroDivisionError" in shown
    assert report.failed == ["base-1"]


def test_a_job_that_never_ran_has_no_files(place: Place) -> None:
    place.submit("base-1")
    place.queue.store.cancel(["base-1"])
    view = place.queue.store.refresh()
    event = Event(Verb.CANCEL, "base-1", 0, "worker-1", NOW, "cancelled before it ran")
    place.queue.store.record(view, [event], summaries={}, files={})
    _, shown = place.sync()
    assert "cancelled before it ran" in shown
    assert not (place.work_tree / "colab_results").exists()


def test_a_grid_is_one_mapping_that_later_syncs_complete(place: Place) -> None:
    first, second, third = place.submit_grid("audio", "lr", [0.1, 0.2, 0.3])
    place.worker.succeed(first, variables={"acc": 0.5})
    place.worker.succeed(third, variables={"acc": 0.7})
    report, _ = place.sync()
    acc = place.namespace["acc"]
    assert isinstance(acc, GridValues)
    assert dict(acc) == {0.1: 0.5, 0.3: 0.7}
    assert "acc: 2 of 3 values of the grid audio; acc.frame has all" in str(report)
    place.worker.succeed(second, variables={"acc": 0.6})
    place.sync()
    assert dict(place.namespace["acc"]) == {0.1: 0.5, 0.2: 0.6, 0.3: 0.7}
    assert list(place.namespace["acc"].frame["acc"]) == [0.5, 0.6, 0.7]


def test_a_grid_job_that_was_run_again_takes_the_failed_ones_place(place: Place) -> None:
    first, second = place.submit_grid("audio", "lr", [0.1, 0.2])
    place.worker.fail(first, error=ValueError("no"))
    place.worker.succeed(second, variables={"acc": 0.6})
    spec = place.worker.job(first).spec
    assert spec is not None
    place.submit_spec(replace(spec, job_id="audio-again"))
    place.worker.succeed("audio-again", variables={"acc": 0.5})
    place.sync()
    acc = place.namespace["acc"]
    assert dict(acc) == {0.1: 0.5, 0.2: 0.6}
    assert acc.is_complete
    assert "state" not in acc.frame.columns


def test_no_vars_leaves_the_notebooks_variables_alone(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1})
    place.sync(variables=False)
    assert place.namespace == {}


def test_into_a_folder_come_variables_as_files_too(place: Place, tmp_path: Path) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1})
    place.sync(into=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/base-1/out/acc.json").exists()
    assert not (tmp_path / "colab_results").exists()
    assert not (tmp_path / "elsewhere/.gitignore").exists()


def test_a_pickle_is_not_opened_unless_that_is_asked_for(place: Place) -> None:
    place.submit("base-1", outputs=["acc", "fine"])
    place.worker.succeed("base-1", variables={"acc": {1, 2}.__class__, "fine": 3}, allow_pickle=True)
    report, _ = place.sync()
    assert place.namespace == {"fine": 3}
    assert "sync again with --pickle" in str(report)
    place.sync("base-1", allow_pickle=True)
    assert place.namespace["acc"] is set


def test_a_file_that_the_person_changed_is_told(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", files={"artifacts/plan.md": b"one"})
    place.sync()
    (place.work_tree / "colab_results/base-1/artifacts/plan.md").write_text("mine")
    report, _ = place.sync("base-1")
    assert (
        "you changed artifacts/plan.md: yours stayed, the new one is "
        "colab_results/base-1/artifacts/plan.md.new-1" in str(report)
    )


def test_a_file_with_a_path_that_leads_elsewhere_is_told_and_not_written(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", files={"artifacts/../../../../evil": b"x", "artifacts/good": b"y"})
    report, _ = place.sync()
    assert "was not written: its path leads out of the job's folder" in str(report)
    assert (place.work_tree / "colab_results/base-1/artifacts/good").exists()
    assert not list(place.work_tree.parent.rglob("evil"))


def test_what_a_job_noted_is_told(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", notes=["acc is not defined at the end of the cell"])
    report, _ = place.sync()
    assert "base-1: acc is not defined at the end of the cell" in str(report)


def test_a_corrupt_memory_of_what_is_home_raises(place: Place) -> None:
    place.queue.folder.mkdir(parents=True)
    (place.queue.folder / "seen.json").write_text("{")
    with pytest.raises(CorruptError, match="remove it, and the next sync brings all results once more"):
        place.sync()


def test_a_corrupt_notebook_keeps_nothing_else_from_coming(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1", variables={"acc": 1}, files={"run.ipynb": b"{"})
    report, _ = place.sync()
    assert place.namespace == {"acc": 1}
    assert "the notebook of base-1 does not parse" in str(report)


def test_queued_jobs_without_a_worker_say_how_to_start_one(place: Place) -> None:
    place.submit("base-1")
    _, shown = place.sync()
    told = "no worker is alive: open notebooks/colab_gpu_daemon.ipynb on Colab, or run jupyter colab daemon"
    assert told in " ".join(shown.split())
    report, shown = place.sync()
    assert shown == ""
    assert str(report).startswith(f"Nothing new: 1 queued; {told} --repo https://example.org/origin")


def test_a_worker_that_is_alive_needs_no_hint_and_an_old_sign_of_life_does(place: Place) -> None:
    place.submit("base-1")
    place.worker.show({}, at=NOW - 10)
    assert "no worker" not in place.sync()[1]
    place.now = NOW + 3600
    assert "no worker is alive" in str(place.sync()[0])


def test_a_running_job_shows_progress_and_the_end_of_its_log(place: Place) -> None:
    place.submit("base-1")
    place.worker.lease("base-1")
    live = {
        "progress": {"done": 3, "total": 10, "label": "epoch"},
        "log_tail": "loss 0.5\r loss 0.4",
        "elapsed_s": 61,
    }
    place.worker.show({"base-1": live}, at=NOW)
    place.sync()
    _, shown = place.sync()
    assert "30%" in shown.replace(" %", "%")
    assert "loss 0.4" in shown
    assert "loss 0.5" not in shown


def test_without_a_network_the_last_look_is_shown_and_queued_jobs_wait(place: Place) -> None:
    place.submit("base-1")
    place.sync()
    place.remote.reachable = False
    place.submit("base-2")
    report, _ = place.sync()
    assert "origin cannot be reached, this is what was known last" in str(report)
    place.remote.reachable = True
    place.sync()
    assert [job.job_id for job in place.worker._store.refresh().jobs] == ["base-1", "base-2"]


def test_two_queues_are_one_table(place: Place) -> None:
    local = place.clone("local", MemoryRemote())
    place.submit("base-1")
    spec = JobSpec("here-1", "here-1", "true", None, 60.0, None)
    local.store.submit(Submission((spec,)))
    _, shown = place.sync(queues=[place.queue, local])
    lines = shown.splitlines()
    assert [line.split()[-1] for line in lines if "-1 " in line] == ["origin", "local"]


def test_older_jobs_are_left_out_of_the_table_unless_asked_for(place: Place) -> None:
    place.submit("base-1")
    place.worker.succeed("base-1")
    place.sync()
    place.submit("base-2")
    _, shown = place.sync()
    assert "base-1" not in shown
    assert "1 older job not shown: --all shows them" in shown
    assert "base-1" in place.sync(everything=True)[1]


def test_watching_goes_on_until_all_is_done(place: Place) -> None:
    place.submit("base-1", "base-2")
    place.worker.show({}, at=NOW)
    place.during_sleep = [
        lambda: place.worker.succeed("base-1", variables={"acc": 1}),
        lambda: None,
        lambda: place.worker.succeed("base-2", variables={"acc": 2}),
    ]
    report, shown = place.watch()
    assert report.jobs == ["base-1", "base-2"]
    assert place.namespace == {"acc": 2}
    assert shown.index("── ✓ base-1") < shown.index("── ✓ base-2")


def test_watching_asks_less_often_while_nothing_happens_and_at_once_when_it_does(place: Place) -> None:
    place.submit("base-1")
    place.during_sleep = [
        *[lambda: None] * 20,
        lambda: place.worker.lease("base-1") and None,
        lambda: place.worker.show({"base-1": {}}, at=NOW),
        _interrupt,
    ]
    place.watch()
    assert place.slept[0] == 1.0
    assert place.slept[1] < place.slept[5] < place.slept[10]
    assert max(place.slept) == 30.0
    assert place.slept[-1] == 1.0


def test_watching_only_what_was_asked_for_ends_with_it(place: Place) -> None:
    place.submit("base-1", "other-1")
    place.worker.succeed("base-1")
    report, shown = place.watch("base-1")
    assert report.jobs == ["base-1"]
    assert "other-1" not in shown


def test_an_interrupt_only_stops_watching_and_says_so(place: Place) -> None:
    place.submit("base-1")
    place.during_sleep = [_interrupt]
    report, _ = place.watch()
    assert str(report) == "stopped watching; the jobs go on, and %colab_sync brings what they leave"
    assert not place.worker.job("base-1").state.is_final


def test_watching_survives_a_network_that_is_away_for_a_while(place: Place) -> None:
    place.submit("base-1")

    def away() -> None:
        place.remote.reachable = False

    def back() -> None:
        place.remote.reachable = True
        place.worker.succeed("base-1", variables={"acc": 1})

    place.during_sleep = [away, lambda: None, back]
    _, shown = place.watch()
    assert "origin cannot be reached" in shown
    assert place.namespace == {"acc": 1}


def test_a_worker_that_falls_silent_under_a_job_is_told(place: Place) -> None:
    place.submit("base-1")
    place.worker.lease("base-1")
    place.worker.show({"base-1": {}}, at=NOW)

    def later() -> None:
        place.now += 130

    place.during_sleep = [later, _interrupt]
    _, shown = place.watch()
    assert "the worker worker-1 was last heard of 2 min ago: another one takes its jobs over" in shown


def test_one_look_tells_of_a_worker_that_is_silent_or_gone(place: Place) -> None:
    place.submit("base-1")
    place.worker.lease("base-1")
    assert "the worker worker-1 has gone" in place.sync()[1]
    place.worker.show({"base-1": {}}, at=NOW - 170)
    assert "the worker" not in place.sync()[1]
    place.worker.show({"base-1": {}}, at=NOW - 720)
    assert "the worker worker-1 was last heard of 12 min ago: another one takes" in place.sync()[1]


def test_a_worker_that_left_under_a_job_is_told(place: Place) -> None:
    place.submit("base-1")
    place.worker.lease("base-1")
    place.during_sleep = [_interrupt]
    _, shown = place.watch()
    assert "the worker worker-1 has gone: another one takes its jobs over" in shown


def test_results_of_an_interrupted_sync_come_with_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit("base-1", "base-2", outputs=["a", "b"])
    place.worker.succeed("base-1", variables={"a": 1})
    place.worker.succeed("base-2", variables={"b": 2})
    read = place.queue.store.read
    monkeypatch.setattr(
        MemoryStore,
        "read",
        lambda self, job_id, name: _interrupt() if job_id == "base-2" else read(job_id, name),
    )
    with pytest.raises(KeyboardInterrupt):
        place.sync()
    monkeypatch.undo()
    assert place.namespace == {"a": 1}
    report, _ = place.sync()
    assert report.jobs == ["base-2"]
    assert place.namespace == {"a": 1, "b": 2}


def test_the_first_sync_in_an_old_queue_brings_the_latest_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colab_magics.sync.MAX_BROUGHT", 2)
    place.submit("base-1", "base-2", "base-3")
    for job_id in ("base-1", "base-2", "base-3"):
        place.worker.succeed(job_id)
    report, _ = place.sync()
    assert report.jobs == ["base-2", "base-3"]
    assert "1 older result not brought: %colab_sync NAME brings one" in str(report)
    assert str(place.sync()[0]) == "Nothing new: 3 succeeded"


def test_nothing_new_among_ten_thousand_jobs_reads_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.submit(*[f"job-{number}" for number in range(10_000)])
    place.sync()
    monkeypatch.setattr(MemoryStore, "read", lambda *_: pytest.fail("something was read"))
    monkeypatch.setattr(MemoryStore, "files", lambda *_: pytest.fail("something was listed"))
    assert str(place.sync()[0]).startswith("Nothing new: 10,000 queued")


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_variables_of_jobs_that_others_queued_are_set_only_where_they_are_named(place: Place) -> None:
    place.submit("mine", outputs=("acc",))
    place.submit("theirs", outputs=("np",), elsewhere=True)
    place.worker.succeed("mine", variables={"acc": 1})
    place.worker.succeed("theirs", variables={"np": 2})

    report, shown = place.sync()

    assert place.namespace == {"acc": 1}
    assert "theirs" in shown
    told = "theirs: queued elsewhere, so the variables were not set; %colab_sync NAME sets them"
    assert told in str(report).splitlines()
    place.sync("theirs")
    assert place.namespace == {"acc": 1, "np": 2}


def test_a_job_of_somebody_else_gets_no_value_into_a_grid(place: Place) -> None:
    ours = place.submit_grid("sweep", "lr", [1, 2])
    batch = Batch("batch-sweep", "sweep", ("lr",))
    forged = JobSpec(
        "forged", "sweep lr=1", "true", None, 60.0, None, params=(("lr", 1),), outputs=("acc",), batch=batch
    )
    place.queue.store.submit(Submission((forged,)))
    for number, job_id in enumerate([*ours, "forged"]):
        place.worker.succeed(job_id, variables={"acc": number})

    place.sync()

    assert dict(place.namespace["acc"]) == {1: 0, 2: 1}


def test_a_job_that_this_notebook_awaits_is_its_own(place: Place) -> None:
    place.submit("a", elsewhere=True)
    place.awaited.add("a")
    place.worker.succeed("a", variables={"acc": 1})

    place.sync()

    assert place.namespace == {"acc": 1}


def test_while_watching_what_a_job_shows_is_seen_before_it_is_done(place: Place) -> None:
    place.submit("base-1")
    place.worker.lease("base-1")
    table = {"output_type": "display_data", "data": {"text/plain": "   x\n0  1", "text/html": "<b>"}}
    image = {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": "<Figure>"}}
    outputs: list[Json] = [text_output("for the log"), 7, table, image]
    place.worker.show({"base-1": {"outputs": outputs}}, at=NOW)
    place.during_sleep = [lambda: place.worker.end("base-1")]

    _, shown = place.watch()

    assert "─ base-1, shown so far\n     x\n  0  1\n  [image/png, 3 B]\n" in shown
    assert "for the log" not in shown
