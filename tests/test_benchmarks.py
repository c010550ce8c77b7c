"""The benchmarks run; what they find is not a test's business."""

from __future__ import annotations

import sys
from pathlib import Path

import harness


def test_the_queue_s_benchmark_runs_and_writes_its_table_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n<!-- benchmarks.queue writes from here -->\nold\n<!-- to here -->\nafter\n")
    command = [sys.executable, "-m", "benchmarks.queue", "--quick", "--into", page]
    harness.run(command, cwd=harness.ROOT, env={"PYTHONPATH": str(harness.ROOT)})
    text = page.read_text()
    assert text.startswith("# Speed\n<!-- benchmarks.queue writes from here -->\n| what |")
    assert text.endswith("<!-- to here -->\nafter\n")
    assert "\nold\n" not in text
    for subject in ("enqueue one job", "idle poll", "push → the job starts", "own cost", "sync", "bytes"):
        assert f"\n| {subject}" in text or f"| the daemon's {subject}" in text
