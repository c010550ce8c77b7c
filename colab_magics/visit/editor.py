"""An editor's debugger in front of a visitor's kernel: DAP on one side, `debug_request` on the other. No I/O.

The editor attaches as to any debugger that listens. The kernel speaks the same protocol inside Jupyter's
messages, with these differences, which are met here: it tells who comes late where the job stands only when
it is asked (`debugInfo`), and it gives a file's text by its path. A file that is not on the editor's machine,
the queued cell above all, is shown to the editor by a number, behind which it finds the text.

Source: https://microsoft.github.io/debug-adapter-protocol/specification;
https://jupyter-client.readthedocs.io/en/stable/messaging.html#debug-request
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from colab_kernel import dap_messages
from colab_magics.visit.places import CELL, is_cell

Content = dict[str, Any]
Then = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class Due:
    """What is to be sent: messages to the editor, and contents of `debug_request` to the kernel."""

    to_editor: list[Content] = field(default_factory=list)
    to_kernel: list[Content] = field(default_factory=list)


class Editor:
    """One editor's session, from `initialize` to `disconnect`.

    Args:
        is_here: whether a path is a file that the editor can open.
    """

    def __init__(self, *, is_here: Callable[[str], bool]) -> None:
        self.is_over = False
        """Whether the editor has taken its leave, or has nothing to debug any more."""
        self.job_is_over = False
        self._is_here = is_here
        self._due = Due()
        self._asked: dict[int, Then] = {}
        self._kernel_seq = self._editor_seq = 0
        self._paths: list[str] = []
        self._stopped: set[int] = set()

    def take_due(self) -> Due:
        """What is to be sent now."""
        due, self._due = self._due, Due()
        return due

    # --- from the editor -----------------------------------------------------------------------------------

    def receive_editor(self, message: Mapping[str, Any]) -> None:
        """A request. What an editor says beside requests is about requests that are never made here."""
        if message.get("type") != "request":
            return
        command, arguments = str(message.get("command")), message.get("arguments")
        arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
        if command == "launch":
            problem = "this job runs already: use an entry whose request is attach"
            self._tell(dap_messages.response(message, problem=problem))
            return
        if command == "source":
            arguments = {"source": {"path": self._path_of(arguments)}}
        elif isinstance(arguments.get("source"), Mapping):
            arguments["source"] = {"path": self._path_of(arguments)}

        def then(reply: Mapping[str, Any]) -> None:
            body = reply.get("body")
            told = self._told(command, body) if isinstance(body, Mapping) else {}
            problem = "" if reply.get("success") else str(reply.get("message") or f"{command} failed")
            self._tell(dap_messages.response(message, body=told, problem=problem))
            if command == "configurationDone":
                self._ask("debugInfo", {}, self._catch_up)
            self.is_over = self.is_over or command == "disconnect"

        self._ask(command, arguments, then)

    # --- from the kernel -----------------------------------------------------------------------------------

    def receive_reply(self, content: Mapping[str, Any]) -> None:
        """The content of a `debug_reply`; one to nothing that was asked here is ignored."""
        seq = content.get("request_seq")
        then = self._asked.pop(seq, None) if isinstance(seq, int) else None
        if then is not None:
            then(content)

    def receive_event(self, content: Mapping[str, Any]) -> None:
        """The content of a `debug_event`."""
        name, body = str(content.get("event")), content.get("body")
        body = dict(body) if isinstance(body, Mapping) else {}
        match name:
            case "stopped" if isinstance(body.get("threadId"), int):
                self._stopped.add(body["threadId"])
            case "continued":
                self._stopped.clear()
            case "terminated":
                self.job_is_over = True
                self.end()
                return
        if isinstance(body.get("source"), Mapping):
            body["source"] = self._shown(body["source"])
        self._tell(dap_messages.event(name, body))

    def end(self) -> None:
        """The job cannot be stepped through any more."""
        if not self.is_over:
            self.is_over = True
            self._tell(dap_messages.event("terminated", {}))

    # --- inside --------------------------------------------------------------------------------------------

    def _catch_up(self, reply: Mapping[str, Any]) -> None:
        """Tell an editor that has come late where the job stands."""
        for thread in (reply.get("body") or {}).get("stoppedThreads") or []:
            if thread not in self._stopped:
                self._stopped.add(thread)
                self._ask("exceptionInfo", {"threadId": thread}, partial(self._stands, thread))

    def _stands(self, thread: int, told: Mapping[str, Any]) -> None:
        error = told.get("body") if told.get("success") else None
        error = error if isinstance(error, Mapping) else {}
        body: Content = {"reason": "pause", "threadId": thread, "allThreadsStopped": True}
        if error.get("exceptionId"):
            text = str(error.get("description") or error["exceptionId"])
            body |= {"reason": "exception", "description": "Held at its failure", "text": text}
        self._tell(dap_messages.event("stopped", body))

    def _told(self, command: str, body: Mapping[str, Any]) -> Content:
        """A reply's body, with the files as the editor can open them."""
        told = dict(body)
        for name in ("stackFrames", "breakpoints"):
            if isinstance(told.get(name), list) and command != "debugInfo":
                told[name] = [self._item(each) for each in told[name]]
        return told

    def _item(self, item: Mapping[str, Any]) -> Content:
        source = item.get("source")
        return {**item, "source": self._shown(source)} if isinstance(source, Mapping) else dict(item)

    def _shown(self, source: Mapping[str, Any]) -> Content:
        path = source.get("path")
        plain = {key: value for key, value in source.items() if key != "sourceReference"}
        if not isinstance(path, str) or not path:
            return plain
        if self._is_here(path) and not is_cell(path):
            return plain
        if path not in self._paths:
            self._paths.append(path)
        name = CELL if is_cell(path) else path.rpartition("/")[2]
        return {**plain, "name": name, "sourceReference": self._paths.index(path) + 1}

    def _path_of(self, arguments: Mapping[str, Any]) -> str:
        source = arguments.get("source")
        source = source if isinstance(source, Mapping) else {}
        number = source.get("sourceReference") or arguments.get("sourceReference")
        if isinstance(number, int) and 0 < number <= len(self._paths):
            return self._paths[number - 1]
        return str(source.get("path") or "")

    def _ask(self, command: str, arguments: Mapping[str, Any], then: Then) -> None:
        self._kernel_seq += 1
        self._asked[self._kernel_seq] = then
        self._due.to_kernel.append(dap_messages.request(command, arguments, seq=self._kernel_seq))

    def _tell(self, message: Content) -> None:
        self._editor_seq += 1
        self._due.to_editor.append({**message, "seq": self._editor_seq})
