"""The layers, held against the code: an import points down, never up or sideways.

A new module of the package's top folder needs a line in `LAYERS` before anything else imports it; where it
goes is a decision, and this file is where it is written down.
"""

from __future__ import annotations

import ast
import enum
import fnmatch
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import harness
import pytest

LINES_AT_MOST = 400
# It is sent to other machines, and one file is sent more easily than two.
LONGER = {"colab_magics/tunnel/private_server": 523}


class Layer(enum.IntEnum):
    """From the ground up. A module imports lower layers, and its own where both are of one group."""

    VALUES = 1  # errors
    PURE = 2  # no I/O and nothing that varies: the state table, plan(), the codecs, the relay
    SHARED = 3  # what both sides of the queue hold in common: the store's protocol, variables, settings
    SHELL = 4  # one I/O library each
    PART = 5  # what the verbs are put together from
    COMPOSITION = 6  # the verbs and the daemon: read, decide, act
    EMBEDDED = 7  # both sides on one machine
    COMMAND = 8  # what the magics and the terminal have in common
    EDGE = 9  # parse, call, show
    DOOR = 10  # what a user imports


# First match wins. (pattern of the path without .py, layer, group): modules of one layer may import one
# another only within their group; `None` is a group for each module alone.
LAYERS: tuple[tuple[str, Layer, str | None], ...] = (
    ("colab_magics/__init__", Layer.DOOR, None),
    ("colab_magics/__main__", Layer.DOOR, None),
    ("colab_magics/errors", Layer.VALUES, None),
    ("colab_magics/jobs/*", Layer.PURE, "jobs"),
    ("colab_magics/store/__init__", Layer.SHARED, None),
    ("colab_magics/store/base", Layer.SHARED, None),
    ("colab_magics/store/variable*", Layer.SHARED, "variables"),
    ("colab_magics/settings", Layer.SHARED, None),
    ("colab_magics/progress", Layer.SHARED, None),
    ("colab_magics/posix", Layer.SHARED, None),
    ("colab_magics/grid_values", Layer.SHARED, None),
    ("colab_magics/options", Layer.SHELL, None),
    ("colab_magics/store/*", Layer.SHELL, "store"),
    ("colab_magics/display/*", Layer.SHELL, "display"),
    ("colab_magics/daemon/attempt", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/hands", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/answers", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/offer", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/heartbeat", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/in_notebook", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/loop", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/preparation", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/service", Layer.COMPOSITION, "daemon"),
    ("colab_magics/daemon/script_kernel", Layer.COMPOSITION, "daemon"),
    # A kernel that we present, as the visitor's is: they have their requests and answers in common.
    ("colab_magics/daemon/script_session", Layer.SHARED, "visit"),
    ("colab_magics/daemon/*", Layer.SHELL, "daemon"),
    ("colab_magics/grids", Layer.PART, None),
    # The verbs stand side by side: each is a group of its own, with what only it is made of.
    ("colab_magics/queue", Layer.COMPOSITION, "queue"),
    ("colab_magics/handles", Layer.COMPOSITION, "queue"),
    ("colab_magics/job_set", Layer.COMPOSITION, "queue"),
    ("colab_magics/sync", Layer.COMPOSITION, "sync"),
    ("colab_magics/arrivals", Layer.COMPOSITION, "sync"),
    ("colab_magics/tunnel/__init__", Layer.SHARED, None),
    ("colab_magics/tunnel/targets", Layer.SHARED, None),
    ("colab_magics/tunnel/plan", Layer.SHARED, None),
    ("colab_magics/tunnel/terms", Layer.SHARED, None),
    ("colab_magics/tunnel/private_server", Layer.SHELL, None),
    ("colab_magics/tunnel/port_token", Layer.SHELL, None),
    ("colab_magics/tunnel/in_notebook", Layer.EMBEDDED, None),
    ("colab_magics/tunnel/session", Layer.COMPOSITION, "tunnel"),
    ("colab_magics/tunnel/*", Layer.PART, "tunnel"),
    ("colab_magics/visit/__init__", Layer.SHARED, None),
    ("colab_magics/visit/dap_framing", Layer.PURE, None),
    ("colab_magics/visit/__main__", Layer.COMPOSITION, "visit"),
    ("colab_magics/visit/*", Layer.SHARED, "visit"),
    ("colab_magics/embedded", Layer.EMBEDDED, None),
    ("colab_magics/commands", Layer.COMMAND, "commands"),
    ("colab_magics/tunnel_commands", Layer.COMMAND, "commands"),
    ("colab_magics/job_commands", Layer.COMMAND, "commands"),
    ("colab_magics/project_commands", Layer.COMMAND, "commands"),
    ("colab_magics/tunnel_files", Layer.COMMAND, "commands"),
    ("colab_magics/demo", Layer.COMMAND, None),
    ("colab_magics/magics", Layer.EDGE, None),
    ("colab_magics/cli", Layer.EDGE, None),
    ("colab_kernel/__init__", Layer.DOOR, None),
    ("colab_kernel/__main__", Layer.DOOR, None),
    ("colab_kernel/errors", Layer.VALUES, None),
    ("colab_kernel/runtime", Layer.VALUES, None),
    ("colab_kernel/addresses", Layer.PURE, None),
    ("colab_kernel/messages", Layer.PURE, "kernel"),
    ("colab_kernel/zmq_wire", Layer.PURE, "kernel"),
    ("colab_kernel/ws_wire", Layer.PURE, "kernel"),
    ("colab_kernel/made_messages", Layer.PURE, "kernel"),
    ("colab_kernel/dap_messages", Layer.PURE, "kernel"),
    ("colab_kernel/debugger*", Layer.PURE, "kernel"),
    ("colab_kernel/path_mapping", Layer.PURE, "kernel"),
    ("colab_kernel/requests", Layer.PURE, "kernel"),
    ("colab_kernel/gaps", Layer.PURE, "kernel"),
    ("colab_kernel/frontend_outbox", Layer.PURE, "kernel"),
    ("colab_kernel/upward_queue", Layer.PURE, "kernel"),
    ("colab_kernel/debts", Layer.PURE, "kernel"),
    ("colab_kernel/debug_gate", Layer.PURE, "kernel"),
    ("colab_kernel/interrupts", Layer.PURE, "kernel"),
    ("colab_kernel/rate_limit", Layer.PURE, "kernel"),
    ("colab_kernel/terms", Layer.PURE, "kernel"),
    ("colab_kernel/relay_events", Layer.PURE, "kernel"),
    ("colab_kernel/sentences", Layer.PURE, "kernel"),
    ("colab_kernel/relay", Layer.PURE, "kernel"),
    ("colab_kernel/link_watch", Layer.PURE, "kernel"),
    ("colab_kernel/refusals", Layer.PURE, "kernel"),
    ("colab_kernel/frontend", Layer.SHELL, "frontend"),
    ("colab_kernel/connection_file", Layer.SHELL, "frontend"),
    ("colab_kernel/iopub", Layer.SHELL, "frontend"),
    ("colab_kernel/opening", Layer.SHELL, "remote"),
    ("colab_kernel/remote", Layer.SHELL, "remote"),
    ("colab_kernel/rest", Layer.SHELL, "remote"),
    ("colab_kernel/registry_format", Layer.PURE, "kernel"),
    ("colab_kernel/private_files", Layer.SHARED, "files"),
    ("colab_kernel/token_files", Layer.SHARED, "files"),
    ("colab_kernel/sessions", Layer.SHELL, None),
    ("colab_kernel/orphans", Layer.SHELL, None),
    ("colab_kernel/clock", Layer.SHELL, None),
    ("colab_kernel/background", Layer.SHELL, None),
    ("colab_kernel/link_keeper", Layer.PART, None),
    ("colab_kernel/loop", Layer.COMPOSITION, "app"),
    ("colab_kernel/app", Layer.COMPOSITION, "app"),
    ("colab_kernel/install", Layer.SHELL, None),
)

