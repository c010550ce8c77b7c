"""What magics and terminal have in common: parsed arguments in, something that displays itself out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colab_magics import options, queue, sync
from colab_magics.display.attempts import describe_earlier, describe_record
from colab_magics.display.formats import format_count
from colab_magics.display.hints import typed
from colab_magics.display.live import Renderable
from colab_magics.display.rows import silent_workers, told_silence
from colab_magics.display.watching import Lines, Screen
from colab_magics.errors import JobFailedError, UsageError
from colab_magics.handles import JobHandle, has_failed, requeue
from colab_magics.job_set import JobSet
from colab_magics.jobs.plan import Job
from colab_magics.jobs.select import select_jobs
from colab_magics.jobs.state import State
from colab_magics.posix import need_posix
from colab_magics.settings import Settings
from colab_magics.store.base import View
from colab_magics.store.git import Repository
from colab_magics.store.locate import Queue, all_queues, find_project, local_queue, remote_queue
from colab_magics.store.results import read_earlier, read_record

FOLLOW_S = 1.0


@dataclass(slots=True)
class Desk:
    """Where a person sits: a folder, settings, a notebook's variables, and what this process has open.

    `awaited` are the ids of jobs queued here whose results did not come yet. `namespace` is None in a
    terminal. `opened` keeps the queues, whose stores remember what they have read; `known` is the project
    that was found last. `screen` makes what shows the progress of a command.
    """

    folder: Path
    settings: Settings
    namespace: MutableMapping[str, Any] | None = None
    awaited: set[str] = field(default_factory=set)
    opened: dict[tuple[Path, Path, str], Queue] = field(default_factory=dict)
    known: Repository | None = None
    screen: Callable[[], Screen] = Screen

    def project(self) -> Repository:
        """The project that the folder is in.

        Raises:
            NoRepositoryError: there is none.
        """
        self.known = find_project(self.folder, known=self.known)
        return self.known

    def queues(self, arguments: argparse.Namespace) -> tuple[Repository, list[Queue]]:
        """The project, and the queues that `--local` and `--remote` leave.

        Raises:
            NoRepositoryError, NoRemoteError: there is none.
        """
        repository = self.project()
        wanted = arguments.remote or self.settings.remote
        if arguments.local:
            local = local_queue(repository)
            if local is None:
                does = "%%colab_queue" if self.namespace is not None else typed("queue", magics=False)
                raise UsageError(f"nothing was queued on this machine yet: {does} --local does")
            found = [local]
        elif arguments.remote:
            found = [remote_queue(repository, wanted, branch=self.settings.branch)]
        else:
            found = all_queues(repository, wanted, branch=self.settings.branch)
        return repository, [self._kept(repository, each) for each in found]

    def queue_to(self, arguments: argparse.Namespace) -> tuple[Repository, Queue]:
        """The project, and the queue that a new job goes to. `--local` starts a daemon here if none runs.

        Raises:
            NoRepositoryError, NoRemoteError: there is none.
        """
        repository = self.project()
        if not arguments.local:
            wanted = arguments.remote or self.settings.remote
            return repository, self._kept(
                repository, remote_queue(repository, wanted, branch=self.settings.branch)
            )
        start_local_worker(repository)
        local = local_queue(repository)
        if local is None:
            raise UsageError("the queue on this machine could not be made")
        return repository, self._kept(repository, local)

    def _kept(self, repository: Repository, found: Queue) -> Queue:
        """The same queue as before: a store remembers what it has read."""
        key = (repository.common_dir, found.folder, found.remote)
        return self.opened.setdefault(key, found)


def no_more(words: Sequence[str], *, after: str, hint: str = "") -> None:
    """Refuse words that a verb has no use for. UsageError: there are some."""
    if words:
        raise UsageError(f"{after} does not know what {words[0]!r} is for{hint}")


def start_local_worker(repository: Repository) -> None:
    """Have a daemon run the queue on this machine. UsageError: it is Windows."""
    need_posix("a daemon on this machine")
    from colab_magics.embedded import ensure_runtime

    ensure_runtime(repository)


def run_queue(desk: Desk, arguments: argparse.Namespace, cell: str | None) -> Renderable:
    """`queue`: the table, one of its verbs, or new jobs.

    Raises:
        JobFailedError: `--wait`, and a job did not succeed: as the cell would have failed here. What it left
            has been shown and set all the same.
        ColabError: it cannot be done; the message says why, and what to do.
    """
    options.check_verb(arguments)
    if cell is not None and arguments.verb:
        raise UsageError(
            f"{arguments.verb} takes no cell: write it as a line, "
            f"{typed('queue', magics=desk.namespace is not None)} {arguments.verb} …"
        )
    if cell is None and arguments.command is None:
        return _run_verb(desk, arguments)
    request = options.read_request(arguments)
    if request.inputs and desk.namespace is None:
        raise UsageError(
            "--in sends variables of a notebook, and a terminal has none: write them into a file"
        )
    if arguments.dry_run:
        return _dry_run(desk, arguments, request, cell)
    queue.check_source(cell, request.command)
    repository, target = desk.queue_to(arguments)
    prepared = _prepare(desk, repository, request, cell, remote=target.label)
    handle = queue.submit(target, prepared)
    desk.awaited |= {spec.job_id for spec in prepared.specs}
    if not arguments.wait:
        return handle
    asked = sync.SyncOptions(
        selectors=tuple(spec.job_id for spec in prepared.specs), allow_pickle=arguments.pickle
    )
    report = _sync(desk, repository, [target], asked).watch(pause_s=desk.settings.watch_s)
    if report.failed:
        desk.screen().update(report)
        raise JobFailedError(
            f"{len(report.failed)} of {format_count(len(prepared.specs), 'job')} did not succeed: "
            f"{', '.join(report.failed[:3])}{' …' if len(report.failed) > 3 else ''}"
        )
    return report


def run_sync(desk: Desk, arguments: argparse.Namespace) -> Renderable:
    """`sync`: bring what is new, or go on doing so.

    Raises:
        ColabError: it cannot be done; the message says why, and what to do.
    """
    repository, queues = desk.queues(arguments)
    into = Path(arguments.into).expanduser() if arguments.into else None
    asked = sync.SyncOptions(
        selectors=tuple(arguments.jobs),
        into=desk.folder / into if into else None,
        variables=not arguments.no_vars,
        allow_pickle=arguments.pickle,
        everything=arguments.all,
    )
    if any(each.is_local and _is_open(each.store.view()) for each in queues):
        start_local_worker(repository)
    running = _sync(desk, repository, queues, asked)
    return running.watch(pause_s=desk.settings.watch_s) if arguments.watch else running.once()


def _run_verb(desk: Desk, arguments: argparse.Namespace) -> Renderable:
    _, queues = desk.queues(arguments)
    looks, notes = [], []
    for each in queues:
        view, note = sync.look_at(each)
        looks.append((each, view))
        notes += [note] if note else []
    if arguments.verb is None:
        for _, view in looks if not notes else []:
            silent = silent_workers(view, now=time.time())
            notes += [told_silence(worker, silent_s) for worker, silent_s in silent.items()]
        return queue.table(looks, notes=notes)
    if arguments.failed:
        repeated = {job.spec.retry_of for _, view in looks for job in view.jobs if job.spec}
        failed = [(each, job) for each, view in looks for job in view.jobs if has_failed(job)]
        chosen = [(each, job) for each, job in failed if job.job_id not in repeated]
        if not chosen:
            again = "every job that failed was queued again already" if failed else "no job failed"
            raise UsageError(f"{again}: there is nothing to run again")
    else:
        everywhere = [(each, job) for each, view in looks for job in view.jobs]
        ids = {job.job_id for job in _meant([job for _, job in everywhere], arguments)}
        chosen = [(each, job) for each, job in everywhere if job.job_id in ids]
    match arguments.verb:
        case "cancel":
            return _cancel(chosen)
        case "retry":
            return _retry(desk, chosen)
        case "logs":
            return _logs(desk, chosen, follow=arguments.follow)
        case _:
            return _show(chosen, {id(each): view for each, view in looks})


def _meant(jobs: Sequence[Job], arguments: argparse.Namespace) -> list[Job]:
    """The jobs that the person names; to be cancelled, rather one that is open than one that is over."""
    open_jobs = [job for job in jobs if not job.state.is_final]
    if arguments.verb == "cancel":
        try:
            return select_jobs(open_jobs, arguments.jobs)
        except UsageError:
            pass  # it is over, or there is none: what is said of all jobs says so
    return select_jobs(jobs, arguments.jobs)


Chosen = Sequence[tuple[Queue, Job]]


def _cancel(chosen: Chosen) -> Renderable:
    lines = [f"{job.job_id} is {job.state.state} already" for _, job in chosen if job.state.is_final]
    for target, jobs in _by_queue([(each, job) for each, job in chosen if not job.state.is_final]):
        receipt = target.store.cancel([job.job_id for job in jobs])
        waits = "" if receipt.pushed else f"; the wish waits on this machine: {receipt.reason}"
        lines += [f"asked {job.job_id} to stop{waits}" for job in jobs]
    return Lines(tuple(lines))


def _retry(desk: Desk, chosen: Chosen) -> Renderable:
    handles: list[JobHandle] = []
    target = chosen[0][0]
    for target, jobs in _by_queue(chosen):
        handles += requeue(target, jobs)
    desk.awaited |= {handle.job_id for handle in handles}
    return handles[0] if len(handles) == 1 else JobSet(target, handles)


def _logs(desk: Desk, chosen: Chosen, *, follow: bool) -> Renderable:
    if len(chosen) > 1:
        told = ", ".join(job.job_id for _, job in chosen[:5])
        raise UsageError(f"logs shows one job; these are {len(chosen)}: {told}")
    handle = JobHandle(*chosen[0])
    if follow:
        return _follow(handle, desk.screen(), sleep=time.sleep)
    return handle.logs()


def _follow(handle: JobHandle, screen: Screen, *, sleep: Callable[[float], None]) -> Renderable:
    """Show the log in place until the job is done. An interrupt only ends the following."""
    try:
        while True:
            log = handle.logs()
            screen.update(log)
            if handle.is_done:
                break
            sleep(FOLLOW_S)
            handle.refresh()
    except KeyboardInterrupt:
        return Lines((f"stopped following {handle.job_id}; it goes on",))
    finally:
        screen.close()
    return handle


def _show(chosen: Chosen, views: Mapping[int, View]) -> Renderable:
    handles = []
    for each, job in chosen:
        notes = _describe(each, job) if len(chosen) == 1 else ()
        waits = job.job_id in views[id(each)].waiting
        handles.append(JobHandle(each, job, notes=notes, is_waiting=waits))
    return handles[0] if len(handles) == 1 else JobSet(chosen[0][0], handles)


def _describe(where: Queue, job: Job) -> tuple[str, ...]:
    record = read_record(where.store, job.job_id)
    earlier = tuple(map(describe_earlier, read_earlier(where.store, job.job_id)))
    return (*earlier, *(describe_record(record) if record else ()))


def _dry_run(desk: Desk, arguments: argparse.Namespace, request: Any, cell: str | None) -> Renderable:
    repository = desk.project()
    if arguments.local:
        label, address = "local", "this machine"
    else:
        wanted = arguments.remote or desk.settings.remote
        target = remote_queue(repository, wanted, branch=desk.settings.branch)
        label, address = target.label, target.address
    prepared = _prepare(desk, repository, request, cell, remote=label)
    return queue.dry_run(repository, address, prepared)


def _prepare(
    desk: Desk, repository: Repository, request: Any, cell: str | None, *, remote: str
) -> queue.Prepared:
    return queue.prepare(
        repository,
        request,
        cell=cell,
        namespace=desk.namespace or {},
        settings=desk.settings,
        remote=remote,
        folder=desk.folder,
    )


def _sync(desk: Desk, repository: Repository, queues: Sequence[Queue], asked: sync.SyncOptions) -> sync.Sync:
    work_tree = repository.work_tree
    if work_tree is None:
        raise UsageError(f"{repository.git_dir} has no work tree to bring results to")
    return sync.Sync(
        queues,
        asked,
        work_tree=work_tree,
        namespace=desk.namespace,
        awaited=desk.awaited,
        screen=desk.screen(),
    )


def _is_open(view: View) -> bool:
    return any(job.state.state in (State.QUEUED, State.RUNNING) for job in view.jobs)


def _by_queue(chosen: Chosen) -> list[tuple[Queue, list[Job]]]:
    queues = list({id(each): each for each, _ in chosen}.values())
    return [(target, [job for each, job in chosen if each is target]) for target in queues]
