"""A daemon on Colab's exact versions and configuration runs what a person queued from another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import daemons
import harness
import pytest
import shells
from daemons import Project

from colab_magics.jobs.record import Record, from_json
from colab_magics.jobs.state import State

pytestmark = [pytest.mark.colab_pins, pytest.mark.timeout(1800)]

CELL = """\
# A cell with everything
import subprocess

from IPython.display import HTML, display

display(HTML("<b>rich</b>"))
subprocess.run(["echo", "from a child"], check=True)
kernel = get_ipython().kernel
print(type(kernel).__module__, type(kernel).__name__, "colab_extension_is_loaded" in globals())
total = int(array.sum()) * factor
doubled = frame * 2
total
"""


@pytest.fixture(scope="module")
def drained(colab_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A queue that a daemon in Colab's environment has drained."""
    folder = tmp_path_factory.mktemp("queue")
    bare = harness.make_bare_remote(folder / "remote.git")
    project = harness.make_project(folder / "project", remote_url=bare.as_uri())
    with shells.open_notebook(project) as notebook:
        notebook.run(
            "import numpy, pandas; array = numpy.arange(10); frame = pandas.DataFrame({'a': [1.5, 2]})"
        )
        notebook.run(
            "%%colab_queue --name good --in array,frame --out total,doubled,array --param factor=2\n" + CELL
        )
        notebook.run("%%colab_queue --name bad\n# It fails\nx = 1\nraise ValueError('no such thing')")
        notebook.run("%colab_queue --name command --command \"python -c 'import sys; print(sys.prefix)'\"")
    # ipykernel does not take its processes' output where it believes to be in a test.
    alone = ["env", "-u", "PYTEST_CURRENT_TEST"]
    command = [*alone, colab_python, "-m", "colab_magics.cli", "daemon", "--repo", bare.as_uri(), "--once"]
    said = harness.run([*command, "--workdir", folder / "home"], cwd=folder)
    assert "3 attempts ended here" in said.stderr, said.stderr
    queue = daemons.open_project(project)
    queue.store.refresh()
    return queue


def job_id(queue: Project, name: str) -> str:
    return next(job.job_id for job in queue.store.view().jobs if job.name == name)


def record(queue: Project, name: str) -> Record:
    return from_json(queue.store.read(job_id(queue, name), "record.json") or b"")


def outputs(queue: Project, name: str) -> list[dict[str, Any]]:
    notebook = json.loads(queue.store.read(job_id(queue, name), "run.ipynb") or b"")
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def test_all_of_it_ends_as_it_would_anywhere(drained: Project) -> None:
    states = {job.name: job.state.state for job in drained.store.view().jobs}
    assert states == {"good": State.SUCCEEDED, "bad": State.FAILED, "command": State.SUCCEEDED}


def test_a_cells_kernel_is_an_ordinary_one(drained: Project) -> None:
    assert "ipykernel.ipkernel IPythonKernel False\n" in drained.log(job_id(drained, "good"))


def test_a_cell_leaves_its_rich_outputs_and_what_its_processes_said(drained: Project) -> None:
    kinds = [output["output_type"] for output in outputs(drained, "good")]
    assert kinds[0] == "display_data"
    assert kinds[-1] == "execute_result"
    assert "stream" in kinds
    assert text(outputs(drained, "good")[0]["data"]["text/html"]) == "<b>rich</b>"
    assert "from a child\n" in drained.log(job_id(drained, "good"))


def test_a_cell_that_fails_names_its_line(drained: Project) -> None:
    failure = record(drained, "bad").failure
    assert failure is not None
    assert (failure.type, failure.message, failure.line) == ("ValueError", "no such thing", 3)
    assert outputs(drained, "bad")[-1]["ename"] == "ValueError"


def test_python_in_a_command_is_colabs(drained: Project, colab_python: Path) -> None:
    assert drained.log(job_id(drained, "command")).strip().endswith(str(colab_python.parent.parent))


def test_the_versions_are_recorded(drained: Project) -> None:
    environment = record(drained, "good").environment
    assert environment is not None
    text = harness.git(drained.folder, "show", f"refs/colab/remote/origin/ledger:env/{environment}.txt")
    assert {"ipykernel==6.17.1", "ipython==7.34.0"} <= set(text.lower().splitlines())


def test_its_outputs_and_variables_come_back_into_the_notebook(drained: Project) -> None:
    with shells.open_notebook(drained.folder) as notebook:
        notebook.run("%colab_sync")
        assert "from a child" in notebook.shown
        assert "ValueError" in notebook.shown
        assert notebook.variables["total"] == 90
        assert list(notebook.variables["array"]) == list(range(10))
        assert notebook.variables["doubled"].to_dict("list") == {"a": [3.0, 4.0]}
    assert (drained.folder / "colab_results" / job_id(drained, "good") / "run.ipynb").is_file()
