"""Code evaluated in a job that stands still: in the innermost frame that knows its names. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Then = Callable[[Mapping[str, Any]], None]

GOES_ON = "the job runs: set a breakpoint, or pause it, and cells are evaluated where it stands"

_FRAMES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One piece of code.

    Attributes:
        ask_job: asks the job's debugger something, and gives the reply to the last argument.
        show: is given the value as text, or empty.
        fail: is given a sentence in its stead.
    """

    code: str
    ask_job: Callable[[str, Mapping[str, Any], Then], None]
    show: Callable[[str], None]
    fail: Callable[[str], None]

    def begin(self, *, thread: int | None) -> None:
        """Evaluate it in the frames of a thread that stands still."""

        def in_frames(reply: Mapping[str, Any]) -> None:
            frames = (reply.get("body") or {}).get("stackFrames") or []
            if frames:
                self._in_first_of([frame["id"] for frame in frames])
            else:
                self.fail(GOES_ON)

        self.ask_job("stackTrace", {"threadId": thread, "startFrame": 0, "levels": _FRAMES}, in_frames)

    def _in_first_of(self, frames: Sequence[int], before: str = "") -> None:
        """Where the first frame lacks a name, go on with the others."""

        def show(reply: Mapping[str, Any]) -> None:
            problem = "" if reply.get("success") else str(reply.get("message") or "it could not be evaluated")
            if problem and "NameError" in problem and len(frames) > 1:
                self._in_first_of(frames[1:], before or problem)
            elif problem:
                self.fail(before or problem)
            else:
                self.show(str((reply.get("body") or {}).get("result") or ""))

        self.ask_job("evaluate", {"expression": self.code, "frameId": frames[0], "context": "repl"}, show)
