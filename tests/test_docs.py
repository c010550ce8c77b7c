"""The documentation says what the code does: links, commands, options, keys, files, tests and packages."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import harness
import pytest

from colab_magics import cli
from colab_magics.daemon.assignment import Assignment, Limits
from colab_magics.daemon.service import TOKEN_VARIABLES
from colab_magics.daemon.workspace import Workspace, job_environment
from colab_magics.jobs.codec import parse_events, parse_live, parse_state
from colab_magics.jobs.record import Record, from_json
from colab_magics.jobs.spec import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    MAX_TIMEOUT_S,
    Batch,
    Input,
    JobSpec,
    parse_entry,
    to_entry,
)
from colab_magics.magics import ColabMagics
from colab_magics.settings import PREFIX, Settings
from colab_magics.store.variables import Kind

ROOT = harness.ROOT
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
NAMES = [os.fspath(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def blocks(page: str, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page that are in one of the languages ("" is a block that names none)."""
    for language, text in _FENCE.findall((ROOT / page).read_text(encoding="utf-8")):
        if language in languages:
            yield text


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))


def table_rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables whose first cell is in code: that cell → the others."""
    found = {}
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`(, `[^`]+`)*", cells[0]):
            found.update(dict.fromkeys(_SPAN.findall(cells[0]), cells[1:]))
    return found


def options_of_ours() -> set[str]:
    """All options of magics and terminal."""
    parsers = [*cli.parsers(cli.make_parser()).values()]
    parsers += [ColabMagics.colab_queue.parser, ColabMagics.colab_sync.parser]
    return {flag for parser in parsers for action in parser._actions for flag in action.option_strings}


# --- pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    for target in _LINK.findall(prose(page)):
        if "://" in target:
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page} links to {target}"
        assert there.resolve().is_relative_to(ROOT.resolve())
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor in slugs, f"{page} links to {target}"


def test_the_map_names_every_page() -> None:
    linked = {(DOCS / target).resolve() for target in _LINK.findall(prose("docs/index.md"))}
    assert {page.resolve() for page in DOCS.rglob("*.md")} - {(DOCS / "index.md").resolve()} <= linked


def test_pictures_are_small_and_shown() -> None:
    pictures = {path.resolve() for path in (DOCS / "images").iterdir()}
    assert all(path.stat().st_size < 200_000 for path in pictures)
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in _LINK.findall(page.read_text(encoding="utf-8"))
        if target.endswith(".png")
    }
    assert shown == pictures


def test_the_readme_says_how_to_run_the_tests() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", readme))
    assert named - {"it"} <= targets


@pytest.mark.parametrize("page", NAMES)
def test_tests_that_are_named_are_there(page: str) -> None:
    for file, name in _TEST.findall((ROOT / page).read_text(encoding="utf-8")):
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *(async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"


# --- commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", NAMES)
def test_magics_in_blocks_are_understood(page: str) -> None:
    parsers = {"queue": ColabMagics.colab_queue.parser, "sync": ColabMagics.colab_sync.parser}
    for block in blocks(page, "python"):
        for line in block.splitlines():
            match = re.match(r"%%?colab_(\w+)(.*)", line)
            if match and match[1] in parsers:
                parsers[match[1]].parse_intermixed_args(shlex.split(match[2], comments=True))


@pytest.mark.parametrize("page", NAMES)
def test_terminal_lines_in_blocks_are_understood(page: str) -> None:
    for block in blocks(page, "", "sh", "ini"):
        for line in block.splitlines():
            match = re.search(r"(?:^|[ =/])jupyter[ -]colab ((?:queue|sync|daemon|demo)\b.*)", line)
            if match and "or run" not in line:
                cli._parse(shlex.split(match[1], comments=True))


@pytest.mark.parametrize("page", NAMES)
def test_options_in_the_text_are_there(page: str) -> None:
    ours = options_of_ours()
    for span in _SPAN.findall(prose(page)):
        if re.match(r"(jupyter[ -]colab|%%?colab_\w+|--)", span):
            said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)) - {"--proxy-mode"}
            assert said <= ours, f"{span} in {page}"


# --- experiments.json ------------------------------------------------------------------------------------

FULL = JobSpec(
    job_id="a-1",
    name="a",
    command=None,
    cell="cells/0123456789ab.py",
    timeout_s=1.5,
    code="0" * 40,
    params=(("lr", 0.1),),
    inputs=(Input("x", "inputs/0123456789ab.json", "json"),),
    outputs=("y",),
    artifacts=("*.pt",),
    requirements="inputs/0123456789ab.txt",
    retries=DEFAULT_RETRIES + 1,
    env=(("A", "b"),),
    allow_pickle=True,
    queued_at=1.0,
    batch=Batch("b", "a", ("lr",)),
    retry_of="a-0",
    debuggable=True,
    hold_s=1.5,
    magic="%%colab_queue",
)
READ_ELSEWHERE = {"cancel"}
"""Keys that are read of an entry, and are no part of the specification."""


def test_every_key_of_an_entry_is_described_and_no_other() -> None:
    assert parse_entry(to_entry(FULL)) == FULL
    assert len(FULL.__slots__) == len(to_entry(FULL)), "to_entry leaves a field out: name it here"
    described = table_rows("docs/reference/experiments.md")
    assert set(described) == set(to_entry(FULL)) | READ_ELSEWHERE


def test_defaults_and_limits_are_those_of_the_code() -> None:
    described = table_rows("docs/reference/experiments.md")
    assert described["timeout"][1] == f"{DEFAULT_TIMEOUT_S:.0f}"
    assert f"{MAX_TIMEOUT_S:.0f}" in described["timeout"][2]
    assert described["retries"][1] == str(DEFAULT_RETRIES)
    assert set(_SPAN.findall(described["in"][2])) >= {kind.value for kind in Kind}
    limits, variables = Limits(), prose("docs/how-to/variables.md")
    for told, size_bytes in (
        (r"comes back \| (\d+) MB", limits.variable_bytes),
        (r"one artifact \| (\d+) MB", limits.artifact_bytes),
        (r"all artifacts of a job \| (\d+) MB", limits.artifacts_total_bytes),
        (r"that is sent \| (\d+) MB", Settings().max_variable_bytes),
        (r"new or changed \| (\d+) MB", Settings().max_file_bytes),
    ):
        match = re.search(told, variables)
        assert match is not None, told
        assert int(match[1]) * 1_000_000 == size_bytes


@pytest.mark.parametrize("page", NAMES)
def test_entries_in_blocks_are_jobs(page: str) -> None:
    for block in blocks(page, "json"):
        if '"command"' not in block:
            continue
        value = json.loads(block)
        for entry in value if isinstance(value, list) else [value]:
            parse_entry(entry, job_id="a-1")


# --- what a job leaves -----------------------------------------------------------------------------------


def test_the_examples_of_files_are_what_the_code_reads() -> None:
    seen = set()
    for page in NAMES:
        for block in blocks(page, "json"):
            data = block.encode()
            if '"job_id"' in block:
                record = json.loads(block)
                assert set(record) == {"format", *(each.name for each in fields(Record))}
                from_json(data)
                seen.add("record")
            elif '"counter"' in block:
                parse_live(data)
                seen.add("live")
            elif '"expirations"' in block or '"started_at"' in block:
                parse_state(data)
                seen.add("state")
    assert seen == {"record", "live", "state"}


def test_the_events_of_the_data_model_are_read() -> None:
    [block] = [block for block in blocks("docs/explanation/data-model.md", "") if '{"event"' in block]
    assert [event.verb.value for event in parse_events(block)] == ["lease", "succeed"] * 3


# --- the environment -------------------------------------------------------------------------------------


def test_every_variable_of_a_job_is_described(tmp_path: Path) -> None:
    assignment = Assignment(FULL, 1, "w", tmp_path, tmp_path, Path(sys.executable))
    found = job_environment(assignment, Workspace(tmp_path), {}, python=assignment.python, token="t")
    described = table_rows("docs/reference/environment.md")
    assert set(found) - {"A", "VIRTUAL_ENV"} <= set(described)
    named = {name for name in described if name.startswith("COLAB_") and not name.startswith(PREFIX)}
    assert named <= set(found) | set(TOKEN_VARIABLES)


def test_every_setting_is_described_with_its_default() -> None:
    described = table_rows("docs/reference/environment.md")
    for each in fields(Settings):
        row = described[f"{PREFIX}{each.name.upper()}"]
        if each.name in ("max_file_mb", "max_variable_mb", "watch_s"):
            assert float(row[0]) == each.default
    assert set(TOKEN_VARIABLES) <= set(described)


# --- packages --------------------------------------------------------------------------------------------


def test_every_dependency_has_its_sentence_with_its_floor() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *about["build-system"]["requires"],
        *about["project"]["dependencies"],
        *(each for extra in about["project"]["optional-dependencies"].values() for each in extra),
    ]
    described = table_rows("docs/explanation/dependencies.md")
    names = set()
    for requirement in wanted:
        match = re.match(r"([A-Za-z0-9_.-]+)(\[.*\])?(?:[>=]=(.*))?", requirement)
        assert match is not None
        if match[1] == about["project"]["name"]:
            continue
        names.add(match[1])
        assert match[1] in described, f"{match[1]} has no sentence in docs/explanation/dependencies.md"
        told = " ".join(described[match[1]])
        assert match[3] is None or match[3] in told, f"{requirement} has another floor there"
        assert "aintained by" in told
    assert set(described) == names
