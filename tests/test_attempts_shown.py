"""An attempt's record in a person's words."""

from __future__ import annotations

from colab_magics.display.attempts import describe_earlier, describe_failure, describe_record
from colab_magics.jobs.record import CELL, Failure, Record, Stored, Variable

MACHINE = {"hostname": "colab", "python": "3.13.15", "platform": "Linux", "cpus": 2, "memory_bytes": 10**10}


def test_a_record_says_where_it_ran_what_it_took_and_what_it_left() -> None:
    record = Record(
        job_id="a-1",
        name="a",
        attempt=2,
        worker="w1",
        state="succeeded",
        exit_code=0,
        ended_at=1_700_000_000.0,
        duration_s=75.0,
        machine=MACHINE,
        gpu={"name": "Tesla T4", "driver": "550.54", "memory_bytes": 16 * 10**9},
        peak_host_bytes=2_000_000_000,
        peak_gpu_bytes=9_000_000_000,
        outputs=(Variable("acc", "json", "out/acc.json", 12),),
        artifacts=(Stored("model.bin", 1000, "0" * 64, stored=True), Stored("big", 10**9, "", stored=False)),
        notes=("big was not kept: 1 GB is over the limit",),
    )

    assert describe_record(record) == (
        "attempt 2 on colab, Tesla T4 (driver 550.54), Python 3.13.15, ended 2023-11-14 22:13 UTC",
        "1 min 15 s, 2.0 GB of memory at most, 9.0 GB of GPU memory at most, exit code 0",
        "variables: acc (12 B)",
        "1 file (1 kB): model.bin",
        "big was not kept: 1 GB is over the limit",
    )


def test_an_earlier_attempt_is_one_line() -> None:
    died = Record(
        "a-1", "a", 1, "colab-1", "queued", duration_s=75.0, notes=("the session of colab-1 died", "more")
    )

    assert describe_earlier(died) == "attempt 1 on colab-1, 1 min 15 s: the session of colab-1 died"


def test_a_failure_names_the_persons_own_line() -> None:
    in_module = Failure(
        "ValueError", "no\nluck", file="model.py", line=7, source="x = f(y)", function="forward"
    )
    in_cell = Failure("ValueError", "no", file=CELL, line=2, source="train()", function="<cell line: 1>")

    assert describe_failure(in_module) == ("at model.py, line 7 in forward: x = f(y)",)
    assert describe_failure(in_cell) == ("at the cell, line 2: train()",)


def test_running_out_of_memory_shows_what_the_allocator_said() -> None:
    failure = Failure(
        "torch.OutOfMemoryError",
        "CUDA out of memory",
        file="model.py",
        line=3,
        source="y = x @ x",
        out_of_memory=True,
        allocator_summary="|===| PyTorch CUDA memory summary |===|\n| Allocated memory | 9 GiB |",
    )

    assert describe_failure(failure) == (
        "at model.py, line 3: y = x @ x",
        "|===| PyTorch CUDA memory summary |===|",
        "| Allocated memory | 9 GiB |",
    )
