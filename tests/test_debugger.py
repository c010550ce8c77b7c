"""What of a debugger the remote kernel may see, what is answered here, and what passes as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from colab_kernel.debugger import (
    JUMPS,
    NEEDS_CAPABILITY,
    RESUMES,
    Answer,
    DebugGuard,
    Forward,
    Hold,
)
from colab_kernel.debugger_paths import CELLS_AT_MOST
from colab_kernel.debugger_stops import TRANSITIONS, Phase, Sign
from colab_kernel.path_mapping import PathMapping

Content = dict[str, Any]

PREFIX = "/tmp/ipykernel_7/"
CELL = PREFIX + "423620340.py"
POSIX = PathMapping(local_root="/home/ada/project", remote_root="/content/project")
WINDOWS = PathMapping(local_root="C:\\Users\\Ada\\project", remote_root="/content/project")

AS_IT_IS = Forward(None)


class Stage:
    """A guard between a frontend that numbers its requests and a kernel that numbers what it sends."""

    def __init__(self, *mappings: PathMapping) -> None:
        self.guard = DebugGuard(mappings=mappings)
        self.seq = 0
        self.number = 0

    # --- the frontend

    def request(self, command: str, *, seq: int | None = None, **arguments: Any) -> Content:
        self.seq += 1
        number = self.seq if seq is None else seq
        return {"type": "request", "seq": number, "command": command, "arguments": arguments}

    def ask(self, command: str, *, shell_busy: bool = False, **arguments: Any) -> Forward | Answer | Hold:
        return self.guard.request(self.request(command, **arguments), shell_busy=shell_busy)

    def forward(self, command: str, **arguments: Any) -> Content:
        """A request that must pass as it is; return it."""
        request = self.request(command, **arguments)
        assert self.guard.request(request, shell_busy=False) == AS_IT_IS
        return request

    def answer(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        """A request that must be answered here; return the reply."""
        request = self.request(command, **arguments)
        decision = self.guard.request(request, shell_busy=False)
        assert isinstance(decision, Answer)
        content = decision.content
        assert content["type"] == "response"
        assert (content["request_seq"], content["command"]) == (request["seq"], command)
        return content

    # --- the kernel

    def reply(self, request: Content, body: object = None, *, success: bool = True) -> Any:
        """The kernel's reply to a request; return what is to be passed on in its place."""
        self.number += 1
        content = {
            "type": "response",
            "seq": self.number,
            "request_seq": request["seq"],
            "command": request["command"],
            "success": success,
            "body": body or {},
        }
        return self.guard.reply(request, content)

    def event(self, name: str, **body: Any) -> Any:
        self.number += 1
        return self.guard.event({"type": "event", "seq": self.number, "event": name, "body": body})

    def stopped(self, thread: int = 1, *, all_threads: bool = True) -> None:
        assert self.event("stopped", threadId=thread, allThreadsStopped=all_threads) is None

    def continued(self, thread: int = 1, *, all_threads: bool = True) -> None:
        assert self.event("continued", threadId=thread, allThreadsContinued=all_threads) is None

    def done(self, command: str, body: object = None, **arguments: Any) -> Any:
        """A request that passes and succeeds."""
        return self.reply(self.forward(command, **arguments), body)

    def info(self, *, started: bool = True, threads: tuple[int, ...] = (), prefix: str = PREFIX) -> Content:
        return {"isStarted": started, "tmpFilePrefix": prefix, "stoppedThreads": list(threads)}

    def look(self, **info: Any) -> list[Any]:
        """Our own debugInfo, asked and answered; return the events to be made up."""
        request = dict(self.guard.own_debug_info(seq=0))
        assert self.reply(request, self.info(**info)) is None
        return list(self.guard.reconcile(self.info(**info)))


def session(*mappings: PathMapping, **capabilities: bool) -> Stage:
    """A stage with a debug session."""
    stage = Stage(*mappings)
    stage.done("initialize", capabilities)
    stage.done("debugInfo", stage.info())
    stage.guard.reply(stage.request("attach"), {"type": "response", "success": True})
    assert stage.guard.is_active
    return stage


def paused(*mappings: PathMapping, **capabilities: bool) -> Stage:
    """A stage whose cell is stopped."""
    stage = session(*mappings, **capabilities)
    stage.stopped()
    assert stage.guard.is_stopped
    assert stage.guard.stopped_threads == (1,)
    return stage


# --- the table --------------------------------------------------------------------------------------------


def test_the_table_is_whole() -> None:
    resumes = {Sign.RESUME, Sign.ACCEPTED, Sign.REFUSED}
    for phase in Phase:
        assert TRANSITIONS[phase].keys() - resumes == set(Sign) - resumes


