"""How a job stands under its debugger: seen, told to whoever watches, ended when its time is over.

It is the same for a cell, whose kernel has the debugger, and for a command's script.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from colab_magics.daemon.assignment import Phase
from colab_magics.daemon.debugging import JobDebugger
from colab_magics.daemon.doors import Door, is_visited, open_door
from colab_magics.daemon.log import Log
from colab_magics.daemon.stops import Stand

_PHASES = {Stand.RUNS: Phase.RUNNING, Stand.PAUSED: Phase.PAUSED, Stand.HELD: Phase.HELD}

Enter = Callable[[Phase, str, float], None]


class Standing:
    """One job under its debugger, or without one.

    Args:
        door: what is told beside the job while it runs; None: nobody can find it.
    """

    def __init__(self, *, door: Door | None, log: Log) -> None:
        self.debugger: JobDebugger | None = None
        self._door, self._log = door, log

    def stood_s(self) -> float:
        """For how long the job has stood still; any thread may ask."""
        debugger = self.debugger
        return 0.0 if debugger is None else debugger.stops.stood_s(now=time.monotonic())

    def refuse(self, problem: str) -> None:
        """Say in the log why nobody can step into the job."""
        self._log.append(f"colab-magics: nobody can step into this job: {problem}\n".encode())

    def begin(self, debugger: JobDebugger, problem: str) -> None:
        """From now on there is a debugger, unless there was a problem."""
        if problem:
            self.refuse(problem)
        else:
            self.debugger = debugger

    def door(self) -> contextlib.AbstractContextManager[None]:
        """Have the job found from beside it until the block ends."""
        if self._door is None:
            return contextlib.nullcontext()
        capabilities = None if self.debugger is None else self.debugger.capabilities
        return open_door(replace(self._door, capabilities=capabilities))

    def follow(self, phase: Phase, *, is_ending: bool, enter: Enter) -> None:
        """See whether the job stopped or went on, and have one go on whose time is over.

        Args:
            phase: what is known of it; outside of running and standing still, nothing is told.
            is_ending: whether its end was asked for: then it stops nowhere, and no stop is told.
            enter: is told a new phase, the error where it is held, and the seconds until it goes on.
        """
        debugger = self.debugger
        if debugger is None:
            return
        if is_ending or debugger.stops.is_overdue(now=time.monotonic()):
            debugger.let_go()
        debugger.look_after(is_visited=self._is_visited)
        new = _PHASES[debugger.stops.stand]
        if new is phase or phase not in _PHASES.values() or (is_ending and new is not Phase.RUNNING):
            return
        said = debugger.describe() if new is Phase.HELD else ""
        if said:
            self._log.append(f"colab-magics: held at its failure\n{said}\n".encode("utf-8", "replace"))
        enter(new, said.splitlines()[-1] if said else "", debugger.stops.left_s(now=time.monotonic()))

    def _is_visited(self) -> bool:
        return self._door is not None and is_visited(self._door.job_id)
