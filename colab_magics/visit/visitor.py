"""What a visitor's frontends ask, and what the job's kernel says: who is answered what. No I/O.

Whatever only looks goes to the job's debugger. What would end the session that the daemon has begun
(`attach`, `disconnect`, a restart) is met here: letting go lets the job run on, also one that was in the
middle of a step. Going away does so too, except where the job is held at its failure: so it stays for the
next visitor, until its time is over. What would silence the kernel's control channel is met here too (guard).
A cell is evaluated where the job stands, in the innermost frame that knows its names, or refused if it runs.

Source: https://microsoft.github.io/debug-adapter-protocol/specification;
https://jupyter-client.readthedocs.io/en/stable/messaging.html#debug-request
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colab_kernel import dap_messages
from colab_kernel.debugger import RESUMES
from colab_kernel.made_messages import WITHOUT_KERNEL, MessageMaker
from colab_kernel.messages import Channel, JsonObject, Message
from colab_magics.visit.asks import Ask, Identities
from colab_magics.visit.evaluation import GOES_ON, Evaluation, Then
from colab_magics.visit.guard import WAITS_FOR_A_STEP, Guard
from colab_magics.visit.places import Place, homeward, outward, source_path

LOOKS = frozenset(
    {"debugInfo", "threads", "stackTrace", "scopes", "variables", "source", "exceptionInfo", "modules"}
    | {"inspectVariables", "richInspectVariables", "completions"}
)
"""Commands that change nothing: all that the second visitor may ask."""

_EMPTY: Mapping[str, JsonObject] = {
    "comm_info_request": {"status": "ok", "comms": {}},
    "history_request": {"status": "ok", "history": []},
    "is_complete_request": {"status": "unknown"},
    "inspect_request": {"status": "ok", "found": False, "data": {}, "metadata": {}},
}
_LOOKS_ON = "somebody else steps through this job: you look on"
_IS_OVER = "the job is over"
_NO_INTERRUPT = "a job is not interrupted from here: `%colab_queue cancel` ends it, the debugger pauses it"


@dataclass(slots=True)
class Due:
    """What is to be sent: to frontends (with whom), and to the job's kernel on control."""

    to_frontend: list[tuple[Message, Identities]] = field(default_factory=list)
    to_job: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Visit:
    """Something that a visitor did that may have changed the job."""

    who: str
    what: str