def test_only_a_stop_that_nobody_has_resumed_takes_a_resume_and_only_a_resume_has_an_end() -> None:
    assert [phase for phase in Phase if Sign.RESUME in TRANSITIONS[phase]] == [Phase.STOPPED]
    for sign in (Sign.ACCEPTED, Sign.REFUSED):
        takes = [phase for phase in Phase if sign in TRANSITIONS[phase]]
        assert takes == [Phase.RESUMING, Phase.STOPPED_AGAIN]


# --- what passes ------------------------------------------------------------------------------------------

PASSING = ("threads", "stackTrace", "scopes", "variables", "evaluate", "pause", "dumpCell", "modules", "foo")


@pytest.mark.parametrize("command", [*PASSING, "debugInfo", "inspectVariables", "source", "setBreakpoints"])
def test_what_does_no_harm_passes_byte_for_byte_in_a_session_and_without(command: str) -> None:
    assert Stage().ask(command) == AS_IT_IS
    assert session().ask(command) == AS_IT_IS
    assert paused().ask(command) == AS_IT_IS


@pytest.mark.parametrize("content", [{}, {"command": None}, {"command": ["continue"]}, {"seq": "x"}])
def test_what_is_no_request_passes_too(content: Content) -> None:
    stage = session()
    assert stage.guard.request(content, shell_busy=True) == AS_IT_IS
    assert stage.guard.reply(content, {"x": 1}) is not None
    assert stage.guard.event(content) is None
    stage.guard.failed(content)


def test_a_whole_reply_passes_as_it_is() -> None:
    stage = session()
    assert stage.done("threads", {"threads": []}) is None
    assert stage.event("output", category="stdout", output="x") is None


# --- resumes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", sorted(RESUMES))
def test_without_a_stop_a_resume_is_answered_here_with_success(command: str) -> None:
    for stage in (Stage(), session()):
        reply = stage.answer(command, threadId=1)
        assert reply["success"] is True
        assert reply["body"] == ({"allThreadsContinued": True} if command == "continue" else {})


@pytest.mark.parametrize("second", sorted(RESUMES))
@pytest.mark.parametrize("first", sorted(RESUMES))
def test_a_stop_is_good_for_one_resume(first: str, second: str) -> None:
    stage = paused()
    request = stage.forward(first, threadId=1)
    assert stage.answer(second, threadId=1)["success"] is True
    stage.reply(request)
    stage.answer(second, threadId=1)
    stage.continued()
    stage.answer(second, threadId=1)
    stage.stopped()
    stage.forward(second, threadId=1)


def test_of_the_reset_controllers_continues_for_every_thread_one_passes() -> None:
    stage = session()
    stage.done("debugInfo", stage.info(threads=(1, 2, 3, 6)))
    assert stage.guard.stopped_threads == (1, 2, 3, 6)
    stage.forward("continue", seq=0, threadId=1)
    for thread in (2, 3, 6):
        assert stage.answer("continue", seq=0, threadId=thread)["success"] is True


def test_a_resume_that_the_kernel_refused_is_possible_again() -> None:
    stage = paused()
    stage.reply(stage.forward("stepIn", threadId=1), success=False)
    assert stage.guard.is_stopped
    stage.forward("continue", threadId=1)


def test_a_resume_that_never_got_through_is_possible_again() -> None:
    stage = paused()
    request = stage.forward("continue", threadId=1)
    stage.guard.failed(request)
    assert stage.guard.is_in_doubt
    assert stage.guard.is_stopped
    stage.forward("continue", threadId=1)


def test_a_stop_that_comes_before_the_steps_reply_is_a_new_one() -> None:
    stage = paused()
    step = stage.forward("next", threadId=1)
    stage.continued()
    stage.stopped()
    other = stage.forward("next", threadId=1)
    stage.reply(step)
    stage.answer("next", threadId=1)
    stage.reply(other)
    assert not stage.guard.is_stopped


def test_a_late_reply_to_the_step_before_changes_nothing() -> None:
    stage = paused()
    step = stage.forward("next", threadId=1)
    stage.continued()
    stage.stopped()
    stage.reply(step, success=False)
    stage.forward("next", threadId=1)
    stage.guard.failed(step)
    stage.answer("next", threadId=1)


def test_without_a_continued_the_reply_tells_whether_a_stop_is_a_new_one() -> None:
    stage = paused()
    step = stage.forward("next", threadId=1)
    number = stage.number = stage.number + 1  # the reply left first, and is late
    stage.stopped()
    stage.answer("next", threadId=1)
    stage.guard.reply(step, {"type": "response", "success": True, "seq": number})
    assert stage.guard.is_stopped
    stage.forward("next", threadId=1)


def test_a_stop_told_twice_because_of_a_pause_is_good_for_one_resume_all_the_same() -> None:
    stage = paused()
    stage.forward("pause", threadId=1)
    resume = stage.forward("continue", threadId=1)
    stage.stopped()
    stage.reply(resume)
    stage.answer("continue", threadId=1)
    stage.continued()
    stage.answer("continue", threadId=1)


