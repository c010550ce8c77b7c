"""What goes wrong in a person's hands, each from end to end: what they are told, and what becomes of the job.

The list is the specification's. The details of each part are tested beside that part; here a person sits in a
notebook or a terminal, and a daemon runs in a process of its own, as `jupyter colab daemon`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import daemons
import harness
import psutil
import pytest
import shells
from daemons import Project
from git_http import GitHttpServer
from shells import Notebook
from small_disks import small_disk

from colab_magics import cli
from colab_magics.jobs.plan import Job
from colab_magics.jobs.record import Record, from_json
from colab_magics.jobs.state import State

Fail = Callable[..., str]


@dataclass
class Lab:
    """A project with its remote, a notebook in it, and a machine elsewhere that can run its jobs."""

    folder: Path
    remote: str
    workdir: Path
    notebook: Notebook

    def queue(self, line: str, cell: str | None = None) -> Job:
        """Queue one job from the notebook; returns it as the remote has it."""
        if cell is None:
            handle = self.notebook.run(f"%colab_queue {line}")
        else:
            handle = self.notebook.run(f"%%colab_queue {line}\n{cell}")
        return self.seen.job(handle.job_id)

    def drain(self, **variables: str) -> str:
        """Run a daemon until nothing is left; returns what it said."""
        done = self.try_drain(**variables)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def try_drain(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a daemon until it ends, however it does."""
        # ipykernel does not take its processes' output where it believes to be in a test.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        command = [sys.executable, "-m", "colab_magics.cli", "daemon", "--repo", self.remote, "--once"]
        return subprocess.run(
            [*command, "--workdir", self.workdir],
            env={**kept, "PYTHONPATH": str(harness.ROOT), **variables},
            cwd=self.workdir.parent,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def sync(self) -> str:
        """Bring home what is new; returns what is shown."""
        self.notebook.run("%colab_sync")
        return self.notebook.shown

    def ended(self, job: Job) -> Job:
        """The job as it ended."""
        found = self.seen.job(job.job_id)
        assert found.state.is_final
        return found

    def log(self, job: Job) -> bytes:
        self.seen.store.refresh()
        return self.seen.store.read(job.job_id, "log.txt") or b""

    def record(self, job: Job) -> Record:
        self.seen.store.refresh()
        return from_json(self.seen.store.read(job.job_id, "record.json") or b"")

    @property
    def seen(self) -> Project:
        """The queue as another clone sees it."""
        return daemons.open_project(self.folder)


@contextmanager
def open_lab(folder: Path, workdir: Path) -> Iterator[Lab]:
    remote = harness.git(folder, "remote", "get-url", "origin")
    with shells.open_notebook(folder) as notebook:
        yield Lab(folder, remote, workdir, notebook)


@pytest.fixture
def lab(project: Path, tmp_path: Path) -> Iterator[Lab]:
    with open_lab(project, tmp_path / "machine") as opened:
        yield opened


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Runs a command that must fail; returns what the terminal shows, which must be one line on stderr."""

    def run(folder: Path, *words: str, code: int = 2) -> str:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        assert cli.main(words) == code
        shown = capsys.readouterr()
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        return line.removeprefix(f"jupyter colab {words[0]}: ")

    return run


def fill(folder: Path) -> Path:
    """Leave no room in a file system; returns the file that takes it."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    return path


# --- where a person is -----------------------------------------------------------------------------------


def test_no_repository(tmp_path: Path, fail: Fail) -> None:
    (tmp_path / "nowhere").mkdir()
    folder = tmp_path / "nowhere"
    told = f"{folder} is not inside a Git work tree; go to your project, or make one with git init."
    with shells.open_notebook(tmp_path / "nowhere") as notebook:
        assert notebook.fail("%%colab_queue\nx = 1") == told
        assert notebook.fail("%colab_sync") == told
    assert fail(tmp_path / "nowhere", "queue", "--command", "true") == told


def test_no_remote(tmp_path: Path, fail: Fail) -> None:
    folder = harness.make_project(tmp_path / "project")
    with shells.open_notebook(folder) as notebook:
        told = notebook.fail("%%colab_queue\nx = 1")
    assert told == fail(folder, "queue", "--command", "true")
    assert "has no Git remote" in told
    assert "git remote add origin" in told
    assert "--local" in told


@pytest.mark.git_http
def test_no_permission(server: GitHttpServer, tmp_path: Path, fail: Fail) -> None:
    server.create("lab")
    harness.make_project(tmp_path / "theirs", remote_url=server.url("lab", user="writer"))
    mine = harness.clone(server.url("lab", user="reader"), tmp_path / "mine")
    with shells.open_notebook(mine) as notebook:
        told = notebook.fail("%%colab_queue\nx = 1")
        assert told.startswith(f"pushing to {server.url('lab')} was refused: ")
        assert told.endswith("403; check the address, the token and what it may do.")
        assert "No jobs yet" in str(notebook.run("%colab_queue")), "nothing waits to be refused again"
    assert fail(mine, "queue", "--command", "true", code=1) == told
    harness.git(mine, "remote", "set-url", "origin", server.url("lab"))
    told = fail(mine, "queue", "--command", "true", code=1)
    assert f"pushing to {server.url('lab')} was refused: could not read Username" in told


def test_a_detached_head_is_as_good_as_a_branch(lab: Lab) -> None:
    harness.git(lab.folder, "checkout", "-q", "--detach")
    harness.write(lab.folder / "train.py", "print('detached')\n")
    harness.git(lab.folder, "commit", "-qam", "On no branch")
    before = harness.untouched_state(lab.folder)
    lab.queue("--command 'python train.py'")
    assert harness.untouched_state(lab.folder) == before
    lab.drain()
    assert "detached" in lab.sync()


def test_a_shallow_clone_queues_to_where_it_came_from(
    project: Path, bare_remote: Path, tmp_path: Path
) -> None:
    for number in range(3):
        harness.write(project / "train.py", f"print({number})\n")
        harness.git(project, "commit", "-qam", "Step")
    harness.git(project, "push", "-q", "origin", "main")
    harness.git(tmp_path, "clone", "-q", "--depth=1", bare_remote.as_uri(), "shallow")
    harness.write(tmp_path / "shallow" / "train.py", "print('shallow, and edited')\n")
    with open_lab(tmp_path / "shallow", tmp_path / "machine") as lab:
        lab.queue("--command 'python train.py'")
        lab.drain()
        assert "shallow, and edited" in lab.sync()


def test_the_content_of_a_submodule_travels(lab: Lab, tmp_path: Path) -> None:
    library = harness.make_project(tmp_path / "library", files={"word.py": "WORD = 'from the library'\n"})
    always = ("-c", "protocol.file.allow=always")
    harness.git(lab.folder, *always, "submodule", "--quiet", "add", library.as_uri(), "library")
    harness.git(lab.folder, "commit", "-qm", "Add the library")
    harness.write(lab.folder / "library" / "word.py", "WORD = 'from the edited library'\n")
    job = lab.queue("", "from library.word import WORD\nprint(WORD)")
    lab.drain()
    assert lab.log(job) == b"from the edited library\n"


def test_a_remote_that_refuses(lab: Lab, bare_remote: Path, fail: Fail) -> None:
    hook = harness.write(
        bare_remote / "hooks/pre-receive", "#!/bin/sh\necho 'closed on Sundays' >&2\nexit 1\n"
    )
    hook.chmod(0o755)
    before = harness.refs(bare_remote)
    told = lab.notebook.fail("%%colab_queue\nx = 1")
    assert told == (
        f"pushing to {lab.remote} was refused: pre-receive hook declined: closed on Sundays;"
        " nothing was changed there."
    )
    assert "No jobs yet" in str(lab.notebook.run("%colab_queue"))
    assert fail(lab.folder, "queue", "--command", "true", code=1) == told
    assert harness.refs(bare_remote) == before


def test_a_remote_that_refuses_a_daemon(lab: Lab, bare_remote: Path) -> None:
    lab.queue("--command true")
    hook = harness.write(
        bare_remote / "hooks/pre-receive", "#!/bin/sh\necho 'closed on Sundays' >&2\nexit 1\n"
    )
    hook.chmod(0o755)
    done = lab.try_drain()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"jupyter colab daemon: pushing to {lab.remote} was refused: ")
    assert "closed on Sundays" in line


