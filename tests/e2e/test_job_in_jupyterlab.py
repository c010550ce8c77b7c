"""A batch job that is held at its failure, opened in JupyterLab: through the session to the job's kernel."""

from __future__ import annotations

import json
import os
from pathlib import Path

import harness
import lab_page
import pytest
from attempt_harness import make_job
from lab_page import Notebook
from playwright.sync_api import expect

from colab_magics.daemon.assignment import Phase
from colab_magics.jobs.state import Verb
from colab_magics.tunnel import jobs
from colab_magics.tunnel.plan import Plan
from colab_magics.tunnel.session import close_session, open_session
from colab_magics.tunnel.targets import Local

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

MAGIC = "%%colab_queue --name train --hold 20m"
CELL = """\
import random
import batches

random.seed(0)
total = 0.0
for number in range(1, 101):
    batch = [random.random() for _ in range(4)] if number != 43 else [0.5] * 4
    total += batches.scale(batch)
"""
MODULE = """\
def scale(batch):
    spread = max(batch) - min(batch)
    return 1 / spread
"""


def keep_registry(kernelspec: Path) -> None:
    """Have the kernel look for runtimes where this test does: the server for Lab has a place of its own."""
    path = kernelspec / "kernel.json"
    spec = json.loads(path.read_text())
    spec["env"] = {"JUPYTER_RUNTIME_DIR": os.environ["JUPYTER_RUNTIME_DIR"]}
    path.write_text(json.dumps(spec))


def test_the_failing_frame_is_in_the_debugger_beside_the_queued_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab_page.chromium()
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    project = tmp_path / "lab/root"
    harness.write(project / "batches.py", MODULE)
    job = make_job(tmp_path / "job", cell=CELL, magic=MAGIC, hold_s=1200.0, files={"batches.py": MODULE})
    session = open_session(Local(), Plan())
    try:
        with job.running():
            harness.wait_until(lambda: job.attempt.live().phase is Phase.HELD, what="the failure")
            visit = jobs.open_job(session.reached, session.runtime, "train-1", project=project, pause=False)
            keep_registry(tmp_path / "jupyter_data_dir/kernels" / visit.kernel_name)
            lab_page.write_notebook(project / "train.ipynb", [f"{MAGIC}\n{CELL}", "number"])
            with (
                lab_page.lab_server(tmp_path / "lab", search_path=tmp_path / "jupyter_data_dir") as lab,
                lab_page.browser_page() as page,
            ):
                notebook = Notebook(page, lab, "train.ipynb")
                notebook.choose_kernel(visit.display_name, is_held=True)
                notebook.source("batches.py")
                notebook.show_debugger()
                notebook.expect_held_at(3, file="batches.py")
                notebook.expect_variable("spread", "0")
                notebook.screenshot("job-held")
                notebook.frames.nth(1).click()
                notebook.come_back()
                notebook.expect_variable("number", "43")
                notebook.run(1)
                expect(notebook.output(1)).to_contain_text("43")
                notebook.screenshot("job-cell")
                notebook.press("F9")
                harness.wait_until(
                    lambda: job.attempt.live().phase is not Phase.HELD, what="the job's going on"
                )
    finally:
        close_session(session.reached)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.FAIL