def test_a_stop_of_before_that_comes_after_the_reply_is_not_taken_for_a_new_one() -> None:
    stage = paused()
    resume = stage.forward("continue", threadId=1)
    late = stage.number = stage.number + 1
    stage.reply(resume)
    body = {"threadId": 1, "allThreadsStopped": True}
    stage.guard.event({"type": "event", "seq": late, "event": "stopped", "body": body})
    stage.answer("continue", threadId=1)


def test_a_debugger_that_numbers_nothing_and_tells_of_no_continued_stops_anew_after_its_reply() -> None:
    stage = session()
    event = {"type": "event", "event": "stopped", "body": {"threadId": 1, "allThreadsStopped": True}}
    stage.guard.event(event)
    step = stage.forward("next", threadId=1)
    stage.guard.event(event)
    stage.answer("next", threadId=1)
    stage.guard.reply(step, {"type": "response", "success": True})
    step = stage.forward("next", threadId=1)
    stage.guard.reply(step, {"type": "response", "success": True})
    stage.guard.event(event)
    stage.forward("next", threadId=1)


def test_a_stop_that_ends_by_itself_is_over() -> None:
    stage = paused()
    stage.continued()
    assert not stage.guard.is_stopped
    assert not stage.guard.is_in_doubt
    stage.answer("continue", threadId=1)


@pytest.mark.parametrize("thread", ["1", None])
def test_an_event_that_names_no_thread_changes_nothing(thread: object) -> None:
    stage = session()
    stage.event("stopped", threadId=thread, allThreadsStopped=True)
    assert not stage.guard.is_stopped
    stage.stopped()
    stage.event("continued", threadId=thread, allThreadsContinued=True)
    assert stage.guard.is_stopped


# --- threads that stop one by one -------------------------------------------------------------------------


def test_threads_that_stop_one_by_one_resume_one_by_one() -> None:
    stage = session()
    stage.stopped(1, all_threads=False)
    stage.stopped(5, all_threads=False)
    assert stage.guard.stopped_threads == (1, 5)
    stage.forward("next", threadId=5)
    stage.answer("next", threadId=5)
    stage.continued(5, all_threads=False)
    assert stage.guard.stopped_threads == (1,)
    stage.forward("next", threadId=1)
    stage.answer("next", threadId=5)


def test_one_continue_is_for_all_that_are_stopped_unless_it_says_otherwise() -> None:
    stage = session()
    for thread in (1, 5):
        stage.stopped(thread, all_threads=False)
    stage.forward("continue", threadId=5, singleThread=True)
    stage.forward("continue", threadId=5)
    stage.answer("continue", threadId=1)
    stage.answer("continue", threadId=5, singleThread=True)
    stage.continued(5)
    assert stage.guard.stopped_threads == ()


def test_a_stop_of_all_threads_is_over_when_one_goes_on() -> None:
    stage = paused()
    stage.continued(5, all_threads=False)
    assert not stage.guard.is_stopped


def test_a_step_without_a_thread_is_for_all() -> None:
    stage = session()
    stage.stopped(1, all_threads=False)
    stage.stopped(5, all_threads=False)
    stage.forward("next")
    stage.answer("next", threadId=5)


# --- what makes a thread go on elsewhere, and what needs a stopped one ------------------------------------


@pytest.mark.parametrize("command", sorted(JUMPS))
def test_a_jump_is_a_resume_too_but_fails_without_a_stop(command: str) -> None:
    stage = paused(supportsStepBack=True, supportsRestartFrame=True)
    stage.forward(command, threadId=1, targetId=0)
    assert stage.answer(command, threadId=1, targetId=0)["success"] is False
    assert stage.answer("continue", threadId=1)["success"] is True


def test_a_jump_that_fails_leaves_the_stop() -> None:
    stage = paused()
    stage.reply(stage.forward("goto", threadId=1, targetId=0), success=False)
    stage.forward("continue", threadId=1)


def test_a_jump_ends_in_another_stop() -> None:
    stage = paused()
    stage.reply(stage.forward("goto", threadId=1, targetId=0))
    stage.continued()
    stage.stopped()
    stage.forward("continue", threadId=1)


def test_an_exception_is_asked_about_only_while_its_thread_is_stopped() -> None:
    stage = paused()
    stage.done("exceptionInfo", threadId=1)
    stage.forward("continue", threadId=1)
    assert stage.answer("exceptionInfo", threadId=1)["success"] is False


@pytest.mark.parametrize("command", sorted(NEEDS_CAPABILITY))
def test_what_the_debugger_does_not_know_is_refused_here(command: str) -> None:
    for stage in (Stage(), session(), paused(supportsGotoTargetsRequest=True)):
        reply = stage.answer(command, threadId=1)
        assert reply["success"] is False
        assert command in str(reply["message"])