# --- a full disk -----------------------------------------------------------------------------------------


def test_a_full_disk_under_the_persons_clone(project: Path, tmp_path: Path) -> None:
    with small_disk(project, size="4m"), open_lab(project, tmp_path / "machine") as lab:
        filler = fill(project)
        harness.write(tmp_path / "ignored", "")
        told = lab.notebook.fail("%%colab_queue\nx = 1")
        assert "No space left on device" in told or "the disk is full" in told
        filler.unlink()
        job = lab.queue("--command 'echo room again'")
        lab.drain()
        assert lab.log(job) == b"room again\n"


def test_a_full_disk_under_what_waits_to_be_pushed(project: Path, tmp_path: Path) -> None:
    with (
        small_disk(project / ".git" / "colab", size="64k") as small,
        open_lab(project, tmp_path / "machine") as lab,
    ):
        filler = fill(small)
        told = lab.notebook.fail("%%colab_queue\nx = 1")
        assert "No space left on device" in told
        filler.unlink()
        lab.queue("--command 'echo room again'")


def test_a_disk_that_is_too_small_for_a_daemon(lab: Lab, tmp_path: Path) -> None:
    (lab.folder / "large.bin").write_bytes(os.urandom(4_000_000))
    job = lab.queue("--command 'echo ran'")
    with small_disk(lab.workdir, size="2m"):
        done = lab.try_drain()
    lines = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert lines[-1].startswith("jupyter colab daemon: ")
        assert "the disk is full" in lines[-1], done.stderr
    else:
        assert "full" in lab.ended(job).state.reason


