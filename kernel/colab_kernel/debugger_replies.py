"""Replies of the debugger that we make or mend ourselves: each answers one request, and says so.

Source: https://microsoft.github.io/debug-adapter-protocol/specification#Base_Protocol_Response
"""

from __future__ import annotations

from collections.abc import Mapping

from colab_kernel.dap_messages import answering
from colab_kernel.messages import Json, JsonObject

ALWAYS_ANSWERED = frozenset(
    {"debugInfo", "initialize", "inspectVariables", "modules", "richInspectVariables"}
)
"""What ipykernel answers in any state if debugpy is there, by ipykernel/debugger.py in 6.17.1 and 7.4."""

WITHOUT_KERNEL: Mapping[str, Json] = {
    "isStarted": False,
    "hashMethod": "Murmur2",
    "hashSeed": 0xC70F6907,
    "tmpFilePrefix": "/tmp/ipykernel_0/",  # noqa: S108 (nothing is ever written there)
    "tmpFileSuffix": ".py",
    "breakpoints": [],
    "stoppedThreads": [],
    "richRendering": True,
    "exceptionPaths": ["Python Exceptions"],
    "copyToGlobals": True,
}
"""A `debugInfo` body such as ipykernel 7.4 gives before a session."""


def success(request: JsonObject, *, body: Json) -> JsonObject:
    """The reply that a request was carried out."""
    return {**answering(request), "success": True, "body": body}


def failure(request: JsonObject, *, message: str) -> JsonObject:
    """The reply that a request was not carried out, and why: a frontend shows `message`."""
    return {**answering(request), "success": False, "message": message, "body": {}}


def mended(request: JsonObject, content: JsonObject) -> JsonObject:
    """`content` itself if it is a whole reply, else one that is.

    ipykernel sends `{}` for what it cannot do yet, and leaves fields out of some replies that are good (of
    `modules`: all but the body). A frontend that waits for its request's number would wait for ever.
    Source: ipykernel/debugger.py (process_request, modules, richInspectVariables), tried in 6.17.1 and 7.4
    """
    if not content:
        return failure(request, message=_why_empty(request))
    if {"type", "request_seq", "command", "success"} <= content.keys():
        return content
    return {**answering(request), "success": True, **content}


def _why_empty(request: JsonObject) -> str:
    command = request.get("command")
    if command in ALWAYS_ANSWERED:
        return f"the remote kernel does not answer {command}: is debugpy installed there?"
    return f"the remote kernel answers {command} only while its debugger runs, which it does not"