@pytest.mark.parametrize("command", sorted(NEEDS_CAPABILITY))
def test_what_the_debugger_says_that_it_knows_passes(command: str) -> None:
    assert paused(**{NEEDS_CAPABILITY[command]: True}).ask(command, threadId=1) == AS_IT_IS


# --- the session ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["disconnect", "terminate"])
def test_what_ends_a_session_is_answered_with_success_if_there_is_none(command: str) -> None:
    stage = Stage()
    assert stage.answer(command)["success"] is True
    stage = session()
    stage.done("disconnect", restart=False)
    assert not stage.guard.is_active
    assert stage.answer(command)["success"] is True


def test_a_second_disconnect_is_answered_while_the_first_is_on_its_way() -> None:
    stage = session()
    first = stage.forward("disconnect")
    assert stage.answer("disconnect")["success"] is True
    stage.reply(first)
    assert stage.answer("disconnect")["success"] is True


def test_a_disconnect_behind_an_initialize_passes() -> None:
    stage = Stage()
    stage.forward("initialize")
    stage.forward("disconnect")
    stage.answer("disconnect")


def test_a_disconnect_that_got_lost_is_possible_again() -> None:
    stage = paused()
    request = stage.forward("disconnect")
    stage.answer("continue", threadId=1)
    stage.guard.failed(request)
    assert stage.guard.is_in_doubt
    assert stage.guard.is_stopped
    stage.forward("disconnect")


@pytest.mark.parametrize("success", [True, False])
def test_whatever_the_reply_to_disconnect_the_session_is_over(success: bool) -> None:
    stage = paused()
    stage.reply(stage.forward("disconnect"), success=success)
    assert not stage.guard.is_active
    assert not stage.guard.is_stopped
    stage.answer("continue", threadId=1)


def test_terminate_is_for_the_debugger_while_there_is_a_session() -> None:
    session().forward("terminate")


def test_a_session_that_has_terminated_is_not_active_but_its_disconnect_passes() -> None:
    stage = paused()
    stage.event("terminated")
    assert not stage.guard.is_active
    assert not stage.guard.is_stopped
    assert not stage.guard.is_in_doubt
    stage.done("disconnect")
    stage.answer("disconnect")


def test_a_session_that_has_terminated_is_not_revived_by_what_debug_info_says() -> None:
    stage = paused()
    stage.event("terminated")
    stage.done("debugInfo", stage.info())
    assert not stage.guard.is_active
    assert stage.look() == []
    assert stage.look(started=False) == []


def test_a_session_begun_again_stops_again() -> None:
    stage = paused()
    stage.reply(stage.forward("continue", threadId=1))
    stage.event("terminated")
    stage.done("disconnect")
    stage.stopped()  # one that was late
    assert not stage.guard.is_stopped
    stage.done("initialize")
    assert stage.guard.is_active
    stage.answer("continue", threadId=1)
    stage.stopped()
    stage.forward("continue", threadId=1)


def test_a_stop_of_the_session_before_does_not_count_in_the_next() -> None:
    stage = paused()
    disconnect, initialize = stage.forward("disconnect"), stage.forward("initialize")
    assert not stage.guard.is_stopped
    stage.answer("continue", threadId=1)
    stage.reply(disconnect)
    stage.reply(initialize)
    stage.answer("continue", threadId=1)


def test_a_second_initialize_in_a_session_leaves_its_stop() -> None:
    stage = paused()
    stage.reply(stage.forward("initialize"), success=False)
    assert stage.guard.is_active
    stage.forward("continue", threadId=1)


def test_an_initialize_that_fails_starts_nothing() -> None:
    stage = Stage()
    stage.reply(stage.forward("initialize"), success=False)
    assert not stage.guard.is_active
    stage.answer("disconnect")


def test_an_attach_that_succeeds_shows_that_there_is_a_session() -> None:
    stage = Stage()
    stage.reply(stage.forward("attach"), success=False)
    assert not stage.guard.is_active
    stage.done("attach")
    assert stage.guard.is_active


def test_another_kernel_has_no_session_and_other_files_but_the_same_project() -> None:
    stage = paused(POSIX)
    assert not stage.guard.needs_debug_info
    stage.guard.kernel_replaced()
    assert not stage.guard.is_active
    assert not stage.guard.is_stopped
    assert stage.guard.needs_debug_info
    assert stage.ask("initialize", shell_busy=True) == Hold()


# --- initialize while a cell runs -------------------------------------------------------------------------


def test_initialize_is_held_while_shell_is_busy() -> None:
    stage = Stage()
    first, second = stage.request("initialize"), stage.request("initialize")
    assert stage.guard.request(first, shell_busy=True) == Hold()
    assert stage.ask("debugInfo", shell_busy=True) == AS_IT_IS
    assert stage.guard.request(second, shell_busy=True) == Hold()
    assert stage.guard.request(first, shell_busy=False) == AS_IT_IS
    assert stage.guard.request(second, shell_busy=True) == AS_IT_IS


