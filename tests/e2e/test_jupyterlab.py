"""JupyterLab in a real browser runs and debugs a cell in our kernel as in any other."""

from __future__ import annotations

from collections.abc import Iterator

import harness
import lab_page
import pytest
from jupyter_servers import JupyterServer
from kernel_environments import Stack
from kernel_targets import Remotes, Target
from lab_page import Notebook
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

BARE, PROXY = Target(False, Stack.NEWEST), Target(True, Stack.NEWEST)
SHOWN = {BARE: str(BARE), PROXY: "Colab GPU"}
"""Each kernel's name in Lab's menu."""

DEBUGGED = """\
import helpers
a = 1
b = a + 41
c = helpers.double(b)
print("answer", c)
"""
MODULE = """\
def double(n):
    result = n * 2
    return result
"""
SLIDER = """\
import ipywidgets
slider = ipywidgets.IntSlider(value=3, min=0, max=10, description="n")
label = ipywidgets.Label("unmoved")
slider.observe(lambda change: setattr(label, "value", f"squared: {change['new'] ** 2}"), "value")
ipywidgets.VBox([slider, label])
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A JupyterLab in a project's folder, with both kernels."""
    lab_page.chromium()
    folder = tmp_path_factory.mktemp("lab")
    with Remotes(tmp_path_factory.mktemp("remotes"), local_root=folder / "root") as remotes:
        remotes.kernelspec(BARE)
        remotes.kernelspec(PROXY, display_name=SHOWN[PROXY])
        harness.write(remotes.server(PROXY.stack).root / "helpers.py", MODULE)
        harness.write(folder / "root/helpers.py", MODULE)
        with lab_page.lab_server(folder, search_path=remotes.search_path) as server:
            yield server


@pytest.fixture
def page() -> Iterator[Page]:
    with lab_page.browser_page() as page:
        yield page


@pytest.fixture(params=SHOWN, ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


def open_notebook(page: Page, lab: JupyterServer, target: Target, cell: str) -> Notebook:
    lab_page.write_notebook(lab.root / "notebook.ipynb", [cell])
    notebook = Notebook(page, lab, "notebook.ipynb")
    notebook.choose_kernel(SHOWN[target])
    return notebook


def test_a_cell_and_a_module_are_held_looked_at_and_stepped_through(
    page: Page, lab: JupyterServer, target: Target
) -> None:
    notebook = open_notebook(page, lab, target, DEBUGGED)
    notebook.enable_debugger()
    notebook.click_gutter(notebook.cell(0), 3)
    expect(notebook.breakpoints).to_have_count(1)
    notebook.run(0)
    notebook.expect_held_at(3)
    notebook.expect_variable("a", "1")
    notebook.screenshot(f"held-{target}")
    notebook.press("F10")
    notebook.expect_held_at(4)
    notebook.expect_variable("b", "42")

    notebook.press("F11")
    notebook.expect_held_at(2, file="helpers.py")
    notebook.expect_variable("n", "42")
    source = notebook.source("helpers.py")
    expect(source).to_contain_text("result = n * 2")
    notebook.click_gutter(source, 3)
    expect(notebook.breakpoints).to_have_count(2)
    notebook.screenshot(f"module-{target}")
    notebook.press("F9")
    notebook.expect_held_at(3, file="helpers.py")
    notebook.expect_variable("result", "84")
    notebook.press("F9")
    expect(notebook.frames).to_have_count(0)
    notebook.come_back()
    expect(notebook.output(0)).to_contain_text("answer 84")


def test_a_slider_reaches_the_kernel_and_its_answer_comes_back(
    page: Page, lab: JupyterServer, target: Target
) -> None:
    notebook = open_notebook(page, lab, target, SLIDER)
    notebook.run(0)
    handle = notebook.output(0).locator(".noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    expect(notebook.output(0)).to_contain_text("squared: 16")
    notebook.screenshot(f"slider-{target}")
