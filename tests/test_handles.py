"""The card of one job, and its log."""

from __future__ import annotations

from colab_magics.display.handles import JobCard, LogView


def test_a_card_tells_name_id_state_commit_and_what_to_do_next():
    card = JobCard(
        name="audio\n<b>",
        job_id="audio-1a2b3c4d5e",
        state="queued",
        commit="0123456789abcdef",
        notes=("41 files, uncommitted changes included",),
        next_step="%colab_sync --watch shows how it goes.",
    )
    assert str(card) == (
        "· audio <b>: queued  id audio-1a2b3c4d5e  code 0123456789\n"
        "  41 files, uncommitted changes included\n"
        "  %colab_sync --watch shows how it goes."
    )
    bundle = card._repr_mimebundle_()
    assert bundle["text/plain"] == str(card)
    assert "audio &lt;b&gt;" in bundle["text/html"]
    assert "queued" in bundle["text/html"]


def test_a_log_says_what_is_missing_and_keeps_its_colours_in_a_notebook():
    log = LogView(
        job_id="audio-1",
        text="\x1b[31mred\x1b[0m <x>\n1%\r2%\n",
        omitted_bytes=123_456,
        where="results/log.txt",
    )
    assert str(log) == (
        "… the first 123 kB of the log of audio-1 are not shown; all of it is in results/log.txt\nred <x>\n2%"
    )
    assert '<span style="color:#e75c58">red</span> &lt;x&gt;\n2%' in log._repr_mimebundle_()["text/html"]
    assert str(LogView(job_id="audio-1", text="")).strip() == "audio-1 has not printed anything yet"
