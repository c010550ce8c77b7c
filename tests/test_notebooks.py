"""The notebooks, executed from end to end as a person would run them."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import daemons
import nbclient
import nbformat
import pytest
from daemons import Project

from colab_magics.demo import run_demo
from colab_magics.embedded import stop_runtime
from colab_magics.jobs.state import State
from colab_magics.store.git import Repository

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"

pytestmark = pytest.mark.notebook


@pytest.fixture
def queue(project: Path) -> Project:
    return daemons.open_project(project)


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def fill_form(notebook: Any, **values: object) -> None:
    """What a person types into the parameters form."""
    form = next(cell for cell in notebook.cells if "# @param" in cell.source)
    lines = form.source.splitlines()
    for index, line in enumerate(lines):
        name = line.split(" = ")[0]
        if name in values:
            lines[index] = f"{name} = {values.pop(name)!r}"
    assert not values
    form.source = "\n".join(lines)


def outputs_of(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(notebook: Any) -> str:
    return "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in outputs_of(notebook)
    )


def text_of_cell(cell: Any) -> str:
    [output] = cell.outputs
    text: str = output["data"]["text/plain"]
    return text


def client_of(notebook: Any, folder: Path) -> nbclient.NotebookClient:
    resources = {"metadata": {"path": str(folder)}}
    return nbclient.NotebookClient(notebook, timeout=250, kernel_name="python3", resources=resources)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_stored_valid_and_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)

    nbformat.validate(notebook)
    assert outputs_of(notebook) == []


@pytest.mark.timeout(600)
def test_a_job_is_held_at_its_43rd_batch_looked_into_and_repaired(project: Path) -> None:
    notebook = read("debug_a_job.ipynb")
    try:
        client_of(notebook, project).execute()
    finally:
        stop_runtime(Repository.discover(project))

    said = text_of(notebook)
    assert "held at its failure" in said
    assert "scale, line 4 of batches.py" in said
    by_source = {cell.source: cell for cell in notebook.cells}
    assert text_of_cell(by_source["%colab_tunnel job train --evaluate batch"]) == "[0.5, 0.5, 0.5, 0.5]"
    assert text_of_cell(by_source["%colab_tunnel job train --evaluate number"]) == "43"
    assert float(text_of_cell(by_source["total"])) > 0


@pytest.mark.timeout(600)
def test_the_quickstart_shows_six_plots_of_the_jobs_a_table_and_what_they_learned(tmp_path: Path) -> None:
    page = run_demo(tmp_path)

    notebook = nbformat.read(tmp_path / "quickstart.ipynb", as_version=4)
    watched = next(cell for cell in notebook.cells if cell.source.startswith("%colab_sync --watch"))
    drawn = [output for output in watched.outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == 6
    table = next(cell for cell in notebook.cells if cell.source.startswith("accuracy.frame"))
    (shown,) = table.outputs
    assert shown["data"]["text/html"].count("<tr") == 7
    curves = next(cell for cell in notebook.cells if "losses.items()" in cell.source)
    assert "image/png" in curves.outputs[0]["data"]
    html = page.read_text()
    assert html.count("data:image/png;base64") >= 7


def test_the_daemon_notebook_drains_a_queue_and_shows_the_table(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("one", "echo first"), queue.command("two", "exit 3"))
    notebook = read("colab_gpu_daemon.ipynb")
    fill_form(notebook, REPO=queue.remote, ONCE=True, POLL_SECONDS=0.2)

    client_of(notebook, tmp_path).execute()

    assert [queue.job(name).state.state for name in ("one", "two")] == [State.SUCCEEDED, State.FAILED]
    assert "2 attempts ended here" in text_of(notebook)
    assert "1 succeeded" in text_of(notebook)


def test_stopping_the_cell_of_the_daemon_notebook_gives_the_job_back(queue: Project, tmp_path: Path) -> None:
    queue.submit(queue.command("long", "sleep 600"))
    notebook = read("colab_gpu_daemon.ipynb")
    fill_form(notebook, REPO=queue.remote, POLL_SECONDS=0.2)

    client = client_of(notebook, tmp_path)

    def press_the_stop_button() -> None:
        queue.wait_for("long", State.RUNNING)
        client.km.provisioner.process.send_signal(signal.SIGINT)

    person = threading.Thread(target=press_the_stop_button)
    person.start()
    client.execute()
    person.join()

    assert queue.job("long").state.state is State.QUEUED
    assert "what was running went back to the queue" in text_of(notebook)


def test_the_daemon_notebook_says_what_is_missing(tmp_path: Path) -> None:
    notebook = read("colab_gpu_daemon.ipynb")

    with pytest.raises(nbclient.exceptions.CellExecutionError) as failed:
        client_of(notebook, tmp_path).execute()

    assert "say which repository to work on" in str(failed.value)
