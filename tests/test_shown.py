from __future__ import annotations

import json
from typing import Any

from colab_magics.daemon import shown
from colab_magics.daemon.shown import CellOutputs, fit, result_text
from colab_magics.jobs.record import Progress


def message(
    msg_type: str, content: dict[str, Any], *, parent: str = "cell", buffers: list[bytes] | None = None
) -> Any:
    return {
        "header": {"msg_type": msg_type},
        "parent_header": {"msg_id": parent},
        "content": content,
        "buffers": buffers or [],
    }


def stream(text: str, *, name: str = "stdout") -> Any:
    return message("stream", {"name": name, "text": text})


def display(text: str, *, display_id: str | None = None, msg_type: str = "display_data") -> Any:
    transient = {"display_id": display_id} if display_id else {}
    return message(msg_type, {"data": {"text/plain": text}, "metadata": {}, "transient": transient})


def comm(msg_type: str, comm_id: str, state: dict[str, Any], **more: Any) -> Any:
    content = {"comm_id": comm_id, "target_name": "jupyter.widget", "data": {"state": state, **more}}
    return message(msg_type, content, buffers=[b"\0\1"] if more else None)


def folded(*messages: Any) -> CellOutputs:
    outputs = CellOutputs()
    for each in messages:
        outputs.fold(each)
    return outputs


def texts(outputs: CellOutputs) -> list[str]:
    return [output.get("text") or output["data"]["text/plain"] for output in outputs.outputs()]


def test_neighbouring_text_of_one_stream_is_one_output() -> None:
    outputs = folded(stream("a"), stream("b\n"), stream("e", name="stderr"), stream("c"))
    assert texts(outputs) == ["ab\n", "e", "c"]


def test_a_bar_that_is_redrawn_is_shown_once() -> None:
    assert texts(folded(stream("\r 1/2"), stream("\r 2/2"), stream("\n"))) == [" 2/2\n"]


