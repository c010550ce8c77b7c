"""What VS Code sends when a person chooses *Debug Cell*, in its order.

with notebook.debug(cell, breakpoints=[{"line": 4}]) as held: …

Source: vscode-jupyter, src/notebooks/debugger/ and src/kernels/helpers.ts; the order from its logs
(https://github.com/microsoft/vscode-jupyter/issues/13566, /16857).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipykernel.compiler import murmur2_x86
from kernel_client import Debugger, Frontend, Json, Request

INITIALIZE: Json = {
    "clientID": "vscode",
    "clientName": "Visual Studio Code",
    "adapterID": "Python Kernel Debug Adapter",
    "pathFormat": "path",
    "linesStartAt1": True,
    "columnsStartAt1": True,
    "locale": "en",
    "supportsVariableType": True,
    "supportsVariablePaging": True,
    "supportsRunInTerminalRequest": True,
    "supportsProgressReporting": True,
    "supportsInvalidatedEvent": True,
    "supportsMemoryReferences": True,
    "supportsArgsCanBeInterpretedByShell": True,
    "supportsMemoryEvent": True,
    "supportsStartDebuggingRequest": True,
    "supportsANSIStyling": True,
}

NOTEBOOK = "vscode-notebook-cell:/home/ada/project/notebook.ipynb"
CELL_MODE, LINE_MODE = 1, 0
"""`__mode` in attach: Debug Cell and Run by Line."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One code cell."""

    code: str
    fragment: str

    @property
    def uri(self) -> str:
        return f"{NOTEBOOK}#{self.fragment}"


class NotebookDebugger:
    """VS Code's debug adapter of one notebook whose cells are `cells`.

    Attributes:
        debugger: for requests beside those of the usual order.
        info: what `debugInfo` said at the start.
        paths: each dumped cell's code → its file in the kernel.
    """

    def __init__(self, frontend: Frontend, cells: tuple[Cell, ...]) -> None:
        self.frontend, self.debugger, self.cells = frontend, Debugger(frontend), cells
        self.info: Json = {}
        self.paths: dict[str, str] = {}

    def initialize(self) -> Json:
        """Start the session; return the adapter's capabilities. Number 2 is the `attach` of later."""
        capabilities = self.debugger.success(self.debugger.ask("initialize", INITIALIZE, seq=1))
        self.info = self.debugger.success(self.debugger.ask("debugInfo", seq=3))
        return capabilities

    def attach(self, *, mode: int = CELL_MODE, just_my_code: bool = True) -> Request:
        """Send attach, and wait until breakpoints may be set: that is before its reply."""
        arguments = {
            "type": "Python Kernel Debug Adapter",
            "name": "notebook.ipynb",
            "request": "attach",
            "justMyCode": just_my_code,
            "__mode": mode,
            "__cellIndex": len(self.cells) - 1,
            "__notebookUri": NOTEBOOK.replace("vscode-notebook-cell:", "file://"),
            "__sessionId": "9d2b9e04-3f3e-4f6f-8b5e-0a4b1f0f5a55",
        }
        attach = self.debugger.ask("attach", arguments, seq=2)
        self.frontend.event("initialized")
        return attach

    def dump(self, cell: Cell) -> str:
        """Give a cell its file in the kernel, whose name follows from its code."""
        path = self.debugger.body("dumpCell", code=cell.code)["sourcePath"]
        assert path == self.expected_path(cell)
        self.paths[cell.code] = path
        return str(path)

    def expected_path(self, cell: Cell) -> str:
        name = murmur2_x86(cell.code, self.info["hashSeed"])
        return f"{self.info['tmpFilePrefix']}{name}{self.info['tmpFileSuffix']}"

    def ask_breakpoints(self, path: str, breakpoints: list[Json]) -> Request:
        return self.debugger.ask(
            "setBreakpoints",
            {
                "source": {"name": path.rpartition("/")[2], "path": path},
                "lines": [one["line"] for one in breakpoints],
                "breakpoints": breakpoints,
                "sourceModified": False,
            },
        )

    def set_breakpoints(self, cell: Cell, breakpoints: list[Json]) -> list[Json]:
        """Set a dumped cell's breakpoints, which must all be taken; return what became of them."""
        asked = self.ask_breakpoints(self.paths[cell.code], breakpoints)
        became: list[Json] = self.debugger.success(asked)["breakpoints"]
        assert [(one["verified"], one["line"]) for one in became] == [
            (True, one["line"]) for one in breakpoints
        ]
        return became

    def configure(self, attach: Request) -> None:
        """The rest of what comes between the breakpoints and the cell."""
        debugger = self.debugger
        asked = [
            debugger.ask("setFunctionBreakpoints", {"breakpoints": []}),
            debugger.ask("setExceptionBreakpoints", {"filters": ["uncaught"]}),
        ]
        for request in [*asked, attach]:
            debugger.success(request)
        self.frontend.run("import debugpy\ndebugpy.debug_this_thread()", hidden=True)
        dumps = [debugger.ask("dumpCell", {"code": cell.code}) for cell in self.cells]
        for cell, dump in zip(self.cells, dumps, strict=True):
            assert debugger.success(dump)["sourcePath"] == self.expected_path(cell)
            self.paths[cell.code] = self.expected_path(cell)

    def run(self, cell: Cell) -> Request:
        """Run a cell under the debugger."""
        executing = self.frontend.execute(cell.code, cell=cell.uri)
        self.debugger.body("configurationDone")
        return executing

    def debug(self, cell: Cell, breakpoints: list[Json], **attach: Any) -> Request:
        """All of it, from initialize to the cell's start; return the request that runs the cell."""
        self.initialize()
        attaching = self.attach(**attach)
        self.dump(cell)
        self.set_breakpoints(cell, breakpoints)
        self.configure(attaching)
        return self.run(cell)

    def close(self) -> None:
        """End the session, and remove the cells' files at the same time."""
        disconnecting = self.debugger.ask("disconnect", {"restart": False})
        removing = self.frontend.execute(
            f"import os\nfor path in {[*self.paths.values()]}:\n    os.remove(path)", hidden=True
        )
        self.debugger.success(disconnecting)
        assert self.frontend.done(removing).reply["status"] == "ok"
        self.frontend.event("terminated")
