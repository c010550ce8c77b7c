"""The benchmark of the proxy kernel runs; what it finds is not a test's business."""

from __future__ import annotations

import sys
from pathlib import Path

import harness


def test_the_kernel_s_benchmark_runs_and_writes_its_table_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n<!-- benchmarks.kernel writes from here -->\nold\n<!-- to here -->\nafter\n")
    command = [sys.executable, "-m", "benchmarks.kernel", "--quick", "--into", page]
    harness.run(command, cwd=harness.ROOT, env={"PYTHONPATH": str(harness.ROOT)})
    text = page.read_text()
    assert text.startswith("# Speed\n<!-- benchmarks.kernel writes from here -->\n| what |")
    assert text.endswith("<!-- to here -->\nafter\n")
    assert "\nold\n" not in text
    ways = ("direct", "the websocket", "**the proxy kernel**", "Jupyter's gateway client")
    for way in ways:
        for subject in (
            "an empty `execute_request`",
            "`kernel_info_request` on control",
            "a whole debug cycle, 13 requests and two stops",
            "one debug step: next, stopped, stackTrace, scopes, variables",
            "50 lines, each flushed",
            "50 messages as fast as the kernel sends",
        ):
            (row,) = (line for line in text.splitlines() if line.startswith(f"| {subject} | {way} |"))
            assert "fails" not in row
    for way in ways[:3]:
        for subject in ("to", "from"):
            assert f"\n| a comm's buffer {subject} the kernel, 0.1 MB | {way} | " in text
    assert "\n| CPU for each of these messages | **the proxy kernel** |" in text
    assert "\n| memory after 100 messages more | **the proxy kernel** |" in text
