"""Attempts from end to end: real shells, real kernels."""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import replace
from pathlib import Path

import harness
import nbformat
import psutil
import pytest
from attempt_harness import LIMITS, job_environment, make_job

from colab_magics.daemon.assignment import Phase, Stop
from colab_magics.daemon.harvest import read_progress
from colab_magics.daemon.spool import load_outcome, save_outcome
from colab_magics.daemon.verdict import refuse
from colab_magics.jobs.record import to_json
from colab_magics.jobs.state import Verb
from colab_magics.progress import progress
from colab_magics.store.variables import Kind, Packed, pack, unpack


def processes_with(mark: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get("MARK", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


# --- commands --------------------------------------------------------------------------------------------


def test_a_command_runs_in_its_checkout_and_its_output_is_the_log(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="cat data.txt; echo oops >&2; pwd", files={"data.txt": "hello\n"})
    outcome = job.run()
    assert (outcome.verb, outcome.reason) == (Verb.SUCCEED, "")
    assert job.text() == f"hello\noops\n{job.checkout}\n"
    record = outcome.record
    assert (record.state, record.exit_code, record.worker, record.attempt) == ("succeeded", 0, "worker-1", 1)
    assert record.code == "c0de" * 10
    assert record.ended_at >= record.started_at > 0
    assert record.machine["cpus"]
    assert outcome.environment_text is not None
    assert b"psutil==" in outcome.environment_text
    assert record.environment


def test_a_command_knows_its_job_and_its_folders(tmp_path: Path) -> None:
    told = (
        "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('COLAB_')}))"
    )
    job = make_job(tmp_path, command=f'python -c "{told}"', params={"lr": 0.1})
    job.run()
    environment = json.loads(job.text())
    assert environment["COLAB_JOB_ID"] == "train-1"
    assert environment["COLAB_ATTEMPT"] == "1"
    assert json.loads(environment["COLAB_PARAMS"]) == {"lr": 0.1}
    for name in ("COLAB_OUTPUT_DIR", "COLAB_CHECKPOINT_DIR", "COLAB_INPUTS_DIR"):
        assert Path(environment[name]).is_relative_to(job.scratch)


def test_python_in_a_command_is_the_jobs_interpreter(tmp_path: Path) -> None:
    job = make_job(tmp_path, command='python -c "import sys, psutil; print(sys.prefix)"')
    assert job.run().verb is Verb.SUCCEED
    assert job.text().strip() == os.path.realpath(os.sys.prefix)  # type: ignore[attr-defined]


def test_an_exit_code_fails_the_job_and_the_last_line_is_in_the_reason(tmp_path: Path) -> None:
    outcome = make_job(tmp_path, command="echo no data; exit 3").run()
    assert (outcome.verb, outcome.record.exit_code) == (Verb.FAIL, 3)
    assert outcome.reason == "the command ended with exit code 3: no data"


def test_a_cell_that_is_done_and_stopped_while_its_kernel_leaves_has_succeeded(tmp_path: Path) -> None:
    leave = "(pathlib.Path('leaving').touch(), time.sleep(600))"
    job = make_job(tmp_path, cell=f"import atexit, pathlib, time\natexit.register(lambda: {leave})")
    with job.running():
        harness.wait_until((job.checkout / "leaving").exists, what="the kernel to leave")
        job.attempt.stop(Stop.RELEASE)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.SUCCEED


def test_a_process_that_the_kernel_holds_ends_the_job_with_a_word_about_it(tmp_path: Path) -> None:
    limits = replace(LIMITS, grace_s=0.1, stuck_s=0.2)
    job = make_job(tmp_path, command="echo $$ > pid; sleep 1000 & wait", timeout_s=3, limits=limits)
    with job.running():
        pid = harness.wait_until(
            lambda: (p := job.checkout / "pid").exists() and p.read_text().strip(), what="the job to run"
        )
        with harness.frozen(int(pid)):
            harness.wait_until(lambda: job.outcome is not None, what="the job to be given up")
    assert job.outcome is not None
    assert job.outcome.verb is Verb.TIME_OUT
    assert job.outcome.record.notes[0].startswith(
        "a process could not be ended: the machine's kernel holds it"
    )


def test_a_signal_is_said_in_words(tmp_path: Path) -> None:
    outcome = make_job(tmp_path, command="kill -SEGV $$").run()
    assert (outcome.verb, outcome.record.exit_code) == (Verb.FAIL, -11)
    assert "signal 11 (SIGSEGV)" in outcome.reason


def test_sigkill_points_at_the_out_of_memory_killer(tmp_path: Path) -> None:
    outcome = make_job(tmp_path, command="kill -9 $$").run()
    assert "signal 9 (SIGKILL); the system's out-of-memory killer is the likely cause" in outcome.reason
    assert outcome.record.failure is not None
    assert outcome.record.failure.out_of_memory


def test_a_traceback_in_the_log_names_the_persons_line(tmp_path: Path) -> None:
    files = {
        "train.py": "import json, model\nmodel.fit()\n",
        "model.py": "import json\ndef fit():\n    json.loads('{')\n",
    }
    outcome = make_job(tmp_path, command="python train.py", files=files).run()
    failure = outcome.record.failure
    assert failure is not None
    assert failure.type == "json.decoder.JSONDecodeError"
    assert (failure.file, failure.line, failure.function) == ("model.py", 3, "fit")
    assert failure.source == "json.loads('{')"
    assert "(model.py:3)" in outcome.reason


def test_a_timeout_interrupts_and_keeps_what_was_printed(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="echo begun; sleep 100", timeout_s=0.5)
    outcome = job.run()
    assert (outcome.verb, outcome.record.state) == (Verb.TIME_OUT, "timed_out")
    assert outcome.reason == "stopped after its timeout of 0.5 s"
    assert job.text() == "begun\n"


def test_a_job_that_ignores_signals_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    environment = job_environment(MARK=str(tmp_path))
    command = (
        "trap '' INT TERM; setsid sleep 1000 & (setsid nohup sleep 1001 &); while true; do sleep 1; done"
    )
    job = make_job(tmp_path, command=command, timeout_s=1, environment=environment)
    outcome = job.run()
    assert outcome.verb is Verb.TIME_OUT
    assert any("ignored SIGINT" in note for note in outcome.record.notes)
    assert processes_with(str(tmp_path)) == []


def test_what_a_finished_job_left_in_the_background_is_ended(tmp_path: Path) -> None:
    environment = job_environment(MARK=str(tmp_path))
    command = "(setsid sh -c 'touch up; exec sleep 1000' &); while [ ! -e up ]; do sleep 0.02; done"
    job = make_job(tmp_path, command=command, environment=environment)
    outcome = job.run()
    assert outcome.verb is Verb.SUCCEED
    assert outcome.record.notes == ("a process that it left behind was ended",)
    assert processes_with(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("why", "verb"), [(Stop.CANCEL, Verb.CANCEL), (Stop.RELEASE, Verb.RELEASE), (Stop.FENCED, Verb.RELEASE)]
)
def test_a_running_job_is_stopped_for_a_reason(tmp_path: Path, why: Stop, verb: Verb) -> None:
    job = make_job(tmp_path, command="echo begun; sleep 100")
    with job.running():
        harness.wait_until(lambda: "begun" in job.attempt.live().log_tail, what="the job to begin")
        job.attempt.stop(why)
    assert job.outcome is not None
    assert job.outcome.verb is verb
    assert job.text() == "begun\n"


def test_a_job_that_was_stopped_before_it_ran_never_runs(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="touch ran")
    job.attempt.stop(Stop.CANCEL)
    assert job.run().verb is Verb.CANCEL
    assert not (job.checkout / "ran").exists()


def test_a_missing_checkout_fails_the_job(tmp_path: Path) -> None:
    job = make_job(tmp_path, command="true")
    job.checkout.rmdir()
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert "the job could not be run" in outcome.reason


def test_an_attempt_that_never_runs_has_an_outcome_too(tmp_path: Path) -> None:
    spec = make_job(tmp_path, command="true").attempt._assignment.spec
    cancelled = refuse(spec, 2, Stop.CANCEL, worker="w")
    failed = refuse(spec, 2, "its code cannot be fetched", worker="w")
    assert (cancelled.verb, cancelled.record.attempt) == (Verb.CANCEL, 2)
    assert (failed.verb, failed.reason) == (Verb.FAIL, "its code cannot be fetched")


# --- what a job leaves -----------------------------------------------------------------------------------


def test_a_command_leaves_variables_and_artifacts(tmp_path: Path) -> None:
    command = (
        "echo '{\"a\": 1}' > $COLAB_OUTPUT_DIR/acc.json; mkdir $COLAB_OUTPUT_DIR/plots;"
        "echo x > $COLAB_OUTPUT_DIR/plots/a.txt;"
        "mkdir -p runs/1; echo y > runs/1/model.txt"
    )
    job = make_job(tmp_path, command=command, outputs=("acc",), artifacts=("runs/**/*.txt",))
    outcome = job.run()
    assert outcome.verb is Verb.SUCCEED
    assert set(outcome.files) == {
        "log.txt",
        "out/acc.json",
        "artifacts/plots/a.txt",
        "artifacts/runs/1/model.txt",
    }
    (variable,) = outcome.record.outputs
    assert (variable.name, variable.kind, variable.path) == ("acc", "json", "out/acc.json")
    value = unpack("acc", Packed(Kind.JSON, outcome.files["out/acc.json"].read_bytes()))
    assert value == {"a": 1}


def test_a_variable_that_did_not_come_fails_the_job_and_keeps_the_rest(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell="x = 1\nprint('ran')\ny = object()", outputs=("x", "y", "z"))
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason.startswith("y, z did not come back")
    assert "the cell did not set z" in outcome.reason
    assert "out/x.json" in outcome.files
    assert job.text() == "ran\n"


def test_a_variable_that_is_too_large_says_what_helps_where_the_job_runs(tmp_path: Path) -> None:
    limits = replace(LIMITS, variable_bytes=1000)
    cell = make_job(tmp_path / "1", cell="x = 'a' * 2000", outputs=("x",), limits=limits).run()
    assert cell.record.failure is not None
    assert (
        "over the limit of 0.001 MB for one variable: bring back a part of it" in cell.record.failure.message
    )
    assert "$COLAB_OUTPUT_DIR" in cell.record.failure.message
    assert "%config" not in f"{cell.record.failure.message}{cell.reason}"
    command = 'echo "[\\"$(seq 1 2000 | tr -d \\\\n)\\"]" > $COLAB_OUTPUT_DIR/x.json'
    left = make_job(tmp_path / "2", command=command, outputs=("x",), limits=limits).run()
    assert "over the limit of 0.001 MB for one variable: leave a part of it" in left.reason


def test_inputs_are_variables_of_a_cell_and_files_of_a_command(tmp_path: Path) -> None:
    packed = pack("data", {"rows": [1, 2, 3]}, max_bytes=1000)
    path = tmp_path / "abc.json"
    path.write_bytes(packed.data)
    given = {"data": (packed.kind.value, path)}
    cell = make_job(tmp_path / "1", cell="total = sum(data['rows'])", inputs=given, outputs=("total",))
    outcome = cell.run()
    assert json.loads(outcome.files["out/total.json"].read_bytes()) == 6
    assert "# sent with the job: data (json" in "".join(cell.notebook["cells"][0]["source"])
    command = make_job(tmp_path / "2", command="cat $COLAB_INPUTS_DIR/data.json", inputs=given)
    command.run()
    assert command.text() == packed.data.decode()


def test_a_job_that_deletes_its_folders_ends_with_a_normal_result(tmp_path: Path) -> None:
    command = make_job(
        tmp_path / "1", command="echo a; rm -rf $PWD $COLAB_OUTPUT_DIR; echo b", artifacts=("*.pt",)
    )
    outcome = command.run()
    assert outcome.verb is Verb.SUCCEED
    assert command.text() == "a\nb\n"
    assert "the job removed its output folder ($COLAB_OUTPUT_DIR)" in outcome.record.notes
    source = (
        "import os, shutil\n"
        "shutil.rmtree(os.getcwd())\n"
        "shutil.rmtree(os.path.dirname(os.environ['COLAB_OUTPUT_DIR']))\n"
        "x = 1\n"
        "print('still')"
    )
    cell = make_job(tmp_path / "2", cell=source, outputs=("x",))
    outcome = cell.run()
    assert outcome.verb is Verb.SUCCEED
    assert cell.text().startswith("still\n")
    assert "out/x.json" in outcome.files


def test_secrets_are_masked_in_everything_that_leaves(tmp_path: Path) -> None:
    secret, other = "ghp_abcdefgh12345678", 'pass"word/öß 99'
    environment = job_environment(MY_TOKEN=secret)
    source = (
        "import base64, json, os, sys, urllib.parse\n"
        "t, o = os.environ['MY_TOKEN'], os.environ['PLAIN']\n"
        "print(t, o, json.dumps(o), urllib.parse.quote(t + o))\n"
        "print(base64.b64encode(b'x-access-token:' + t.encode()).decode())\n"
        "open(os.environ['COLAB_OUTPUT_DIR'] + '/a.bin', 'wb').write(b'\\0' + t.encode() + b'\\xff')\n"
        "x = {'t': t}\n"
        "print(t[:9], end='', flush=True); print(t[9:])\n"
        "display({'text/plain': t, 'text/html': t}, raw=True)\n"
        "raise ValueError(t)"
    )
    job = make_job(
        tmp_path, cell=source, environment=environment | {"PLAIN": other}, secrets=(other,), outputs=("x",)
    )
    outcome = job.run()
    left = [path.read_bytes() for path in outcome.files.values()]
    left += [
        to_json(outcome.record),
        outcome.reason.encode(),
        json.dumps(job.attempt.live().to_json()).encode(),
    ]
    for data in left:
        for form in (secret, "ghp_abcd", other, json.dumps(other)[1:-1], "Z2hwX2FiY2Rl"):
            assert form.encode() not in data
    assert outcome.files["artifacts/a.bin"].read_bytes() == b"\0" + b"*" * len(secret) + b"\xff"


def test_half_characters_in_an_error_cost_no_result_and_no_secret(tmp_path: Path) -> None:
    secret = "ghp_abcdefgh12345678"
    source = f"x = 1\nraise ValueError(b'caf\\xe9 {secret} \\xff'.decode('utf8', 'surrogateescape'))"
    job = make_job(tmp_path, cell=source, secrets=(secret,))
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.record.failure is not None
    assert outcome.record.failure.message == f"caf\udce9 {'*' * len(secret)} \udcff"
    assert outcome.record.failure.line == 2
    assert job.notebook["cells"]
    saved = save_outcome(tmp_path / "spool", outcome)
    assert load_outcome(tmp_path / "spool") == saved
    assert secret.encode() not in to_json(outcome.record)
    assert secret not in outcome.reason


def test_a_secret_of_digits_in_a_number_does_no_harm(tmp_path: Path) -> None:
    command = "printf '%12345678d' 0 > $COLAB_OUTPUT_DIR/a; echo 12345678; exit 3"
    outcome = make_job(tmp_path, command=command, secrets=("12345678",)).run()
    assert outcome.reason == "the command ended with exit code 3: ********"
    assert outcome.record.artifacts[0].size_bytes == 12345678


def test_a_secret_of_digits_leaves_the_notebook_and_the_variables_json(tmp_path: Path) -> None:
    source = "display({'application/json': {'n': 12345678}}, raw=True)\nx = [12345678, 1]"
    job = make_job(tmp_path, cell=source, secrets=("12345678",), outputs=("x",))
    assert job.run().verb is Verb.SUCCEED
    assert job.outputs[0]["data"]["application/json"] == {"n": "*" * 8}
    assert json.loads(job.text("out/x.json")) == ["*" * 8, 1]
    assert job.attempt.live().outputs[0]["data"]["application/json"] == {"n": "*" * 8}


def test_a_secret_across_the_cut_of_a_reason_shows_no_part_of_itself(tmp_path: Path) -> None:
    secret = "ghp_abcdefgh12345678"
    before = "x" * (300 - len("the command ended with exit code 3: ") - len(secret) // 2)
    outcome = make_job(tmp_path, command=f"echo {before}{secret}; exit 3", secrets=(secret,)).run()
    assert outcome.reason.endswith("x*********…")


def test_a_secret_across_the_cut_of_a_cells_error_shows_no_part_of_itself(tmp_path: Path) -> None:
    secret = "ghp_abcdefgh12345678"
    outcome = make_job(tmp_path, cell=f"raise ValueError('x' * 258 + '{secret}')", secrets=(secret,)).run()
    assert outcome.reason.startswith("ValueError: xxx")
    assert len(outcome.reason) <= 300
    assert "ghp" not in outcome.reason


def test_a_mistake_of_ours_fails_the_job_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnicodeEncodeError("utf-8", "ghp_abcdefgh12345678", 0, 1, "broken at ghp_abcdefgh12345678")

    monkeypatch.setattr("colab_magics.daemon.attempt.digest_of", fail)
    outcome = make_job(tmp_path, command="true", secrets=("ghp_abcdefgh12345678",)).run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason.startswith("the daemon failed: UnicodeEncodeError: ")
    assert outcome.reason.endswith(f"broken at {'*' * 20}")
    assert b"ghp_" not in to_json(outcome.record)


def test_a_large_output_is_kept_as_head_and_tail(tmp_path: Path) -> None:
    limits = replace(LIMITS, log_bytes=10_000)
    job = make_job(
        tmp_path, command="seq 1 2000000; head -c 1000000 /dev/urandom; echo; echo end", limits=limits
    )
    outcome = job.run()
    data = outcome.files["log.txt"].read_bytes()
    assert data.startswith(b"1\n2\n3\n")
    assert data.endswith(b"end\n")
    assert len(data) < 10_200
    assert b"bytes are left out here" in data
    assert outcome.record.log_bytes > 14_000_000


# --- cells -----------------------------------------------------------------------------------------------


def test_a_cell_leaves_an_executed_notebook(tmp_path: Path) -> None:
    source = (
        "print(lr)\n"
        "from IPython.display import HTML\n"
        "handle = display(HTML('<b>1</b>'), display_id=True)\n"
        "handle.update(HTML('<b>2</b>'))\n"
        "lr * 2"
    )
    job = make_job(tmp_path, cell=source, params={"lr": 0.5, "name": "a'b", "on": True, "n": None})
    assert job.run().verb is Verb.SUCCEED
    notebook = job.notebook
    nbformat.validate(nbformat.from_dict(notebook))
    parameters, cell = notebook["cells"]
    assert parameters["metadata"]["tags"] == ["injected-parameters"]
    assert "".join(parameters["source"]) == 'lr = 0.5\nname = "a\'b"\non = True\nn = None'
    assert "".join(cell["source"]) == source
    assert (parameters["execution_count"], cell["execution_count"]) == (1, 2)
    stream, html, result = cell["outputs"]
    assert stream == {"output_type": "stream", "name": "stdout", "text": ["0.5\n"]}
    assert html["data"]["text/html"] == ["<b>2</b>"]
    assert result["data"]["text/plain"] == ["1.0"]
    assert job.text() == "0.5\n<IPython.core.display.HTML object>\n1.0\n"


def test_a_plot_is_in_the_notebook(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    job = make_job(tmp_path, cell="import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert job.run().verb is Verb.SUCCEED
    assert "image/png" in job.outputs[-1]["data"]


def test_magics_and_subprocesses_work_and_are_in_the_log(tmp_path: Path) -> None:
    job = make_job(
        tmp_path, cell="%%time\n!echo from shell\nimport subprocess\nsubprocess.run(['echo', 'from fd'])"
    )
    assert job.run().verb is Verb.SUCCEED
    assert "from shell" in job.text()
    assert "from fd" in job.text()
    assert "Wall time" in job.text()


def test_a_failing_cell_names_its_line_and_keeps_its_traceback(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell="print('before')\ndef f(x):\n    return 1 / x\n\nf(0)", params={"lr": 1})
    outcome = job.run()
    failure = outcome.record.failure
    assert outcome.reason == "ZeroDivisionError: division by zero (line 3 of the cell)"
    assert failure is not None
    assert (failure.file, failure.line, failure.function, failure.source) == (
        "<cell>",
        3,
        "f",
        "return 1 / x",
    )
    assert any("ZeroDivisionError" in line for line in failure.traceback)
    assert job.outputs[-1]["output_type"] == "error"
    assert "\x1b" not in job.text()
    assert "ZeroDivisionError: division by zero" in job.text()


def test_a_failure_in_a_module_names_the_module(tmp_path: Path) -> None:
    files = {"package/model.py": "import json\ndef fit():\n    return json.loads('{')\n"}
    outcome = make_job(tmp_path, cell="from package import model\nmodel.fit()", files=files).run()
    failure = outcome.record.failure
    assert failure is not None
    assert (failure.file, failure.line, failure.function) == ("package/model.py", 3, "fit")
    assert failure.source == "return json.loads('{')"


@pytest.mark.parametrize(
    ("source", "line", "kind"),
    [
        ("x = 1\ndef f(:\n    pass", 2, "SyntaxError"),
        ("%%time\nx = 1\n1 / 0", 3, "ZeroDivisionError"),
        ("x = input('?')", 1, "StdinNotImplementedError"),
        ("import sys\nsys.exit(3)", 2, "SystemExit"),
    ],
)
def test_every_kind_of_error_has_its_line(tmp_path: Path, source: str, line: int, kind: str) -> None:
    failure = make_job(tmp_path, cell=source).run().record.failure
    assert failure is not None
    assert failure.type.endswith(kind)
    assert (failure.file, failure.line) == ("<cell>", line)


def test_exit_ends_a_cell_early_and_well(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell="x = 1\nprint(1)\nexit()\nprint(2)", outputs=("x",))
    outcome = job.run()
    assert outcome.verb is Verb.SUCCEED
    assert (outcome.record.exit_code, job.text().splitlines()[0]) == (0, "1")
    assert [output["output_type"] for output in job.outputs] == ["stream"]
    assert "out/x.json" in outcome.files


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), 9)", "signal 9 (SIGKILL)"),
        ("import ctypes; ctypes.string_at(0)", "signal 11 (SIGSEGV)"),
    ],
)
def test_a_kernel_that_dies_is_told_with_what_it_said_before(tmp_path: Path, death: str, said: str) -> None:
    job = make_job(tmp_path, cell=f"print('before')\n{death}")
    outcome = job.run()
    assert outcome.verb is Verb.FAIL
    assert outcome.reason.startswith(f"the kernel died while running the cell, with {said}")
    assert job.text().startswith("before\n")
    assert said in "".join(job.outputs[-1]["text"])


def test_a_segfault_names_the_persons_line(tmp_path: Path) -> None:
    failure = make_job(tmp_path, cell="import ctypes\nctypes.string_at(0)").run().record.failure
    assert failure is not None
    assert (failure.file, failure.line, failure.source) == ("<cell>", 2, "ctypes.string_at(0)")


def test_a_cell_that_takes_too_long_is_interrupted_where_it_is(tmp_path: Path) -> None:
    job = make_job(tmp_path, cell="import time\nprint('begun')\ntime.sleep(100)", timeout_s=5)
    outcome = job.run()
    assert outcome.verb is Verb.TIME_OUT
    assert outcome.record.failure is not None
    assert (outcome.record.failure.type, outcome.record.failure.line) == ("KeyboardInterrupt", 3)
    assert [output["output_type"] for output in job.outputs] == ["stream", "error"]


def test_a_cell_that_ignores_the_interrupt_is_killed_and_its_outputs_are_kept(tmp_path: Path) -> None:
    source = (
        "import time\n"
        "print('begun', flush=True)\n"
        "while True:\n"
        "    try: time.sleep(100)\n"
        "    except KeyboardInterrupt: pass"
    )
    job = make_job(tmp_path, cell=source, timeout_s=5)
    outcome = job.run()
    assert outcome.verb is Verb.TIME_OUT
    assert any("ignored SIGINT" in note for note in outcome.record.notes)
    assert job.outputs == [{"output_type": "stream", "name": "stdout", "text": ["begun\n"]}]


def test_a_cell_is_cancelled_while_it_runs(tmp_path: Path) -> None:
    environment = job_environment(MARK=str(tmp_path))
    source = (
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "print('begun')\n"
        "time.sleep(100)"
    )
    job = make_job(tmp_path, cell=source, environment=environment)
    with job.running():
        harness.wait_until(lambda: "begun" in job.attempt.live().log_tail, what="the cell to begin")
        job.attempt.stop(Stop.CANCEL)
    assert job.outcome is not None
    assert job.outcome.verb is Verb.CANCEL
    assert processes_with(str(tmp_path)) == []


def test_running_out_of_memory_names_the_line_and_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    files = {
        "model.py": (
            "import torch\n"
            "\n"
            "def forward():\n"
            "    raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0')\n"
        )
    }
    raised = make_job(tmp_path / "1", cell="import model\nmodel.forward()", files=files).run()
    failure = raised.record.failure
    assert failure is not None
    assert failure.out_of_memory
    assert failure.type == "torch.OutOfMemoryError"
    assert (failure.file, failure.line) == ("model.py", 4)
    assert "Tried to allocate 2.00 GiB" in (failure.allocator_summary or "")
    assert raised.reason.startswith("out of memory: torch.OutOfMemoryError")
    real = make_job(tmp_path / "2", cell="import torch\nx = torch.empty(10**15)").run()
    failure = real.record.failure
    assert failure is not None
    assert (failure.out_of_memory, failure.file, failure.line) == (True, "<cell>", 2)
    assert "4000000000000000 bytes" in (failure.allocator_summary or "")
    command = make_job(tmp_path / "3", command="python -c 'import model; model.forward()'", files=files).run()
    failure = command.record.failure
    assert failure is not None
    assert (failure.out_of_memory, failure.file, failure.line) == (True, "model.py", 4)


def test_widgets_are_stored_so_that_converters_show_them(tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets")
    source = (
        "import ipywidgets as w\n"
        "out = w.Output()\n"
        "display(w.IntSlider(value=7), out)\n"
        "with out:\n"
        "    print('inside')\n"
        "print('outside')"
    )
    job = make_job(tmp_path, cell=source)
    assert job.run().verb is Verb.SUCCEED
    state = job.notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    models = {model["model_name"]: model["state"] for model in state.values()}
    assert models["IntSliderModel"]["value"] == 7
    assert models["OutputModel"]["outputs"][0]["text"] == "inside\n"
    assert [output["text"] for output in job.outputs if output["output_type"] == "stream"] == [["outside\n"]]


def test_progress_comes_from_bars_widgets_and_the_function(tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"
    plain = f"from tqdm import tqdm\nbar = tqdm(total=10, desc='epoch', mininterval=0)\nbar.update(4)\n{wait}"
    drawn = "bar = tqdm(total=10, desc='epoch')\nbar.update(4); bar.refresh()"
    widget = f"from tqdm.notebook import tqdm\n{drawn}\n{wait}"
    said = f"import colab_magics\ncolab_magics.progress(4, 10, label='epoch')\n{wait}"
    for number, source in enumerate((plain, widget, said)):
        job = make_job(tmp_path / str(number), cell=source)
        with job.running():
            try:
                found = harness.wait_until(
                    lambda job=job: (p := job.attempt.live().progress) is not None and p.done == 4 and p,  # type: ignore[misc]
                    what="the progress",
                )
            finally:
                (job.checkout / "go").touch()
        assert (found.done, found.total, found.label) == (4, 10, "epoch"), source


def test_what_progress_writes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_PROGRESS_FILE", str(tmp_path / "progress"))
    progress(4, 10, label="epoch")
    assert read_progress(tmp_path / "progress") == (4, 10, "epoch")
    progress(0.5)
    assert read_progress(tmp_path / "progress") == (0.5, None, "")


@pytest.mark.parametrize(
    ("done", "total"),
    [(math.nan, 10), (math.inf, 10), (1, math.nan), (1, math.inf), (-1, 10), (1, 0), (10**400, 1)],
)
def test_progress_is_a_finite_part_of_a_finite_whole(done: float, total: float) -> None:
    with pytest.raises(ValueError, match="progress is done >= 0 of total > 0"):
        progress(done, total)


@pytest.mark.parametrize(
    "written",
    [
        f'{{"done": {10**400}, "total": 1, "label": ""}}',
        f'{{"done": {"9" * 5000}, "total": 1, "label": ""}}',
        f'{{"done": 1, "total": {10**400}, "label": ""}}',
        '{"done": NaN, "total": 1, "label": ""}',
        '{"done": 1, "total": Infinity, "label": ""}',
        '{"done": 1e999, "total": null, "label": ""}',
        '{"done": -1, "total": null, "label": ""}',
        '{"done": 1, "total": -1, "label": ""}',
        '{"done": true, "total": null, "label": ""}',
        '{"done": "1", "total": null, "label": ""}',
        "[" * 100_000,
        '{"done": 1, "total": null, "label": ' + "[" * 100_000,
        "[]",
        "1",
        "",
        "\0",
    ],
)
def test_what_a_job_writes_for_progress_itself_is_progress_or_nothing(tmp_path: Path, written: str) -> None:
    (tmp_path / "progress").write_text(written)
    assert read_progress(tmp_path / "progress") is None


def test_a_job_that_breaks_what_is_looked_at_is_still_seen(tmp_path: Path) -> None:
    bar = f"{'9' * 400}it [00:01, 44.9it/s]"
    command = f"echo '{bar}'; mkfifo $COLAB_PROGRESS_FILE; touch up; while [ ! -e go ]; do sleep 0.02; done"
    job = make_job(tmp_path, command=command)
    with job.running():
        try:
            harness.wait_until((job.checkout / "up").exists, what="the job to break its progress")
            live = job.attempt.live()
            assert (live.phase, live.progress, live.log_tail) == (Phase.RUNNING, None, f"{bar}\n")
            job.attempt._view.last_outputs = lambda **_: [{"text": 10**5000}]  # type: ignore[method-assign]
            live = job.attempt.live()
            assert (live.phase, live.outputs, live.log_tail) == (Phase.RUNNING, (), f"{bar}\n")
        finally:
            (job.checkout / "go").touch()


def test_a_running_cell_can_be_watched(tmp_path: Path) -> None:
    source = (
        "import pathlib, time\n"
        "print('line')\n"
        "display({'text/html': '<b>x</b>'}, raw=True)\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)"
    )
    job = make_job(tmp_path, cell=source)
    with job.running():
        try:
            live = harness.wait_until(
                lambda: len((live := job.attempt.live()).outputs) == 2 and live, what="the outputs"
            )
        finally:
            (job.checkout / "go").touch()
    assert live.phase is Phase.RUNNING
    assert live.log_tail == "line\n"
    assert live.outputs[1]["data"] == {"text/html": "<b>x</b>"}
    assert len(json.dumps(live.to_json())) < 100_000


def test_a_checkpoint_over_the_limit_is_noted_once(tmp_path: Path) -> None:
    command = "echo 123456789 > $COLAB_CHECKPOINT_DIR/step; touch up; while [ ! -e go ]; do sleep 0.02; done"
    job = make_job(tmp_path, command=command, limits=replace(LIMITS, checkpoint_bytes=5))
    with job.running():
        try:
            harness.wait_until((job.checkout / "up").exists, what="the job to write its checkpoint")
            assert job.attempt.checkpoint() is None
            assert job.attempt.checkpoint() is None
        finally:
            (job.checkout / "go").touch()
    assert job.outcome is not None
    notes = [note for note in job.outcome.record.notes if "checkpoint" in note]
    assert notes == [
        "checkpoints were not stored: 1e-05 MB is over the limit of 5e-06 MB for all files of one"
    ]


def test_checkpoints_are_seen_when_they_change_and_are_whole(tmp_path: Path) -> None:
    command = (
        "cat $COLAB_CHECKPOINT_DIR/step; echo 5 > $COLAB_CHECKPOINT_DIR/step;"
        "while [ ! -e go ]; do sleep 0.02; done"
    )
    job = make_job(tmp_path, command=command)
    job.attempt.checkpoint_folder.mkdir(parents=True)
    (job.attempt.checkpoint_folder / "step").write_text("4\n")
    with job.running():
        try:
            step = job.attempt.checkpoint_folder / "step"
            harness.wait_until(lambda: step.read_text() == "5\n", what="the job to write its checkpoint")
            found = harness.wait_until(job.attempt.checkpoint, what="the checkpoint to settle")
        finally:
            (job.checkout / "go").touch()
    assert {name: path.read_text() for name, path in found.items()} == {"step": "5\n"}
    assert job.attempt.checkpoint() is None
    assert job.text() == "4\n"


def test_many_attempts_leave_no_threads_and_no_descriptors(tmp_path: Path) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    make_job(tmp_path / "warm-1", command="true").run()
    make_job(tmp_path / "warm-2", cell="1").run()
    before = held()
    for number in range(24):
        assert make_job(tmp_path / f"c{number}", command="true").run().verb is Verb.SUCCEED
    for number in range(6):
        assert make_job(tmp_path / f"k{number}", cell="1").run().verb is Verb.SUCCEED
    assert held() == before


def test_peak_memory_is_measured(tmp_path: Path) -> None:
    cell = make_job(
        tmp_path / "1", cell="x = bytearray(300_000_000); x[::4096] = b'1' * len(x[::4096])"
    ).run()
    assert (cell.record.peak_host_bytes or 0) > 300_000_000
    code = "x = bytearray(300_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(0.7)"
    command = make_job(tmp_path / "2", command=f'python -c "{code}"').run()
    assert (command.record.peak_host_bytes or 0) > 300_000_000


@pytest.mark.gpu
def test_peak_gpu_memory_is_what_torchs_allocator_says(tmp_path: Path) -> None:
    outcome = make_job(tmp_path, cell="import torch\nx = torch.ones(100_000_000, device='cuda')").run()
    assert 400_000_000 <= (outcome.record.peak_gpu_bytes or 0) < 500_000_000
    assert outcome.record.gpu


@pytest.mark.gpu
def test_a_gpu_that_is_full_is_told_by_the_persons_line_and_the_allocators_table(tmp_path: Path) -> None:
    cell = (
        "import torch\n"
        "kept = torch.ones(1 << 28, device='cuda')\n"
        "def layer(x):\n"
        "    return torch.empty(1 << 45, device=x.device)\n"
        "layer(kept)\n"
    )
    outcome = make_job(tmp_path, cell=cell).run()
    failure = outcome.record.failure
    assert failure is not None
    assert failure.out_of_memory
    assert (failure.file, failure.line, failure.function) == ("<cell>", 4, "layer")
    assert "Allocated memory" in (failure.allocator_summary or "")
    assert (outcome.record.peak_gpu_bytes or 0) >= 1 << 30
