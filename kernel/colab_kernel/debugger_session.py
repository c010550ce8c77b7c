"""Whether the remote kernel's debugger runs, and which requests that matter are on their way to it."""

from __future__ import annotations

from dataclasses import dataclass

from colab_kernel.messages import JsonObject

_STARTS, _ENDS = "initialize", "disconnect"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request on its way.

    Attributes:
        content: what was handed in.
        version: that of the stops when it was.
        ticket: of the resume that it is; None if it is none.
    """

    content: JsonObject
    version: int
    ticket: int | None


class DebugSession:
    """The debugger's session, from `initialize` to `disconnect`, as ipykernel has it.

    Attributes:
        is_started: it answers what it answers only in a session.
        has_listened: debugpy listens, for as long as the kernel lives.
        has_ended: a `terminated` came. What is left is the session's disconnect, which must come through.
        capabilities: what the debugger said that it can do.
    """

    def __init__(self) -> None:
        self.is_started = self.has_listened = self.has_ended = False
        self.capabilities: JsonObject = {}
        self._asked: list[Asked] = []

    @property
    def is_active(self) -> bool:
        """Whether something is being debugged."""
        return self.is_started and not self.has_ended

    @property
    def will_be_started(self) -> bool:
        """Whether it is started once everything on its way has been carried out."""
        for asked in reversed(self._asked):
            if asked.content.get("command") in {_STARTS, _ENDS}:
                return asked.content.get("command") == _STARTS
        return self.is_started

    @property
    def is_about_to_change(self) -> bool:
        """Whether something is on its way that starts or ends it."""
        return any(asked.content.get("command") in {_STARTS, _ENDS} for asked in self._asked)

    @property
    def needs_shell(self) -> bool:
        """Whether an `initialize` has ipykernel run code on shell, deaf on control until it has run."""
        return not self.has_listened and not self.will_be_started

    # --- what is on its way ------------------------------------------------------------------------------

    def is_asked(self, content: JsonObject) -> bool:
        """Whether such a request is on its way."""
        return any(asked.content == content for asked in self._asked)

    def ask(self, content: JsonObject, *, version: int, ticket: int | None = None) -> None:
        """Put a request on its way."""
        self._asked.append(Asked(content, version, ticket))

    def take(self, request: JsonObject) -> Asked | None:
        """Take off the oldest request that is this one; the control channel answers in order."""
        found = next((asked for asked in self._asked if asked.content == request), None)
        if found is not None:
            self._asked.remove(found)
        return found

    # --- what is heard of it -----------------------------------------------------------------------------

    def initialized(self, capabilities: JsonObject) -> None:
        """A session begins."""
        self.has_ended = False
        self.capabilities = capabilities
        self.started()

    def started(self) -> None:
        """There is one, whoever began it."""
        if not self.is_started:
            self.has_ended = False
        self.is_started = self.has_listened = True

    def ended(self) -> None:
        """There is none."""
        self.is_started = False
