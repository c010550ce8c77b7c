"""One loop over the frontends' sockets and the link: read, let the relay decide, send, act."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections import deque
from pathlib import Path
from types import FrameType

import zmq

from colab_kernel.background import Background
from colab_kernel.clock import steady_unix_clock
from colab_kernel.errors import MalformedError, UnframeableError
from colab_kernel.frontend import Frontend
from colab_kernel.frontend_outbox import ToFrontend
from colab_kernel.link_keeper import Carrier, Closed, KernelLost, LinkKeeper, NoKernel, Opened
from colab_kernel.messages import Channel
from colab_kernel.relay import Relay
from colab_kernel.relay_events import Connect, Dropped, InterruptKernel, KernelDied, Shutdown

_log = logging.getLogger(__name__)

BACKLOG_BYTES = 64 * 2**20
"""How much may wait for the link before frontends are no longer listened to on shell."""

IN_FLIGHT = 10_000
"""How many requests may be in flight before that."""

LINK_BYTES = 2**18
"""How much is handed to the link at a time: what it has taken, control can no longer overtake."""

AT_ONCE = 100
"""How many messages of a frontend are taken in one round, before it is the link's turn again."""

TICK_S = 0.25
STUCK_S = 0.005
"""How soon a frontend that does not read is tried again. ZeroMQ cannot say when it reads."""

END_S = 1.2
"""What is left for the remote kernel's deletion: clients allow 2.5 s or more for all of an end.

Source: https://github.com/jupyter/jupyter_client/blob/main/jupyter_client/manager.py (shutdown_wait_time 5 s,
SIGTERM after half of it)
"""

LINGER_S = 1.0
"""How long the last messages may take to leave."""

_READ, _WRITE = int(zmq.POLLIN), int(zmq.POLLOUT)  # as enums they cost ten times as much, at every turn