class Visitor:
    """One visitor's kernel.

    Args:
        session: of the messages made here, unique to this process.
        capabilities: what the job's debugger said of itself when the daemon began its session.
        places: the same files here and there.
        leads: whether this visitor may change things; the second one may not.
    """

    def __init__(
        self,
        *,
        session: str,
        capabilities: Mapping[str, Any],
        places: Sequence[Place] = (),
        leads: bool = True,
        name: str = "",
    ) -> None:
        self.leads = leads
        self.is_over = False
        self.visits: list[Visit] = []
        self._early: list[Ask] | None = []  # cells that came before it was known how the job stands
        self._make = MessageMaker(session)
        self._capabilities = dict(capabilities)
        self._places = list(places)
        self._name = name
        self._due = Due()
        self._waiting: dict[str, tuple[str, Then, int]] = {}  # with the guard's version when it was asked
        self._guard = Guard(capabilities)
        self._was_let_go = False
        self._after_step: list[Callable[[], None]] = []
        self._breakpoints: set[str] = set()
        self._seq = 0
        self._count = 0

    def add_place(self, place: Place) -> None:
        """One more file that is here and there."""
        self._places.append(place)

    def take_due(self) -> Due:
        """What is to be sent now."""
        due, self._due = self._due, Due()
        return due

    # --- from the job --------------------------------------------------------------------------------------

    def receive_job(self, message: Message, *, now: float) -> None:
        """A reply on control, or anything on iopub."""
        if message.msg_type == "debug_event" and message.channel is Channel.IOPUB:
            self._event(dict(message.parsed_content), now=now)
        elif message.msg_type == "debug_reply":
            asked = self._waiting.pop(message.parent_msg_id or "", None)
            if asked is not None:
                command, then, version = asked
                reply: dict[str, Any] = dict(message.parsed_content)
                body = reply.get("body")
                if command == "debugInfo":
                    self._guard.informed(body if isinstance(body, Mapping) else {}, version=version)
                if isinstance(body, Mapping):
                    reply["body"] = homeward(command, body, self._places)
                    self._name_main_thread(reply["body"])
                then(reply)

    def _name_main_thread(self, body: dict[str, Any]) -> None:
        """All threads stop with the cell's; a frontend takes the first of them for the one that did."""
        if self._guard.main in (body.get("stoppedThreads") or []):
            body["stoppedThreads"] = [self._guard.main]

    def _event(self, event: dict[str, Any], *, now: float) -> None:
        self._guard.event(event)
        if not self._guard.is_stepping:
            waiting, self._after_step = self._after_step, []
            for each in waiting:
                each()
        if self._was_let_go and event.get("event") == "stopped" and not self._guard.is_held:
            self._stay_away(now=now)
            return
        self._publish(self._make.debug_event(event, now=now))

    # --- from the frontends --------------------------------------------------------------------------------

    def receive_frontend(self, message: Message, *, identities: Identities, now: float) -> None:
        """A request on shell or control."""
        ask = Ask(message, identities, now)
        self._publish(self._make.status(message, "busy", now=now))
        match message.msg_type:
            case "kernel_info_request":
                features = {"supported_features": ["debugger"], "debugger": True}
                banner = f"A job that runs: {self._name}. What is run here is evaluated where it stands."
                self._answer(ask, {**WITHOUT_KERNEL, **features, "banner": banner})
            case "debug_request":
                self._debug(ask)
            case "execute_request":
                self._execute(ask)
            case "shutdown_request":
                restart = message.parsed_content.get("restart") is True
                self._answer(ask, {"status": "ok", "restart": restart})
                self.is_over = True
            case "interrupt_request":
                self._fail(ask, _NO_INTERRUPT)
            case "complete_request":
                at = message.parsed_content.get("cursor_pos")
                empty = {"matches": [], "cursor_start": at, "cursor_end": at, "metadata": {}}
                self._answer(ask, {"status": "ok", **empty})
            case kind if kind in _EMPTY:
                self._answer(ask, _EMPTY[kind])
            case kind if kind.endswith("_request"):
                self._fail(ask, f"a job has no {kind}")
            case _:
                self._idle(ask)

    def _debug(self, ask: Ask) -> None:
        content = dict(ask.message.parsed_content)
        command, arguments = str(content.get("command")), content.get("arguments")
        arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
        if command == "pause" or arguments.get("breakpoints"):
            self._was_let_go = False
        match command:
            case "initialize":
                self._reply(ask, content, body=self._capabilities)
            case "attach":
                self._reply(ask, content)
                self._publish(self._make.debug_event(dap_messages.event("initialized"), now=ask.now))
            case "configurationDone" | "setExceptionBreakpoints":
                self._reply(ask, content)
            case "disconnect" | "terminate":
                self.let_go(now=ask.now)
                self._reply(ask, content)
            case _ if not self.leads and command not in LOOKS | {"dumpCell"}:
                self._reply(ask, content, problem=_LOOKS_ON)
            case _ if problem := self._guard.refusal(command):
                self._reply(ask, content, problem=problem)
            case _ if command in RESUMES:
                self._resume(ask, content, command, arguments)
            case _ if command in WAITS_FOR_A_STEP and self._guard.is_stepping:
                forward = functools.partial(self._forward, ask, content, command, arguments)
                self._after_step.append(forward)
            case _:
                self._forward(ask, content, command, arguments)

    def _resume(self, ask: Ask, content: dict[str, Any], command: str, arguments: dict[str, Any]) -> None:
        """Each stop is good for one; the others have had their way."""
        if not self._guard.is_known:
            again = functools.partial(self._resume, ask, content, command, arguments)
            self.ask_job("debugInfo", {}, lambda reply: again(), now=ask.now)
            return
        ticket = self._guard.resume(command, arguments)
        if ticket is None:
            self._reply(ask, content, body={"allThreadsContinued": True} if command == "continue" else {})
        else:
            self._forward(ask, content, command, arguments, ticket=ticket)

    def _forward(
        self,
        ask: Ask,
        content: dict[str, Any],
        command: str,
        arguments: dict[str, Any],
        *,
        ticket: int | None = None,
    ) -> None:
        if command == "setBreakpoints":
            self._breakpoints.add(str(source_path(outward(command, arguments, self._places))))
        if command in ("evaluate", "setVariable", "setExpression", "copyToGlobals"):
            self._note(ask, arguments)

        def then(reply: Mapping[str, Any]) -> None:
            if ticket is not None:
                self._went_on(ticket, reply, now=ask.now)
            self._answer(ask, {**reply, "seq": content.get("seq", 0), "request_seq": content.get("seq", 0)})

        self.ask_job(command, outward(command, arguments, self._places), then, now=ask.now)

    def _execute(self, ask: Ask) -> None:
        content = ask.message.parsed_content
        code = str(content.get("code") or "")
        if content.get("silent") or not code.strip():
            self._answer(ask, self._done())  # what frontends and proxies set up for themselves: not in a job
        elif self._early is not None:
            self._early.append(ask)
        elif not self._guard.is_stopped or not self.leads:
            self._fail(ask, _LOOKS_ON if self._guard.is_stopped else GOES_ON)
        else:
            self._note(ask, {"expression": code})
            evaluation = Evaluation(
                code=code,
                ask_job=functools.partial(self.ask_job, now=ask.now),
                show=functools.partial(self._show, ask),
                fail=functools.partial(self._fail, ask),
            )
            evaluation.begin(thread=self._guard.thread)

    def _show(self, ask: Ask, text: str) -> None:
        self._count += 1
        if text and text != "None":
            shown = {"data": {"text/plain": text}, "metadata": {}, "execution_count": self._count}
            self._publish(self._made(ask, "execute_result", shown))
        self._answer(ask, self._done())

    def _done(self) -> JsonObject:
        return {"status": "ok", "execution_count": self._count, "payload": [], "user_expressions": {}}

    def let_go(self, *, now: float) -> None:
        """Take the visitor's breakpoints away and have the job run on, after the step that is under way."""
        if not self.leads:
            return
        self._was_let_go = True
        if not self._guard.is_stepping:
            self._clear(now=now)
            self._go_on(now=now)

    def _clear(self, *, now: float) -> None:
        for path in self._breakpoints:
            arguments = {"source": {"path": path}, "breakpoints": []}
            self.ask_job("setBreakpoints", arguments, lambda reply: None, now=now)
        self._breakpoints.clear()

    def _go_on(self, *, now: float) -> None:
        thread, ticket = self._guard.thread, self._guard.resume("continue", {})
        if ticket is not None:
            went_on = functools.partial(self._went_on, ticket, now=now)
            self.ask_job("continue", {"threadId": thread}, went_on, now=now)

    def _went_on(self, ticket: int, reply: Mapping[str, Any], *, now: float) -> None:
        self._guard.went_on(ticket, reply)
        self._stay_away(now=now)

    def _stay_away(self, *, now: float) -> None:
        """Have a job go on that stopped after it was let go: at a step's end, at a breakpoint's last hit."""
        if self._was_let_go and self._guard.is_stopped and not self._guard.is_held:
            self._clear(now=now)
            self._go_on(now=now)

    def begin(self, *, pause: bool, now: float) -> None:
        """Ask how the job stands; with `pause`, stop its cell wherever it is."""

        def know(reply: Mapping[str, Any]) -> None:
            threads = (reply.get("body") or {}).get("threads") or []
            main = next((each["id"] for each in threads if each.get("name") == "MainThread"), None)
            self._guard.main = main
            if pause and main is not None and not self._guard.is_stopped:
                self.ask_job("pause", {"threadId": main}, lambda answer: None, now=now)

        def see(reply: Mapping[str, Any]) -> None:
            early, self._early = self._early or [], None
            for ask in early:
                self._execute(ask)

        self.ask_job("debugInfo", {}, see, now=now)
        self.ask_job("threads", {}, know, now=now)

    def end(self) -> None:
        """This process shall end."""
        self.is_over = True

    def job_has_ended(self, *, now: float) -> None:
        """The job is over: whoever waits for its debugger is answered, a resume being the last it heard."""
        for each in self._after_step:
            each()
        waiting, self._waiting = self._waiting, {}
        for command, then, _ in waiting.values():
            then(dap_messages.response({"command": command}, problem="" if command in RESUMES else _IS_OVER))
        self._publish(self._make.debug_event(dap_messages.event("terminated"), now=now))

    def leave(self, *, now: float) -> None:
        """The visitor is gone without a word: the job runs on, unless it is held for whoever comes next."""
        if not self._guard.is_held:
            self.let_go(now=now)

    # --- making messages -----------------------------------------------------------------------------------

    def ask_job(self, command: str, arguments: Mapping[str, Any], then: Then, *, now: float) -> None:
        """Ask the job's debugger something; `then` gets its reply."""
        self._seq += 1
        content = dap_messages.request(command, arguments, seq=self._seq)
        message = self._make.request("debug_request", content, channel=Channel.CONTROL, now=now)
        self._waiting[message.msg_id] = (command, then, self._guard.version)
        self._due.to_job.append(message)

    def _reply(
        self,
        ask: Ask,
        content: Mapping[str, Any],
        *,
        body: Mapping[str, Any] | None = None,
        problem: str = "",
    ) -> None:
        self._answer(ask, dap_messages.response(content, body=body, problem=problem))

    def _answer(self, ask: Ask, content: Mapping[str, Any]) -> None:
        made: Any = dict(content)
        self._due.to_frontend.append((self._make.reply(ask.message, made, now=ask.now), ask.identities))
        self._idle(ask)

    def _fail(self, ask: Ask, sentence: str) -> None:
        if ask.message.msg_type == "execute_request":
            self._publish(self._make.error(ask.message, sentence, now=ask.now))
        reply = self._make.error_reply(ask.message, sentence, now=ask.now)
        self._due.to_frontend.append((reply, ask.identities))
        self._idle(ask)

    def _idle(self, ask: Ask) -> None:
        self._publish(self._make.status(ask.message, "idle", now=ask.now))

    def _publish(self, message: Message) -> None:
        self._due.to_frontend.append((message, ()))

    def _made(self, ask: Ask, msg_type: str, content: Any) -> Message:
        return self._make.child(ask.message, msg_type, content, channel=Channel.IOPUB, now=ask.now)

    def _note(self, ask: Ask, arguments: Mapping[str, Any]) -> None:
        who = str(ask.message.parsed_header.get("username") or "somebody")
        self.visits.append(Visit(who, str(arguments.get("expression") or arguments.get("name") or "")))