# What does I/O, or answers differently each time. Not complete: what nobody would import there is left out.
IMPURE = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "getpass", "glob", "http", "importlib", "io", "logging"),
    *("mmap", "multiprocessing", "os", "pathlib", "pickle", "platform", "pty", "queue", "random", "sched"),
    *("secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl"),
    *("subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid", "webbrowser"),
}
# Of those, the names that only compute.
HARMLESS = frozenset(
    {"pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath", "urllib.parse"}
    | {f"urllib.parse.{name}" for name in ("parse_qsl", "quote", "unquote", "urlsplit", "urlunsplit")}
)
IMPURE_CALLS = frozenset({"open", "input", "print", "exec", "eval", "__import__"})
IMPURE_METHODS = frozenset({"now", "utcnow", "today"})


@dataclass(frozen=True, slots=True)
class Module:
    """One module: `name` is its path below the import root, without .py (`colab_magics/jobs/plan`)."""

    name: str
    text: str
    tree: ast.Module = field(repr=False)


Code = dict[str, Module]


def read_code(*roots: Path) -> Code:
    """Parse every module of the import packages that lie in `roots`."""
    found = {}
    for root in roots:
        for path in sorted(root.glob("colab_*/**/*.py")):
            name = path.relative_to(root).with_suffix("").as_posix()
            text = path.read_text(encoding="utf-8")
            found[name] = Module(name=name, text=text, tree=_parse(text, path=path))
    return found


