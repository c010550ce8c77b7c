"""What an attempt came to: from how its process ended to the verb, the sentence and the failure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from colab_magics.daemon.assignment import Outcome, Phase, Stop
from colab_magics.daemon.endings import CellEnd, End, Ending, describe_exit, is_kill
from colab_magics.daemon.shown import strip_ansi
from colab_magics.daemon.tracebacks import find_crash, find_failure
from colab_magics.jobs.record import CELL, Failure, Record
from colab_magics.jobs.spec import JobSpec
from colab_magics.jobs.state import TRANSITIONS, State, Verb

_LIKELY_MEMORY = "the system's out-of-memory killer is the likely cause"
_REASON_CHARS = 300
_FULL_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verb, its reason in one sentence, and what is recorded of it."""

    verb: Verb
    reason: str
    exit_code: int | None = None
    failure: Failure | None = None
    notes: tuple[str, ...] = ()


def judge_command(end: End, *, stop: Stop | None, timeout_s: float, log_tail: str, checkout: str) -> Verdict:
    """The verdict on a command."""
    failure = find_failure(log_tail, checkout=checkout) if end.exit_code else None
    ended = _ended(end, stop=stop, timeout_s=timeout_s, failure=failure)
    if ended is not None:
        return ended
    notes = _left_over(end)
    if end.exit_code == 0:
        return Verdict(Verb.SUCCEED, "", 0, None, notes)
    said = describe_exit(end.exit_code)
    if failure is None:
        last = _last_line(log_tail)
        killed = is_kill(end.exit_code)
        message = f"the command ended with {said}" + (f"; {_LIKELY_MEMORY}" if killed else "")
        failure = Failure(type="ExitCode", message=message, out_of_memory=killed)
        reason = message if killed or not last else f"{message}: {last}"
        return Verdict(Verb.FAIL, one_line(reason), end.exit_code, failure, notes)
    return Verdict(Verb.FAIL, describe_failure(failure), end.exit_code, failure, notes)


def judge_cell(
    end: CellEnd,
    *,
    stop: Stop | None,
    timeout_s: float,
    error: Mapping[str, Any] | None,
    missing: Mapping[str, str],
    checkout: str,
    source: str,
) -> Verdict:
    """The verdict on a cell.

    Args:
        error: the content of the last error message that the cell showed.
        missing: output variables that could not be saved, name → why.
    """
    failure = _cell_failure(end, error)
    ended = _ended(end.end, stop=stop, timeout_s=timeout_s, failure=failure)
    if ended is not None:
        return ended
    notes = _left_over(end.end)
    if end.problem:
        return Verdict(Verb.FAIL, one_line(end.problem), None, Failure("KernelError", end.problem), notes)
    if end.died_while is not None:
        return _died(end, notes, checkout=checkout, source=source)
    leaving = end.report.get("leaving")
    # An error that was shown counts even if the kernel says "ok", which it does behind some magics.
    # Source: papermill 2.6, execute.py, raise_for_execution_errors
    failed = end.reply is None or end.reply.get("status") != "ok" or error is not None
    if failed and leaving != 0:
        failure = failure or Failure("KernelError", "the kernel did not say how the cell ended")
        return Verdict(Verb.FAIL, describe_failure(failure), leaving, failure, notes)
    if leaving == 0:
        notes = (*notes, "the cell left with exit()")
    return refuse_missing(Verdict(Verb.SUCCEED, "", leaving, None, notes), missing)


def judge_install(end: End | None, problem: str, *, stop: Stop | None, timeout_s: float) -> Verdict:
    """The verdict on a job whose requirements were not installed."""
    ended = None if end is None else _ended(end, stop=stop, timeout_s=timeout_s, failure=None)
    if ended is not None:
        return replace(ended, reason=f"{ended.reason}, while its requirements were installed")
    return Verdict(Verb.FAIL, one_line(problem), None, Failure("RequirementsError", problem))


def judge_early(ending: Ending | None, *, stop: Stop | None, timeout_s: float) -> Verdict | None:
    """The verdict on a job whose end was asked for before it began; None where it was not."""
    return _ended(End(0, ending), stop=stop, timeout_s=timeout_s, failure=None) if ending else None


def refuse_missing(verdict: Verdict, missing: Mapping[str, str]) -> Verdict:
    """A success without all the variables that were asked for is none."""
    if verdict.verb is not Verb.SUCCEED or not missing:
        return verdict
    names = ", ".join(missing)
    reason = f"{names} did not come back: {'; '.join(missing.values())}"
    failure = Failure("VariableError", reason)
    return Verdict(Verb.FAIL, one_line(reason), verdict.exit_code, failure, verdict.notes)


def blame_disk(verdict: Verdict, *, free_bytes: int | None) -> Verdict:
    """A failure on a full disk seldom says so: there was no room for the words."""
    if verdict.verb is not Verb.FAIL or free_bytes is None or free_bytes > _FULL_BYTES:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; the machine's disk is full")