def test_initialize_needs_shell_once_in_a_kernels_life() -> None:
    stage = session()
    assert stage.ask("initialize", shell_busy=True) == AS_IT_IS
    stage = session()
    stage.done("disconnect")
    assert stage.ask("initialize", shell_busy=True) == AS_IT_IS


def test_a_session_of_another_client_has_made_the_debugger_listen() -> None:
    stage = Stage()
    stage.done("debugInfo", stage.info())
    stage.done("debugInfo", stage.info(started=False))
    assert stage.ask("initialize", shell_busy=True) == AS_IT_IS


# --- replies that are none --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["dumpCell", "attach", "initialize", "debugInfo", "stackTrace"])
def test_an_empty_reply_becomes_a_failure_that_says_why(command: str) -> None:
    stage = Stage()
    request = stage.forward(command)
    reply = stage.guard.reply(request, {})
    assert reply is not None
    assert reply == {
        "type": "response",
        "seq": 1,
        "request_seq": 1,
        "command": command,
        "success": False,
        "message": reply["message"],
        "body": {},
    }
    assert command in str(reply["message"])
    assert not stage.guard.is_active


def test_what_is_missing_in_a_good_reply_is_filled_in() -> None:
    stage = Stage()
    body = {"modules": [], "totalModules": 0}
    request = stage.forward("modules")
    assert stage.guard.reply(request, {"body": body}) == {
        "type": "response",
        "seq": 1,
        "request_seq": 1,
        "command": "modules",
        "success": True,
        "body": body,
    }
    request = stage.forward("richInspectVariables")
    content = {"type": "response", "sequence_seq": 2, "success": False, "command": "richInspectVariables"}
    reply = stage.guard.reply(request, content)
    assert reply is not None
    assert content.items() <= reply.items()
    assert reply["request_seq"] == 2


def test_a_missing_reply_is_a_failure_that_says_why() -> None:
    request = Stage().request("scopes", seq=8)
    assert DebugGuard.missing_reply(request, why="the link was lost") == {
        "type": "response",
        "seq": 8,
        "request_seq": 8,
        "command": "scopes",
        "success": False,
        "message": "the link was lost",
        "body": {},
    }


def test_without_a_kernel_debug_info_says_that_nothing_is_debugged_in_words_that_frontends_accept() -> None:
    reply = DebugGuard.debug_info_without_kernel(Stage().request("debugInfo", seq=0))
    assert (reply["success"], reply["request_seq"]) == (True, 0)
    body = reply["body"]
    assert isinstance(body, dict)
    assert (body["isStarted"], body["hashMethod"], body["stoppedThreads"]) == (False, "Murmur2", [])


# --- what debugInfo tells ---------------------------------------------------------------------------------


def test_a_frontend_that_finds_a_stop_in_debug_info_may_resume_it() -> None:
    stage = Stage()
    stage.done("debugInfo", stage.info(threads=(1, 2)))
    assert stage.guard.is_active
    assert stage.guard.is_stopped
    stage.forward("continue", threadId=1)
    stage.answer("continue", threadId=1)


def test_the_stopped_event_of_a_stop_that_is_known_already_is_no_second_stop() -> None:
    stage = session()
    stage.done("debugInfo", stage.info(threads=(1, 2)))
    resume = stage.forward("continue", threadId=1)
    stage.stopped()
    assert stage.guard.stopped_threads == (1,)
    stage.answer("continue", threadId=1)
    stage.reply(resume)
    stage.answer("continue", threadId=1)


def test_debug_info_that_is_older_than_what_is_known_does_not_count() -> None:
    stage = paused()
    info = stage.forward("debugInfo")
    stage.continued()
    stage.reply(info, stage.info(threads=(1,)))
    assert not stage.guard.is_stopped
    stage.guard.reply(stage.request("debugInfo"), {"success": True, "body": stage.info(threads=(1,))})
    assert not stage.guard.is_stopped


def test_debug_info_right_after_a_step_does_not_make_a_second_one_possible() -> None:
    stage = paused()
    stage.done("next", threadId=1)
    stage.done("debugInfo", stage.info(threads=(1,)))
    stage.answer("next", threadId=1)


def test_debug_info_of_before_a_disconnect_does_not_count() -> None:
    stage = session()
    info, disconnect = stage.forward("debugInfo"), stage.forward("disconnect")
    stage.reply(info, stage.info())
    stage.answer("disconnect")
    stage.reply(disconnect)
    assert not stage.guard.is_active


def test_debug_info_that_knows_of_no_session_ends_it() -> None:
    stage = paused()
    stage.done("debugInfo", stage.info(started=False))
    assert not stage.guard.is_active
    assert not stage.guard.is_stopped
    stage.answer("disconnect")
    assert [event["event"] for event in stage.look(started=False)] == ["terminated"]


