from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest

from colab_magics.daemon.notebook import build_notebook, parameters_source


def build(outputs: list[Any], *, limit_bytes: int = 1_000_000, widgets: Any = None, source: str = "x") -> Any:
    data = build_notebook(
        source,
        parameters="lr = 1",
        outputs=outputs,
        execution_count=2,
        widgets=widgets,
        python_version="3.12.1",
        about={"job": "a-1"},
        limit_bytes=limit_bytes,
    )
    notebook = json.loads(data)
    nbformat.validate(nbformat.from_dict(notebook))
    return notebook


def test_a_notebook_is_valid_and_says_what_it_is_of() -> None:
    notebook = build([{"output_type": "stream", "name": "stdout", "text": "a\nb"}], source="a = 1\nb = 2")
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"]["version"] == "3.12.1"
    assert notebook["metadata"]["colab_magics"] == {"job": "a-1"}
    assert notebook["cells"][1]["source"] == ["a = 1\n", "b = 2"]
    assert notebook["cells"][1]["outputs"][0]["text"] == ["a\n", "b"]


def test_a_notebook_is_bounded_and_what_is_left_out_is_said() -> None:
    images = [
        {
            "output_type": "display_data",
            "data": {"image/png": "A" * 400_000, "text/plain": str(n)},
            "metadata": {},
        }
        for n in range(5)
    ]
    notebook = build(images)
    assert len(json.dumps(notebook)) < 1_100_000
    kept = ["image/png" in output["data"] for output in notebook["cells"][1]["outputs"]]
    assert kept.count(True) == 2
    assert "image/png left out here" in json.dumps(notebook)


def test_widgets_too_large_for_the_notebook_are_left_out() -> None:
    widgets = {
        "application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}
    }
    assert build([], widgets=widgets)["metadata"]["widgets"] == widgets
    large = {"application/vnd.jupyter.widget-state+json": {"state": {"a": "x" * 900_000}}}
    assert "widgets" not in build([], widgets=large)["metadata"]


def test_lone_surrogates_do_not_end_it() -> None:
    build([{"output_type": "stream", "name": "stdout", "text": "a\udc80b"}])


def test_parameters_are_assignments_that_python_reads() -> None:
    params = (("lr", 0.1), ("name", "a'\n\"b"), ("deep", {"x": [1, None, True]}))
    source = parameters_source(params, inputs=["data (numpy, 80 bytes)"])
    namespace: dict[str, object] = {}
    exec(source, namespace)
    assert {name: namespace[name] for name, _ in params} == dict(params)
    assert source.endswith("# sent with the job: data (numpy, 80 bytes)")
    assert parameters_source(()) == ""


@pytest.mark.parametrize("limit_bytes", [100, 2000])
def test_even_a_tiny_limit_gives_a_notebook(limit_bytes: int) -> None:
    build([{"output_type": "stream", "name": "stdout", "text": "x" * 10_000}], limit_bytes=limit_bytes)
