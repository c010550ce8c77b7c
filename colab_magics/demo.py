"""`jupyter colab demo`: the quickstart notebook from end to end on this machine, as one HTML page."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from colab_magics.embedded import stop_runtime
from colab_magics.errors import ColabError, UsageError
from colab_magics.store.git import Repository

NOTEBOOK = "quickstart.ipynb"
NEEDED = ("nbclient", "nbconvert", "torch", "sklearn", "matplotlib", "pandas", "tqdm")
TIMEOUT_S = 1200
SHOWN_LINES = 14


def run_demo(into: Path) -> Path:
    """Run the quickstart in a project of its own and return the page that shows what came of it.

    Talks on standard error while it runs. The project is temporary; the executed notebook and the page stay.

    Args:
        into: the folder for them; made where it is missing.

    Raises:
        UsageError: what the demo trains with is not installed.
        ColabError: a cell failed; the page shows how far it came.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the demo needs {', '.join(missing)}: run make demo, or pip install '.[demo]', in a clone"
        )
    nbformat = importlib.import_module("nbformat")
    notebook = nbformat.reads(find_notebook().read_text(encoding="utf-8"), as_version=4)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="colab-demo-") as folder:
        project = _make_project(Path(folder))
        _say(f"a project for the demo: {project}; both sides of the queue run on this machine")
        started = time.monotonic()
        try:
            failed = _execute(notebook, project)
        finally:
            stop_runtime(Repository.discover(project))
        _say(f"{len(notebook.cells)} cells in {time.monotonic() - started:.0f} s")
    executed = into / NOTEBOOK
    executed.write_text(nbformat.writes(notebook), encoding="utf-8")
    page = _render(notebook, executed.with_suffix(".html"))
    if failed:
        raise ColabError(f"a cell of the demo failed: {failed}; see {page}")
    return page


def find_notebook() -> Path:
    """The quickstart: beside this module where it was installed, in `notebooks/` in the repository."""
    here = Path(__file__).parent
    found = [path for path in (here / NOTEBOOK, here.parent / "notebooks" / NOTEBOOK) if path.is_file()]
    if not found:
        raise UsageError(f"{NOTEBOOK} is not part of this installation: install colab-magics again")
    return found[0]


def _make_project(folder: Path) -> Path:
    project = folder / "digits"
    project.mkdir()
    (project / "README.md").write_text("A project to try colab-magics in.\n")
    (project / ".gitignore").write_text("colab_results/\n")
    who = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost"]
    for arguments in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message", "Begin"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    return project


def _execute(notebook: Any, project: Path) -> str:
    """Run the cells in a kernel of this interpreter; the failure in one line, empty if there was none."""
    nbclient = importlib.import_module("nbclient")

    def tell(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code":
            _say(f"[{cell_index + 1}/{len(notebook.cells)}] {cell.source.splitlines()[0][:100]}")

    def show(cell: Any, cell_index: int, execute_reply: Any) -> None:
        for output in cell.outputs:
            text = output.get("data", {}).get("text/plain", "") or output.get("text", "")
            lines = [line for line in text.splitlines() if line.strip() and not line.startswith("<Figure")]
            for line in lines[:SHOWN_LINES]:
                _say(f"    {line[:140]}")

    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(project)}},
        extra_arguments=["--log-level=ERROR"],
        on_cell_start=tell,
        on_cell_executed=show,
    )
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    return ""


def _render(notebook: Any, page: Path) -> Path:
    """The notebook as one HTML file, its images inside."""
    nbconvert = importlib.import_module("nbconvert")
    html, _ = nbconvert.HTMLExporter(embed_images=True).from_notebook_node(notebook)
    page.write_text(html, encoding="utf-8")
    return page


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
