"""What of a frontend's debugger the remote kernel may see, and what is answered here in its stead.

debug_requests pass byte for byte, but for those that would silence ipykernel's control channel or would never
be answered: a second resume for one stop, `disconnect` without a session, what debugpy does not know. Nothing
of it does I/O; contents are those of `debug_request`, `debug_reply` and `debug_event`, parsed.

Source: https://microsoft.github.io/debug-adapter-protocol/specification and
https://jupyter-client.readthedocs.io/en/stable/messaging.html#debug-request
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from colab_kernel import dap_messages
from colab_kernel import debugger_replies as replies
from colab_kernel.debugger_paths import DebuggerPaths
from colab_kernel.debugger_session import Asked, DebugSession
from colab_kernel.debugger_stops import Stops
from colab_kernel.messages import Json, JsonObject
from colab_kernel.path_mapping import PathMapping

RESUMES = frozenset({"continue", "next", "stepIn", "stepOut"})
"""What makes a stopped thread go on. If it goes on already, all of them have had their way."""

JUMPS = frozenset({"goto", "restartFrame", "reverseContinue", "stepBack"})
"""What makes a stopped thread go on elsewhere: of use only to one that is stopped."""

NEEDS_CAPABILITY: Mapping[str, str] = {
    "breakpointLocations": "supportsBreakpointLocationsRequest",
    "cancel": "supportsCancelRequest",
    "dataBreakpointInfo": "supportsDataBreakpoints",
    "disassemble": "supportsDisassembleRequest",
    "loadedSources": "supportsLoadedSourcesRequest",
    "readMemory": "supportsReadMemoryRequest",
    "restart": "supportsRestartRequest",
    "restartFrame": "supportsRestartFrame",
    "reverseContinue": "supportsStepBack",
    "setDataBreakpoints": "supportsDataBreakpoints",
    "setInstructionBreakpoints": "supportsInstructionBreakpoints",
    "stepBack": "supportsStepBack",
    "terminateThreads": "supportsTerminateThreadsRequest",
    "writeMemory": "supportsWriteMemoryRequest",
}
"""Requests of DAP that debugpy parses but does not handle, and never answers: control is dead after one.

Source: tried with debugpy 1.8.22; capabilities of the `initialize` response, by DAP
"""

NOTHING_IS_STOPPED = "no thread is stopped"

_TRACKED = frozenset({"initialize", "disconnect", "debugInfo"})
_OURS: JsonObject = {"colab_kernel": True}


@dataclass(frozen=True, slots=True)
class Forward:
    """The request goes on: with `content`, or byte for byte if that is None."""

    content: JsonObject | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The request ends here: `content` is its `debug_reply`."""

    content: JsonObject


@dataclass(frozen=True, slots=True)
class Hold:
    """The request waits, and all behind it but `debugInfo`, until shell is idle; then it is asked again."""


