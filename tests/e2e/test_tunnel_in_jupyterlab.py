"""A new user in JupyterLab: `%colab_tunnel local` in a cell, its kernel picked, a cell debugged in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import lab_page
import pytest
from jupyter_servers import JupyterServer
from lab_page import Notebook
from playwright.sync_api import Page, expect
from private_servers import say

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

OPENED = ["%load_ext colab_magics\n%colab_tunnel local", "%colab_tunnel status"]
DEBUGGED = "a = 1\nb = a + 41\nprint('answer', b)\n"
KERNEL = "Colab GPU — local"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    """A JupyterLab with the package in its environment, as after `pip install`."""
    lab_page.chromium()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    try:
        with lab_page.lab_server(tmp_path, search_path=tmp_path / "none") as server:
            yield server
    finally:
        say(Path(sys.executable), "close", "--name", "local", state=tmp_path / "state")


@pytest.fixture
def page() -> Iterator[Page]:
    with lab_page.browser_page() as page:
        yield page


def test_open_a_session_pick_its_kernel_debug_a_cell(page: Page, lab: JupyterServer) -> None:
    lab_page.write_notebook(lab.root / "mine.ipynb", OPENED)
    mine = Notebook(page, lab, "mine.ipynb")
    mine.choose_kernel("Python 3 (ipykernel)")
    mine.run(0)
    expect(mine.output(0)).to_contain_text(["local is open"])
    mine.run(1)
    expect(mine.output(1)).to_contain_text(["local"])
    mine.screenshot("tunnel-local")

    lab_page.write_notebook(lab.root / "far.ipynb", [DEBUGGED])
    far = Notebook(page, lab, "far.ipynb")
    far.choose_kernel(KERNEL)
    far.enable_debugger()
    far.click_gutter(far.cell(0), 3)
    expect(far.breakpoints).to_have_count(1)
    far.run(0)
    far.expect_held_at(3)
    far.expect_variable("b", "42")
    far.screenshot("tunnel-debug")
    far.press("F9")
    expect(far.output(0)).to_have_text(["answer 42\n"])