def test_a_job_that_fills_the_disk_fails_alone(lab: Lab, tmp_path: Path) -> None:
    bad = lab.queue("--name bad --command 'head -c 100000000 /dev/zero > zeros && echo it fits'")
    good = lab.queue("--name good --command 'echo there is room'")
    with small_disk(lab.workdir, size="24m"):
        lab.drain()
    assert lab.ended(bad).state.state is State.FAILED
    assert lab.ended(bad).state.reason == "the command ended with exit code 1; the machine's disk is full"
    assert lab.log(good) == b"there is room\n"


def test_a_job_that_fills_the_disk_with_its_results_keeps_nobody_from_running(lab: Lab) -> None:
    fills = "cd $COLAB_OUTPUT_DIR; echo small > a.txt; head -c 100000000 /dev/zero > zeros; echo the end"
    bad = lab.queue(f"--name bad --command '{fills}'")
    good = lab.queue("--name good --command 'echo there is room'")
    with small_disk(lab.workdir, size="24m"):
        said = lab.drain()
    assert "are removed to make room" in said
    assert lab.ended(bad).state.reason == "the command ended with exit code 1; the machine's disk is full"
    assert any(note.startswith("zeros was not stored: ") for note in lab.record(bad).notes)
    assert lab.log(good) == b"there is room\n"


# --- what is queued --------------------------------------------------------------------------------------


