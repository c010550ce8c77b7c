"""Write docs/reference/magics.md and cli.md from the parsers: `python docs/generate_reference.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from colab_magics import cli
from colab_magics.magics import ColabMagics
from colab_magics.settings import PREFIX, Settings

REFERENCE = Path(__file__).resolve().parent / "reference"
GENERATED = "<!-- Written by docs/generate_reference.py; a test compares it with the parsers. -->\n"


def magics_page() -> str:
    """The magics, their options, and what can be set."""
    parts = [
        GENERATED,
        "# The magics",
        "`%load_ext colab_magics` in a notebook whose folder is inside a Git work tree. Words are split as a "
        "shell splits them: quotes keep spaces together. `$x` and `{x}` in the line stay as they are.",
        "## %%colab_queue, %colab_queue",
        "On top of a cell it queues the cell, as a line with `--command` a command, as a line with a verb it "
        "does something to jobs, and alone it is the table of jobs. A cell's value is the job's handle.",
        _table(ColabMagics.colab_queue.parser),
        "## %colab_sync",
        "Brings home what has finished since the last sync: outputs as if the cells had run here, `--out` "
        "variables, files under `colab_results/<id>/`.",
        _table(ColabMagics.colab_sync.parser),
        "## %colab_tunnel",
        "Opens a session with another machine, or does something in one that is open.",
        _table(ColabMagics.colab_tunnel.parser),
        "## What can be set",
        "An argument beats `%config ColabMagics.NAME = …`, that beats the environment, that the default.",
        _settings(),
    ]
    return "\n\n".join(parts) + "\n"


def cli_page() -> str:
    """The commands of `jupyter colab`, and their options."""
    parts = [
        GENERATED,
        "# jupyter colab",
        "Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 "
        "not understood, 130 interrupted.",
    ]
    for name, parser in cli.parsers(cli.make_parser()).items():
        parts += [f"## jupyter colab {name}", str(parser.description), _table(parser)]
    return "\n\n".join(parts) + "\n"


def _table(parser: argparse.ArgumentParser) -> str:
    rows = ["| | |", "|---|---|"]
    for action in parser._actions:
        if action.dest == "help":
            continue
        flags = ", ".join(action.option_strings)
        value = action.metavar or action.dest if action.nargs != 0 else ""
        told = " ".join(part for part in (flags, str(value)) if part)
        if not action.option_strings:
            told = f"[{told} …]" if action.nargs == "*" else f"[{told}]"
        rows.append(f"| `{_cell(told)}` | {_cell(action.help or '')} |")
    return "\n".join(rows)


def _settings() -> str:
    helps = {name: trait.help for name, trait in ColabMagics.class_traits(config=True).items()}
    rows = ["| setting | environment | default | |", "|---|---|---|---|"]
    for name in Settings.__slots__:
        default = getattr(Settings(), name)
        shown = f"`{default}`" if default != "" else ""
        rows.append(f"| `{name}` | `{PREFIX}{name.upper()}` | {shown} | {_cell(helps[name])} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write both pages."""
    REFERENCE.mkdir(exist_ok=True)
    (REFERENCE / "magics.md").write_text(magics_page(), encoding="utf-8")
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
