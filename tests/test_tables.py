"""The table of jobs in a terminal and in a notebook."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colab_magics.display import formats, markup
from colab_magics.display.tables import (
    NO_JOBS,
    NO_JOBS_IN_TERMINAL,
    JobRow,
    JobTable,
    Progress,
    count_states,
    select,
)
from colab_magics.jobs.state import FINAL, State


def grid() -> tuple[JobRow, ...]:
    """Nine jobs of a grid, in every state."""
    told = [
        ("succeeded", 1, Progress(10, 10, "epoch"), 754.2, "vm-otter", "Tesla T4", ""),
        ("succeeded", 2, Progress(10, 10, "epoch"), 698.0, "vm-otter", "Tesla T4", ""),
        ("failed", 1, Progress(3, 10, "epoch"), 143.0, "vm-otter", "Tesla T4", "out of memory in line 4"),
        ("running", 1, Progress(6.4, 10, "epoch"), 412.0, "vm-otter", "Tesla T4", ""),
        ("running", 3, Progress(1234, None, "step"), 4000.0, "laptop-2", "", ""),
        ("timed_out", 1, Progress(9, 10), 7200.0, "vm-b", "NVIDIA L4", "stopped after 2 h 00 min"),
        ("cancelled", 0, None, None, "", "", ""),
        ("lost", 3, None, 91_000.0, "vm-b", "", "its session died 3 times and --retries is 2"),
        ("queued", 0, None, None, "", "", ""),
    ]
    return tuple(
        JobRow(
            job_id=f"audio-lr-{i}-{i}a4f09c21e",
            name=f"audio lr={i}",
            state=state,
            attempt=attempt,
            progress=progress,
            duration_s=duration_s,
            peak_host_bytes=2_310_000_000 if duration_s else None,
            peak_gpu_bytes=9_812_000_000 if machine else None,
            worker=worker,
            machine=machine,
            params=(("lr", i),),
            reason=reason,
        )
        for i, (state, attempt, progress, duration_s, worker, machine, reason) in enumerate(told)
    )


def many(count: int, *, running: int = 2, queued: int = 0) -> tuple[JobRow, ...]:
    """`count` jobs, the last ones running and queued, every 500th of the others failed."""
    ended = count - running - queued
    states = ["failed" if i % 500 == 499 else "succeeded" for i in range(ended)]
    states += ["running"] * running + ["queued"] * queued
    return tuple(JobRow(job_id=f"job-{i}", name="job", state=state) for i, state in enumerate(states))


def test_the_text_is_an_aligned_table_that_fits_a_hundred_columns():
    text = JobTable(grid(), title="Queue", notes=("2 workers are up",), footer="Next: %colab_sync").text()
    assert text.split("\n") == [
        "Queue",
        "job                    state           progress       time  memory     GPU  where",
        "────────────────────────────────────────────────────────────────────────────────────",
        "audio-lr-0-0a4f09c21e  ✓ succeeded     ██████ 100%  12m34s  2.3 GB  9.8 GB  vm-otter",
        "audio-lr-1-1a4f09c21e  ✓ succeeded ×2  ██████ 100%  11m38s  2.3 GB  9.8 GB  vm-otter",
        "audio-lr-2-2a4f09c21e  ✗ failed        █▊      30%   2m23s  2.3 GB  9.8 GB  vm-otter",
        "  └ out of memory in line 4",
        "audio-lr-3-3a4f09c21e  ▸ running       ███▉    64%   6m52s  2.3 GB  9.8 GB  vm-otter",
        "audio-lr-4-4a4f09c21e  ▸ running ×3    step 1234     1h06m  2.3 GB          laptop-2",
        "audio-lr-5-5a4f09c21e  ◷ timed out     █████▍  90%   2h00m  2.3 GB  9.8 GB  vm-b",
        "  └ stopped after 2 h 00 min",
        "audio-lr-6-6a4f09c21e  – cancelled",
        "audio-lr-7-7a4f09c21e  ? lost ×3                     1d01h  2.3 GB          vm-b",
        "  └ its session died 3 times and --retries is 2",
        "audio-lr-8-8a4f09c21e  · queued",
        "9 jobs: 1 queued, 2 running, 2 succeeded, 1 failed, 1 timed out, 1 cancelled, 1 lost",
        "2 workers are up",
        "Next: %colab_sync",
    ]


texts = st.text(max_size=60) | st.sampled_from(["<b>&\"'", "$x$", "日本語" * 20, "a\nb\x1b[2J", "🎵" * 30])
rows = st.builds(
    JobRow,
    job_id=st.from_regex(r"[a-z0-9][a-z0-9-]{0,79}", fullmatch=True),
    name=texts,
    state=st.sampled_from([*State, "waiting", "of_the_future"]),
    attempt=st.integers(0, 9),
    progress=st.none()
    | st.builds(
        Progress, done=st.none() | st.floats(0, 1e6), total=st.none() | st.floats(0, 1e6), label=texts
    ),
    duration_s=st.none() | st.floats(0, 1e7),
    peak_host_bytes=st.none() | st.integers(0, 10**13),
    peak_gpu_bytes=st.none() | st.integers(0, 10**13),
    worker=texts,
    machine=texts,
    params=st.lists(st.tuples(st.text(max_size=8), texts | st.floats()), max_size=3).map(tuple),
    reason=texts,
    store=texts,
)


@given(st.lists(rows, min_size=1, max_size=4).map(tuple), texts)
def test_any_text_fits_a_hundred_columns(some, title):
    for line in JobTable(some, title=title, footer=title).text().split("\n"):
        assert formats.cell_width(line) <= 100
        assert "\x1b" not in line


class Checker(HTMLParser):
    """Collects what a browser would see, and demands that tags pair."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert {name for name, _ in attrs} <= {"style", "class", "colspan"}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker


@given(st.lists(rows, max_size=4).map(tuple), texts)
def test_no_text_makes_html_of_its_own(some, title):
    checker = check(JobTable(some, title=title, notes=(title,), footer=title).html())
    assert checker.seen <= {"div", "table", "thead", "tbody", "tr", "th", "td", "span", "br"}


def test_the_html_says_everything_in_words_too():
    words = " ".join(check(JobTable(grid(), title="Queue").html()).words).replace("\xa0", " ")
    for said in ("✓ succeeded", "✗ failed", "30 %", "epoch 3/10", "attempt 2", "12 min 34 s", "9.8 GB"):
        assert said in words
    for said in ("vm-otter · Tesla T4", "out of memory in line 4", "step 1234", "audio-lr-0-0a4f09c21e"):
        assert said in words


def test_the_html_needs_no_style_sheet_and_no_script():
    page = JobTable(grid()).html()
    assert "<style" not in page
    assert "<script" not in page
    assert not re.search(r"(?<![-\w])color:(?!inherit)", page), "text keeps the colour of the page's theme"


def test_parameters_are_a_column_where_the_name_does_not_tell_them():
    row = JobRow(job_id="audio-12", name="audio", state="queued", params=(("lr", 0.001), ("opt", "adam")))
    assert "lr=0.001 opt=adam" in JobTable((row,)).text()
    assert "lr=0.001 opt=adam" in JobTable((row,)).html()


def test_of_a_grids_parameters_only_those_that_the_name_does_not_tell_are_shown():
    params = (("epochs", 3), ("lr", 0.1), ("fast", True))
    row = JobRow(job_id="audio-12", name="audio lr=0.1 fast=true", state="queued", params=params)
    text = JobTable((row,)).text()
    assert "epochs=3" in text
    assert text.count("lr=") == text.count("fast=") == 1
    other = JobRow(job_id="audio-12", name="audio lr=0.15", state="queued", params=params[1:2])
    assert "lr=0.1" in " ".join(check(JobTable((other,)).html()).words).replace("lr=0.15", "")


def test_a_name_that_the_id_does_not_tell_is_a_column():
    row = JobRow(job_id="job-12", name="🎵", state="queued")
    assert "job-12  🎵" in JobTable((row,)).text()


def test_an_empty_table_says_what_to_do_next():
    assert str(JobTable(())) == NO_JOBS_IN_TERMINAL
    assert JobTable((), notes=("Nothing new since 12:00.",)).text() == "Nothing new since 12:00."
    assert NO_JOBS in " ".join(check(JobTable(()).html()).words)


def test_of_many_jobs_those_under_way_and_the_latest_are_shown_and_the_rest_counted():
    table = JobTable(many(10_000))
    text = table.text()
    assert "… and 9,970 more: 9,950 succeeded, 20 failed" not in text  # 2 running and 28 ended are shown
    assert "… and 9,970 more: 9,951 succeeded, 19 failed" in text
    assert "job-9999" in text
    assert "job-9970" in text
    assert "job-9969" not in text
    assert "… and 9,970 more: 9,951 succeeded, 19 failed" in table.html()


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_selection_is_full_and_in_order(running, queued, ended):
    some = many(running + queued + ended, running=running, queued=queued)
    shown = select(some)
    assert len(shown) == min(len(some), 30)
    assert [row for row in some if row in shown] == list(shown)
    states = [row.state for row in shown]
    assert states.count("running") >= min(running, 10)
    assert len([state for state in states if state in FINAL]) >= min(ended, 10)
    if queued and len(some) > 30:
        first = next(row for row in some if row.state == "queued")
        assert first in shown


def test_every_state_of_a_job_has_a_sign_and_a_word():
    assert set(State) <= set(markup.STATES)
    assert len({style.sign for style in markup.STATES.values()}) == len(markup.STATES)
    assert count_states([JobRow("a", "a", "of_the_future")]) == "1 of the future"


@pytest.mark.parametrize(
    ("progress", "fraction", "words"),
    [
        (Progress(), None, ""),
        (Progress(3, 10, "epoch"), 0.3, "epoch 3/10"),
        (Progress(3, None, "epoch"), None, "epoch 3"),
        (Progress(3, 0), None, "3"),
        (Progress(11, 10), 1.0, "11/10"),
        (Progress(None, 10, "a\nb"), None, "a b"),
        (Progress(math.nan, 10, "a"), None, "a"),
        (Progress(math.inf, 10), None, ""),
        (Progress(3, math.nan), None, "3"),
        (Progress(3, math.inf), None, "3"),
        (Progress(10**5000, 10), None, ""),
        (Progress(3, 10**5000), None, "3"),
        (Progress(1e300, 1e-300), 1.0, "1e+300/1e-300"),
    ],
)
def test_progress_is_a_fraction_where_both_ends_are_known(progress, fraction, words):
    assert progress.fraction == fraction
    assert progress.words() == words


def test_a_table_is_utf8_whatever_its_texts_and_numbers_are():
    half = "half \ud800"
    row = JobRow(
        "a-1",
        name=half,
        state="running",
        progress=Progress(math.nan, 10, half),
        worker=half,
        machine=half,
        params=((half, half),),
        reason=half,
        store=half,
    )
    table = JobTable((row,), title=half, notes=(half,), footer=half)
    assert "half \N{REPLACEMENT CHARACTER}" in table.text().encode().decode()
    assert "half \N{REPLACEMENT CHARACTER}" in table.html().encode().decode()