def test_unknown_variables(lab: Lab) -> None:
    lab.notebook.run("data = 1")
    told = lab.notebook.fail("%%colab_queue --in dta\ny = dta")
    assert told == "--in dta: there is no variable 'dta' here; did you mean data?"
    job = lab.queue("--in data --out acc,lost", "acc = data")
    lab.drain()
    ended = lab.ended(job).state
    assert (ended.state, ended.reason) == (State.FAILED, "lost did not come back: the cell did not set lost")
    lab.sync()
    assert lab.notebook.variables["acc"] == 1, "what did come back is there"


def test_variables_that_cannot_be_sent(lab: Lab) -> None:
    lab.notebook.run("import threading; lock = threading.Lock(); loop = []; loop.append(loop); nan = {1: 2}")
    told = lab.notebook.fail("%%colab_queue --in lock\nlock")
    assert told.startswith("lock is a")
    assert told.endswith("--pickle")
    told = lab.notebook.fail("%%colab_queue --in lock --pickle\nlock")
    assert told.startswith("lock is a _thread.lock that pickle cannot write: ")
    assert "loop" in lab.notebook.fail("%%colab_queue --in loop\nloop")
    job = lab.queue("--out lock", "import threading\nlock = threading.Lock()")
    lab.drain()
    ended = lab.ended(job).state
    assert ended.state is State.FAILED
    assert ended.reason.startswith("lock did not come back: lock is a")


def test_an_empty_cell(lab: Lab, fail: Fail) -> None:
    told = "the cell is empty: there is nothing to queue"
    assert lab.notebook.fail("%%colab_queue\n\n  \n") == told
    harness.write(lab.folder / "empty.py", "")
    assert fail(lab.folder, "queue", "--file", "empty.py") == told
    assert fail(lab.folder, "queue", "--command", "  ") == "there is nothing to run: --command is empty"


def test_a_cell_of_ten_megabytes(lab: Lab, fail: Fail) -> None:
    told = "the cell has 10.0 MB, 1.0 MB is the most; keep data in a file or send it with --in"
    assert lab.notebook.fail("%%colab_queue\nx = '" + "a" * 10_000_000 + "'") == told
    (lab.folder / "large.py").write_text("x = '" + "a" * 10_000_000 + "'")
    assert fail(lab.folder, "queue", "--file", "large.py") == told


NAMES = ["a/b", "../../up", "..", ".", "-rf", "🦆 zażółć", "$(touch pwned) `x` 'q'", "a | b", "x" * 200]


def test_names_that_are_odd(lab: Lab, fail: Fail) -> None:
    for name in NAMES:
        assert cli.main(["queue", "--command", 'echo "$COLAB_JOB_NAME"', f"--name={name}"]) == 0
    for name in ("two\nlines", "tab\there", "\x1b[31mred"):
        told = fail(lab.folder, "queue", "--command", "true", f"--name={name}")
        assert told == (
            f"the name {json.dumps(name)} has a line break or control character; a name is one line"
        )
    lab.drain()
    shown = lab.sync()
    jobs = lab.seen.store.refresh().jobs
    assert [job.name for job in jobs] == NAMES
    for job in jobs:
        assert job.state.state is State.SUCCEEDED
        assert lab.log(job).decode() == f"{job.name}\n"
        assert job.name in shown
    left = {path.name for path in (lab.folder / "colab_results").iterdir()} - {".gitignore"}
    assert left == {job.job_id for job in jobs}
    assert not list(lab.workdir.parent.rglob("pwned*"))


def test_names_that_are_odd_in_a_file_written_by_hand(lab: Lab) -> None:
    harness.git(lab.folder, "checkout", "-qb", "gpu-experiments")
    entries = [
        {"name": name, "command": "true", "timeout": 60} for name in ("two\nlines", "", None, 7, "../ok 🦆")
    ]
    harness.write(lab.folder / "experiments.json", json.dumps(entries))
    harness.git(lab.folder, "add", ".")
    harness.git(lab.folder, "commit", "-qm", "By hand")
    harness.git(lab.folder, "push", "-q", "origin", "gpu-experiments")
    lab.drain()
    jobs = lab.seen.store.refresh().jobs
    assert [job.state.state for job in jobs] == [State.FAILED] * 4 + [State.SUCCEEDED]
    assert "has a line break or control character" in jobs[0].state.reason
    assert all("a job needs a name, a text of one line" in job.state.reason for job in jobs[1:4])
    assert "line break" in str(lab.notebook.run("%colab_queue"))


