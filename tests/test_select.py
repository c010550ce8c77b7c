from __future__ import annotations

import pytest

from colab_magics.errors import UsageError
from colab_magics.jobs.plan import Job
from colab_magics.jobs.select import select, select_jobs
from colab_magics.jobs.spec import Batch, JobSpec
from colab_magics.jobs.state import JobState


def job(job_id: str, name: str, batch: Batch | None = None) -> Job:
    spec = JobSpec(job_id, name, "true", None, 60.0, None, batch=batch)
    return Job(job_id, spec, JobState(job_id, name=name))


GRID = Batch("feed", "audio", ("lr",))
JOBS = [
    job("cell-1111111111", "cell"),
    job("cell-2222222222", "cell"),
    job("base-3333333333", "base"),
    job("base-line-4444444444", "base line"),
    job("audio-lr-1-5555555555", "audio lr=1", GRID),
    job("audio-lr-2-6666666666", "audio lr=2", GRID),
]


def ids(selector: str) -> list[str]:
    return [found.job_id for found in select(JOBS, selector)]


def test_an_id_means_its_job() -> None:
    assert ids("cell-2222222222") == ["cell-2222222222"]


def test_the_beginning_of_one_id_means_its_job() -> None:
    assert ids("base-l") == ["base-line-4444444444"]


def test_a_name_that_one_job_has_means_it_even_where_other_ids_begin_with_it() -> None:
    assert ids("base") == ["base-3333333333"]


def test_the_name_of_a_grid_means_all_of_its_jobs() -> None:
    assert ids("audio") == ["audio-lr-1-5555555555", "audio-lr-2-6666666666"]
    assert ids("audio lr=2") == ["audio-lr-2-6666666666"]


def test_the_name_of_two_grids_is_ambiguous() -> None:
    both = [*JOBS, job("audio-lr-1-7777777777", "audio lr=1", Batch("dead", "audio", ("lr",)))]
    with pytest.raises(UsageError, match="'audio' is the name of several jobs"):
        select(both, "audio")


def test_a_name_of_several_jobs_lists_them() -> None:
    with pytest.raises(
        UsageError,
        match=r"^'cell' is the name of several jobs: cell-1111111111 \(queued\), cell-2222222222 \(queued\); "
        r"give an id$",
    ):
        select(JOBS, "cell")


def test_the_beginning_of_several_ids_lists_them() -> None:
    with pytest.raises(UsageError, match=r"^'audio-' begins several ids: audio-lr-1-5.*; give more of it$"):
        select(JOBS, "audio-")


def test_an_unknown_id_tells_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"^there is no job 'bsae'; the nearest are base-3333333333"):
        select(JOBS, "bsae")
    with pytest.raises(UsageError, match=r"^there is no job 'qqq'; the latest is audio-lr-2-6666666666$"):
        select(JOBS, "qqq")


def test_an_empty_queue_says_so() -> None:
    with pytest.raises(UsageError, match=r"^there is no job 'x': the queue is empty$"):
        select([], "x")


def test_an_empty_selector_is_not_the_beginning_of_everything() -> None:
    with pytest.raises(UsageError, match="there is no job ''"):
        select(JOBS, "")


def test_several_selectors_give_each_job_once_in_the_order_of_the_queue() -> None:
    found = select_jobs(JOBS, ["audio lr=2", "base", "audio"])
    assert [each.job_id for each in found] == [
        "base-3333333333",
        "audio-lr-1-5555555555",
        "audio-lr-2-6666666666",
    ]
