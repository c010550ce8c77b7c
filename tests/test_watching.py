from __future__ import annotations

import io

from colab_magics.display.tables import JobRow, JobTable
from colab_magics.display.watching import Heading, Lines, Screen, Watched


def test_the_end_of_a_running_jobs_log_stands_below_the_table() -> None:
    table = JobTable((JobRow("base-1", "base", "running"),))
    log = "".join(f"line {number}\n" for number in range(20)) + " 50%|x| 1/2\r100%|x| 2/2"
    told = Watched(table, (("base", log),))._repr_mimebundle_()
    assert told["text/plain"].splitlines()[-6:] == [
        "  line 15",
        *(f"  line {n}" for n in range(16, 20)),
        "  100%|x| 2/2",
    ]
    assert "line 19" in told["text/html"]
    assert "line 3" not in told["text/html"]


def test_a_log_can_neither_colour_a_terminal_nor_write_html() -> None:
    table = JobTable((JobRow("base-1", "base", "running"),))
    told = Watched(table, (("<b>base</b>\x1b[2J", "\x1b[2J<script>alert(1)</script>"),))._repr_mimebundle_()
    assert "\x1b" not in told["text/plain"]
    assert "<script>" not in told["text/html"]
    assert "<b>base" not in told["text/html"]


def test_only_a_few_logs_are_shown() -> None:
    table = JobTable((JobRow("base-1", "base", "running"),))
    told = Watched(table, tuple((f"job {number}", "x") for number in range(10)))._repr_mimebundle_()
    assert "─ job 2" in told["text/plain"]
    assert "─ job 3" not in told["text/plain"]


def test_a_heading_says_which_job_how_it_ended_and_where() -> None:
    told = Heading("<b>", "failed", "3 s · on x")._repr_mimebundle_()
    assert told["text/plain"] == "── ✗ <b>: failed · 3 s · on x ──"
    assert "&lt;b&gt;" in told["text/html"]


def test_lines_are_shown_as_they_are() -> None:
    told = Lines(("a < b", "c"))
    assert str(told) == repr(told) == "a < b\nc"
    assert "a &lt; b" in told._repr_mimebundle_()["text/html"]


def test_outputs_go_to_the_screens_stream() -> None:
    stream = io.StringIO()
    screen = Screen(stream, notebook=False)
    screen.update(Lines(("the table",)))
    output = {"output_type": "stream", "name": "stdout", "text": "hello\n"}
    screen.outputs(Heading("base", "succeeded"), [output], where="x/run.ipynb")
    screen.close()
    assert stream.getvalue() == "the table\n── ✓ base: succeeded ──\nhello\n"
