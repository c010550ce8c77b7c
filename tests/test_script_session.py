"""A script's debugger met as a kernel: what is passed on, what is answered here. No I/O."""

from __future__ import annotations

from typing import Any

import pytest

from colab_kernel.made_messages import MessageMaker
from colab_kernel.messages import Channel
from colab_magics.daemon.script_session import NO_DEBUGGER, ScriptSession
from colab_magics.daemon.script_start import NO_DEBUGGER as NO_DEBUGGER_THERE
from colab_magics.visit import dap_framing

NOW = 1_800_000_000.0


class Stage:
    """A session, one client at it, and its debugger."""

    def __init__(self) -> None:
        files = {"/code/train.py": "x = 1\n"}
        self.session = ScriptSession(session="s", read_source=files.get)
        self._client = MessageMaker("client")
        self._parser = dap_framing.Parser()

    def ask(self, command: str, *, seq: int = 7, who: bytes = b"me", **arguments: Any) -> None:
        content: Any = {"type": "request", "seq": seq, "command": command, "arguments": arguments}
        self.send("debug_request", content, who=who)

    def send(self, msg_type: str, content: Any, *, who: bytes = b"me") -> None:
        message = self._client.request(msg_type, content, channel=Channel.CONTROL, now=NOW)
        self.session.receive_frontend(message, identities=(who,), now=NOW)

    def tell(self, **message: Any) -> None:
        self.session.receive_debugger(dap_framing.serialize(message), now=NOW)

    def due(self) -> tuple[list[dict[str, Any]], list[tuple[bytes, str, dict[str, Any]]], list[str]]:
        """Requests to the debugger; replies (to whom, type, content); what was published, by type."""
        due = self.session.take_due()
        replies, published = [], []
        for message, identities in due.to_frontend:
            if message.channel is Channel.IOPUB:
                published.append(message.parsed_content.get("execution_state") or message.msg_type)
            else:
                replies.append((identities[0], message.msg_type, dict(message.parsed_content)))
        return list(self._parser.feed(due.to_debugger)), replies, [str(each) for each in published]

    def answer(self) -> dict[str, Any]:
        """The one reply that is due, without anything for the debugger."""
        asked, [(_, _, content)], _ = self.due()
        assert asked == []
        return content


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_request_goes_to_the_debugger_and_its_response_back(stage: Stage) -> None:
    stage.ask("threads")
    [asked], replies, published = stage.due()
    assert (asked["command"], asked["seq"], replies) == ("threads", 1, [])
    stage.tell(type="response", seq=4, request_seq=1, command="threads", success=True, body={"threads": []})
    _, [(who, kind, content)], ended = stage.due()
    assert (who, kind) == (b"me", "debug_reply")
    assert (content["request_seq"], content["success"], content["body"]) == (7, True, {"threads": []})
    assert (published, ended) == (["busy"], ["idle"])


def test_clients_with_the_same_numbers_get_their_own_responses(stage: Stage) -> None:
    stage.ask("threads", seq=1, who=b"daemon")
    stage.ask("scopes", seq=1, who=b"visitor", frameId=3)
    asked, _, _ = stage.due()
    assert [each["seq"] for each in asked] == [1, 2]
    stage.tell(type="response", seq=1, request_seq=2, command="scopes", success=True)
    stage.tell(type="response", seq=2, request_seq=1, command="threads", success=True)
    _, replies, _ = stage.due()
    assert [(who, content["command"]) for who, _, content in replies] == [
        (b"visitor", "scopes"),
        (b"daemon", "threads"),
    ]


def test_events_are_published_and_tell_how_the_script_stands(stage: Stage) -> None:
    stage.tell(type="event", event="stopped", body={"reason": "pause", "threadId": 5})
    assert stage.due()[2] == ["debug_event"]
    stage.ask("debugInfo")
    body = stage.answer()["body"]
    assert (body["isStarted"], body["stoppedThreads"]) == (True, [5])
    stage.tell(type="event", event="continued", body={"threadId": 5, "allThreadsContinued": True})
    stage.due()
    stage.ask("debugInfo")
    assert stage.answer()["body"]["stoppedThreads"] == []


def test_breakpoints_are_told_as_they_were_set(stage: Stage) -> None:
    points = [{"line": 3, "condition": "x > 1"}]
    stage.ask("setBreakpoints", source={"path": "/code/train.py"}, breakpoints=points)
    stage.due()
    stage.tell(type="response", seq=1, request_seq=1, command="setBreakpoints", success=True, body={})
    stage.due()
    stage.ask("debugInfo")
    assert stage.answer()["body"]["breakpoints"] == [{"source": "/code/train.py", "breakpoints": points}]


@pytest.mark.parametrize("command", ["pause", "continue"])
def test_all_threads_stop_and_go_on_together(stage: Stage, command: str) -> None:
    stage.ask(command, threadId=3)
    [asked], _, _ = stage.due()
    assert asked["arguments"] == {"threadId": "*"}


@pytest.mark.parametrize("command", ["disconnect", "terminate", "launch", "restart"])
def test_nobody_ends_the_session(stage: Stage, command: str) -> None:
    stage.ask(command)
    assert "the daemon has begun the session" in stage.answer()["message"]


def test_the_session_is_begun_once(stage: Stage) -> None:
    stage.ask("attach")
    assert len(stage.due()[0]) == 1
    stage.ask("attach")
    assert not stage.answer()["success"]


def test_what_jupyter_adds_is_answered_here(stage: Stage) -> None:
    stage.ask("source", source={"path": "/code/train.py"})
    assert stage.answer()["body"] == {"content": "x = 1\n"}
    stage.ask("source", source={"path": "/etc/none"})
    assert not stage.answer()["success"]
    stage.ask("inspectVariables")
    assert stage.answer()["body"] == {"variables": []}
    stage.ask("richInspectVariables", variableName="x")
    assert stage.answer()["message"] == "a script has no cells"


def test_a_notebooks_cell_is_no_part_of_a_script(stage: Stage) -> None:
    stage.ask("dumpCell", code="x = 1")
    path = stage.answer()["body"]["sourcePath"]
    stage.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": 1}])
    [point] = stage.answer()["body"]["breakpoints"]
    assert not point["verified"]


def test_other_requests_than_a_debuggers_are_refused(stage: Stage) -> None:
    stage.send("execute_request", {"code": "1"})
    _, [(_, kind, content)], _ = stage.due()
    assert (kind, content["status"]) == ("execute_reply", "error")
    stage.send("kernel_info_request", {})
    assert stage.answer()["debugger"] is True


def test_whoever_waits_is_told_when_the_script_is_gone(stage: Stage) -> None:
    stage.ask("threads")
    stage.due()
    stage.session.receive_debugger(b"", now=NOW)
    assert stage.answer()["message"] == "the script's debugger is gone"
    stage.ask("threads")
    assert not stage.answer()["success"]
    assert stage.session.is_gone


def test_a_script_without_a_debugger_says_why(stage: Stage) -> None:
    assert NO_DEBUGGER == NO_DEBUGGER_THERE
    stage.ask("initialize")
    stage.due()
    stage.tell(type="event", event=NO_DEBUGGER, body={"reason": "debugpy is not installed"})
    assert stage.answer()["message"] == "debugpy is not installed"


def test_what_is_no_dap_ends_the_session(stage: Stage) -> None:
    stage.session.receive_debugger(b"GET / HTTP/1.1\r\n\r\n", now=NOW)
    assert stage.session.is_gone
