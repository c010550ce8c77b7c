"""`python -m benchmarks.kernel`: measure the proxy kernel beside other ways to a remote kernel."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.kernel import measuring, rows
from benchmarks.kernel.paths import PROXY, Way, open_ways
from benchmarks.queue import report
from benchmarks.queue.report import Row
from benchmarks.queue.stage import ROOT, stage

PAGE = ROOT / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- benchmarks.kernel writes from here -->"

PACKAGES = (
    *("ipykernel", "jupyter-server", "jupyter-client", "pyzmq", "tornado", "debugpy", "websockets"),
    *("jupyter-kernel-client", "jupyter-kernel-provisioner-proxy"),
)

SUBJECTS = ("requests", "debug", "lines", "flood", "memory", "buffers")
"""In this order: a buffer ends the gateway client's connection for good."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    turns: int = 26
    each: int = 12
    cycles: int = 9
    warm_up: int = 1
    lines: int = 20_000
    line_turns: int = 3
    flood: int = 10_000
    flood_turns: int = 5
    messages: int = 100_000
    requests: int = 5_000
    down_bytes: int = 50_000_000
    up_bytes: int = 8_000_000
    buffer_turns: int = 7
    buffer_s: float = 15.0


QUICK = Sizes(
    turns=1, each=2, cycles=1, warm_up=0, lines=50, line_turns=1, flood=50, flood_turns=1,
    messages=100, requests=10, down_bytes=100_000, up_bytes=100_000, buffer_turns=1, buffer_s=5.0,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for; a goal that is missed is a line of the table, not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel", description=__doc__)
    parser.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="see that everything runs; no figures")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", nargs="?", const=PAGE,
        help="write the table into a page too; without a name, docs/explanation/performance.md",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    unknown = set(arguments.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no subject {sorted(unknown)[0]!r}: {', '.join(SUBJECTS)}")
    sizes = QUICK if arguments.quick else Sizes()
    found: list[Row] = []
    with stage() as folder, open_ways(folder) as (ways, failed):
        found += rows.of_closed(failed)
        for subject in [each for each in SUBJECTS if each in (arguments.subjects or SUBJECTS)]:
            begun = time.monotonic()
            found += _measure(subject, ways, sizes)
            print(f"{subject}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    table = report.render(found, programs=_programs(), rounds=_rounds(sizes))
    print(table)
    if arguments.into:
        report.write(arguments.into, table, begin=BEGIN)
    return 0


def _measure(subject: str, ways: Sequence[Way], sizes: Sizes) -> Iterator[Row]:
    match subject:
        case "requests":
            for what, ask in (
                ("an empty `execute_request`", measuring.execute_nothing),
                ("`kernel_info_request` on control", measuring.ask_control),
            ):
                yield from rows.of_round_trips(
                    what, measuring.round_trips(ways, ask, turns=sizes.turns, each=sizes.each)
                )
        case "debug":
            yield from rows.of_debugging(measuring.debugging(ways, turns=sizes.cycles, warm_up=sizes.warm_up))
        case "lines":
            lines = measuring.flushed_lines(ways, count=sizes.lines, turns=sizes.line_turns)
            yield from rows.of_lines(lines, count=sizes.lines)
        case "flood":
            flood = measuring.flood(ways, count=sizes.flood, turns=sizes.flood_turns)
            yield from rows.of_flood(flood, count=sizes.flood)
        case "memory":
            for way in ways:
                if way.name == PROXY:
                    yield rows.of_memory(
                        measuring.memory(way, messages=sizes.messages, requests=sizes.requests)
                    )
        case "buffers":
            down_mb, up_mb = sizes.down_bytes / 1e6, sizes.up_bytes / 1e6
            down, up = measuring.buffers(
                ways,
                down_bytes=sizes.down_bytes,
                up_bytes=sizes.up_bytes,
                turns=sizes.buffer_turns,
                patience_s=sizes.buffer_s,
            )
            yield from rows.of_buffers(f"a comm's buffer to the kernel, {up_mb:g} MB", up)
            yield from rows.of_buffers(f"a comm's buffer from the kernel, {down_mb:g} MB", down)


def _programs() -> str:
    said = []
    for name in PACKAGES:
        try:
            said.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            said.append(f"no {name}")
    return ", ".join(said)


def _rounds(sizes: Sizes) -> str:
    return (
        f"Every turn visits every way; ratios are medians over the turns. {sizes.turns} turns of "
        f"{sizes.each} requests, {sizes.cycles} debug cycles, {sizes.line_turns} times the lines, "
        f"{sizes.flood_turns} the flood, {sizes.buffer_turns} the buffers."
    )


if __name__ == "__main__":
    sys.exit(main())
