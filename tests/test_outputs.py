"""A job's outputs, shown again where the person is."""

from __future__ import annotations

import base64
import struct

import pytest

from colab_magics.display.outputs import MAX_TEXT_CHARS, Bundle, Stream, publish, to_publish, to_text
from colab_magics.errors import CorruptError

PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\0" * 12_000
).decode()
WHERE = "colab_results/audio-1/run.ipynb"

PLOT = {
    "output_type": "display_data",
    "data": {"image/png": PNG, "text/plain": ["<Figure size 640x480>"]},
    "metadata": {"image/png": {"width": 640, "height": 480}, "other": 1},
}
FRAME = {
    "output_type": "execute_result",
    "execution_count": 3,
    "data": {"text/html": ["<table>", "<tr></table>"], "text/plain": "   a\n0  1"},
    "metadata": {},
}
PRINT = {"output_type": "stream", "name": "stdout", "text": ["epoch 1\n", "\x1b[32mok\x1b[0m 10%\r 20%\n"]}
ERROR = {
    "output_type": "error",
    "ename": "ValueError",
    "evalue": "no",
    "traceback": ["\x1b[31mValueError\x1b[0m  Traceback", "line 2"],
}


def test_everything_is_published_as_it_is_in_its_order():
    assert to_publish([PRINT, PLOT, FRAME, ERROR]) == [
        Stream(name="stdout", text="epoch 1\n\x1b[32mok\x1b[0m 10%\r 20%\n"),
        Bundle(
            data={"image/png": PNG, "text/plain": "<Figure size 640x480>"},
            metadata={"image/png": {"width": 640, "height": 480}, "other": 1},
        ),
        Bundle(data={"text/html": "<table><tr></table>", "text/plain": "   a\n0  1"}),
        Bundle(data={"text/plain": "\x1b[31mValueError\x1b[0m  Traceback\nline 2"}),
    ]


def test_a_json_bundle_stays_parsed_and_a_dead_widget_is_its_text():
    plotly = {"data": [{"y": [1]}]}
    assert to_publish(
        [
            {
                "output_type": "display_data",
                "data": {"application/vnd.plotly.v1+json": plotly},
                "metadata": {},
            },
            {
                "output_type": "display_data",
                "data": {
                    "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
                    "text/plain": "100%|██|",
                },
                "metadata": {},
            },
        ]
    ) == [
        Bundle(data={"application/vnd.plotly.v1+json": plotly}),
        Bundle(data={"text/plain": "100%|██|"}),
    ]


@pytest.mark.parametrize(
    "mime",
    [
        "text/html",
        "image/svg+xml",
        "text/markdown",
        "text/latex",
        "application/javascript",
        "application/vnd.plotly.v1+json",
        "application/pdf",
    ],
)
def test_nothing_that_a_browser_runs_is_published_untrusted(mime):
    evil = {"output_type": "display_data", "data": {mime: "<script>evil()</script>"}, "metadata": {}}
    assert to_publish([evil], trusted=False, where=WHERE) == [
        Bundle(data={"text/plain": f"[not shown, from a machine you do not trust: {mime}; it is in {WHERE}]"})
    ]


def test_untrusted_outputs_keep_text_images_and_their_sizes():
    stream = {"output_type": "stream", "name": "stderr", "text": "\x1b[31mred\x1b[0m\x1b]0;title\x07"}
    plot, frame, text, note = to_publish([PLOT, FRAME, stream], trusted=False)
    assert plot == Bundle(
        data={"text/plain": "<Figure size 640x480>", "image/png": PNG},
        metadata={"image/png": {"width": 640, "height": 480}},
    )
    assert frame == Bundle(data={"text/plain": "   a\n0  1"})
    assert text == Stream(name="stderr", text="\x1b[31mred\x1b[0m")
    assert note == Bundle(data={"text/plain": "[not shown, from a machine you do not trust: text/html]"})


def test_a_terminal_gets_text_and_a_line_for_each_image():
    html_only = {
        "output_type": "display_data",
        "data": {"text/html": "<style>x</style><b>bold</b> &amp;"},
        "metadata": {},
    }
    assert to_text([PRINT, PLOT, FRAME, html_only, ERROR], where=WHERE) == (
        "epoch 1\n 20%\n"
        f"[image/png 640×480, 12 kB → {WHERE}]\n"
        "   a\n0  1\n"
        f"[text/html, 33 B → {WHERE}] bold &amp;\n"
        "ValueError  Traceback\nline 2\n"
    )
    assert "\x1b[31mValueError\x1b[0m" in to_text([ERROR], colours=True)
    assert to_text([]) == ""


def test_a_flood_of_text_is_cut_in_the_middle_and_says_so():
    flood = {"output_type": "stream", "name": "stdout", "text": "first" + "x" * 10_000_000 + "last"}
    for text in (to_publish([flood], where=WHERE)[0].text, to_text([flood], where=WHERE)):
        assert len(text) < MAX_TEXT_CHARS + 200
        assert text.startswith("first")
        assert text.rstrip().endswith("last")
        assert f"[… 9,800,009 characters not shown, all of it is in {WHERE} …]" in text


def test_an_error_without_traceback_is_its_name_and_message():
    assert to_text([{"output_type": "error", "ename": "A", "evalue": "b", "traceback": []}]) == "A: b\n"


def test_an_output_type_of_a_later_version_is_passed_over():
    assert to_publish([{"output_type": "of_the_future"}]) == []
    assert to_text([{"output_type": "of_the_future"}]) == ""


@pytest.mark.parametrize(
    "output",
    [
        "text",
        {},
        {"output_type": 3},
        {"output_type": "stream", "text": 3},
        {"output_type": "display_data", "data": "x", "metadata": {}},
        {"output_type": "display_data", "data": {"text/plain": [1]}, "metadata": {}},
        {"output_type": "error", "traceback": 3},
    ],
)
def test_what_is_not_an_output_is_corrupt(output):
    for use in (to_publish, to_text):
        with pytest.raises(CorruptError, match="of the executed notebook has"):
            use([output])


def test_published_streams_go_to_the_streams_of_this_process(capsys):
    publish([Stream(name="stdout", text="out\n"), Stream(name="stderr", text="err\n")])
    assert capsys.readouterr() == ("out\n", "err\n")
