"""A script's debugger as a kernel would present it: DAP on one side, a kernel's messages on the other. Pure.

debugpy in the script speaks DAP; whoever steps into a job speaks it as `debug_request` on control, with what
Jupyter adds to it. Any number of clients share the one session, which the daemon begins and nobody ends.

Source: https://microsoft.github.io/debug-adapter-protocol/specification;
https://jupyter-client.readthedocs.io/en/stable/messaging.html#debug-request; debugpy 1.8.22,
adapter/clients.py (which threads it pauses and continues), read 2026-11
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from colab_kernel import dap_messages
from colab_kernel.dap_messages import Dap
from colab_kernel.made_messages import WITHOUT_KERNEL, MessageMaker
from colab_kernel.messages import Message
from colab_magics.visit import dap_framing
from colab_magics.visit.asks import Ask, Identities
from colab_magics.visit.places import source_path

NO_DEBUGGER = "colabNoDebugger"
"""As in script_start.py, which imports nothing of ours."""

_ONCE = frozenset({"initialize", "attach", "configurationDone"})
_NEVER = frozenset({"launch", "disconnect", "terminate", "restart"})
_GONE = "the script's debugger is gone"
_BEGUN = "the daemon has begun the session of this script, and ends it"
_NO_CELLS = "a script has no cells"
_CELL = "<cell>"
"""What `dumpCell` answers, since a frontend that debugs a notebook does not go on without a path."""


@dataclass(slots=True)
class Due:
    """What is to be sent: to frontends (with whom), and to the debugger, as bytes."""

    to_frontend: list[tuple[Message, Identities]] = field(default_factory=list)
    to_debugger: bytes = b""


class ScriptSession:
    """The one session with a script's debugger, and all who talk to it.

    Args:
        session: of the messages made here, unique to this process.
        read_source: the text of a file by its path, None if it cannot be read.
    """

    def __init__(self, *, session: str, read_source: Callable[[str], str | None]) -> None:
        self._make = MessageMaker(session)
        self._read_source = read_source
        self._parser = dap_framing.Parser()
        self._due = Due()
        self._seq = 0
        self._waiting: dict[int, tuple[Ask, Dap]] = {}
        self._breakpoints: dict[str, list[Any]] = {}
        self._stopped: list[int] = []
        self._asked: set[str] = set()
        self._problem = ""
        self.is_gone = False
        """Whether nothing will come from the script any more."""

    def take_due(self) -> Due:
        """What is to be sent now."""
        due, self._due = self._due, Due()
        return due

    # --- from the debugger ---------------------------------------------------------------------------------

    def receive_debugger(self, data: bytes, *, now: float) -> None:
        """Bytes from the script; none: it has closed the line."""
        try:
            for message in self._parser.feed(data):
                self._message(message, now=now)
        except ValueError:
            data = b""
        if not data:
            self.is_gone = True
            self._end(_GONE)

    def _message(self, message: Dap, *, now: float) -> None:
        match message.get("type"):
            case "response":
                self._response(message)
            case "event" if message.get("event") == NO_DEBUGGER:
                self._end(str((message.get("body") or {}).get("reason") or _GONE))
            case "event":
                self._event(message, now=now)

    def _response(self, response: Dap) -> None:
        waiting = self._waiting.pop(response.get("request_seq", -1), None)
        if waiting is not None:
            ask, request = waiting
            arguments = request["arguments"]
            if request["command"] == "setBreakpoints" and response.get("success"):
                self._breakpoints[source_path(arguments)] = arguments.get("breakpoints") or []
            self._answer(ask, {**response, "request_seq": request.get("seq", 0)})

    def _event(self, event: Dap, *, now: float) -> None:
        body = event.get("body")
        body = body if isinstance(body, dict) else {}
        match event.get("event"):
            case "stopped":
                self._stopped = [body["threadId"]] if isinstance(body.get("threadId"), int) else []
            case "continued" | "terminated":
                self._stopped = []
        self._due.to_frontend.append((self._make.debug_event(event, now=now), ()))

    def _end(self, why: str) -> None:
        """Answer whoever waits; the first reason counts."""
        self._problem = self._problem or why
        waiting, self._waiting = self._waiting, {}
        for ask, request in waiting.values():
            self._reply(ask, request, problem=self._problem)

    # --- from the frontends --------------------------------------------------------------------------------

    def receive_frontend(self, message: Message, *, identities: Identities, now: float) -> None:
        """A request on shell or control."""
        ask = Ask(message, identities, now)
        self._due.to_frontend.append((self._make.status(message, "busy", now=now), ()))
        match message.msg_type:
            case "debug_request":
                self._debug(ask, dict(message.parsed_content))
            case "kernel_info_request":
                features: Any = {"supported_features": ["debugger"], "debugger": True}
                self._answer(ask, {**WITHOUT_KERNEL, **features, "banner": "A script under its debugger"})
            case kind:
                sentence = f"a script has no {kind}"
                reply = self._make.error_reply(message, sentence, now=now)
                self._send(ask, reply)

    def _debug(self, ask: Ask, request: Dap) -> None:
        command = request["command"] = str(request.get("command"))
        arguments = request.get("arguments")
        request["arguments"] = arguments = dict(arguments) if isinstance(arguments, dict) else {}
        match command:
            case "debugInfo":
                self._reply(ask, request, body=self._info())
            case "source" if "path" in (arguments.get("source") or {}):
                text = self._read_source(source_path(arguments))
                problem = "" if text is not None else "this file cannot be read"
                self._reply(ask, request, body={"content": text}, problem=problem)
            case "inspectVariables":
                self._reply(ask, request, body={"variables": []})
            case "dumpCell":
                self._reply(ask, request, body={"sourcePath": _CELL})
            case "setBreakpoints" if source_path(arguments) == _CELL:
                points = [
                    {"verified": False, "message": _NO_CELLS} for _ in arguments.get("breakpoints") or []
                ]
                self._reply(ask, request, body={"breakpoints": points})
            case "richInspectVariables" | "copyToGlobals":
                self._reply(ask, request, problem=_NO_CELLS)
            case _ if command in _NEVER or (command in _ONCE and command in self._asked):
                self._reply(ask, request, problem=_BEGUN)
            case _ if self._problem:
                self._reply(ask, request, problem=self._problem)
            case _:
                self._asked.add(command)
                self._forward(ask, request)

    def _forward(self, ask: Ask, request: Dap) -> None:
        self._seq += 1
        self._waiting[self._seq] = ask, request
        arguments = request["arguments"]
        if request["command"] in ("pause", "continue"):
            arguments = {**arguments, "threadId": "*"}
        told = dap_messages.request(request["command"], arguments, seq=self._seq)
        self._due.to_debugger += dap_framing.serialize(told)

    def _info(self) -> Dap:
        """What Jupyter's `debugInfo` tells. There are no cells, so no file stands for one."""
        points = [{"source": path, "breakpoints": each} for path, each in self._breakpoints.items() if each]
        names = {"hashMethod": "Murmur2", "hashSeed": 0, "tmpFilePrefix": "", "tmpFileSuffix": ".py"}
        stopped = list(self._stopped)
        return {"isStarted": not self._problem, **names, "breakpoints": points, "stoppedThreads": stopped}

    def _reply(
        self, ask: Ask, request: Dap, *, body: Mapping[str, Any] | None = None, problem: str = ""
    ) -> None:
        self._answer(ask, dap_messages.response(request, body=body, problem=problem))

    def _answer(self, ask: Ask, content: Any) -> None:
        self._send(ask, self._make.reply(ask.message, content, now=ask.now))

    def _send(self, ask: Ask, reply: Message) -> None:
        idle = self._make.status(ask.message, "idle", now=ask.now)
        self._due.to_frontend += [(reply, ask.identities), (idle, ())]