def test_an_empty_or_odd_debug_info_changes_nothing() -> None:
    stage = paused()
    stage.guard.reply(stage.forward("debugInfo"), {})
    assert stage.guard.is_active
    stage.done("debugInfo", {"isStarted": True, "tmpFilePrefix": None, "stoppedThreads": None})
    stage.done("debugInfo", {"isStarted": True, "stoppedThreads": ["x"]})
    assert stage.guard.is_stopped


# --- our own questions ------------------------------------------------------------------------------------


def test_nothing_is_made_up_where_all_is_known() -> None:
    assert Stage().look(started=False) == []
    assert session().look() == []
    assert paused().look(threads=(1, 2)) == []


def test_a_stop_that_was_never_told_is_told_and_may_be_resumed() -> None:
    stage = session()
    [event] = stage.look(threads=(6, 1, 3))
    assert event["type"] == "event"
    assert event["event"] == "stopped"
    assert event["body"] == {"reason": "pause", "threadId": 1, "allThreadsStopped": True}
    assert stage.guard.stopped_threads == (6, 1, 3)
    assert stage.look(threads=(6, 1, 3)) == []
    stage.forward("continue", threadId=1)


def test_a_stop_that_a_frontend_found_by_itself_is_told_to_the_others() -> None:
    stage = session()
    stage.done("debugInfo", stage.info(threads=(1,)))
    assert stage.guard.is_in_doubt
    assert [event["event"] for event in stage.look(threads=(1,))] == ["stopped"]
    assert not stage.guard.is_in_doubt


def test_a_cell_that_goes_on_is_told_to_go_on() -> None:
    stage = paused()
    [event] = stage.look()
    assert event["event"] == "continued"
    assert event["body"] == {"threadId": 1, "allThreadsContinued": True}
    assert not stage.guard.is_stopped
    assert stage.look() == []
    stage.answer("continue", threadId=1)


def test_a_debugger_that_is_gone_is_told_to_be_gone() -> None:
    stage = paused()
    assert [event["event"] for event in stage.look(started=False)] == ["terminated"]
    assert not stage.guard.is_active
    assert not stage.guard.is_in_doubt
    assert stage.look(started=False) == []
    stage.answer("disconnect")


def test_a_resume_whose_reply_was_lost_did_get_through() -> None:
    stage = paused()
    request = stage.forward("continue", threadId=1)
    stage.guard.own_debug_info(seq=0)
    stage.guard.failed(request)
    assert [event["event"] for event in stage.look()] == ["continued"]
    assert not stage.guard.is_in_doubt
    stage.answer("continue", threadId=1)


def test_after_a_step_one_look_at_a_stopped_thread_proves_nothing_and_two_do() -> None:
    stage = paused()
    stage.done("next", threadId=1)
    assert stage.guard.is_in_doubt
    assert stage.look(threads=(1,)) == []
    assert stage.guard.is_in_doubt
    stage.answer("next", threadId=1)
    assert [event["event"] for event in stage.look(threads=(1,))] == ["stopped"]
    assert not stage.guard.is_in_doubt
    stage.forward("next", threadId=1)


def test_a_step_that_has_gone_on_unheard_is_in_doubt_no_more() -> None:
    stage = paused()
    stage.done("next", threadId=1)
    assert stage.look() == []
    assert not stage.guard.is_in_doubt
    stage.stopped()
    stage.forward("next", threadId=1)


def test_events_that_come_late_behind_a_flood_do_not_make_a_second_resume_possible() -> None:
    stage = paused()
    stage.done("continue", threadId=1)
    late = [stage.number + 1, stage.number + 2]  # `continued` and the next `stopped`
    stage.number += 2
    stage.look(threads=(1,))
    assert [event["event"] for event in stage.look(threads=(1,))] == ["stopped"]
    resume = stage.forward("continue", threadId=1)
    for number, name in zip(late, ("continued", "stopped"), strict=True):
        body = {"threadId": 1, "allThreadsContinued": True, "allThreadsStopped": True}
        stage.guard.event({"type": "event", "seq": number, "event": name, "body": body})
        stage.answer("continue", threadId=1)
    stage.reply(resume)
    stage.continued()
    assert not stage.guard.is_stopped


def test_events_that_were_dropped_are_not_waited_for() -> None:
    stage = paused()
    stage.done("continue", threadId=1)
    stage.look(threads=(1,))
    stage.look(threads=(1,))
    stage.done("continue", threadId=1)
    stage.continued()
    stage.stopped()
    stage.forward("continue", threadId=1)


def test_a_stop_told_anew_after_a_lost_continued_is_a_stop() -> None:
    stage = paused()
    stage.done("continue", threadId=1)
    stage.look(threads=(1,))
    stage.look(threads=(1,))
    stage.stopped()
    stage.forward("continue", threadId=1)
    stage.answer("continue", threadId=1)


