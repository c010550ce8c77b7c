"""One attempt of one job, from its checkout to its outcome. Nothing that a job does can raise here."""

from __future__ import annotations

import json
import logging
import secrets as randomness
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colab_magics.daemon.assignment import Assignment, Limits, Live, Outcome, Phase, Stop
from colab_magics.daemon.cell import CellRun, CellView
from colab_magics.daemon.cell_job import cell_job_of
from colab_magics.daemon.checkpoints import Checkpoints
from colab_magics.daemon.command import run_command
from colab_magics.daemon.doors import VISITS, describe_visits
from colab_magics.daemon.endings import End, map_texts
from colab_magics.daemon.harvest import Harvest
from colab_magics.daemon.log import Log
from colab_magics.daemon.masking import Masker, secrets_in
from colab_magics.daemon.overlay import Installer
from colab_magics.daemon.packages import PackageList, digest_of
from colab_magics.daemon.processes import Alarm, Child, Watch, end_marked
from colab_magics.daemon.script import ScriptRun, script_job_of
from colab_magics.daemon.sight import Sight
from colab_magics.daemon.telemetry import MemoryMeter, describe_gpu, describe_machine
from colab_magics.daemon.verdict import (
    Verdict,
    blame_disk,
    judge_cell,
    judge_command,
    judge_early,
    judge_install,
    one_line,
    refuse,
    refuse_missing,
)
from colab_magics.daemon.workspace import Workspace, free_bytes, job_environment
from colab_magics.jobs.record import Progress, Record, from_json, to_json
from colab_magics.jobs.state import TRANSITIONS, State, Verb
from colab_magics.store.variables import Kind, suffix_of

_TRACEBACK_BYTES = 256_000
_HELD_TICK_S = 1.0

logger = logging.getLogger(__name__)