class Loop:
    """One proxy kernel, from its first message to its last.

    Args:
        frontend: bound already.
        runtime_name: the registry's name for where the remote kernel is to be; None for the current one.
    """

    def __init__(self, frontend: Frontend, *, runtime_name: str | None) -> None:
        self._clock = steady_unix_clock()
        self._frontend = frontend
        self._runtime_name = runtime_name
        self._background = Background()
        self._relay = Relay(session=uuid.uuid4().hex)
        self._keeper = LinkKeeper(session_id=uuid.uuid4().hex, background=self._background, clock=self._clock)
        self._poller = zmq.Poller()
        self._stuck: deque[ToFrontend] = deque()
        self._polled: tuple[Carrier | None, int] = (None, 0)
        self._link_fd = -1
        self._listens = True
        self._ticked_at = 0.0
        self._last_words: str | None = None
        self._is_over = False
        self._interrupts = 0
        self._terminated = False

    # --- the loop ----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end; return the exit code."""
        self._catch_signals()
        sockets = self._frontend.sockets()
        outcomes = self._background.fileno()
        self._poller.register(outcomes, _READ)
        for channel in (Channel.CONTROL, Channel.STDIN, Channel.IOPUB, Channel.SHELL):
            self._poller.register(sockets[channel], _READ)
        self._keeper.connect(self._runtime_name, folder=Path.cwd())
        while not self._is_over:
            self._poll_shell(sockets[Channel.SHELL])
            self._poll_link()
            ready = dict(self._poller.poll(self._patience_ms()))
            if outcomes in ready:
                self._background.run_outcomes()
                # A new link has messages already: the relay must know of the link before it sees them.
                self._follow_link()
            if sockets[Channel.IOPUB] in ready and self._frontend.take_subscriptions():
                self._relay.subscribed()
            for channel in (Channel.CONTROL, Channel.STDIN, Channel.SHELL):
                if ready.get(sockets[channel]):
                    self._receive_frontend(channel)
            self._receive_remote(ready)
            self._tick()
            self._act()
        return self._end()

    def _patience_ms(self) -> int:
        link = self._keeper.link
        if self._stuck:
            return int(STUCK_S * 1000)
        return 0 if link is not None and link.has_more else int(TICK_S * 1000)

    def _poll_shell(self, shell: zmq.Socket[bytes]) -> None:
        """Poll shell while there is room for what is asked there."""
        listens = self._relay.queued_bytes < BACKLOG_BYTES and self._relay.in_flight < IN_FLIGHT
        if listens is not self._listens:
            self._listens = listens
            self._poller.modify(shell, _READ if listens else 0)

    def _poll_link(self) -> None:
        """Poll the link that there is, for what it needs: not for reading while a frontend does not read."""
        link, flags = self._keeper.link, 0
        if link is not None:
            flags = (0 if self._stuck else _READ) | (_WRITE if link.wants_write else 0)
        if self._polled == (link, flags):
            return
        if self._polled[1]:
            self._poller.unregister(self._link_fd)
        if link is not None and flags:
            self._link_fd = link.fileno()
            self._poller.register(self._link_fd, flags)
        self._polled = link, flags

    def _receive_frontend(self, channel: Channel) -> None:
        now = self._clock()
        for identities, message in self._frontend.receive(channel, limit=AT_ONCE):
            try:
                self._relay.receive_frontend(message, identities=identities, now=now)
            except MalformedError as error:
                _log.warning("%s", error)

    def _receive_remote(self, ready: dict[object, int]) -> None:
        link = self._keeper.link
        if link is None or self._stuck:
            return
        if ready.get(self._link_fd, 0) & _READ or link.has_more:
            now = self._clock()
            for message in self._keeper.receive():
                try:
                    self._relay.receive_remote(message, now=now)
                except MalformedError as error:
                    _log.warning("%s", error)

    def _tick(self) -> None:
        now = self._clock()
        if now - self._ticked_at >= TICK_S:
            self._ticked_at = now
            self._keeper.tick()
            self._relay.tick(now=now)
            self._watch_parent()

    # --- what is due -------------------------------------------------------------------------------------

    def _act(self) -> None:
        self._follow_signals()
        self._follow_link()
        self._follow_relay()
        self._send_remote()
        self._send_frontend()

    def _follow_link(self) -> None:
        for event in self._keeper.events():
            match event:
                case Opened(terms):
                    self._relay.link_opened(terms=terms, now=self._clock())
                case Closed():
                    self._relay.link_closed()
                case NoKernel(sentence):
                    self._relay.unreachable(sentence, now=self._clock())
                case KernelLost(sentence):
                    self._relay.kernel_died(sentence, now=self._clock())

    def _follow_relay(self) -> None:
        for event in self._relay.events():
            match event:
                case Connect():
                    self._keeper.connect(self._runtime_name, folder=Path.cwd())
                case InterruptKernel():
                    self._keeper.interrupt(lambda error: self._relay.interrupted(error, now=self._clock()))
                case Shutdown():
                    self._is_over = True
                case KernelDied(sentence):
                    self._is_over, self._last_words = True, sentence
                case Dropped(sentence):
                    _log.info("%s", sentence)

    def _send_remote(self) -> None:
        link = self._keeper.link
        if link is None:
            return
        while link.unsent_bytes < LINK_BYTES and (message := self._relay.next_to_remote()) is not None:
            try:
                link.send(message)
            except UnframeableError as error:
                self._relay.unsendable(message, str(error), now=self._clock())
        link.flush()

    def _send_frontend(self) -> None:
        due = self._relay.to_frontend(now=self._clock())
        was_stuck = bool(self._stuck)
        while self._stuck and self._send(self._stuck[0]):
            self._stuck.popleft()
        for item in due:
            is_behind = bool(self._stuck) and item.message.channel is Channel.IOPUB
            if is_behind or not self._send(item):
                self._stuck.append(item)
        if was_stuck != bool(self._stuck):
            self._keeper.pause(bool(self._stuck))

    def _send(self, item: ToFrontend) -> bool:
        return self._frontend.send(item.message, identities=item.identities)

    # --- the end -----------------------------------------------------------------------------------------

    def _end(self) -> int:
        self._send_frontend()
        self._keeper.end(timeout_s=END_S)
        self._send_frontend()
        self._frontend.close(linger_s=LINGER_S)
        if self._last_words is None:
            return 0
        sys.stderr.write(f"colab_kernel: {self._last_words}\n")
        return 1

    def _catch_signals(self) -> None:
        def on_interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1
            self._background.wake()

        def on_terminate(number: int, frame: FrameType | None) -> None:
            self._terminated = True
            self._background.wake()

        signal.signal(signal.SIGINT, on_interrupt)
        signal.signal(signal.SIGTERM, on_terminate)

    def _follow_signals(self) -> None:
        if self._terminated:
            self._is_over = True
        if self._interrupts:
            self._interrupts = 0
            self._relay.interrupt(now=self._clock())

    def _watch_parent(self) -> None:
        """End with the client that started this process, where it asked for that.

        Source: https://github.com/ipython/ipykernel/blob/main/ipykernel/parentpoller.py (JPY_PARENT_PID)
        """
        parent = os.environ.get("JPY_PARENT_PID", "")
        if parent.isdecimal() and int(parent) != 1 and os.name == "posix" and os.getppid() == 1:
            self._is_over = True
