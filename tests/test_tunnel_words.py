"""What belongs to `tunnel debug` and what to the script that it is given; `tunnel forward` as it is typed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from IPython.testing.globalipapp import start_ipython

from colab_magics.options import split_debug
from colab_magics.tunnel import book

LINES = [
    ("debug train.py", "debug train.py", ""),
    ("debug train.py --lr 0.1 -x --name y", "debug train.py", "--lr 0.1 -x --name y"),
    ("--name x debug train.py --yes", "--name x debug train.py", "--yes"),
    ("debug --name x --yes train.py -h", "debug --name x --yes train.py", "-h"),
    ("--name debug status", "--name debug status", ""),
    ("--name=debug debug a.py debug b.py", "--name=debug debug a.py", "debug b.py"),
    ("debug", "debug", ""),
    ("debug --yes", "debug --yes", ""),
    ("close debug --name x", "close debug --name x", ""),
    ("debug a.py -- --help", "debug a.py", "-- --help"),
    ("", "", ""),
]


@pytest.mark.parametrize(("line", "ours", "scripts"), LINES)
def test_everything_after_the_script_is_the_scripts(line: str, ours: str, scripts: str) -> None:
    assert split_debug(line.split()) == (ours.split(), scripts.split())
