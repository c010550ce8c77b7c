"""`tunnel job`, for magics and terminal alike: a job that runs, as a kernel, behind F5, or in passing."""

from __future__ import annotations

import argparse
import atexit
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from colab_kernel.runtime import Runtime
from colab_magics.commands import Desk
from colab_magics.display.handles import JobCard
from colab_magics.display.live import Renderable
from colab_magics.display.watching import Lines
from colab_magics.errors import UsageError
from colab_magics.project_commands import tell
from colab_magics.tunnel import jobs, launch_json
from colab_magics.tunnel.editor_port import EditorPort
from colab_magics.tunnel.session import is_open, the_session

VSCODE = "VSCODE_PID"
"""What VS Code sets for the kernels of its notebooks.

Source: https://github.com/tqdm/tqdm/blob/master/tqdm/autonotebook.py, which tells them by it
"""


def _job(desk: Desk, arguments: argparse.Namespace, rest: list[str]) -> Renderable:
    if len(rest) != 1:
        raise UsageError("job needs the id of a job that runs, or the beginning of one")
    reached, runtime = the_session(arguments.name)
    if arguments.look:
        return Lines(tuple(jobs.look_at(runtime, rest[0]).splitlines()))
    if arguments.evaluate:
        return Lines(tuple(jobs.evaluate(runtime, rest[0], arguments.evaluate).splitlines()))
    project = desk.project().work_tree or desk.folder
    visit = jobs.open_job(reached, runtime, rest[0], project=project, pause=arguments.pause)
    notes = [f"Its kernel is {visit.display_name!r}, in every kernel picker."]
    is_notebook = desk.namespace is not None
    if arguments.vscode or (is_notebook and VSCODE in os.environ):
        port = _listen(runtime, visit, project)
        where = (
            f"F5 in VS Code attaches: choose “{visit.display_name}” under Run and Debug "
            f"({launch_json.FILE} has it, port {port.port})."
        )
        if not is_notebook:
            return _wait(port, visit, where)
        atexit.register(port.close)
        notes.append(where)
    return JobCard(
        name=visit.name,
        job_id=visit.job_id,
        state="running",
        notes=tuple(notes),
        next_step="JupyterLab's debugger shows where it stands; cells are evaluated there.",
    )


def _listen(session: Runtime, visit: jobs.Visit, project: Path) -> EditorPort:
    """Have a port for the editor, the one of last time if that is free, and the entry that leads to it."""
    name, watch = visit.display_name, jobs.JobWatch(session, visit.job_id)
    known = launch_json.known_port(project, name)

    def is_wanted() -> bool:
        return launch_json.known_port(project, name) == port.port and is_open(visit.reached) and watch.runs()

    try:
        port = EditorPort(visit.runtime, port=known, say=tell, is_wanted=is_wanted, at_end=watch.close)
    except UsageError:
        port = EditorPort(visit.runtime, say=tell, is_wanted=is_wanted, at_end=watch.close)
    try:
        launch_json.write_entry(project, launch_json.entry(name, port=port.port))
    except BaseException:
        port.close()
        raise
    port.begin()
    return port


def _wait(port: EditorPort, visit: jobs.Visit, where: str) -> Lines:
    try:
        tell(f"{where} Ctrl-C closes the port; the job goes on.")
        port.wait()
    except KeyboardInterrupt:
        return Lines((f"Port {port.port} is closed.",))
    finally:
        port.close()
    return Lines((f"{visit.name} is over, and port {port.port} is closed.",))


VERBS: Mapping[str, Callable[[Desk, argparse.Namespace, list[str]], Any]] = {"job": _job}