def test_a_secret_across_the_cut_of_a_stream_or_of_what_is_shown_live_shows_no_part_of_itself() -> None:
    def mask(text: str) -> str:
        return text.replace("ghp_secret", "**********")

    outputs = CellOutputs(mask=mask)
    outputs.fold(stream("x" * (shown.STREAM_CHARS // 2 - 4) + "ghp_" + "secret"))
    outputs.fold(stream("y" * (3 * shown.STREAM_CHARS)))
    outputs.fold(stream("ghp_secret" * (shown.STREAM_CHARS // 10)))
    assert all(part not in texts(outputs)[0] for part in ("ghp", "secret"))

    outputs = CellOutputs(mask=mask)
    outputs.fold(display("x" * 121 + "ghp_secret" * 100))
    (output,) = outputs.last_outputs(limit_bytes=1000)
    assert "ghp" not in output["data"]["text/plain"]


def test_a_stream_without_end_keeps_head_and_tail_in_little_memory() -> None:
    outputs = CellOutputs()
    for number in range(2000):
        outputs.fold(stream(f"{number:>999}\n"))
    (text,) = texts(outputs)
    assert len(text) < shown.STREAM_CHARS + 200
    assert "characters are left out here, log.txt has more of them" in text
    assert text.startswith(f"{0:>999}\n")
    assert text.endswith(f"{1999:>999}\n")


def test_a_display_is_updated_wherever_it_stands() -> None:
    outputs = folded(
        display("1", display_id="a"),
        stream("x"),
        display("2", display_id="a", msg_type="update_display_data"),
    )
    assert texts(outputs) == ["2", "x"]


def test_clearing_waits_where_it_is_asked_to() -> None:
    wait = message("clear_output", {"wait": True})
    assert texts(folded(stream("a"), wait)) == ["a"]
    assert texts(folded(stream("a"), wait, stream("b"))) == ["b"]
    assert texts(folded(stream("a"), message("clear_output", {"wait": False}))) == []


def test_too_many_outputs_keep_the_first_and_the_last() -> None:
    outputs = folded(*(display(str(number)) for number in range(3000)))
    kept = texts(outputs)
    assert len(kept) == shown.OUTPUTS + 1
    assert (kept[0], kept[-1]) == ("0", "2999")
    assert any("2,000 outputs are left out here" in text for text in kept)


def test_one_huge_representation_is_replaced_by_a_note() -> None:
    data = {"text/plain": "p", "text/html": "x" * (shown.OUTPUT_BYTES + 1)}
    (output,) = folded(message("display_data", {"data": data, "metadata": {}})).outputs()
    assert "text/html" not in output["data"]
    assert "left out here" in output["data"]["text/plain"]


def test_the_last_outputs_fit_the_limit() -> None:
    outputs = folded(*(display("x" * 1000 + str(number)) for number in range(100)))
    last = outputs.last_outputs(limit_bytes=5000)
    assert last[-1]["data"]["text/plain"].endswith("99")
    assert 3 <= len(last) <= 4
    assert len(json.dumps(last)) <= 5000
    large = folded(
        message("display_data", {"data": {"image/png": "A" * 90_000, "text/plain": "plot"}, "metadata": {}})
    )
    (only,) = large.last_outputs(limit_bytes=64_000)
    assert only["data"] == {"text/plain": "plot\n[image/png left out here: too large]"}


def test_the_largest_outputs_give_way_first() -> None:
    small = {"output_type": "stream", "name": "stdout", "text": "small"}
    large = {
        "output_type": "display_data",
        "data": {"image/png": "A" * 100_000, "text/plain": "p"},
        "metadata": {},
    }
    assert fit([small, large], limit_bytes=1_000_000) == [small, large]
    first, second = fit([small, large], limit_bytes=10_000)
    assert first == small
    assert "image/png left out here" in second["data"]["text/plain"]


def test_widgets_and_their_buffers_are_kept_and_a_bar_is_progress() -> None:
    bar = {"_model_name": "FloatProgressModel", "_model_module": "m", "value": 0.0, "max": 10.0}
    outputs = folded(
        comm("comm_open", "label", {"_model_name": "HTMLModel", "value": "epoch:&nbsp; 40%"}),
        comm("comm_open", "bar", bar),
        comm(
            "comm_open", "box", {"_model_name": "HBoxModel", "children": ["IPY_MODEL_label", "IPY_MODEL_bar"]}
        ),
        comm("comm_msg", "bar", {"value": 4.0}),
        comm("comm_open", "image", {"_model_name": "ImageModel"}, buffer_paths=[["value"]]),
    )
    widgets = outputs.widget_state()
    assert widgets is not None
    state = widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert state["bar"]["state"]["value"] == 4.0
    assert state["image"]["buffers"] == [{"encoding": "base64", "data": "AAE=", "path": ["value"]}]
    found = outputs.progress()
    assert found is not None
    assert (found.done, found.total) == (4, 10)
    assert found.label.startswith("epoch")


def test_a_bar_that_is_a_widget_says_in_its_text_how_far_it_came() -> None:
    box = {"_model_name": "HBoxModel", "children": ["IPY_MODEL_l", "IPY_MODEL_b", "IPY_MODEL_r"]}
    view = {"text/plain": "  0%|  | 0/40", "application/vnd.jupyter.widget-view+json": {"model_id": "h"}}

    outputs = folded(
        comm("comm_open", "l", {"_model_name": "HTMLModel", "value": ""}),
        comm("comm_open", "b", {"_model_name": "FloatProgressModel", "value": 0.0, "max": 40.0}),
        comm("comm_open", "r", {"_model_name": "HTMLModel", "value": ""}),
        comm("comm_open", "h", box),
        message("display_data", {"data": view, "metadata": {}}),
        comm("comm_msg", "l", {"value": "train:\xa0\xa050%"}),
        comm("comm_msg", "b", {"value": 20.0}),
        comm("comm_msg", "r", {"value": " 20/40 [00:01&lt;00:01, 20.00it/s]"}),
    )

    (output,) = outputs.outputs()
    assert output["data"]["text/plain"] == "train:  50%|█████     | 20/40 [00:01<00:01, 20.00it/s]"
    assert "application/vnd.jupyter.widget-view+json" in output["data"]


def test_without_widgets_there_is_neither_state_nor_progress() -> None:
    assert folded(stream("x")).widget_state() is None
    assert folded(stream("x")).progress() is None
    assert Progress(1) == Progress(1, None, "")


def test_an_error_is_plain_text_in_the_log() -> None:
    error = {"ename": "E", "evalue": "v", "traceback": ["\x1b[31mred\x1b[0m", "E: v"]}
    assert result_text(message("error", error)) == "red\nE: v\n"
    assert result_text(stream("x")) == ""
