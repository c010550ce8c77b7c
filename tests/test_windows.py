"""What would run on Windows, and what refuses there: tried on a Python here that lacks what Windows lacks.

It says that it is Windows, and has neither the modules nor the functions that only POSIX has, nor what waits
for a pipe. What only a Windows would show, paths first of all, is not seen by this.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import harness
import pytest

WINDOWS = """
import os, selectors, select, signal, subprocess, sys, types
import fcntl, git, IPython.core.interactiveshell
# For what they import of others.
import colab_kernel.__main__, colab_kernel.app, colab_kernel.loop, colab_magics.cli, colab_magics.magics

for name in [name for name in sys.modules if name.split(".")[0] in ("colab_kernel", "colab_magics")]:
    del sys.modules[name]

for module in (os, signal):  # Windows has a subprocess of its own
    own = types.ModuleType(module.__name__)
    vars(own).update(vars(module))
    setattr(subprocess, module.__name__, own)

def locking(descriptor, mode, size, flock=fcntl.flock, how=fcntl.LOCK_EX | fcntl.LOCK_NB):
    flock(descriptor, how)

sys.modules["msvcrt"] = types.ModuleType("msvcrt")
sys.modules["msvcrt"].locking, sys.modules["msvcrt"].LK_NBLCK = locking, 2
for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in (
    "chown", "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getpgrp",
    "getsid", "getuid", "killpg", "mkfifo", "openpty", "pidfd_open", "setsid", "statvfs", "tcgetpgrp",
    "uname", "wait3", "wait4", "WNOHANG", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK",
):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGWINCH"):
    delattr(signal, name)
for name in ("epoll", "poll", "PIPE_BUF"):
    delattr(select, name)
selectors.DefaultSelector = None
sys.platform = "win32"
"""


def on_windows(program: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program as if it were there."""
    return subprocess.run(
        [sys.executable, "-c", WINDOWS + program],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def cli(*words: str) -> str:
    return f"from colab_magics.cli import main; sys.exit(main({list(words)!r}))"


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
def run(source):
    done = shell.run_cell(source)
    if not done.success:
        sys.exit(1)
run("%load_ext colab_magics")
"""


def test_the_extension_loads_and_a_cell_is_queued(project: Path, bare_remote: Path) -> None:
    done = on_windows(NOTEBOOK + "run('%%colab_queue\\nprint(6 * 7)'); run('%colab_sync')", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "refs/heads/gpu-experiments" in harness.refs(bare_remote)


@pytest.mark.parametrize(
    "words", [["--help"], ["tunnel", "--help"], ["daemon", "--help"], ["tunnel", "status"]]
)
def test_the_command_line_answers(tmp_path: Path, words: list[str]) -> None:
    done = on_windows(cli(*words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_proxy_kernel_and_its_commands_start(tmp_path: Path) -> None:
    main = "import colab_kernel.app, colab_kernel.loop; from colab_kernel.__main__ import main; "
    for words in (["--help"], ["connect", "http://127.0.0.1:1", "--name", "gpu"], ["list"]):
        done = on_windows(f"{main} sys.exit(main({words!r}))", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "gpu" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["daemon", "--repo", "file:///x"], "the daemon needs Linux or macOS, and this is Windows"),
        (["demo"], "the demo, both sides of the queue on one machine, needs Linux or macOS"),
        (
            ["tunnel", "local"],
            "a private server on this machine needs Linux or macOS, and this is Windows: na",
        ),
        (
            ["tunnel", "ssh://me@gpu"],
            "a session over ssh needs Linux or macOS, and this is Windows: `ssh -L`",
        ),
    ],
)
def test_what_needs_more_refuses_in_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    done = on_windows(cli(*words), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_daemon_beside_the_notebook_is_refused_too(project: Path) -> None:
    done = on_windows(NOTEBOOK + "run('%%colab_queue --local\\nprint(1)')", cwd=project)
    assert "a daemon on this machine needs Linux or macOS, and this is Windows" in done.stdout + done.stderr
