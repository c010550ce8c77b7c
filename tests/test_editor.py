"""An editor's debugger and a visitor's kernel: what each is told, without either."""

from __future__ import annotations

from typing import Any

from colab_magics.visit.editor import Editor

CELL_FILE = "/tmp/ipykernel_7/1234.py"


def editor() -> Editor:
    return Editor(is_here=lambda path: path.startswith("/home/ada/"))


def ask(it: Editor, command: str, *, seq: int = 5, **arguments: Any) -> dict[str, Any]:
    """Have the editor ask; the request that the kernel gets."""
    it.receive_editor({"type": "request", "seq": seq, "command": command, "arguments": arguments})
    [content] = it.take_due().to_kernel
    return content


def answer(it: Editor, asked: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    """Have the kernel answer; what the editor gets."""
    it.receive_reply({"type": "response", "request_seq": asked["seq"], "success": True, "body": body})
    return it.take_due().to_editor


def shown_frames(it: Editor, *paths: str) -> list[dict[str, Any]]:
    asked = ask(it, "stackTrace", threadId=1)
    frames = [{"id": at, "source": {"path": path, "sourceReference": 0}} for at, path in enumerate(paths)]
    [told] = answer(it, asked, stackFrames=frames)
    return [frame["source"] for frame in told["body"]["stackFrames"]]


def test_an_answer_goes_by_the_editor_s_number() -> None:
    it = editor()
    asked = ask(it, "threads", seq=41)
    assert (asked["type"], asked["command"]) == ("request", "threads")
    [told] = answer(it, asked, threads=[])
    assert (told["request_seq"], told["command"], told["success"]) == (41, "threads", True)
    assert told["body"] == {"threads": []}


def test_a_refusal_keeps_its_sentence() -> None:
    it = editor()
    asked = ask(it, "next", threadId=1)
    it.receive_reply({"request_seq": asked["seq"], "success": False, "message": "you look on"})
    [told] = it.take_due().to_editor
    assert (told["success"], told["message"]) == (False, "you look on")


def test_a_file_that_is_not_here_is_shown_by_a_number_and_its_text_is_asked_by_its_path() -> None:
    it = editor()
    here, cell, there = shown_frames(it, "/home/ada/model.py", CELL_FILE, "/opt/lib/nn.py")
    assert here == {"path": "/home/ada/model.py"}
    assert (cell["name"], cell["sourceReference"]) == ("the queued cell", 1)
    assert (there["name"], there["sourceReference"]) == ("nn.py", 2)
    asked = ask(it, "source", source=cell, sourceReference=1)
    assert asked["arguments"] == {"source": {"path": CELL_FILE}}
    asked = ask(
        it, "setBreakpoints", source={"name": "nn.py", "sourceReference": 2}, breakpoints=[{"line": 3}]
    )
    assert asked["arguments"] == {"source": {"path": "/opt/lib/nn.py"}, "breakpoints": [{"line": 3}]}


def test_who_comes_late_is_told_where_the_job_stands() -> None:
    it = editor()
    asked = ask(it, "configurationDone")
    it.receive_reply({"request_seq": asked["seq"], "success": True, "body": {}})
    [info] = it.take_due().to_kernel
    assert info["command"] == "debugInfo"
    it.receive_reply({"request_seq": info["seq"], "success": True, "body": {"stoppedThreads": [3]}})
    [error] = it.take_due().to_kernel
    assert (error["command"], error["arguments"]) == ("exceptionInfo", {"threadId": 3})
    [told] = answer(it, error, exceptionId="ZeroDivisionError", description="division by zero")
    assert told["event"] == "stopped"
    assert (told["body"]["reason"], told["body"]["text"]) == ("exception", "division by zero")


def test_a_job_that_is_over_ends_the_session_once() -> None:
    it = editor()
    it.receive_event({"type": "event", "event": "terminated"})
    it.end()
    [told] = it.take_due().to_editor
    assert told["event"] == "terminated"
    assert it.is_over
    assert it.job_is_over


def test_this_is_no_way_to_start_something() -> None:
    it = editor()
    it.receive_editor({"type": "request", "seq": 1, "command": "launch", "arguments": {}})
    due = it.take_due()
    assert not due.to_kernel
    assert not due.to_editor[0]["success"]
