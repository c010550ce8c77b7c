from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from colab_magics.daemon.packages import PackageList, digest_of
from colab_magics.daemon.processes import start
from colab_magics.daemon.telemetry import MemoryMeter, describe_gpu, describe_machine, visible_gpus


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert set(machine) == {"hostname", "platform", "python", "cpus", "memory_bytes"}
    assert int(str(machine["memory_bytes"])) > 100_000_000


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_no_gpu_is_none_and_no_error() -> None:
    assert describe_gpu() is None


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        (" 2, 0", [2, 0]),
        ("GPU-8932", [1]),
        ("GPU-77", []),  # two GPUs begin so
        ("GPU-77a1,1", [0, 1]),
        ("MIG-GPU-77b2-cd/1/0,MIG-GPU-77b2-cd/2/0", [2]),
        ("MIG-01234567", []),
        ("", []),
        ("-1", []),
        ("1,-1,0", [1]),
        ("0,7,1", [0]),
        ("none", []),
    ],
)
def test_of_several_gpus_those_count_that_the_job_may_see(visible: str | None, indices: list[int]) -> None:
    assert visible_gpus(visible, ["GPU-77a1-ab", "GPU-8932-ef", "GPU-77b2-cd"]) == indices


def test_a_part_of_the_only_gpu_is_of_that_one() -> None:
    assert visible_gpus("MIG-01234567-89ab", ["GPU-77a1-ab"]) == [0]


@pytest.mark.gpu
def test_a_hidden_gpu_is_none() -> None:
    assert describe_gpu("") is None
    first, all_of_them = describe_gpu("0"), describe_gpu()
    assert first is not None
    assert all_of_them is not None
    assert (first["name"], first["count"]) == (all_of_them["name"], 1)


@pytest.mark.gpu
def test_a_gpu_is_described() -> None:
    gpu = describe_gpu()
    assert gpu is not None
    assert int(str(gpu["memory_bytes"])) > 1_000_000_000


def test_the_memory_of_a_whole_tree_is_added_up(tmp_path: Path) -> None:
    import sys

    code = (
        "import time; x = bytearray(100_000_000); x[::4096] = b'1' * len(x[::4096]);"
        "open('up' + '{}', 'w'); time.sleep(100)"
    )
    one, two = (f'{sys.executable} -c "{code.format(number)}"' for number in (1, 2))
    with (tmp_path / "log").open("wb") as log:
        child = start(
            ["sh", "-c", f"{one} & {two}; wait"], cwd=tmp_path, environment={}, output=log, token="m"
        )
    try:
        meter = MemoryMeter(has_gpu=False)
        while not all((tmp_path / f"up{number}").exists() for number in (1, 2)):
            assert child.wait(timeout_s=0.05) is None
        for _ in range(3):
            assert child.wait(timeout_s=meter.tick(child)) is None
    finally:
        child.end()
        child.close()
    assert meter.peak_host_bytes is not None
    assert 200_000_000 < meter.peak_host_bytes < 400_000_000


def test_what_torch_says_of_the_gpu_counts_over_the_driver() -> None:
    meter = MemoryMeter(has_gpu=False)
    meter.take_guest({"host": 5, "gpu": 7})
    meter.take_guest({"host": 3, "gpu": None})
    assert (meter.peak_host_bytes, meter.peak_gpu_bytes) == (5, 7)


def test_packages_are_listed_once_and_kept(tmp_path: Path) -> None:
    import os
    import sys

    first = PackageList(Path(sys.executable), cache=tmp_path, environment=os.environ)
    first.start()
    listed = first.finish()
    assert listed is not None
    assert listed.startswith(b"# Python 3.")
    assert b"\npsutil==" in listed
    second = PackageList(Path(sys.executable), cache=tmp_path, environment={})
    second.start()
    assert second.finish() == listed
    assert len(digest_of(listed)) == 12
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interpreter_that_cannot_say_has_no_list(tmp_path: Path) -> None:
    packages = PackageList(tmp_path / "no-python", cache=tmp_path / "cache", environment={})
    packages.start()
    assert packages.finish() is None
    packages.close()
