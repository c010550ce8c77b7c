"""A JupyterLab in a browser, as a person uses it: notebook, kernel picker, debugger.

Selectors are those of JupyterLab 4.6.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import harness
import jupyter_servers
from jupyter_servers import JupyterServer
from playwright.sync_api import Locator, Page, expect, sync_playwright

SCREENSHOTS = Path(__file__).parent / "e2e/screenshots"
PATIENCE_MS = 60_000

CHROMIUM_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-default-apps", "--disable-sync", "--no-first-run"),
)

NO_NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
"""The settings of what would ask about news, and ask the outside for them."""


def chromium() -> Path:
    """Debian's Chromium; the test is skipped where there is none."""
    found = shutil.which("chromium")
    if found is None:
        harness.missing("chromium is not on this machine (apt install chromium)")
    return Path(found)


@contextmanager
def lab_server(folder: Path, *, search_path: Path) -> Iterator[JupyterServer]:
    """A Jupyter Server with JupyterLab, which finds the kernelspecs below `search_path`."""
    harness.write(folder / "settings" / NO_NEWS, '{"fetchNews": "false", "checkForUpdates": false}')
    with jupyter_servers.jupyter_server(
        folder,
        options=["--ServerApp.jpserver_extensions=jupyterlab=True"],
        env={"JUPYTER_PATH": str(search_path), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")},
    ) as server:
        yield server


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page of a headless browser with a window that has room for the debugger."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), headless=True, args=list(CHROMIUM_OPTIONS)
        )
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(PATIENCE_MS)
            expect.set_options(timeout=PATIENCE_MS)
            yield page
        finally:
            browser.close()


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook that names no kernel, so that Lab asks for one."""
    code = [
        {
            "cell_type": "code",
            "id": f"cell-{at}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": text,
        }
        for at, text in enumerate(cells)
    ]
    content = {"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    harness.write(path, json.dumps(content))


class Notebook:
    """A notebook that is open in a page, and the debugger beside it.

    Attributes:
        page, name: the browser's page, and the notebook's file.
        panel: the notebook's part of it.
    """

    def __init__(self, page: Page, server: JupyterServer, name: str) -> None:
        self.page, self.name = page, name
        # A session of an earlier page would bring its kernel along; a workspace of its own has no tabs yet.
        for session in server.api("GET", "/api/sessions"):
            server.api("DELETE", f"/api/sessions/{session['id']}")
        page.goto(
            f"{server.url}/lab/workspaces/{uuid.uuid4().hex}/tree/{name}?token={server.token}&reset",
            wait_until="domcontentloaded",
        )
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.panel.wait_for()

    # --- notebook ----------------------------------------------------------------------------------------

    def choose_kernel(self, display_name: str, *, is_held: bool = False) -> None:
        """Answer Lab's question which kernel it should be, and wait until that is idle.

        Args:
            is_held: it stands at a breakpoint already: Lab goes there, to another tab.
        """
        dialog = self.page.locator(".jp-Dialog")
        dialog.wait_for()
        dialog.locator("select").select_option(label=display_name)
        self.screenshot("kernel-picker")
        dialog.locator(".jp-mod-accept").click()
        if is_held:
            return
        expect(self.panel.locator(".jp-KernelName")).to_contain_text(display_name)
        indicator = self.panel.locator(".jp-Notebook-ExecutionIndicator")
        expect(indicator).to_have_attribute("data-status", "idle")

    def come_back(self) -> None:
        """Go to the notebook's tab from another one."""
        self.page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text=self.name).click()

    def cell(self, at: int) -> Locator:
        return self.panel.locator(".jp-CodeCell").nth(at)

    def run(self, at: int) -> None:
        """Run a cell as Shift+Enter does; do not wait."""
        self.cell(at).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def output(self, at: int) -> Locator:
        return self.cell(at).locator(".jp-OutputArea-output")

    # --- debugger ----------------------------------------------------------------------------------------

    def enable_debugger(self) -> None:
        bug = self.panel.locator(".jp-DebuggerBugButton")
        expect(bug).not_to_have_attribute("aria-disabled", "true")
        bug.click()
        expect(bug).to_have_attribute("aria-pressed", "true")
        self.show_debugger()

    def show_debugger(self) -> None:
        sidebar = self.page.locator(".jp-DebuggerSidebar")
        if not sidebar.is_visible():
            self.page.keyboard.press("Control+Shift+E")
        sidebar.wait_for()

    def click_gutter(self, editor: Locator, line: int) -> None:
        """Set or clear the breakpoint of a line, counted from 1."""
        gutter = editor.locator(".cm-gutter.cm-breakpoint-gutter")
        gutter.wait_for()
        # The first element is CodeMirror's hidden spacer.
        gutter.locator(".cm-gutterElement").nth(line).click()

    @property
    def breakpoints(self) -> Locator:
        return self.page.locator(".jp-DebuggerBreakpoints-body .jp-DebuggerBreakpoint")

    @property
    def frames(self) -> Locator:
        return self.page.locator(".jp-DebuggerCallstack-body .jp-DebuggerCallstackFrame")

    def expect_variable(self, name: str, value: str) -> None:
        """Wait until the debugger shows a variable so."""
        body = self.page.locator(".jp-DebuggerVariables-body.jp-debuggerVariables-local:not(.lm-mod-hidden)")
        expect(body.get_by_role("treeitem", name=f"{name}: {value}")).to_be_visible()

    def expect_held_at(self, line: int, *, file: str | None = None) -> None:
        """Wait until the innermost frame is at a line, and in a file if that is named."""
        expect(self.frames.first).to_contain_text(re.compile(rf"\b{line}\b"))
        if file is not None:
            expect(self.frames.first).to_contain_text(file)

    def source(self, file: str) -> Locator:
        """The read-only editor with a module's text, which Lab opens when the program is held there."""
        tab = self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current", has_text=file)
        tab.wait_for()
        return self.page.locator("#jp-main-dock-panel .jp-MainAreaWidget:not(.lm-mod-hidden) .cm-editor")

    def press(self, key: str) -> None:
        """F9 continue, F10 next, F11 step in."""
        self.page.keyboard.press(key)

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
