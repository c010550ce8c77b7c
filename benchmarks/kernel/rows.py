"""Measurements as lines of the table, each with its goal, where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.kernel.measuring import Debugging, Flood, Lines, Memory, RoundTrips, Turns
from benchmarks.kernel.paths import DIRECT, PEERS, PROXY, WEBSOCKET
from benchmarks.queue.report import Row

HOP_GOAL, PEER_GOAL, CYCLE_GOAL, LINES_GOAL, BUFFER_GOAL = 1.2, 0.25, 1.03, 1.0, 0.9
CPU_GOAL_US, GROWTH_GOAL_BYTES = 105, 1_000_000


def of_round_trips(what: str, found: RoundTrips) -> Iterator[Row]:
    turns = found.turns
    for name in turns.taken:
        measured = f"{_ms(turns.median(name))}, p99 {_ms(found.p99(name))}{_by_direct(turns, name)}"
        hop = turns.ratio(name, WEBSOCKET) if name == PROXY else None
        if hop is None:
            yield Row(what, name, measured)
        else:
            measured += f", **{hop:.2f}×** the websocket"
            yield Row(what, name, measured, f"≤ {HOP_GOAL}× the websocket", hop <= HOP_GOAL)
    for peer in PEERS:
        ratio = turns.ratio(PROXY, peer)
        if ratio is not None:
            yield Row(
                f"{what}, the proxy against a peer", peer, f"**{ratio:.2f}×**", f"≤ {PEER_GOAL}×",
                ratio <= PEER_GOAL,
            )  # fmt: skip
    yield from _failures(what, turns)


def of_debugging(found: Debugging) -> Iterator[Row]:
    for what, turns, goal in (
        ("a whole debug cycle, 13 requests and two stops", found.cycle, CYCLE_GOAL),
        ("one debug step: next, stopped, stackTrace, scopes, variables", found.step, None),
    ):
        for name in turns.taken:
            measured = f"{_ms(turns.median(name))}{_by_direct(turns, name)}"
            ratio = turns.ratio(name, DIRECT)
            if goal is None or name != PROXY or ratio is None:
                yield Row(what, name, measured)
            else:
                yield Row(what, name, measured, f"≤ {goal}× direct", ratio <= goal)
    yield from _failures("a whole debug cycle", found.cycle)


def of_lines(found: Lines, *, count: int) -> Iterator[Row]:
    what, turns = f"{count:,} lines, each flushed", found.turns
    for name in turns.taken:
        lost = found.lost[name]
        measured = f"{turns.median(name):.2f} s{_by_direct(turns, name)}, {lost:,} lost"
        ratio = turns.ratio(name, DIRECT)
        if name != PROXY or ratio is None:
            yield Row(what, name, measured)
        else:
            met = ratio <= LINES_GOAL and not lost
            yield Row(what, name, measured, f"≤ {LINES_GOAL}× direct, none lost", met)
    if found.cpu_us:
        cpu_us = median(found.cpu_us)
        yield Row(
            "CPU for each of these messages", PROXY, f"{cpu_us:.0f} µs", f"≤ {CPU_GOAL_US} µs",
            cpu_us <= CPU_GOAL_US,
        )  # fmt: skip
    yield from _failures(what, turns)


def of_flood(found: Flood, *, count: int) -> Iterator[Row]:
    what, turns = f"{count:,} messages as fast as the kernel sends", found.turns
    for name in turns.taken:
        measured = f"{turns.median(name):,.0f} a second{_by_direct(turns, name)}"
        lost, turns_done = found.lost.get(name, 0), len(turns.taken[name])
        if lost:
            measured += f"; {lost / (count * turns_done):.1%} lost"
        yield Row(what, name, measured)
    yield from _failures(what, turns)


def of_buffers(what: str, turns: Turns) -> Iterator[Row]:
    for name in turns.taken:
        measured = f"{turns.median(name) / 1e6:.0f} MB/s{_by_direct(turns, name)}"
        ratio = turns.ratio(name, WEBSOCKET) if name == PROXY else None
        if ratio is None:
            yield Row(what, name, measured)
        else:
            measured += f", **{ratio:.2f}×** the websocket"
            yield Row(what, name, measured, f"≥ {BUFFER_GOAL}× the websocket", ratio >= BUFFER_GOAL)
    yield from _failures(what, turns)


def of_memory(found: Memory) -> Row:
    growth_bytes = found.after_bytes - found.before_bytes
    return Row(
        f"memory after {found.messages:,} messages more", PROXY,
        f"{found.before_bytes / 1e6:.1f} → {found.after_bytes / 1e6:.1f} MB resident",
        f"flat: ≤ {GROWTH_GOAL_BYTES / 1e6:g} MB more", growth_bytes <= GROWTH_GOAL_BYTES,
    )  # fmt: skip


def of_closed(failed: dict[str, str]) -> list[Row]:
    return [Row("the way could not be opened", name, why) for name, why in failed.items()]


def _failures(what: str, turns: Turns) -> Iterator[Row]:
    for name, why in turns.failed.items():
        yield Row(what, name, f"fails: {why}")


def _by_direct(turns: Turns, name: str) -> str:
    ratio = None if name == DIRECT else turns.ratio(name, DIRECT)
    return "" if ratio is None else f", {ratio:.2f}× direct"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"