def test_a_look_that_something_overtook_is_taken_again() -> None:
    stage = session()
    request = dict(stage.guard.own_debug_info(seq=0))
    assert dict(stage.guard.own_debug_info(seq=0)) == request
    stage.stopped()
    stage.reply(request, stage.info())
    assert stage.guard.reconcile(stage.info()) == []
    assert stage.guard.is_stopped
    assert stage.guard.is_in_doubt
    assert stage.look(threads=(1,)) == []
    assert not stage.guard.is_in_doubt


def test_a_look_while_a_session_begins_or_ends_proves_nothing() -> None:
    stage = session()
    disconnect = stage.forward("disconnect")
    assert stage.look() == []
    assert stage.guard.is_in_doubt
    stage.reply(disconnect)
    assert stage.look(started=False) == []
    assert not stage.guard.is_in_doubt


def test_a_debug_info_of_a_frontend_that_got_lost_raises_no_doubt() -> None:
    stage = session()
    stage.guard.failed(stage.forward("debugInfo"))
    assert not stage.guard.is_in_doubt


def test_our_own_disconnect_ends_the_session() -> None:
    stage = paused()
    request = dict(stage.guard.own_disconnect(seq=0))
    assert request["command"] == "disconnect"
    assert request["arguments"]["terminateDebuggee"] is False
    assert stage.guard.own_disconnect(seq=0) == request
    assert stage.answer("disconnect")["success"] is True
    assert stage.answer("continue", threadId=1)["success"] is True
    assert stage.reply(request) is None
    assert not stage.guard.is_active
    assert not stage.guard.is_stopped


# --- attach -----------------------------------------------------------------------------------------------


def test_without_a_project_attach_passes_as_it_is() -> None:
    stage = session()
    assert not stage.guard.needs_debug_info
    stage.forward("attach", justMyCode=True, pathMappings=[])


def test_attach_gets_the_projects_mapping_once_it_is_known_where_cells_are() -> None:
    stage = Stage(POSIX)
    stage.done("initialize")
    assert stage.guard.needs_debug_info
    stage.forward("attach", justMyCode=True)
    stage.look()
    assert not stage.guard.needs_debug_info
    decision = stage.ask("attach", justMyCode=True)
    assert isinstance(decision, Forward)
    assert decision.content is not None
    identity = {"localRoot": PREFIX, "remoteRoot": PREFIX}
    assert decision.content["command"] == "attach"
    assert decision.content["arguments"] == {
        "justMyCode": True,
        "pathMappings": [identity, POSIX.for_debugpy()],
    }


def test_a_project_may_become_known_later() -> None:
    stage = session()
    stage.guard.use([POSIX])
    decision = stage.ask("attach")
    assert isinstance(decision, Forward)
    assert decision.content is not None


def test_an_attach_without_arguments_passes() -> None:
    stage = session(POSIX)
    assert stage.guard.request({"command": "attach", "seq": 1}, shell_busy=False) == AS_IT_IS


# --- paths ------------------------------------------------------------------------------------------------


def path_of(decision: Forward | Answer | Hold) -> str | None:
    """The path of the source in what is forwarded; None if it goes as it is."""
    assert isinstance(decision, Forward)
    if decision.content is None:
        return None
    arguments = decision.content["arguments"]
    assert isinstance(arguments, dict)
    source = arguments["source"]
    assert isinstance(source, dict)
    path = source["path"]
    assert isinstance(path, str)
    return path


def at(path: object, *lines: int) -> Content:
    """The arguments of setBreakpoints."""
    return {"source": {"name": "x", "path": path}, "breakpoints": [{"line": line} for line in lines]}


def frames(*paths: str) -> Content:
    """The body of a stackTrace reply."""
    return {"stackFrames": [{"id": 1, "source": {"path": path, "sourceReference": 0}} for path in paths]}


@pytest.mark.parametrize(
    "path",
    [
        CELL,
        "/home/ada/project/a.py",
        "vscode-notebook-cell:/home/ada/a.ipynb#W0",
        "C:\\Users\\Ada\\project\\a.py",
        "\\tmp\\other\\1.py",
        None,
    ],
)
def test_breakpoints_go_to_debugpy_which_maps_paths_itself(path: object) -> None:
    stage = session(POSIX)
    assert path_of(stage.ask("setBreakpoints", **at(path, 3))) is None
    assert stage.ask("setBreakpoints", source="odd") == AS_IT_IS
    assert stage.done("stackTrace", frames(CELL, "/home/ada/project/a.py")) is None