class DebugGuard:
    """The debugger of one remote kernel, as far as it can be told from what passes.

    The caller hands in every debug_request (in order), what becomes of each that was forwarded (`reply` or
    `failed`), and every debug_event.

    Args:
        mappings: the project's folders, here and there.
    """

    def __init__(self, *, mappings: Sequence[PathMapping] = ()) -> None:
        self._paths = DebuggerPaths(mappings)
        self._forget()

    def _forget(self) -> None:
        self._session = DebugSession()
        self._stops = Stops()
        self._told_session = self._told_stopped = False  # what frontends last heard
        self._is_fresh = True  # nothing happened between our own debugInfo and its reply
        self._is_unsure = False

    def use(self, mappings: Sequence[PathMapping]) -> None:
        """Take these folders from the next attach on."""
        self._paths.mappings = tuple(mappings)

    def kernel_replaced(self) -> None:
        """There is another remote kernel: nothing is known of its debugger."""
        self._paths = DebuggerPaths(self._paths.mappings)
        self._forget()

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """Whether there is a debug session."""
        return self._session.is_active

    @property
    def is_stopped(self) -> bool:
        """Whether the kernel is stopped, or was when it was last heard of."""
        return self._stops.is_held

    @property
    def stopped_threads(self) -> tuple[int, ...]:
        """The threads that are stopped."""
        return self._stops.threads

    @property
    def is_in_doubt(self) -> bool:
        """Whether to send `own_debug_info`: what should have been heard by now was not.

        True for an instant in every step: worth a question only if it stays for a second or so.
        """
        return self._is_unsure or self._stops.is_unsettled or self._missed_a_stop or self._missed_its_end

    @property
    def needs_debug_info(self) -> bool:
        """Whether `own_debug_info` should have its reply before an `attach` is handed in.

        An attach without it goes on as it is: cells can be debugged, the project's modules cannot.
        """
        return bool(self._paths.mappings) and not self._paths.tmp_file_prefix

    def cell_executed(self, *, cell_id: str, code: str) -> None:
        """An execute_request passes whose metadata has a `cellId`."""
        self._paths.executed(cell_id, code=code)

    # --- requests ----------------------------------------------------------------------------------------

    def request(self, content: JsonObject, *, shell_busy: bool) -> Forward | Answer | Hold:
        """What to do with a frontend's debug_request.

        Args:
            content: the request.
            shell_busy: whether a request on shell is not done. ipykernel carries out `initialize` by code
                that it runs on shell, and handles nothing on control until it has run.
        """
        command, session = _text(content.get("command")), self._session
        if command == "initialize" and shell_busy and session.needs_shell:
            return Hold()
        if command in NEEDS_CAPABILITY and session.capabilities.get(NEEDS_CAPABILITY[command]) is not True:
            return Answer(replies.failure(content, message=f"the remote debugger does not know {command}"))
        if command in {"disconnect", "terminate"} and not session.will_be_started:
            return Answer(replies.success(content, body={}))
        if command in RESUMES or command in JUMPS:
            return self._resume(command, content)
        if command == "exceptionInfo" and not self._stops.is_open:
            return Answer(replies.failure(content, message=NOTHING_IS_STOPPED))
        if command == "initialize" and not session.will_be_started:
            self._stops.clear()
        if command in _TRACKED:
            session.ask(content, version=self._stops.version)
        return Forward(self._paths.for_kernel(content))

    def _resume(self, command: str, content: JsonObject) -> Forward | Answer:
        ticket = self._stops.resume(_thread_of(content)) if self._session.will_be_started else None
        if ticket is not None:
            self._session.ask(content, version=self._stops.version, ticket=ticket)
            return Forward(None)
        if command in JUMPS:
            return Answer(replies.failure(content, message=NOTHING_IS_STOPPED))
        self._told_stopped = False
        body: Json = {"allThreadsContinued": True} if command == "continue" else {}
        return Answer(replies.success(content, body=body))

    def own_disconnect(self, *, seq: int) -> JsonObject:
        """A request of the caller's own that lets a stopped cell go: to be sent, its reply to be handed in.

        Args:
            seq: always the same. If the same request is on its way already, this one need not be sent.
        """
        arguments: JsonObject = {"restart": False, "terminateDebuggee": False, **_OURS}
        return self._own("disconnect", seq=seq, arguments=arguments)

    def own_debug_info(self, *, seq: int) -> JsonObject:
        """A request of the caller's own, as above: `reply` gets its reply, then `reconcile` its body."""
        return self._own("debugInfo", seq=seq, arguments={**_OURS})

    def _own(self, command: str, *, seq: int, arguments: JsonObject) -> JsonObject:
        content: JsonObject = dap_messages.request(command, arguments, seq=seq)
        if not self._session.is_asked(content):
            self._session.ask(content, version=self._stops.version)
        return content

    # --- what becomes of them ----------------------------------------------------------------------------

    def reply(self, request: JsonObject, content: JsonObject) -> JsonObject | None:
        """Take note of a debug_reply of the kernel.

        Args:
            request: what it answers, as it came or as it was forwarded.
            content: the reply.

        Returns:
            What to pass on in its place; None: the reply as it is.
        """
        asked, command = self._session.take(request), _text(request.get("command"))
        body, is_success = _object(content.get("body")), content.get("success") is True
        match command:
            case _ if asked is not None and asked.ticket is not None:
                self._resumed(asked, asked.ticket, content)
            case "debugInfo":
                self._informed(body, asked=asked)
            case "disconnect":
                self._ended()
            case "initialize" if is_success:
                self._session.initialized(body)
                self._told_session = True
            case "attach" if is_success:
                self._started()
            case "dumpCell" if is_success:
                self._dumped(_object(request.get("arguments")).get("code"), path=body.get("sourcePath"))
        passed = self._paths.for_frontend(replies.mended(request, content), kind=command)
        return None if passed is content else passed

    def failed(self, request: JsonObject) -> None:
        """A request that was forwarded has no answer and will have none.

        What it was to bring about is taken for not done; `is_in_doubt` says that this is a guess.
        """
        asked = self._session.take(request)
        if asked is None:
            return
        self._is_unsure = self._is_unsure or asked.content.get("command") != "debugInfo"
        if asked.ticket is not None:
            self._stops.refuse(asked.ticket)

    @staticmethod
    def missing_reply(request: JsonObject, *, why: str) -> JsonObject:
        """The reply to a request that has none; `why` is shown to a person."""
        return replies.failure(request, message=why)

    @staticmethod
    def debug_info_without_kernel(request: JsonObject) -> JsonObject:
        """The reply to a `debugInfo` while there is no remote kernel."""
        return replies.success(request, body=dict(replies.WITHOUT_KERNEL))

    def event(self, content: JsonObject) -> JsonObject | None:
        """Take note of a debug_event of the kernel.

        Returns:
            What to pass on in its place; None: the event as it is.
        """
        body, number = _object(content.get("body")), _number(content.get("seq"))
        thread = body.get("threadId")
        match content.get("event"):
            case "stopped" if isinstance(thread, int) and self._session.is_started:
                everywhere = body.get("allThreadsStopped") is True
                self._stops.stopped(thread, all_threads=everywhere, number=number)
                self._told_stopped = True
            case "continued" if isinstance(thread, int):
                everywhere = body.get("allThreadsContinued") is not False
                self._stops.continued(thread, all_threads=everywhere, number=number)
                self._told_stopped = not everywhere and self._stops.is_held
            case "terminated":
                self._session.has_ended = True
                self._stops.clear()
                self._told_session = self._told_stopped = False
        passed = self._paths.for_frontend(content, kind=_text(content.get("event")))
        return None if passed is content else passed

    def _started(self) -> None:
        self._session.started()
        self._told_session = self._session.is_active

    def _ended(self) -> None:
        self._session.ended()
        self._stops.clear()
        self._told_session = self._told_stopped = False

    def _resumed(self, asked: Asked, ticket: int, reply: JsonObject) -> None:
        if reply.get("success") is not True:
            self._stops.refuse(ticket)
            return
        self._stops.accept(ticket, number=_number(reply.get("seq")))
        if asked.version == self._stops.version:
            self._told_stopped = False

    def _dumped(self, code: Json, *, path: Json) -> None:
        if isinstance(code, str) and isinstance(path, str):
            self._paths.dumped(code, path=path)

    # --- debugInfo ---------------------------------------------------------------------------------------

    def _informed(self, body: JsonObject, *, asked: Asked | None) -> None:
        """Learn from a debugInfo reply. A frontend that reads it there knows of a stop without an event."""
        prefix = body.get("tmpFilePrefix")
        if isinstance(prefix, str):
            self._paths.tmp_file_prefix = prefix
        is_fresh = asked is not None and asked.version == self._stops.version
        if asked is not None and asked.content.get("arguments") == _OURS:
            self._is_fresh = is_fresh
        elif self._session.is_about_to_change or not body:
            return
        elif not body.get("isStarted"):
            self._session.ended()
            self._stops.clear()
        else:
            self._started()
            if is_fresh and not self._stops.is_held and not self._stops.is_unsettled:
                self._stops.seen(_threads_of(body))

    def reconcile(self, body: JsonObject) -> list[JsonObject]:
        """Hold what frontends were told against the truth: the body of the reply to `own_debug_info`.

        Returns:
            The debug_events that frontends missed, as contents.
        """
        is_fresh, self._is_fresh = self._is_fresh, True
        self._is_unsure = self._session.is_about_to_change or (bool(body.get("isStarted")) and not is_fresh)
        if self._session.is_about_to_change:
            return []
        if not body.get("isStarted"):
            was_told = self._told_session
            self._ended()
            return [dap_messages.event("terminated", {})] if was_told else []
        self._started()
        return self._catch_up(_threads_of(body)) if is_fresh else []

    def _catch_up(self, threads: Sequence[int]) -> list[JsonObject]:
        known = self._stops.threads
        self._stops.seen(threads)
        if self._missed_its_end:
            self._told_stopped = False
            went_on: JsonObject = {"threadId": min(known, default=1), "allThreadsContinued": True}
            return [dap_messages.event("continued", went_on)]
        if self._missed_a_stop:
            self._told_stopped = True
            body: JsonObject = {"reason": "pause", "threadId": min(threads), "allThreadsStopped": True}
            return [dap_messages.event("stopped", body)]
        return []

    @property
    def _missed_a_stop(self) -> bool:
        return self._stops.is_open and not self._told_stopped

    @property
    def _missed_its_end(self) -> bool:
        return self._told_stopped and not self._stops.is_held


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _thread_of(request: JsonObject) -> int | None:
    """The thread that a resume is for; None: all that are stopped."""
    arguments = _object(request.get("arguments"))
    if request.get("command") == "continue" and arguments.get("singleThread") is not True:
        return None
    thread = arguments.get("threadId")
    return thread if isinstance(thread, int) else None


def _threads_of(body: JsonObject) -> list[int]:
    threads = body.get("stoppedThreads")
    listed: Iterable[Json] = threads if isinstance(threads, list) else ()
    return [thread for thread in listed if isinstance(thread, int)]
