"""The executed notebook of a cell, as hosting sites and Jupyter show it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from colab_magics.daemon.shown import Output, fit
from colab_magics.jobs.spec import Json

_WIDGETS_SHARE = 2


def parameters_source(params: Iterable[tuple[str, Json]], *, inputs: Sequence[str] = ()) -> str:
    """The cell that stands before the person's: parameters as assignments, and a line about the inputs."""
    lines = [f"{name} = {value!r}" for name, value in params]
    if inputs:
        lines.append(f"# sent with the job: {', '.join(inputs)}")
    return "\n".join(lines)


def build_notebook(
    source: str,
    *,
    parameters: str,
    outputs: Sequence[Output],
    execution_count: int | None,
    widgets: Mapping[str, Any] | None,
    python_version: str,
    about: Mapping[str, Json],
    limit_bytes: int,
) -> bytes:
    """A notebook in nbformat 4.5 of at most about `limit_bytes`: large outputs are replaced by their text.

    Args:
        about: what is said of the job in the notebook's metadata, under `colab_magics`.
    """
    metadata: dict[str, Any] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {
            "codemirror_mode": {"name": "ipython", "version": 3},
            "file_extension": ".py",
            "mimetype": "text/x-python",
            "name": "python",
            "nbconvert_exporter": "python",
            "pygments_lexer": "ipython3",
            "version": python_version,
        },
        "colab_magics": dict(about),
    }
    left = limit_bytes - len(source.encode("utf-8", "replace")) - len(parameters)
    if widgets is not None:
        size = len(json.dumps(widgets, default=repr))
        if size <= left // _WIDGETS_SHARE:
            metadata["widgets"] = widgets
            left -= size
    cells: list[dict[str, Any]] = []
    if parameters:
        tags = {"tags": ["injected-parameters"]}
        count = None if execution_count is None else max(1, execution_count - 1)
        cells.append(_cell("parameters", parameters, [], execution_count=count, metadata=tags))
    cells.append(
        _cell("cell", source, fit(outputs, limit_bytes=left), execution_count=execution_count, metadata={})
    )
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    text = json.dumps(notebook, ensure_ascii=False, indent=1, default=repr) + "\n"
    return text.encode("utf-8", "replace")


def _cell(
    cell_id: str,
    source: str,
    outputs: list[Output],
    *,
    execution_count: int | None,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": execution_count,
        "id": cell_id,
        "metadata": dict(metadata),
        "outputs": [_split(output) for output in outputs],
        "source": source.splitlines(keepends=True),
    }


def _split(output: Output) -> Output:
    """Text as lists of lines, as notebooks are stored, so that their differences can be read."""
    if output["output_type"] == "stream":
        return output | {"text": output["text"].splitlines(keepends=True)}
    if "data" not in output:
        return output
    data = {
        mime: value.splitlines(keepends=True) if isinstance(value, str) and _is_text(mime) else value
        for mime, value in output["data"].items()
    }
    return output | {"data": data}


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in ("image/svg+xml", "application/javascript")