# --- what a job does -------------------------------------------------------------------------------------


def test_output_that_is_binary(lab: Lab) -> None:
    harness.write(
        lab.folder / "noise.py",
        "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 400)\nprint('the end')\n",
    )
    job = lab.queue("--command 'python noise.py'")
    in_cell = lab.queue("", "import subprocess, sys\nsubprocess.run([sys.executable, 'noise.py'])\n'\\udc80'")
    lab.drain()
    assert lab.ended(job).state.state is State.SUCCEEDED
    assert lab.ended(in_cell).state.state is State.SUCCEEDED
    assert lab.log(job).endswith(b"the end\n")
    assert "the end" in lab.sync()
    lab.notebook.run(f"%colab_queue logs {job.job_id}")
    assert "the end" in lab.notebook.shown


def test_output_of_a_hundred_megabytes(lab: Lab, bare_remote: Path) -> None:
    many = "yes 0123456789abcdef | head -c 100000000"
    command = lab.queue(f"--name command --command '{many}; echo the end'")
    cell = lab.queue(
        "--name cell", "for _ in range(100):\n    print('0123456789abcdef\\n' * 60_000)\nprint('the end')"
    )
    lab.drain()
    for job in (command, cell):
        assert lab.ended(job).state.state is State.SUCCEEDED
        log = lab.log(job)
        assert len(log) < 2_000_000
        assert b"bytes are left out here" in log
        assert log.endswith(b"the end\n")
        assert lab.record(job).log_bytes > 99_000_000
    size = sum(path.stat().st_size for path in bare_remote.rglob("*") if path.is_file())
    assert size < 5_000_000
    assert "the end" in lab.sync()


def test_output_in_colours_that_also_moves_the_cursor(lab: Lab) -> None:
    painted = r"\033[31mred\033[0m \033]0;title\007\033[2J\033[1;1Hplain\n"
    job = lab.queue(f"--command \"printf '{painted}'\"")
    lab.drain()
    lab.sync()
    bundle = lab.notebook.run(f"%colab_queue logs {job.job_id}")._repr_mimebundle_()
    assert "\x1b" not in bundle["text/html"]
    assert ">red<" in bundle["text/html"]
    for moved in ("\x1b[2J", "\x1b]0;", "\x1b[1;1H"):
        assert moved not in bundle["text/plain"]
        assert moved not in lab.notebook.shown


