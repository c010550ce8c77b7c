"""What is seen of files on their way, of a folder there, and of a machine's load."""

from __future__ import annotations

import time

import pytest

from colab_magics.display.transfers import FileTable, LoadTable, TransferBar

# As the verb `load` said it on a machine with an H200, 2026-11-26.
H200 = {
    "memory_bytes": 135148564480,
    "memory_used_bytes": 508637184,
    "gpus": [
        {
            "name": "NVIDIA H200",
            "memory_bytes": 150754820096,
            "memory_used_bytes": 75377410048,
            "busy_percent": 97.0,
            "driver": "580.159.04",
            "celsius": 35.0,
        }
    ],
}


def test_a_bar_says_how_much_how_fast_and_how_long_still() -> None:
    bar = TransferBar(name="model.pt", done_bytes=250_000_000, total_bytes=10**9, bytes_per_s=25e6)
    assert str(bar) == "model.pt  ▕██████                  ▏  250 MB of 1.0 GB  25.0 MB/s  30 s left"


def test_a_bar_says_what_is_in_the_way() -> None:
    bar = TransferBar(name="model.pt", done_bytes=0, total_bytes=0, note="the connection was lost")
    assert str(bar).endswith("  the connection was lost")


def test_a_gpu_and_main_memory() -> None:
    assert str(LoadTable("gpu", H200)).splitlines() == [
        "● gpu",
        "  NVIDIA H200  ▕████████████            ▏  75.4 GB of 151 GB  97 % busy, 35 °C",
        "  Main memory  ▕▏                       ▏  509 MB of 135 GB",
    ]


def test_a_machine_without_a_gpu_says_so() -> None:
    said = str(LoadTable("local", {**H200, "gpus": []})).splitlines()
    assert said[1].split() == ["GPU", "none", "there"]
    assert said[2].endswith("509 MB of 135 GB")


def test_a_gpu_that_does_not_say_how_busy_it_is() -> None:
    gpu = {**H200["gpus"][0], "busy_percent": None, "memory_bytes": None}  # type: ignore[index]
    assert "NVIDIA H200" in str(LoadTable("gpu", {**H200, "gpus": [gpu]}))


def entry(name: str, mode: int, **more: object) -> dict[str, object]:
    return {"name": name, "mode": mode, "size": 1500, "mtime_ns": 10**18, "target": None, **more}


def test_a_folder_looks_like_ls() -> None:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(10**9))
    table = FileTable(
        "/content",
        [
            entry("runs", 0o40755),
            entry("a\x1b[31m.py", 0o100644),
            entry("now", 0o120777, target="runs/3"),
        ],
    )
    assert str(table).splitlines() == [
        f"drwxr-xr-x        {when}  runs/",
        f"-rw-r--r--  2 kB  {when}  a[31m.py",
        f"lrwxrwxrwx  2 kB  {when}  now → runs/3",
    ]


def test_an_empty_folder_says_so() -> None:
    assert str(FileTable("/content", [])) == "/content is empty"


@pytest.mark.parametrize(
    "shown",
    [
        LoadTable("<gpu>", H200),
        FileTable("/", [entry("<b>", 0o100644)]),
        TransferBar(name="<b>", done_bytes=1, total_bytes=2),
    ],
)
def test_in_a_notebook_names_are_text(shown: LoadTable | FileTable | TransferBar) -> None:
    page = shown._repr_mimebundle_()["text/html"]
    assert "&lt;" in page
    assert "<b>" not in page
    assert "<gpu>" not in page
