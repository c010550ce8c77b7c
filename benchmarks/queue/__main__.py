"""`python -m benchmarks.queue`: measure the queue's speed, write the table into the documentation."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.queue import enqueue, polling, report, running, syncing
from benchmarks.queue.report import Row
from benchmarks.queue.server import Wire, http_server
from benchmarks.queue.stage import ROOT, make_remote, stage

PAGE = ROOT / "docs" / "explanation" / "performance.md"
FAR_S = 0.1
"""A round trip to a hosting site across an ocean."""

SUBJECTS = ("enqueue", "poll", "start", "cost", "sync", "growth")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for; a goal that is missed is a line of the table, not an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all if none"
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each thing is timed (15)")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; no figures")
    parser.add_argument("--into", type=Path, help="the page to write; without it only a whole run writes")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no subject {sorted(unknown)[0]!r}: {', '.join(SUBJECTS)}")
    chosen = arguments.subjects or SUBJECTS
    rounds = 1 if arguments.quick else arguments.rounds
    rows: list[Row] = []
    with stage() as folder, http_server(folder / "served") as server:
        for subject in chosen:
            begun = time.monotonic()
            for row in _measure(subject, folder / subject, server, rounds=rounds, is_quick=arguments.quick):
                print(f"{row.what} | {row.where} | {row.measured} | {row.goal} | {row.met}", flush=True)
                rows.append(row)
            print(f"{subject}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    table = report.render(rows, rounds=f"{rounds} rounds in turns, medians.")
    whole = set(chosen) == set(SUBJECTS) and not arguments.quick
    page = arguments.into or (PAGE if whole else None)
    if page is not None:
        report.write(page, table)
    return 0


def _measure(subject: str, folder: Path, server: Any, *, rounds: int, is_quick: bool) -> Iterator[Row]:
    folder.mkdir()
    match subject:
        case "enqueue":
            for files in (30,) if is_quick else (300, 5000):
                for where, remote in _remotes(folder, f"enqueue{files}", server):
                    at = folder / f"{where[:4]}{files}"
                    yield from enqueue.measure_one(at, remote=remote, where=where, files=files, rounds=rounds)
            if server and not is_quick:
                server.create("far")
                wire, at = Wire(server.url("far", user="writer"), round_trip_s=FAR_S), folder / "far"
                where = f"HTTP, {FAR_S * 1000:g} ms away"
                yield from enqueue.measure_one(at, remote=wire.url, where=where, files=300, rounds=rounds)
                wire.close()
            for where, remote in _remotes(folder, "many", server):
                at, jobs = folder / f"{where[:4]}many", 10 if is_quick else 100
                yield enqueue.measure_many(at, remote=remote, where=where, jobs=jobs, rounds=rounds)
        case "poll":
            refs = (10, 100) if is_quick else (10, 10_000)
            yield from polling.measure(folder, server=server, refs=refs, rounds=rounds)
        case "start":
            for poll_s in (0.2,) if is_quick else (0.5, 5.0):
                at = folder / f"poll{poll_s:g}"
                yield running.measure_start(at, poll_s=poll_s, rounds=1 if is_quick else max(rounds // 2, 5))
        case "cost":
            yield from running.measure_cost(
                folder, jobs=2 if is_quick else 20, rounds=1 if is_quick else max(rounds // 3, 3)
            )
        case "sync":
            yield from syncing.measure(folder, jobs=100 if is_quick else 10_000, rounds=rounds)
        case "growth":
            yield running.measure_growth(folder, jobs=2 if is_quick else 200)


def _remotes(folder: Path, name: str, server: Any) -> Iterator[tuple[str, str]]:
    """The ways to a remote of that name: over file://, and over HTTP where there is a server."""
    yield "file://", make_remote(folder / f"{name}.git").as_uri()
    if server:
        server.create(name)
        yield "HTTP", server.url(name, user="writer")


if __name__ == "__main__":
    sys.exit(main())