def test_a_job_that_forks(lab: Lab, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = lab.queue(
        f"--command '(setsid sleep 600 & echo $! >> {pids}); sleep 600 & echo $! >> {pids}; echo started'"
    )
    lab.drain()
    assert lab.ended(job).state.state is State.SUCCEEDED
    assert [pid for pid in map(int, pids.read_text().split()) if is_running(pid)] == []


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("kind", ["command", "cell"])
def test_a_job_that_ignores_every_signal_it_can(lab: Lab, kind: str) -> None:
    stubborn = (
        "import signal, time\n"
        "for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(each, signal.SIG_IGN)\n"
        "print('try me', flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(0.1)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    harness.write(lab.folder / "stubborn.py", stubborn)
    if kind == "command":
        job = lab.queue("--timeout 5 --command 'python stubborn.py'")
    else:
        job = lab.queue("--timeout 5", stubborn)
    lab.drain()
    ended = lab.ended(job).state
    assert (ended.state, ended.reason) == (State.TIMED_OUT, "stopped after its timeout of 5 s")
    assert b"try me" in lab.log(job)
    assert any("ignored SIGINT" in note for note in lab.record(job).notes)


def test_a_job_that_deletes_its_own_folder(lab: Lab) -> None:
    command = lab.queue('--command \'rm -rf "$PWD" "$COLAB_OUTPUT_DIR"; echo gone\'')
    cell = lab.queue("--out x", "import os, shutil\nshutil.rmtree(os.getcwd())\nx = 1\nprint('gone')")
    upwards = lab.queue('--command \'rm -rf "$(dirname "$COLAB_OUTPUT_DIR")"; echo all gone\'')
    after = lab.queue("--command 'python train.py'")
    lab.drain()
    for job, log in (
        (command, b"gone\n"),
        (cell, b"gone\n"),
        (upwards, b"all gone\n"),
        (after, b"trained\n"),
    ):
        assert lab.ended(job).state.state is State.SUCCEEDED, lab.ended(job).state.reason
        assert lab.log(job) == log


def test_a_job_that_prints_the_secrets_of_its_daemon(lab: Lab, bare_remote: Path) -> None:
    secrets = {
        "COLAB_GIT_TOKEN": "tok-5f0e1d2c3b4a59687",
        "HF_TOKEN": "hf_0123456789abcdefghijkl",
        "WANDB_API_KEY": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "DB_PASSWORD": "pa55 wörd/with+odd=chars",
    }
    harness.write(
        lab.folder / "tell.py",
        """
import base64, json, os, pathlib, time, urllib.parse
import colab_magics
found = {}
for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
    try:
        pairs = path.read_bytes().decode("utf-8", "replace").split("\\0")
    except OSError:
        continue
    found.update(pair.split("=", 1) for pair in pairs if "=" in pair)
NAMES = ("COLAB_GIT_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "DB_PASSWORD")
secrets = {name: found[name] for name in NAMES if name in found}
forms = [*secrets.values(), json.dumps(secrets), urllib.parse.urlencode(secrets), repr(secrets)]
forms += [base64.b64encode(value.encode()).decode() for value in secrets.values()]
text = "\\n".join(forms)
""",
    )
    harness.write(
        lab.folder / "leak.py",
        """
from tell import *
print("found", len(secrets), flush=True)
print(text, flush=True)
colab_magics.progress(1, 2, label=secrets["HF_TOKEN"])
out = pathlib.Path(os.environ["COLAB_OUTPUT_DIR"])
(out / "leak.txt").write_text(text)
(out / secrets["HF_TOKEN"]).write_text("in a name")
(pathlib.Path(os.environ["COLAB_CHECKPOINT_DIR"]) / "leak.bin").write_text(text)
time.sleep(4)
raise SystemExit(text)
""",
    )
    command = lab.queue("--name command --command 'python leak.py'")
    cell = lab.queue(
        "--name cell --out secrets,text",
        "from tell import *\nfrom IPython.display import HTML, display\n"
        "print('found', len(secrets))\nprint(text)\ndisplay(HTML(text))\n"
        "display({'application/json': secrets}, raw=True)\ntext",
    )
    error = lab.queue("--name error", "from tell import *\nraise ValueError(text)")
    said = lab.drain(**secrets)
    assert lab.log(command).startswith(b"found 4\n"), "it had them"
    assert b"found 4\n" in lab.log(cell)
    assert lab.ended(cell).state.state is State.SUCCEEDED
    assert lab.ended(error).state.reason.startswith("ValueError: ****")
    lab.sync()
    everything = harness.all_objects(bare_remote)
    assert b"leak.txt" in everything
    for name, secret in secrets.items():
        for form in forms_of(secret):
            assert form.encode() not in everything, name
            assert form not in said
            assert form not in lab.notebook.shown


def forms_of(secret: str) -> list[str]:
    import base64
    import urllib.parse

    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return [secret, json.dumps(secret)[1:-1], urllib.parse.quote_plus(secret), encoded[: len(encoded) - 2]]
