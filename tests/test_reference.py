"""The reference pages say what the parsers say."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import harness
import pytest


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_reference", harness.ROOT / "docs/generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["magics", "cli"])
def test_a_reference_page_is_as_the_parsers_are(generator: ModuleType, page: str) -> None:
    written = (harness.ROOT / f"docs/reference/{page}.md").read_text(encoding="utf-8")
    assert written == getattr(generator, f"{page}_page")(), "run python docs/generate_reference.py"


def test_magics_and_terminal_have_the_same_options(generator: ModuleType) -> None:
    magics, cli = generator.magics_page(), generator.cli_page()
    rows = {line for line in magics.splitlines() if line.startswith(("| `--", "| `["))}
    assert len(rows) > 20
    assert rows <= set(cli.splitlines())
