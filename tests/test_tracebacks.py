from __future__ import annotations

import pytest

from colab_magics.daemon.tracebacks import find_crash, find_failure, says_out_of_memory

LOG = """loading
Traceback (most recent call last):
  File "/job/code/first.py", line 1, in <module>
    a()
KeyError: 'early'
going on
Traceback (most recent call last):
  File "/job/code/train.py", line 10, in <module>
    main()
    ^^^^^^
  File "model.py", line 7, in forward
    return layer(x)
  File "/usr/lib/python3/site-packages/torch/nn.py", line 99, in layer
    raise OutOfMemoryError(...)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of
14.75 GiB

done
"""


def test_the_last_traceback_counts_and_the_persons_line_in_it() -> None:
    failure = find_failure(LOG, checkout="/job/code")
    assert failure is not None
    assert failure.type == "torch.OutOfMemoryError"
    assert (failure.file, failure.line, failure.function) == ("model.py", 7, "forward")
    assert failure.source == "return layer(x)"
    assert failure.out_of_memory
    assert failure.message.endswith("14.75 GiB")
    assert (failure.allocator_summary or "").startswith("Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    "log", ["", "all is well\n", "Traceback (most recent call last):\n  File cut", "ValueError: alone"]
)
def test_no_traceback_is_no_failure(log: str) -> None:
    assert find_failure(log, checkout="/job/code") is None


def test_a_traceback_behind_a_prefix_is_read() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/c/t.py", line 3, in f',
        "    g()",
        "MemoryError",
        "",
    )
    log = "\n".join(f"[rank0]: {line}" for line in lines)
    failure = find_failure(log, checkout="/c")
    assert failure is not None
    assert (failure.type, failure.file, failure.line, failure.out_of_memory) == (
        "MemoryError",
        "t.py",
        3,
        True,
    )


def test_installed_packages_in_the_checkout_are_not_the_persons_code() -> None:
    frame = '  File "/c/.venv/lib/site-packages/x.py", line 3, in f'
    log = f"Traceback (most recent call last):\n{frame}\n    g()\nValueError: x\n"
    failure = find_failure(log, checkout="/c")
    assert failure is not None
    assert failure.file is None


def test_a_crash_names_the_innermost_line_of_the_person() -> None:
    text = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/ctypes/__init__.py", line 5 in string_at\n'
        '  File "/c/model.py", line 8 in load\n'
        '  File "/tmp/ipykernel_12/34.py", line 2 in <module>\n'
    )
    assert find_crash(text, checkout="/c") == ("model.py", 8, "load")
    assert find_crash(text, checkout="/elsewhere") == ("<cell>", 2, "<module>")
    assert find_crash("", checkout="/c") == (None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: CUDA out of memory.",
        "torch.cuda.OutOfMemoryError: x",
        "DefaultCPUAllocator: can't allocate memory: you tried",
        "MemoryError",
        "numpy: Unable to allocate 8.00 PiB for an array with shape (1,)",
    ],
)
def test_memory_running_out_is_recognised(text: str) -> None:
    assert says_out_of_memory(text)
    assert not says_out_of_memory("all memory is fine")