def test_a_cell_with_the_separators_of_windows_is_found_and_comes_back_the_same_way() -> None:
    disguised = CELL.replace("/", "\\")
    stage = session()
    assert stage.done("stackTrace", frames(CELL)) is None
    decision = stage.ask("setBreakpoints", **at(disguised, 3))
    assert path_of(decision) == CELL
    assert isinstance(decision, Forward)
    assert decision.content is not None
    assert decision.content["arguments"] == at(CELL, 3)
    breakpoint_ = {"verified": True, "id": 0, "source": {"path": CELL}, "line": 3}
    reply = stage.reply(dict(decision.content), {"breakpoints": [breakpoint_]})
    assert reply["body"] == {"breakpoints": [{**breakpoint_, "source": {"path": disguised}}]}
    library = "/usr/lib/python3.13/wave.py"
    assert stage.done("stackTrace", frames(CELL, library))["body"] == frames(disguised, library)
    assert stage.done("evaluate", {"result": CELL}) is None
    assert stage.event("breakpoint", reason="changed", breakpoint=breakpoint_)["body"] == {
        "reason": "changed",
        "breakpoint": {**breakpoint_, "source": {"path": disguised}},
    }
    assert stage.event("output", source={}, output="x")["body"] == {"source": {}, "output": "x"}


def test_before_it_is_known_where_cells_are_no_path_is_taken_for_one() -> None:
    stage = Stage()
    assert path_of(stage.ask("setBreakpoints", **at("\\tmp\\ipykernel_7\\1.py", 3))) is None


def test_debugpy_that_knows_a_client_on_windows_gets_and_gives_plain_paths_of_the_runtime() -> None:
    stage = session(WINDOWS)
    library, disguised = "/usr/lib/python3.13/wave.py", "\\usr\\lib\\python3.13\\wave.py"
    local = "C:\\Users\\Ada\\project\\a.py"
    shown = stage.done("stackTrace", frames(CELL.replace("/", "\\"), disguised, local))["body"]
    assert shown == frames(CELL, library, local)
    assert path_of(stage.ask("source", source={"path": disguised}, sourceReference=1)) == library
    assert path_of(stage.ask("setBreakpoints", **at(local, 3))) is None


def test_the_text_of_a_project_file_is_asked_for_by_its_path_on_the_runtime() -> None:
    stage = session(POSIX, PathMapping(local_root="/home/ada/lib", remote_root="/content/lib"))
    assert path_of(stage.ask("source", source={"path": "/home/ada/lib/b.py"})) == "/content/lib/b.py"
    assert path_of(stage.ask("source", source={"path": "/usr/lib/python3.13/wave.py"})) is None
    stage = session(WINDOWS)
    local = "c:\\Users\\Ada\\project\\sub\\a.py"
    assert path_of(stage.ask("source", source={"path": local})) == "/content/project/sub/a.py"


# --- breakpoints taken away from a cell -------------------------------------------------------------------

URI = "vscode-notebook-cell:/home/ada/a.ipynb#W2sZmlsZQ%3D%3D"


def dumped(stage: Stage, code: object, path: object) -> None:
    stage.done("dumpCell", {"sourcePath": path}, code=code)


def test_breakpoints_are_taken_away_from_the_file_of_the_cell_that_ran() -> None:
    stage = session()
    dumped(stage, "a = 1", CELL)
    dumped(stage, "a = 2", PREFIX + "2.py")
    assert path_of(stage.ask("setBreakpoints", **at(URI))) is None
    stage.guard.cell_executed(cell_id=URI, code="a = 2")
    assert path_of(stage.ask("setBreakpoints", **at(URI))) == PREFIX + "2.py"
    stage.guard.cell_executed(cell_id=URI, code="a = 1")
    assert path_of(stage.ask("setBreakpoints", **at(URI))) == CELL
    assert path_of(stage.ask("setBreakpoints", **at(URI, 3))) is None
    assert path_of(stage.ask("setBreakpoints", **at("another"))) is None


def test_a_cell_that_was_not_dumped_has_no_file() -> None:
    stage = session()
    stage.guard.cell_executed(cell_id=URI, code="a = 1 \ud800")
    dumped(stage, None, CELL)
    dumped(stage, "a = 1 \ud800", None)
    stage.reply(stage.forward("dumpCell", code="a = 1 \ud800"), {"sourcePath": CELL}, success=False)
    assert path_of(stage.ask("setBreakpoints", **at(URI))) is None


def test_of_very_many_cells_the_oldest_are_forgotten() -> None:
    stage = session()
    for number in range(CELLS_AT_MOST + 1):
        dumped(stage, str(number), f"{PREFIX}{number}.py")
    for number in (0, CELLS_AT_MOST):
        stage.guard.cell_executed(cell_id=str(number), code=str(number))
    assert path_of(stage.ask("setBreakpoints", **at("0"))) is None
    assert path_of(stage.ask("setBreakpoints", **at(str(CELLS_AT_MOST)))) == f"{PREFIX}{CELLS_AT_MOST}.py"