class Attempt:
    """One attempt. `run` blocks and is called once; everything else may be called from any thread."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        limits: Limits,
        environment: Mapping[str, str],
        secrets: Sequence[str] = (),
        envs_dir: Path,
        moved: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make ready; nothing runs yet.

        Args:
            assignment: what to run.
            limits: how much is kept, and how long its end may take.
            environment: the variables that jobs start from; the daemon's own credentials are not among them.
            secrets: what must not be seen in anything that leaves, beside the values of variables of
                `environment` and of the job whose names say that they are secret.
            envs_dir: where overlay environments and lists of packages are kept, shared by all attempts.
            moved: called, in the thread of `run`, when it is held at its failure or goes on from there.
            now: Unix seconds, for the record; durations are measured apart.
        """
        self._assignment, self._limits, self._environment = assignment, limits, environment
        self._envs_dir, self._moved, self._now = envs_dir, moved, now
        self._workspace = Workspace(assignment.scratch)
        self._token = randomness.token_hex(16)
        hidden = [*secrets, *secrets_in(environment), *secrets_in(dict(assignment.spec.env))]
        self._masker = Masker(hidden)
        self._lock = threading.Lock()
        self._stop: Stop | None = None
        self._alarm: Alarm | None = None
        self._log: Log | None = None
        self._phase = Phase.STARTING
        self._held: tuple[str, float | None] = ("", None)
        self._was_held = False
        self._debugged: CellRun | ScriptRun | None = None
        self._started_at, self._begun = now(), time.monotonic()
        self._last_live: Live | None = None
        self._view = CellView(mask=self._masker.mask_text)
        self._sight = Sight(
            assignment.spec.job_id,
            view=self._view,
            workspace=self._workspace,
            limits=limits,
            masker=self._masker,
        )
        self._packages: PackageList | None = None
        self._checkpoints = Checkpoints(self._workspace.checkpoint, copies=self._workspace.copies)

    @property
    def checkpoint_folder(self) -> Path:
        """COLAB_CHECKPOINT_DIR; what is put here before `run` is there when the job starts."""
        return self._workspace.checkpoint

    @property
    def is_held(self) -> bool:
        """Whether it stands at its failure at this moment."""
        return self._phase is Phase.HELD

    def stop(self, why: Stop) -> None:
        """Ask the attempt to end. The first reason counts; asking again, or after its end, does nothing."""
        with self._lock:
            self._stop = self._stop or why
            if self._alarm is not None:
                self._alarm.ring()

    def live(self) -> Live:
        """What can be seen at this moment. Never raises: a part that cannot be read is left out."""
        with self._lock:
            if self._log is None:
                return self._last_live or self._look("", None)
            tail, raw = self._sight.log(self._log)
        return self._look(tail, self._sight.progress(raw))

    def checkpoint(self) -> dict[str, Path] | None:
        """All files of the checkpoint folder, copied and masked, if they changed since the last time.

        None also where they are being written at this moment, or are over the limit. The copies stay until
        the next call that returns some.
        """
        limit = self._limits.checkpoint_bytes
        settled = self._last_live is not None  # nothing runs any more that could write
        return self._checkpoints.changed(limit_bytes=limit, mask=self._masker.mask, settled=settled)

    def run(self) -> Outcome:
        """Run the job to its end, whatever that is. Nothing of it runs any more on return."""
        self._started_at, self._begun = self._now(), time.monotonic()
        try:
            self._open()
        except OSError as error:
            return self._refusal(f"the job's folder could not be made: {error}")
        try:
            return self._run()
        except OSError as error:
            return self._refusal(f"the job could not be run: {error}")
        except Exception as error:  # a mistake of ours; here the secrets are known, and it is told masked
            name = type(error).__name__
            logger.error(
                "attempt %s of %s failed: %s", self._assignment.attempt, self._assignment.spec.job_id, name
            )
            return self._refusal(f"the daemon failed: {name}: {error}")
        finally:
            self._close()

    def _open(self) -> None:
        self._workspace.prepare(self._token)
        with self._lock:
            self._log = Log(self._workspace.log)
            self._alarm = Alarm()
            if self._stop is not None:
                self._alarm.ring()

    def _close(self) -> None:
        end_marked(self._token)
        if self._packages is not None:
            self._packages.close()
        last = self.live()
        with self._lock:
            self._last_live = last
            if self._log is not None:
                self._log.close()
            if self._alarm is not None:
                self._alarm.close()
            self._log = self._alarm = None

    def _run(self) -> Outcome:
        assert self._log is not None
        assert self._alarm is not None
        spec, workspace = self._assignment.spec, self._workspace
        gpu = describe_gpu({**self._environment, **dict(spec.env)}.get("CUDA_VISIBLE_DEVICES"))
        meter = MemoryMeter(has_gpu=gpu is not None)
        watch = Watch(
            deadline=self._begun + spec.timeout_s,
            alarm=self._alarm,
            is_stopped=lambda: self._stop is not None,
            tick=lambda child: self._tick(meter, child),
            grace_s=lambda: 0.0 if self._stop is Stop.FENCED else self._limits.grace_s,
            stuck_s=self._limits.stuck_s,
            stood_s=lambda: 0.0 if self._debugged is None else self._debugged.stood_s(),
        )
        harvest = Harvest(self._assignment, workspace, self._limits, self._masker)
        python, verdict = self._interpreter(watch)
        verdict = verdict or judge_early(watch.ending(), stop=self._stop, timeout_s=spec.timeout_s)
        if verdict is None:
            environment = job_environment(
                self._assignment, workspace, self._environment, python=python, token=self._token
            )
            self._packages = PackageList(
                python, cache=self._envs_dir / "packages", environment=self._environment
            )
            self._packages.start()
            if spec.cell is None:
                verdict = self._run_command(environment, watch=watch, meter=meter, harvest=harvest)
            else:
                verdict = self._run_cell(environment, python, watch=watch, meter=meter, harvest=harvest)
        return self._finish(verdict, meter=meter, gpu=gpu, harvest=harvest)

    def _tick(self, meter: MemoryMeter, child: Child) -> float:
        assert self._log is not None
        limits = self._limits
        self._log.limit_disk(limits.log_on_disk_bytes, head_bytes=limits.log_bytes)
        # What a GPU's memory has more of from then on may be the next job's.
        return _HELD_TICK_S if self._was_held else meter.tick(child)

    def _interpreter(self, watch: Watch) -> tuple[Path, Verdict | None]:
        """The interpreter for the job; a verdict where there is none because installing failed."""
        assert self._log is not None
        job, spec = self._assignment, self._assignment.spec
        if job.requirements is None:
            return job.python, None
        self._phase = Phase.INSTALLING
        environment = job_environment(
            job, self._workspace, self._environment, python=job.python, token=self._token
        )
        envs, log, token = self._envs_dir, self._log, self._token
        installer = Installer(
            envs, cwd=job.checkout, environment=environment, token=token, log=log, watch=watch
        )
        overlay = installer.install(job.requirements, python=job.python, code=job.code or spec.code or "")
        self._phase = Phase.STARTING
        if overlay.python is not None:
            return overlay.python, None
        return job.python, judge_install(
            overlay.end, self._masker.mask_text(overlay.problem), stop=self._stop, timeout_s=spec.timeout_s
        )

    def _run_command(
        self, environment: Mapping[str, str], *, watch: Watch, meter: MemoryMeter, harvest: Harvest
    ) -> Verdict:
        assert self._log is not None
        spec, checkout = self._assignment.spec, self._assignment.checkout
        for name, (kind, path) in self._assignment.inputs.items():
            shutil.copyfile(path, self._workspace.inputs / f"{name}{suffix_of(Kind(kind))}")
        end = self._end_of_command(environment, watch=watch, meter=meter)
        self._phase = Phase.SAVING
        harvest.notes += describe_visits(self._workspace.guest / VISITS)
        # All that a reason is made of is masked first: a secret across its cut would show its half.
        tail = self._masker.mask_text(self._log.end(_TRACEBACK_BYTES).decode("utf-8", "replace"))
        verdict = judge_command(
            end, stop=self._stop, timeout_s=spec.timeout_s, log_tail=tail, checkout=str(checkout)
        )
        if verdict.verb is Verb.SUCCEED:
            harvest.take_left()
            verdict = refuse_missing(verdict, self._masker.mask_values(harvest.missing))
        return verdict

    def _end_of_command(self, environment: Mapping[str, str], *, watch: Watch, meter: MemoryMeter) -> End:
        assert self._log is not None
        log, token, job = self._log, self._token, self._assignment
        script = script_job_of(job, self._workspace, self._limits, log=log)
        if script is not None:
            run = ScriptRun(script, log=log, watch=watch, meter=meter, entered=self._enter)
            self._debugged = run
            return run.run(environment=environment, own_environment=self._environment, token=token)
        self._phase = Phase.RUNNING
        command, cwd = job.spec.command or "", job.checkout
        return run_command(
            command, cwd=cwd, environment=environment, token=token, log=log, watch=watch, meter=meter
        )

    def _run_cell(
        self,
        environment: Mapping[str, str],
        python: Path,
        *,
        watch: Watch,
        meter: MemoryMeter,
        harvest: Harvest,
    ) -> Verdict:
        assert self._log is not None
        spec, workspace = self._assignment.spec, self._workspace
        job = cell_job_of(self._assignment, workspace, self._limits)
        run = CellRun(job, log=self._log, view=self._view, watch=watch, meter=meter, entered=self._enter)
        self._debugged = run
        end = run.run(python=python, environment=environment, token=self._token)
        self._phase = Phase.SAVING
        outputs, execution_count, widgets = self._view.all()
        outputs, saved = self._masker.mask_all(outputs), end.saved
        end = map_texts(end, self._masker.mask_values)
        errors = [output for output in outputs if output["output_type"] == "error"]
        if end.report.get("leaving") == 0:
            outputs = [output for output in outputs if output.get("ename") != "SystemExit"]
        harvest.notes += describe_visits(workspace.guest / VISITS)
        if saved:
            harvest.take_saved(saved.get("saved", {}))
        elif spec.outputs:
            harvest.take_saved({})
        verdict = judge_cell(
            end,
            stop=self._stop,
            timeout_s=spec.timeout_s,
            error=errors[-1] if errors else None,
            missing=self._masker.mask_values(harvest.missing),
            checkout=str(self._assignment.checkout),
            source=self._masker.mask_text(job.source),
        )
        if verdict.failure is not None and verdict.failure.type == "KernelDied":
            text = f"{verdict.reason}\n{end.crash}"
            outputs.append({"output_type": "stream", "name": "stderr", "text": text})
        harvest.take_notebook(
            outputs,
            parameters=job.parameters,
            execution_count=execution_count,
            widgets=widgets,
            python_version=str(describe_machine()["python"]),
        )
        for told in (end.report.get("memory"), end.saved.get("memory")):
            meter.take_guest(told or {})
        return verdict

    def _finish(
        self, verdict: Verdict, *, meter: MemoryMeter, gpu: Mapping[str, Any] | None, harvest: Harvest
    ) -> Outcome:
        assert self._log is not None
        self._phase = Phase.SAVING
        verdict = blame_disk(verdict, free_bytes=free_bytes(self._assignment.scratch))
        ended_at, duration_s = self._now(), time.monotonic() - self._begun
        harvest.take_artifacts()
        log_bytes = harvest.take_log(self._log)
        packages = self._packages.finish() if self._packages is not None else None
        packages = None if packages is None else self._masker.mask(packages)
        spec = self._assignment.spec
        record = Record(
            job_id=spec.job_id,
            name=spec.name,
            attempt=self._assignment.attempt,
            worker=self._assignment.worker,
            state=TRANSITIONS[State.RUNNING][verdict.verb].value,
            exit_code=verdict.exit_code,
            failure=verdict.failure,
            started_at=self._started_at,
            ended_at=ended_at,
            duration_s=duration_s,
            machine=describe_machine(),
            gpu=gpu,
            environment=None if packages is None else digest_of(packages),
            peak_host_bytes=meter.peak_host_bytes,
            peak_gpu_bytes=meter.peak_gpu_bytes,
            code=self._assignment.code or spec.code or "",
            outputs=tuple(harvest.variables),
            artifacts=tuple(harvest.artifacts),
            log_bytes=log_bytes,
            notes=(
                *verdict.notes,
                *harvest.notes,
                *self._checkpoints.notes(limit_bytes=self._limits.checkpoint_bytes),
            ),
        )
        return Outcome(
            verb=verdict.verb,
            reason=self._masker.mask_text(verdict.reason),
            record=self._masked(record),
            files=harvest.files,
            environment_text=packages,
        )

    def _masked(self, record: Record) -> Record:
        # Its texts one by one: in the JSON as a whole, digits that are a secret can stand in any number.
        return from_json(json.dumps(self._masker.mask_values(json.loads(to_json(record)))).encode())

    def _refusal(self, reason: str) -> Outcome:
        spec, number = self._assignment.spec, self._assignment.attempt
        why = self._stop or self._masker.mask_text(reason)
        return refuse(spec, number, why, worker=self._assignment.worker)

    def _enter(self, phase: Phase, held: str, left_s: float) -> None:
        until = self._now() + left_s if phase is Phase.HELD else None
        self._held = one_line(self._masker.mask_text(held)), until
        before, self._phase = self._phase, phase
        if Phase.HELD in (before, phase):
            self._was_held = True
            self._moved()

    def _look(self, tail: str, progress: Progress | None) -> Live:
        return Live(
            phase=self._phase,
            started_at=self._started_at,
            elapsed_s=time.monotonic() - self._begun,
            progress=progress,
            log_tail=tail,
            outputs=self._sight.outputs(),
            held=self._held[0],
            held_until=self._held[1],
        )
