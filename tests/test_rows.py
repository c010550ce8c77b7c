from __future__ import annotations

from dataclasses import replace

from colab_magics.display.rows import job_row, job_rows
from colab_magics.display.tables import Progress
from colab_magics.jobs.codec import Live
from colab_magics.jobs.plan import Job
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import JobState, State
from colab_magics.store.base import View

SPEC = JobSpec("base-1", "base", "true", None, 60.0, None, params=(("lr", 0.1),), queued_at=5.0)
QUEUED = Job("base-1", SPEC, JobState("base-1", name="base"))
RUNNING = replace(QUEUED, state=JobState("base-1", "base", State.RUNNING, 2, "worker-1", started_at=1.0))


def live(**shown: object) -> dict[str, Live]:
    return {"worker-1": Live("worker-1", 1, 0.0, 1.0, jobs={"base-1": shown})}  # type: ignore[dict-item]


def test_a_queued_job_has_its_name_and_parameters() -> None:
    row = job_row(QUEUED, {}, is_waiting=False, label="local")
    assert (row.name, row.state, row.params, row.worker, row.store) == (
        "base",
        "queued",
        (("lr", 0.1),),
        "",
        "local",
    )


def test_a_job_that_no_remote_has_waits() -> None:
    [row] = job_rows(View(jobs=(QUEUED,), waiting=("base-1",)))
    assert row.state == "waiting"


def test_a_running_job_shows_what_its_worker_shows() -> None:
    row = job_row(
        RUNNING, live(elapsed_s=61.5, progress={"done": 3, "total": 10, "label": "epoch"}), is_waiting=False
    )
    assert (row.duration_s, row.progress, row.worker, row.attempt) == (
        61.5,
        Progress(3, 10, "epoch"),
        "worker-1",
        2,
    )


def test_what_a_worker_shows_may_be_anything() -> None:
    for told in (
        {"progress": 3, "elapsed_s": "x"},
        {"progress": {"done": "x", "total": True, "label": None}},
        {},
    ):
        row = job_row(RUNNING, live(**told), is_waiting=False)
        assert row.duration_s is None


def test_another_workers_sign_of_life_says_nothing_about_a_job() -> None:
    other = {"worker-2": replace(live(elapsed_s=1.0)["worker-1"], worker="worker-2")}
    assert job_row(RUNNING, other, is_waiting=False).duration_s is None


def test_a_finished_job_shows_its_summary_and_why_it_failed() -> None:
    summary = (("duration_s", 1.5), ("peak_host_bytes", 5), ("peak_gpu_bytes", 6.0), ("gpu", "T4"))
    state = replace(RUNNING.state, state=State.FAILED, reason="ValueError: no", summary=summary)
    row = job_row(replace(RUNNING, state=state), {}, is_waiting=False)
    assert (row.duration_s, row.peak_host_bytes, row.peak_gpu_bytes, row.machine) == (1.5, 5, 6, "T4")
    assert row.reason == "ValueError: no"


def test_a_job_that_is_asked_to_stop_says_so_until_it_has() -> None:
    assert job_row(replace(RUNNING, wanted=False), {}, is_waiting=False).reason == "asked to stop"
    ended = replace(RUNNING, wanted=False, state=replace(RUNNING.state, state=State.SUCCEEDED, reason="x"))
    assert job_row(ended, {}, is_waiting=False).reason == ""


def test_an_entry_that_is_no_job_says_what_is_wrong_with_it() -> None:
    rejected = Job("x-1", None, JobState("x-1"), rejection='"timeout" is a number')
    row = job_row(rejected, {}, is_waiting=False)
    assert (row.name, row.reason) == ("x-1", '"timeout" is a number')
