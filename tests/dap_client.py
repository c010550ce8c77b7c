"""A debugger without a face that attaches over TCP, as VS Code does by an entry of launch.json.

with DapClient(entry, workspace=project) as ada:
    ada.attach(breakpoints={project / "train.py": [12]})
    stopped = ada.stopped()
    ada.request("continue", threadId=stopped["threadId"])
    ada.event("terminated")

Source: https://microsoft.github.io/debug-adapter-protocol/overview ("Launching and attaching")
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

PATIENCE_S = 60.0


class DapClient:
    """One connection to a debug adapter.

    Args:
        entry: the entry of launch.json.
        workspace: what `${workspaceFolder}` stands for.
    """

    def __init__(self, entry: Mapping[str, Any], *, workspace: Path) -> None:
        self.entry: Json = json.loads(json.dumps(entry).replace("${workspaceFolder}", str(workspace)))
        where = self.entry["connect"]
        self._socket = socket.create_connection((where["host"], where["port"]), timeout=PATIENCE_S)
        self._stream = self._socket.makefile("rb")
        self._seq = 0
        self._events: deque[Json] = deque()
        self._responses: dict[int, Json] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def attach(self, *, breakpoints: Mapping[Path, Sequence[int]]) -> list[Json]:
        """Everything from `initialize` to `configurationDone`; what became of the breakpoints."""
        self.request(
            "initialize", clientID="vscode", adapterID="debugpy", pathFormat="path", linesStartAt1=True
        )
        attaching = self.send("attach", **self.entry)
        self.event("initialized")
        became = []
        for path, lines in breakpoints.items():
            asked = [{"line": line} for line in lines]
            became += self.request("setBreakpoints", source={"path": str(path)}, breakpoints=asked)[
                "breakpoints"
            ]
        self.request("configurationDone")
        self.response(attaching)
        return became

    def stopped(self) -> Json:
        """Wait until it stops: the thread, the frames, and the innermost frame's local variables."""
        thread = self.event("stopped")["threadId"]
        frames = self.request("stackTrace", threadId=thread)["stackFrames"]
        scopes = self.request("scopes", frameId=frames[0]["id"])["scopes"]
        variables = self.request("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
        return {
            "threadId": thread,
            "frames": frames,
            "locals": {one["name"]: one["value"] for one in variables},
        }

    def request(self, command: str, **arguments: Any) -> Json:
        """Send a request that must succeed; its response's body."""
        return self.response(self.send(command, **arguments))

    def send(self, command: str, **arguments: Any) -> int:
        self._seq += 1
        message = {"seq": self._seq, "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        return self._seq

    def response(self, seq: int) -> Json:
        while seq not in self._responses:
            self._read()
        response = self._responses.pop(seq)
        assert response["success"], response
        body: Json = response.get("body") or {}
        return body

    def event(self, name: str) -> Json:
        """Wait for an event of that name; others before it are forgotten."""
        while True:
            while not self._events:
                self._read()
            event = self._events.popleft()
            if event["event"] == name:
                body: Json = event.get("body") or {}
                return body

    def _read(self) -> None:
        headers = {}
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value
        assert headers, "the debugger has hung up"
        message = json.loads(self._stream.read(int(headers[b"content-length"])))
        if message["type"] == "response":
            self._responses[message["request_seq"]] = message
        elif message["type"] == "event":
            self._events.append(message)
