"""Messages of the Debug Adapter Protocol, as Jupyter's carry them. No I/O.

Source: https://microsoft.github.io/debug-adapter-protocol/specification#Base_Protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Dap = dict[str, Any]


def request(command: str, arguments: Mapping[str, Any], *, seq: int) -> Dap:
    """A request."""
    return {"type": "request", "seq": seq, "command": command, "arguments": dict(arguments)}


def response(asked: Mapping[str, Any], *, body: Mapping[str, Any] | None = None, problem: str = "") -> Dap:
    """The response to a request: that it succeeded, with a body; or with a problem, that it did not."""
    more = {"message": problem} if problem else {"body": dict(body or {})}
    return {**answering(asked), "success": not problem, **more}


def answering(asked: Mapping[str, Any]) -> Dap:
    """What each response to a request has: its number, and what it was."""
    number = asked.get("seq", 0)
    return {"type": "response", "seq": number, "request_seq": number, "command": asked.get("command", "")}


def event(name: str, body: Mapping[str, Any] | None = None) -> Dap:
    """An event."""
    return {"type": "event", "seq": 0, "event": name, **({} if body is None else {"body": dict(body)})}
