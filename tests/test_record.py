from __future__ import annotations

import json
from dataclasses import replace

import pytest

from colab_magics.errors import CorruptError
from colab_magics.jobs.record import Failure, Record, Stored, Variable, from_json, to_json

FULL = Record(
    job_id="a-1",
    name="é 🎉",
    attempt=2,
    worker="w",
    state="failed",
    exit_code=-9,
    failure=Failure("ValueError", "x\ny", ("a", "b"), "<cell>", 3, "f()", "g", True, "summary"),
    started_at=1.5,
    ended_at=2.5,
    duration_s=1.0,
    machine={"hostname": "h", "cpus": 2},
    gpu={"name": "T4", "driver": "550", "memory_bytes": 15_000_000_000},
    environment="0123456789ab",
    peak_host_bytes=1,
    peak_gpu_bytes=2,
    code="c" * 40,
    outputs=(Variable("acc", "json", "out/acc.json", 3),),
    artifacts=(Stored("m.pt", 5, "ab", True), Stored("big", 10**9, "", False, "too large")),
    log_bytes=7,
    notes=("one", "two"),
)


@pytest.mark.parametrize(
    "record", [FULL, Record(job_id="a", name="n", attempt=1, worker="w", state="succeeded")]
)
def test_a_record_survives_its_json(record: Record) -> None:
    assert from_json(to_json(record)) == record


def test_a_record_is_utf8_whatever_is_in_it() -> None:
    record = replace(FULL, notes=("half \ud800 of \udce9", "line\u2028end"))
    data = to_json(record)
    assert "é 🎉" in data.decode()
    assert len(data.decode().splitlines()) == data.count(b"\n")
    assert from_json(data) == record


def test_what_a_later_version_adds_is_passed_over() -> None:
    told = json.loads(to_json(FULL)) | {"later": 1}
    told["failure"]["later"] = 1
    assert from_json(json.dumps(told).encode()) == FULL


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"format": 1}', b'{"format": 2, "job_id": "a"}', b"[" * 100_000]
)
def test_what_is_no_record_is_corrupt_and_never_empty(data: bytes) -> None:
    with pytest.raises(CorruptError, match="record does not parse"):
        from_json(data)
