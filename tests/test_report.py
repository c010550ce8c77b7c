"""RESULTS.md: a table that a hosting site shows, whatever jobs are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colab_magics.jobs.paths import job_folder
from colab_magics.jobs.report import SHOWN, results_markdown
from colab_magics.jobs.state import FINAL, JobState, State

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a slow machine too

ENDED = 1_700_000_000.0


def a_job(job_id: str = "audio-1", *, state: State = State.SUCCEEDED, **rest: object) -> JobState:
    told = {"name": "audio", "attempt": 1, "started_at": ENDED - 60, "ended_at": ENDED, **rest}
    return JobState(job_id, state=state, **told)  # type: ignore[arg-type]


def rows(*states: JobState) -> list[str]:
    return results_markdown(states).split("|---|---|---|---|---|---|---|\n")[1].splitlines()


def cells(state: JobState) -> list[str]:
    (row,) = rows(state)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_a_row_tells_what_became_of_a_job_and_where_the_rest_is() -> None:
    state = a_job(summary=(("duration_s", 59.96), ("peak_gpu_bytes", 1.5e9), ("notebook", 1)))
    folder = job_folder("audio-1")
    assert results_markdown([state]) == (
        "# Results\n\n1 job: 1 succeeded.\n\n"
        "| job | state | attempt | ended (UTC) | duration | peak memory | |\n|---|---|---|---|---|---|---|\n"
        f"| audio | succeeded | 1 | 2023-11-14 22:13 | 60.0 s | 1.50 GB "
        f"| [files]({folder}) [notebook]({folder}/run.ipynb) |\n"
    )


def test_an_empty_ledger_is_a_table_without_rows() -> None:
    assert results_markdown([]).startswith("# Results\n\n0 jobs: none yet.\n\n| job | state |")


def test_all_jobs_are_counted_by_state() -> None:
    states = [a_job("a"), a_job("b"), a_job("c", state=State.TIMED_OUT)]
    assert "3 jobs: 2 succeeded, 1 timed_out.\n" in results_markdown(states)
    assert cells(states[2])[1] == "timed out"


def test_a_job_without_a_name_is_shown_by_its_id() -> None:
    assert cells(a_job(name=""))[0] == "audio-1"


def test_memory_is_the_gpus_and_else_the_hosts() -> None:
    assert cells(a_job(summary=(("peak_gpu_bytes", 2e9), ("peak_host_bytes", 1e9))))[5] == "2.00 GB"
    assert cells(a_job(summary=(("peak_gpu_bytes", None), ("peak_host_bytes", 1e9))))[5] == "1.00 GB"
    assert cells(a_job(summary=(("duration_s", "?"),)))[4:6] == ["", ""]


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 kB"),
        (12_300, "12 kB"),
        (999_500, "1 MB"),
        (3.5e6, "4 MB"),
        (999.6e6, "1.00 GB"),
        (15.8e9, "15.80 GB"),
    ],
)
def test_memory_is_in_the_unit_that_fits(size_bytes: float, shown: str) -> None:
    assert cells(a_job(summary=(("peak_host_bytes", size_bytes), ("duration_s", 1.0))))[5] == shown


def test_what_has_not_ended_has_no_end_and_midnight_of_1970_is_one() -> None:
    assert cells(a_job(state=State.RUNNING, ended_at=None))[3] == ""
    assert cells(a_job(ended_at=0.0))[3] == "1970-01-01 00:00"


# Links


@pytest.mark.parametrize("state", sorted(FINAL - {State.LOST}))
def test_an_attempt_that_reported_links_to_its_log(state: State) -> None:
    folder = job_folder("audio-1")
    job = a_job(state=state, summary=(("duration_s", 1.0),))
    assert cells(job)[6] == f"[files]({folder}) [log]({folder}/log.txt)"


@pytest.mark.parametrize(
    "job",
    [
        a_job(state=State.RUNNING, summary=(("duration_s", 1.0),)),
        a_job(state=State.QUEUED, attempt=2),
        a_job(state=State.LOST, attempt=3),
        a_job(state=State.CANCELLED, attempt=1),  # its session had died, then a person took it back
    ],
    ids=lambda job: job.state,
)
def test_an_attempt_that_left_no_log_has_no_link_to_one(job: JobState) -> None:
    assert cells(job)[6] == f"[files]({job_folder('audio-1')})"


def test_a_job_that_never_ran_has_no_links() -> None:
    assert cells(a_job(state=State.CANCELLED, attempt=0))[6] == ""


# Order and size


def test_the_latest_come_first_and_running_ones_by_their_start() -> None:
    states = [
        a_job("old", name="", ended_at=ENDED),
        a_job("running", name="", state=State.RUNNING, started_at=ENDED + 10, ended_at=None),
        a_job("new", name="", ended_at=ENDED + 20),
        a_job("never", name="", state=State.CANCELLED, attempt=0, started_at=None, ended_at=None),
    ]
    assert [row.split()[1] for row in rows(*states)] == ["new", "running", "old", "never"]


def test_the_table_does_not_grow_with_the_queue() -> None:
    states = [a_job(f"job-{number}", name="", ended_at=ENDED + number) for number in range(250)]
    shown = rows(*states)
    assert [row.split()[1] for row in shown[:SHOWN]] == [f"job-{number}" for number in range(249, 149, -1)]
    assert shown[SHOWN:] == ["", "… and 150 older ones under `jobs/`."]
    assert results_markdown(states).startswith("# Results\n\n250 jobs: 250 succeeded.\n")


def test_a_hundred_jobs_are_all_there() -> None:
    assert len(rows(*[a_job(f"job-{number}") for number in range(SHOWN)])) == SHOWN


# Names that mean something in Markdown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("[x](http://e.org)", r"\[x\](http://e.org)"),
        ("![x](y)", r"!\[x\](y)"),
        ("<b>x</b>", r"\<b\>x\</b\>"),
        ("&lt;x&gt;", r"\&lt;x\&gt;"),
        ("*a* _b_ `c` ~~d~~ $e$", r"\*a\* \_b\_ \`c\` \~\~d\~\~ \$e\$"),
        ("a\n# Results\n| b |", r"a # Results \| b \|"),
        ("a\r\nb\x85c\u2028d", "a  b c d"),
        ("a\x1b[31m\0", r"a \[31m"),
        ("half \ud83d", "half"),
        ("🎧 日本 é", "🎧 日本 é"),
        ("x" * 1_000_000, "x" * 200 + "…"),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_name_is_shown_as_it_is_and_does_nothing(name: str, shown: str) -> None:
    assert cells(a_job(name=name))[0] == shown


@patient
@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("\n\r|\\[<")))
def test_whatever_the_name_the_table_has_one_row_of_seven_cells(name: str) -> None:
    state = a_job(name=name)
    results_markdown([state]).encode()
    assert len(results_markdown([state]).splitlines()) == 7
    unescaped = re.sub(r"\\.", "", rows(state)[0])
    assert unescaped.count("|") == 8
    assert unescaped.count("[") == 1  # the link to its files