def _parse(text: str, *, path: Path) -> ast.Module:
    try:
        return ast.parse(text, filename=str(path))
    except SystemError:
        # CPython 3.11 now and then counts wrongly, for one call; https://github.com/python/cpython/issues/106905
        return ast.parse(text, filename=str(path))


def place_of(name: str) -> tuple[Layer, str | None] | None:
    """Return the layer and the group of a module, or None if it has no place yet."""
    for pattern, layer, group in LAYERS:
        if fnmatch.fnmatchcase(name, pattern):
            return layer, name if group is None else group
    return None


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything a module imports, in functions and for type checkers too."""
    package = module.name.split("/")[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{start}.{alias.name}"


def our_module(dotted: str, code: Code) -> str | None:
    """Return which of our modules `a.b.c` comes from: a/b/c, or c of a/b, or a name of the package a/b/c."""
    parts = dotted.split(".")
    if not parts[0].startswith("colab_"):
        return None
    for end in range(len(parts), 0, -1):
        path = "/".join(parts[:end])
        for name in (path, f"{path}/__init__"):
            if name in code:
                return name
    return None


def our_imports(module: Module, code: Code) -> Iterator[tuple[int, str]]:
    """Yield (line, module name) of our own modules that a module imports."""
    found = {(line, our_module(dotted, code)) for line, dotted in imported_names(module)}
    for line, target in sorted(found, key=str):
        if target is not None and target != module.name:
            yield line, target


# --- the rules: each returns sentences, none if all is well ----------------------------------------------


def without_a_place(code: Code) -> list[str]:
    return [
        f"{name} has no layer yet: decide which, and add a line to LAYERS in tests/test_architecture.py"
        for name in code
        if place_of(name) is None
    ]


def wrong_imports(code: Code) -> list[str]:
    said = []
    for module in code.values():
        place = place_of(module.name)
        for line, target in our_imports(module, code):
            there = place_of(target)
            if place is None or there is None or there[0] < place[0] or there == place:
                continue
            way = "up" if there[0] > place[0] else "sideways"
            said.append(
                f"{module.name}:{line} ({place[0].name}) imports {way} from {target} ({there[0].name})"
            )
    return said


def circles(code: Code) -> list[str]:
    imports = {name: sorted({target for _, target in our_imports(code[name], code)}) for name in code}
    done: set[str] = set()
    said = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            said.append(" → ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in imports[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in imports:
        visit(name, ())
    return said


def impurities(code: Code) -> list[str]:
    said = []
    for module in code.values():
        place = place_of(module.name)
        if place is None or place[0] > Layer.PURE:
            continue
        for line, dotted in imported_names(module):
            first = dotted.split(".")[0]
            if first.startswith("colab_") or dotted in HARMLESS:
                continue
            if first not in sys.stdlib_module_names:
                said.append(f"{module.name}:{line} imports {dotted}: only the standard library here")
            elif first in IMPURE:
                said.append(f"{module.name}:{line} imports {dotted}: it does I/O, or varies")
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Name(id=called) if called in IMPURE_CALLS:
                    said.append(f"{module.name}:{node.lineno} calls {called}()")
                case ast.Attribute(attr=called) if called in IMPURE_METHODS:
                    said.append(f"{module.name}:{node.lineno} calls .{called}(): the time is an argument")
    return said


def users_of_git(code: Code) -> list[str]:
    return [
        f"{module.name}:{line} imports {dotted}: only store/git… runs Git"
        for module in code.values()
        for line, dotted in imported_names(module)
        if dotted.split(".")[0] == "git" and not module.name.startswith("colab_magics/store/git")
    ]


def inheritance(code: Code) -> list[str]:
    ours = {
        f"{name}.{node.name}"
        for name, module in code.items()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }
    said = []
    for module in code.values():
        known = {node.name for node in module.tree.body if isinstance(node, ast.ClassDef)}
        for _, dotted in imported_names(module):
            path, _, name = dotted.rpartition(".")
            if f"{path.replace('.', '/')}.{name}" in ours:
                known.add(name)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                said += [
                    f"{module.name}:{node.lineno} {node.name} inherits from {base.id}"
                    for base in node.bases
                    if isinstance(base, ast.Name) and base.id in known and not base.id.endswith("Error")
                ]
    return said


def too_long(code: Code) -> list[str]:
    return [
        f"{name} has {lines} lines; {most} are the most: which two ideas are in it?"
        for name, module in code.items()
        if (lines := len(module.text.splitlines())) > (most := LONGER.get(name, LINES_AT_MOST))
    ]


# --- the rules against our code --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def code() -> Code:
    found = read_code(harness.ROOT, harness.ROOT / "kernel")
    assert {"colab_magics/errors", "colab_kernel/errors"} <= set(found)
    return found


def test_every_module_has_its_place(code: Code) -> None:
    assert without_a_place(code) == []


def test_imports_point_down(code: Code) -> None:
    assert wrong_imports(code) == []


def test_no_module_imports_itself_through_others(code: Code) -> None:
    assert circles(code) == []


def test_the_pure_layer_does_no_io_and_does_not_vary(code: Code) -> None:
    assert impurities(code) == []


def test_one_place_runs_git(code: Code) -> None:
    assert users_of_git(code) == []


def test_only_errors_inherit_from_one_another(code: Code) -> None:
    assert inheritance(code) == []


def test_a_module_is_one_idea(code: Code) -> None:
    assert too_long(code) == []


def test_no_module_is_a_drawer_for_everything(code: Code) -> None:
    assert [name for name in code if name.rsplit("/", 1)[-1] in {"utils", "util", "helpers", "common"}] == []


def test_the_proxy_kernel_does_not_know_the_magics(code: Code) -> None:
    assert [
        f"{name}:{line} imports {dotted}"
        for name, module in code.items()
        if name.startswith("colab_kernel/")
        for line, dotted in imported_names(module)
        if dotted.split(".")[0] == "colab_magics"
    ] == []


def test_tests_and_kernel_are_places_and_not_packages() -> None:
    for folder in ("tests", "kernel"):
        assert not (harness.ROOT / folder / "__init__.py").exists()


# --- the rules against code that breaks them -------------------------------------------------------------

BROKEN = (
    ("jobs/plan", "from colab_magics.store import base", wrong_imports),
    ("jobs/plan", "def f():\n    from ..store.base import Store", wrong_imports),
    ("queue", "from colab_magics import sync", wrong_imports),
    ("sync", "import colab_magics.queue", wrong_imports),
    (
        "store/base",
        "TYPE_CHECKING = 0\nif TYPE_CHECKING:\n    from colab_magics.magics import X",
        wrong_imports,
    ),
    ("store/memory", "from colab_magics.display import table", wrong_imports),
    ("jobs/plan", "from colab_magics.jobs import spec", circles),
    ("jobs/plan", "import time", impurities),
    ("jobs/plan", "from pathlib import Path", impurities),
    ("jobs/plan", "import numpy", impurities),
    ("jobs/plan", "from datetime import datetime\nx = datetime.now()", impurities),
    ("jobs/plan", "open('x')", impurities),
    ("sync", "from git.cmd import Git", users_of_git),
    ("queue", "class A: pass\nclass B(A): pass", inheritance),
    ("queue", "from colab_magics.store.base import Store\nclass B(Store): pass", inheritance),
    ("queue", "\n" * (LINES_AT_MOST + 1), too_long),
    ("somewhere", "", without_a_place),
)


@pytest.mark.parametrize(
    ("name", "text", "rule"), BROKEN, ids=[f"{rule.__name__}-{at}" for at, (_, _, rule) in enumerate(BROKEN)]
)
def test_a_breach_is_noticed(tmp_path: Path, name: str, text: str, rule: object) -> None:
    package = tmp_path / "colab_magics"
    whole = {
        "__init__": "",
        "store/__init__": "",
        "store/base": "class Store: pass",
        "store/git": "from git.cmd import Git",
        "display/__init__": "",
        "display/table": "",
        "jobs/__init__": "",
        "jobs/plan": "from pathlib import PurePosixPath",
        "jobs/spec": "from colab_magics.jobs import plan",
        "queue": "from colab_magics.store import base",
        "sync": "from colab_magics.jobs.plan import x",
        "magics": "from colab_magics import queue, sync",
    }
    for path, content in whole.items():
        harness.write(package / f"{path}.py", content)
    assert callable(rule)
    assert rule(read_code(tmp_path)) == []
    harness.write(package / f"{name}.py", text)
    said = rule(read_code(tmp_path))
    assert len(said) == 1
    assert name in said[0]
