"""One script on the machine under a debugger, seen and ended from here; F5 attaches by a port here."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from colab_kernel.messages import Buffer
from colab_kernel.runtime import Runtime
from colab_magics.errors import TunnelError, UsageError
from colab_magics.tunnel import loopback_peers
from colab_magics.tunnel.forward import Carrier, Forward
from colab_magics.tunnel.hand import Hand

READY_S = 90.0
FAREWELL_S = 3.0
"""How long the debugger's last words may take to arrive after the script's end."""

Write = Callable[[str, bytes], None]
"""Takes `stdout` or `stderr`, and what was written there."""


class DebuggedScript:
    """A script that waits there for a client, from `start` to its end.

    Attributes:
        hand: the helper kernel beside it.
        port: the port here that a debugger connects to; 0 before `start`.
    """

    def __init__(self, runtime: Runtime) -> None:
        """Reach the machine. TunnelError: it cannot be reached."""
        self.port = 0
        self._events: queue.SimpleQueue[tuple[Mapping[str, Any], tuple[Buffer, ...]]] = queue.SimpleQueue()
        self._carrier = Carrier()
        self._forward: Forward | None = None
        self.hand = Hand.open(runtime, on_event=self._take)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, script: str, arguments: Sequence[str], *, folder: str, port: int, write: Write) -> None:
        """Start it, and forward a port to its debugger.

        Args:
            script, folder: absolute, there: what is run, and where.
            port: the port here that is rather had, if it is free; 0 for any.
            write: gets what it writes before a debugger can attach.

        Raises:
            TunnelError: it ended before a debugger could attach, or did not begin.
        """
        self._carrier.begin(self.hand)
        self.hand.load("debug")
        guard = Path(loopback_peers.__file__).read_bytes()
        self.hand.ask("debug_start", buffers=[guard], script=script, arguments=list(arguments), folder=folder)
        deadline = time.monotonic() + READY_S
        while (event := self._next(write)) is None:
            if time.monotonic() > deadline:
                raise TunnelError(f"debugpy was not ready there in {READY_S:g} s")
        if event["debug"] == "ended":
            raise TunnelError(f"{script} could not be started under debugpy: it ended with {event['code']}")
        try:
            self._forward = Forward(lambda: self._carrier, there=event["port"], port=port)
        except UsageError:
            self._forward = Forward(lambda: self._carrier, there=event["port"])
        self.port = self._forward.port

    def wait(self, write: Write, *, note: Callable[[str], None]) -> int:
        """Pass on what it writes until it has ended; its exit code: 128 and the number, if a signal ended it.

        An interrupt here interrupts it there; a second one ends it.

        Raises:
            TunnelError: the connection was lost.
        """
        interrupts = 0
        while True:
            try:
                event = self._next(write)
            except KeyboardInterrupt:
                interrupts += 1
                note("Interrupted there; once more ends it." if interrupts == 1 else "Ended there.")
                self.hand.begin("debug_signal", kill=interrupts > 1)
                continue
            if event is not None:
                code = int(event["code"])
                return 128 - code if code < 0 else code

    def close(self) -> None:
        """End it if it still runs, and what leads there. A second time is no error."""
        deadline = time.monotonic() + FAREWELL_S
        while self._carrier.is_busy and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._forward is not None:
            self._forward.close()
        self._carrier.close()
        self.hand.close()

    def _take(self, content: Mapping[str, Any], buffers: Sequence[Buffer]) -> None:
        if "debug" in content:
            self._events.put((content, tuple(buffers)))
        else:
            self._carrier.take(content, buffers)

    def _next(self, write: Write) -> Mapping[str, Any] | None:
        """The next event that is no output; None if none came for a moment."""
        try:
            content, buffers = self._events.get(timeout=0.5)
        except queue.Empty:
            if self.hand.is_over:
                raise TunnelError(
                    "the connection to the machine was lost; the script there ends with its helper kernel"
                ) from None
            return None
        if content["debug"] != "output":
            return content
        data = bytes(buffers[0])
        write(content["stream"], data)
        self.hand.begin("debug_passed", count=len(data))
        return None