def refuse(spec: JobSpec, attempt: int, why: Stop | str, *, worker: str) -> Outcome:
    """The outcome of an attempt that never ran.

    Args:
        why: who asked for its end; or the sentence that says why it failed.
    """
    match why:
        case Stop.CANCEL:
            verb, reason = Verb.CANCEL, "cancelled before it ran"
        case Stop.RELEASE:
            verb, reason = Verb.RELEASE, "the daemon ended before the job began"
        case Stop.FENCED:
            verb, reason = Verb.RELEASE, "another worker has the job by now"
        case _:
            verb, reason = Verb.FAIL, one_line(why)
    record = Record(
        job_id=spec.job_id,
        name=spec.name,
        attempt=attempt,
        worker=worker,
        state=TRANSITIONS[State.RUNNING][verb].value,
        failure=Failure("DaemonError", str(why)) if verb is Verb.FAIL else None,
        code=spec.code or "",
    )
    return Outcome(verb=verb, reason=reason, record=record, files={}, environment_text=None)


def describe_failure(failure: Failure) -> str:
    """A failure in one line, with the place in the person's code."""
    what = f"{failure.type}: {failure.message}" if failure.message else failure.type
    place = ""
    if failure.line is not None:
        where = (
            f"line {failure.line} of the cell" if failure.file == CELL else f"{failure.file}:{failure.line}"
        )
        place = f" ({where})"
    first = one_line(what, limit=_REASON_CHARS - len(place))
    label = (
        "out of memory: " if failure.out_of_memory and failure.type not in ("KernelDied", "ExitCode") else ""
    )
    return f"{label}{first}{place}"


def one_line(text: str, *, limit: int = _REASON_CHARS) -> str:
    """Text as one line of at most `limit` characters, without colours."""
    flat = " ".join(strip_ansi(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _ended(end: End, *, stop: Stop | None, timeout_s: float, failure: Failure | None) -> Verdict | None:
    if end.ending is None:
        return None
    notes = _left_over(end)
    if end.ignored_interrupt:
        notes = (*notes, "it ignored SIGINT and was killed after its grace")
    code = end.exit_code
    if end.ending is Ending.TIMED_OUT:
        return Verdict(Verb.TIME_OUT, f"stopped after its timeout of {timeout_s:g} s", code, failure, notes)
    match stop:
        case Stop.CANCEL:
            return Verdict(Verb.CANCEL, "cancelled while it ran", code, failure, notes)
        case Stop.FENCED:
            return Verdict(Verb.RELEASE, "another worker has the job by now", code, failure, notes)
    return Verdict(Verb.RELEASE, "the daemon ended before the job did", code, failure, notes)


def _left_over(end: End) -> tuple[str, ...]:
    if end.stuck:
        held = "a process" if end.stuck == 1 else f"{end.stuck} processes"
        told = f"{held} could not be ended: the machine's kernel holds it, and its memory is not free"
        return (told, *_left_over(replace(end, stuck=0)))
    if not end.left_over:
        return ()
    what = (
        "a process that it left behind was"
        if end.left_over == 1
        else f"{end.left_over} processes that it left behind were"
    )
    return (f"{what} ended",)


def _died(end: CellEnd, notes: tuple[str, ...], *, checkout: str, source: str) -> Verdict:
    code = end.end.exit_code
    killed = is_kill(code)
    while_ = {Phase.STARTING: "starting", Phase.SAVING: "saving the variables"}.get(
        end.died_while or Phase.RUNNING, "running the cell"
    )
    message = f"the kernel died while {while_}, with {describe_exit(code)}"
    message += f"; {_LIKELY_MEMORY}" if killed else ""
    file, line, function = find_crash(end.crash, checkout=checkout)
    failure = Failure(
        type="KernelDied",
        message=message,
        traceback=tuple(end.crash.splitlines()),
        file=file,
        line=line,
        source=_source_line(source, line) if file == CELL else None,
        function=function,
        out_of_memory=killed,
    )
    return Verdict(Verb.FAIL, describe_failure(failure).removeprefix("KernelDied: "), code, failure, notes)


def _cell_failure(end: CellEnd, error: Mapping[str, Any] | None) -> Failure | None:
    told = end.report.get("failure")
    if error is None and (told is None or (end.reply is not None and end.reply.get("status") == "ok")):
        return None
    shown = tuple(str(line) for line in (error or {}).get("traceback", ()))
    if told is None:
        said = error or {}
        return Failure(type=str(said.get("ename", "")), message=str(said.get("evalue", "")), traceback=shown)
    return Failure(**told, traceback=shown)


def _source_line(source: str, line: int | None) -> str | None:
    lines = source.splitlines()
    return lines[line - 1].strip() or None if line and line <= len(lines) else None


def _last_line(log_tail: str) -> str:
    lines = [line for line in strip_ansi(log_tail).split("\n") if line.strip()]
    return lines[-1].strip() if lines else ""
