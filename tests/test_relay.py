"""The relay as transcripts: what scripted frontends see of a scripted remote kernel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from relay_stage import CONTROL, IOPUB, SHELL, STDIN, TERMS, Stage, make, stage

from colab_kernel.errors import MalformedError
from colab_kernel.path_mapping import PathMapping
from colab_kernel.relay_events import Connect, Dropped, InterruptKernel, KernelDied, Phase, Shutdown
from colab_kernel.terms import Terms

# --- what passes, passes byte for byte ---------------------------------------------------------------------


def test_a_cell_goes_there_and_its_answer_comes_back_as_it_was() -> None:
    with stage() as s:
        request = s.send_execute("print(1)")
        assert s.remote_gets("execute_request") == request
        s.remote_status("busy", of=request)
        printed = s.remote_sends(IOPUB, "stream", {"name": "stdout", "text": "1\n"}, of=request)
        reply = s.remote_replies(request)
        s.remote_status("idle", of=request)
        s.gets_busy(of=request)
        assert s.gets(IOPUB, "stream") == printed
        assert s.gets(SHELL, "execute_reply") == reply
        s.gets_idle(of=request)
        assert s.relay.in_flight == 0


def test_buffers_pass_both_ways_empty_ones_too() -> None:
    with stage() as s:
        request = s.send("comm_msg", {"comm_id": "c"}, buffers=(b"\0\1", b""))
        assert s.remote_gets("comm_msg").buffers == (b"\0\1", b"")
        s.remote_status("busy", of=request)
        s.remote_sends(IOPUB, "comm_msg", {"comm_id": "c"}, of=request, buffers=(b"", b"\2"))
        s.remote_status("idle", of=request)
        s.gets_busy()
        assert s.gets(IOPUB, "comm_msg").buffers == (b"", b"\2")
        s.gets_idle()
        assert s.relay.in_flight == 0


def test_a_reply_goes_to_the_client_that_asked() -> None:
    with stage() as s:
        first = s.send_execute(client=b"A")
        second = s.send_execute(client=b"B")
        for request in (first, second):
            assert s.remote_gets("execute_request") == request
            s.remote_answers(request)
        assert s.next_is_for(SHELL) == b"A"
        s.gets(SHELL, "execute_reply", of=first)
        assert s.next_is_for(SHELL) == b"B"
        s.gets(SHELL, "execute_reply", of=second)
        for request in (first, second):
            s.gets_busy(of=request)
            s.gets_idle(of=request)


def test_messages_of_unknown_types_pass() -> None:
    with stage() as s:
        request = s.send("colab_request", {"x": 1}, channel=CONTROL)
        assert s.remote_gets("colab_request") == request
        s.remote_answers(request)
        s.remote_sends(IOPUB, "never_heard_of", {"y": 2})
        s.gets_busy()
        s.gets(CONTROL, "colab_reply", of=request)
        s.gets_idle()
        s.gets(IOPUB, "never_heard_of")


def test_control_does_not_wait_behind_shell() -> None:
    with stage() as s:
        cell = s.send_execute()
        info = s.send("kernel_info_request", channel=CONTROL)
        assert s.remote_gets("kernel_info_request") == info
        assert s.remote_gets("execute_request") == cell
        for request in (info, cell):
            s.remote_answers(request)
            s.gets_busy(of=request)
            s.gets(request.channel, request.msg_type.replace("request", "reply"))
            s.gets_idle(of=request)


def test_what_a_cell_asks_goes_to_the_client_that_ran_it() -> None:
    with stage() as s:
        request = s.send_execute("input()", client=b"B")
        s.remote_gets("execute_request")
        question = s.remote_sends(STDIN, "input_request", {"prompt": "?"}, of=request)
        assert s.next_is_for(STDIN) == b"B"
        assert s.gets(STDIN, "input_request") == question
        answer = s.send("input_reply", {"value": "42"}, channel=STDIN, client=b"B")
        assert s.remote_gets("input_reply") == answer
        s.remote_answers(request)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_a_question_or_a_reply_for_nobody_is_dropped_and_told_to_the_log() -> None:
    with stage() as s:
        stranger = make(SHELL, "execute_request", msg_id="stranger_1")
        s.remote_sends(STDIN, "input_request", of=stranger)
        s.event(Dropped)
        s.remote_replies(stranger)
        s.event(Dropped)


def test_a_message_without_an_id_is_refused_and_changes_nothing() -> None:
    with stage() as s:
        empty = make(SHELL, "execute_request", msg_id="x")
        nameless = type(empty)(
            channel=SHELL, header=b"{}", parent_header=b"{}", metadata=b"{}", content=b"{}"
        )
        with pytest.raises(MalformedError):
            s.relay.receive_frontend(nameless, identities=(b"A",), now=s.now)
        with pytest.raises(MalformedError):
            s.relay.receive_remote(nameless, now=s.now)
        assert s.relay.in_flight == 0


def test_a_message_beyond_what_the_server_takes_is_answered_here() -> None:
    with stage() as s:
        request = s.send_execute("x" * (11 * 2**20))
        s.fails(request, saying="11.0 MiB long")
        widget = s.send("comm_msg", buffers=(bytes(11 * 2**20),))
        assert "10.0 MiB at most" in str(s.gets(IOPUB, "stream", of=widget).parsed_content["text"])
        s.gets_busy(of=widget)
        s.gets_idle(of=widget)
        assert s.relay.in_flight == 0


def test_a_message_that_this_framing_cannot_carry_is_answered_here() -> None:
    with stage() as s:
        request = s.send_execute()
        s.relay.unsendable(s.remote_gets("execute_request"), "not JSON", now=s.now)
        s.fails(request, saying="not JSON")
        s.relay.unsendable(request, "not JSON", now=s.now)


# --- before there is a remote kernel -----------------------------------------------------------------------


def test_kernel_info_is_answered_before_there_is_a_kernel_on_both_channels() -> None:
    with stage(opened=False) as s:
        for channel in (SHELL, CONTROL):
            request = s.send("kernel_info_request", channel=channel)
            s.gets_busy(of=request)
            reply = s.gets(channel, "kernel_info_reply", of=request).parsed_content
            s.gets_idle(of=request)
            assert reply["status"] == "ok"
            info = reply["language_info"]
            assert isinstance(info, dict)
            assert info["name"] == "python"


def test_the_first_answers_wait_until_somebody_listens_or_for_a_moment() -> None:
    s = Stage()
    s.relay = type(s.relay)(session="ours")
    s.send("kernel_info_request")
    assert s.relay.to_frontend(now=s.now) == []
    assert s.relay.to_frontend(now=s.now + 0.4) == []
    s.now += 0.6
    s.gets_busy()
    s.gets(SHELL, "kernel_info_reply")
    s.gets_idle()
    s.assert_empty()


def test_what_comes_before_the_kernel_waits_in_its_order() -> None:
    with stage(opened=False) as s:
        first, second = s.send_execute("1"), s.send_execute("2")
        debug = s.send_debug("debugInfo")
        s.opens()
        assert s.remote_gets("debug_request") == debug
        assert s.remote_gets("execute_request") == first
        assert s.remote_gets("execute_request") == second
        for request in (debug, first, second):
            s.remote_answers(request, _response("debugInfo") if request is debug else None)
            s.gets_busy()
            s.gets(request.channel, request.msg_type.replace("request", "reply"), of=request)
            s.gets_idle()


def test_the_kernel_enters_the_folder_before_it_runs_a_cell() -> None:
    terms = Terms(max_message_bytes=10**6, folders=("/content/p/sub", "/content/p"))
    with stage(opened=False) as s:
        cell = s.send_execute()
        s.relay.link_opened(terms=terms, now=s.now)
        s.remote_answers_probe()
        entering = s.remote_gets("execute_request")
        assert "/content/p/sub" in str(entering.parsed_content["code"])
        assert entering.parsed_content["silent"] is True
        assert s.remote_gets("execute_request") == cell
        s.remote_answers(entering)
        s.remote_answers(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply", of=cell)
        s.gets_idle(of=cell)


def test_without_a_runtime_each_cell_says_why_and_tries_again() -> None:
    with stage(opened=False) as s:
        cell, completion, debug = s.send_execute(), s.send("complete_request"), s.send_debug("initialize")
        s.relay.unreachable("Nobody listens at http://x.", now=s.now)
        for request in (cell, completion, debug):
            s.fails(request, saying="Nobody listens")
        assert s.relay.phase is Phase.UNREACHABLE
        completion = s.send("complete_request")
        s.fails(completion, saying="Nobody listens")
        again = s.send_execute()
        s.event(Connect)
        s.opens()
        assert s.remote_gets("execute_request") == again
        s.remote_answers(again)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_without_a_runtime_debug_info_is_well_formed_all_the_same() -> None:
    with stage(opened=False) as s:
        s.relay.unreachable("Nobody listens.", now=s.now)
        request = s.send_debug("debugInfo", seq=3)
        s.gets_busy(of=request)
        reply = s.gets(CONTROL, "debug_reply", of=request).parsed_content
        s.gets_idle(of=request)
        assert (reply["success"], reply["request_seq"], reply["command"]) == (True, 3, "debugInfo")
        body = reply["body"]
        assert isinstance(body, dict)
        assert body["isStarted"] is False


def test_is_complete_has_no_error_and_says_that_it_does_not_know() -> None:
    with stage(opened=False) as s:
        s.relay.unreachable("Nobody listens.", now=s.now)
        request = s.send("is_complete_request", {"code": "1"})
        s.gets_busy(of=request)
        assert s.gets(SHELL, "is_complete_reply").parsed_content == {"status": "unknown"}
        s.gets_idle(of=request)


# --- interrupt and shutdown --------------------------------------------------------------------------------


def test_an_interrupt_goes_past_the_control_channel() -> None:
    with stage() as s:
        request = s.send("interrupt_request", channel=CONTROL)
        s.event(InterruptKernel)
        s.gets_busy(of=request)
        s.relay.interrupted(None, now=s.now)
        assert s.gets(CONTROL, "interrupt_reply", of=request).parsed_content == {"status": "ok"}
        s.gets_idle(of=request)


def test_an_interrupt_that_fails_says_why() -> None:
    with stage() as s:
        request = s.send("interrupt_request", channel=CONTROL)
        s.event(InterruptKernel)
        s.gets_busy()
        s.relay.interrupted("no answer", now=s.now)
        s_reply = s.gets(CONTROL, "interrupt_reply", of=request).parsed_content
        s.gets_idle()
        assert (s_reply["status"], s_reply["evalue"]) == ("error", "no answer")


def test_a_signal_interrupts_and_answers_nobody() -> None:
    with stage() as s:
        s.relay.interrupt(now=s.now)
        s.event(InterruptKernel)
        s.relay.interrupted(None, now=s.now)


def test_an_interrupt_before_there_is_a_kernel_ends_the_cells_that_wait() -> None:
    with stage(opened=False) as s:
        cell = s.send_execute()
        interrupt = s.send("interrupt_request", channel=CONTROL)
        s.gets_busy(of=interrupt)
        s.fails(cell, saying="Interrupted before")
        s.gets(CONTROL, "interrupt_reply", of=interrupt)
        s.gets_idle(of=interrupt)


def _response(command: str, *, seq: int = 1, body: object = None) -> dict[str, object]:
    """What a debugger answers that has done as it was told."""
    done = {"type": "response", "request_seq": seq, "command": command, "success": True}
    return {**done, "body": body or {}}


def _debug_session(s: Stage) -> None:
    """Brings the stage to a debugger's session: initialize and attach."""
    for seq, command in enumerate(("initialize", "attach"), start=1):
        request = s.send_debug(command, seq=seq)
        s.remote_gets("debug_request")
        s.remote_answers(request, _response(command, seq=seq))
        s.gets_busy()
        s.gets(CONTROL, "debug_reply")
        s.gets_idle()


def _stop(s: Stage) -> None:
    body = {"reason": "breakpoint", "threadId": 1}
    s.remote_sends(IOPUB, "debug_event", {"type": "event", "event": "stopped", "body": body})
    s.gets(IOPUB, "debug_event")


def test_a_paused_kernel_is_interrupted_after_the_debugger_let_go() -> None:
    with stage() as s:
        _debug_session(s)
        _stop(s)
        request = s.send("interrupt_request", channel=CONTROL)
        s.gets_busy(of=request)
        farewell = s.remote_gets("debug_request")
        assert farewell.parsed_content["command"] == "disconnect"
        again = s.send("interrupt_request", channel=CONTROL)
        s.gets_busy(of=again)
        s.remote_answers(
            farewell,
            {"type": "response", "request_seq": 0, "command": "disconnect", "success": True, "body": {}},
        )
        s.event(InterruptKernel)
        s.relay.interrupted(None, now=s.now)
        for one in (request, again):
            s.gets(CONTROL, "interrupt_reply", of=one)
            s.gets_idle(of=one)


def test_a_paused_kernel_whose_debugger_says_nothing_is_interrupted_all_the_same() -> None:
    with stage() as s:
        _debug_session(s)
        _stop(s)
        request = s.send("interrupt_request", channel=CONTROL)
        s.gets_busy(of=request)
        s.remote_gets("debug_request")
        s.passes_time(1.9)
        s.passes_time(0.2)
        s.event(InterruptKernel)
        s.relay.interrupted(None, now=s.now)
        s.gets(CONTROL, "interrupt_reply", of=request)
        s.gets_idle(of=request)


def test_a_shutdown_is_answered_at_once_and_told_to_all() -> None:
    with stage() as s:
        request = s.send("shutdown_request", {"restart": True}, channel=CONTROL)
        s.gets_busy(of=request)
        assert s.gets(CONTROL, "shutdown_reply").parsed_content == {"status": "ok", "restart": True}
        s.gets(IOPUB, "shutdown_reply", of=request)
        s.gets_idle(of=request)
        s.event(Shutdown)
        s.relay.kernel_died("too late to matter", now=s.now)


# --- the remote kernel ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["restarting", "dead"])
def test_a_remote_kernel_that_dies_ends_every_request_and_the_process(state: str) -> None:
    with stage() as s:
        cell, interrupt = s.send_execute(), s.send("interrupt_request", channel=CONTROL)
        s.remote_gets("execute_request")
        s.event(InterruptKernel)
        s.remote_sends(IOPUB, "status", {"execution_state": state}, kernel="server_1")
        s.gets_busy(of=interrupt)
        s.fails(cell, saying="died")
        s.fails(interrupt, saying="died", is_busy=True)
        assert "died" in s.event(KernelDied).sentence
        late = s.send_execute()
        s.fails(late, saying="died")


def test_a_kernel_that_somebody_else_shuts_down_is_gone_too() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_sends(IOPUB, "shutdown_reply", {"restart": True}, of=make(CONTROL, "x", msg_id="foreign"))
        s.fails(cell, saying="somebody else")
        s.event(KernelDied)


def test_a_reply_of_another_process_means_that_the_kernel_was_replaced() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_sends(SHELL, "execute_reply", of=cell, kernel="kernel_8")
        s.fails(cell, saying="somebody else")
        s.event(KernelDied)


def test_what_the_server_itself_says_on_iopub_is_no_other_kernel() -> None:
    with stage() as s:
        s.remote_sends(IOPUB, "stream", {"name": "stderr", "text": "hello"}, kernel="server_1")
        s.gets(IOPUB, "stream")


# --- one reply and one idle, whatever is lost --------------------------------------------------------------


def test_a_status_of_a_later_request_shows_that_an_idle_is_lost() -> None:
    with stage() as s:
        first, second = s.send_execute("1"), s.send_execute("2")
        for _ in range(2):
            s.remote_gets("execute_request")
        s.remote_status("busy", of=first)
        s.remote_replies(first)
        s.gets_busy(of=first)
        s.gets(SHELL, "execute_reply", of=first)
        s.remote_status("busy", of=second)
        s.gets_idle(of=first)
        s.gets_busy(of=second)
        s.remote_replies(second)
        s.remote_status("idle", of=second)
        s.gets(SHELL, "execute_reply", of=second)
        s.gets_idle(of=second)
        assert s.relay.in_flight == 0


def test_the_kernel_is_asked_about_an_idle_that_does_not_come() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_status("busy", of=cell)
        s.remote_replies(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply", of=cell)
        s.passes_time(0.9)
        s.passes_time(0.2)
        s.passes_time(0.2)
        s.remote_answers_probe()
        s.gets_idle(of=cell)
        assert s.relay.in_flight == 0
        s.remote_status("idle", of=cell)  # and if it comes after all, that is one too many


def test_a_debugger_that_says_idle_and_nothing_else_has_failed() -> None:
    with stage() as s:
        request = s.send_debug("debugInfo")
        s.remote_gets("debug_request")
        s.remote_status("busy", of=request)
        s.remote_status("idle", of=request)
        s.gets_busy(of=request)
        s.gets_idle(of=request)
        s.passes_time(1.1)
        s.remote_answers_probe()
        reply = s.gets(CONTROL, "debug_reply", of=request).parsed_content
        assert (reply["success"], reply["command"]) == (False, "debugInfo")
        assert s.relay.in_flight == 0


def test_an_empty_debug_reply_is_repaired() -> None:
    with stage() as s:
        request = s.send_debug("stackTrace", seq=9, arguments={"threadId": 1})
        s.remote_gets("debug_request")
        s.remote_status("busy", of=request)
        s.remote_sends(CONTROL, "debug_reply", {}, of=request)
        s.remote_status("idle", of=request)
        s.gets_busy()
        reply = s.gets(CONTROL, "debug_reply").parsed_content
        s.gets_idle()
        assert (reply["type"], reply["request_seq"], reply["success"]) == ("response", 9, False)


def test_a_reply_that_comes_twice_is_passed_on_once() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_answers(cell)
        s.remote_replies(cell)
        s.event(Dropped)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


# --- the link breaks and comes back ------------------------------------------------------------------------


def test_what_had_no_answer_goes_again_byte_for_byte() -> None:
    with stage() as s:
        done, running, waiting = s.send_execute("1"), s.send_execute("2"), s.send_execute("3")
        for _ in range(3):
            s.remote_gets("execute_request")
        s.remote_answers(done)
        s.remote_status("busy", of=running)
        s.breaks()
        later = s.send_execute("4")
        s.reopens()
        s.remote_answers_probe()
        for request in (running, waiting, later):
            assert s.remote_gets("execute_request") == request
        probe = s.remote_gets("kernel_info_request")
        for request in (running, waiting, later):
            s.remote_answers(request)
        s.remote_answers(probe)
        s.gets_busy(of=done)
        s.gets(SHELL, "execute_reply", of=done)
        s.gets_idle(of=done)
        for request in (running, waiting, later):
            s.gets_busy(of=request)
            if request is running:
                s.gets_busy(of=request)
            s.gets(SHELL, "execute_reply", of=request)
            s.gets_idle(of=request)


def test_a_reply_that_was_lost_is_told_from_a_request_that_was() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        s.remote_gets("execute_request")
        # The kernel had it before, refuses it, and goes on to the question behind it.
        s.remote_answers_probe()
        s.fails(cell, saying="answer was lost")
        assert s.relay.in_flight == 0


def test_each_subshell_is_a_lane_of_its_own() -> None:
    with stage() as s:
        cell = s.send_execute(subshell_id="sub")
        s.remote_gets("execute_request")
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        s.remote_gets("execute_request")
        probe = s.remote_gets("kernel_info_request")
        assert probe.parsed_header["subshell_id"] == "sub"
        s.remote_answers(cell)
        s.remote_answers(probe)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply", of=cell)
        s.gets_idle(of=cell)


def test_questions_of_an_earlier_link_are_not_asked_again() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        for _ in range(2):
            s.breaks()
            s.reopens()
        s.remote_answers_probe()
        s.remote_gets("execute_request")
        s.remote_answers(cell)
        s.remote_answers_probe()
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_an_answer_to_a_question_goes_again_too() -> None:
    with stage() as s:
        cell = s.send_execute("input()")
        s.remote_gets("execute_request")
        s.remote_sends(STDIN, "input_request", of=cell)
        s.gets(STDIN, "input_request")
        answer = s.send("input_reply", {"value": "1"}, channel=STDIN)
        s.remote_gets("input_reply")
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        assert s.remote_gets("input_reply") == answer
        s.remote_gets("execute_request")
        probe = s.remote_gets("kernel_info_request")
        s.remote_answers(cell)
        s.remote_answers(probe)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_an_answer_that_nobody_asked_for_is_passed_on() -> None:
    with stage() as s:
        answer = s.send("input_reply", {"value": "1"}, channel=STDIN)
        assert s.remote_gets("input_reply") == answer


def test_while_the_link_is_broken_control_learns_what_the_kernel_said_of_itself() -> None:
    with stage() as s:
        info = s.send("kernel_info_request")
        s.remote_gets("kernel_info_request")
        s.remote_answers(info, {"status": "ok", "implementation": "ipython"})
        s.gets_busy()
        s.gets(SHELL, "kernel_info_reply")
        s.gets_idle()
        s.breaks()
        request = s.send("kernel_info_request", channel=CONTROL)
        s.gets_busy(of=request)
        assert s.gets(CONTROL, "kernel_info_reply").parsed_content["implementation"] == "ipython"
        s.gets_idle(of=request)


def test_lost_output_is_counted_and_told_once() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_status("busy", of=cell)
        s.gets_busy()
        s.breaks()
        s.skips_numbers(50)
        s.reopens()
        s.remote_answers_probe()
        notice = s.gets(IOPUB, "stream", of=cell)
        assert "about 50 messages" in str(notice.parsed_content["text"])
        assert json.loads(notice.metadata) == {"colab_kernel": True}
        s.remote_gets("execute_request")
        probe = s.remote_gets("kernel_info_request")
        s.remote_answers(cell)
        s.remote_answers(probe)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_a_drop_that_loses_nothing_says_nothing() -> None:
    with stage() as s:
        s.breaks()
        s.skips_numbers(2)  # the server's own questions
        s.reopens()
        s.remote_answers_probe()


def test_replies_to_other_clients_are_not_taken_for_lost() -> None:
    with stage() as s:
        s.breaks()
        s.reopens()
        for n in range(8):
            other = make(SHELL, "kernel_info_request", msg_id=f"other_{n}")
            s.remote_status("busy", of=other)
            s.skips_numbers(1)
            s.remote_status("idle", of=other)
            s.gets_busy()
            s.gets_idle()
        s.remote_answers_probe()


def test_an_interrupt_over_a_broken_link_is_still_tried() -> None:
    with stage() as s:
        s.breaks()
        request = s.send("interrupt_request", channel=CONTROL)
        s.event(InterruptKernel)
        s.relay.interrupted("unreachable", now=s.now)
        s.fails(request, saying="unreachable")
        s.passes_time(100)


def test_a_closed_link_before_the_first_one_changes_nothing() -> None:
    with stage(opened=False) as s:
        s.breaks()
        assert s.relay.phase is Phase.CONNECTING


# --- the debugger ------------------------------------------------------------------------------------------


def _answer_debug(s: Stage, command: str, *, seq: int = 0, body: object = None) -> None:
    request = s.remote_gets("debug_request")
    assert request.parsed_content["command"] == command
    s.remote_answers(request, _response(command, seq=seq, body=body))


def test_a_second_continue_for_one_stop_is_answered_here() -> None:
    with stage() as s:
        _debug_session(s)
        _stop(s)
        first, second = s.send_debug("continue", seq=5), s.send_debug("continue", seq=6)
        s.gets_busy(of=second)
        assert s.gets(CONTROL, "debug_reply", of=second).parsed_content["success"] is True
        s.gets_idle(of=second)
        _answer_debug(s, "continue", seq=5)
        s.gets_busy(of=first)
        s.gets(CONTROL, "debug_reply", of=first)
        s.gets_idle(of=first)


def test_initialize_waits_for_a_cell_to_end_and_debug_info_does_not() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        initialize = s.send_debug("initialize", seq=1)
        attach = s.send_debug("attach", seq=2)
        info = s.send_debug("debugInfo", seq=3)
        _answer_debug(s, "debugInfo", seq=3)
        s.gets_busy(of=info)
        s.gets(CONTROL, "debug_reply", of=info)
        s.gets_idle(of=info)
        s.remote_answers(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply")
        s.gets_idle(of=cell)
        for request, command in ((initialize, "initialize"), (attach, "attach")):
            _answer_debug(s, command, seq=1 if command == "initialize" else 2)
            s.gets_busy(of=request)
            s.gets(CONTROL, "debug_reply", of=request)
            s.gets_idle(of=request)


def test_attach_learns_the_folders_of_both_sides() -> None:
    terms = Terms(
        max_message_bytes=10**6, mappings=(PathMapping(local_root="/home/a/p", remote_root="/content/p"),)
    )
    with stage(opened=False) as s:
        s.opens(terms)
        initialize = s.send_debug("initialize", seq=1)
        _answer_debug(s, "initialize", seq=1)
        attach = s.send_debug("attach", seq=2, arguments={"justMyCode": True})
        _answer_debug(s, "debugInfo", body={"isStarted": True, "tmpFilePrefix": "/tmp/ipykernel_1/"})
        sent = s.remote_gets("debug_request").parsed_content
        arguments = sent["arguments"]
        assert isinstance(arguments, dict)
        mapped = arguments["pathMappings"]
        assert isinstance(mapped, list)
        assert {"localRoot": "/home/a/p/", "remoteRoot": "/content/p/"} in mapped
        assert any(isinstance(one, dict) and one["localRoot"] == one["remoteRoot"] for one in mapped)
        s.remote_answers(attach, {"type": "response", "request_seq": 2, "command": "attach", "success": True})
        for request in (initialize, attach):
            s.gets_busy(of=request)
            s.gets(CONTROL, "debug_reply", of=request)
            s.gets_idle(of=request)


def test_a_stop_that_was_lost_with_the_link_is_told_afterwards() -> None:
    with stage() as s:
        _debug_session(s)
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        _answer_debug(s, "debugInfo", body={"isStarted": True, "stoppedThreads": [1]})
        event = s.gets(IOPUB, "debug_event").parsed_content
        assert event["event"] == "stopped"


def test_while_the_server_drops_output_the_debugger_is_asked_for_stops() -> None:
    with stage() as s:
        _debug_session(s)
        cell = s.send_execute()
        s.remote_gets("execute_request")
        text = "IOPub message rate exceeded.\nThe Jupyter server will temporarily stop sending output"
        for _ in range(2):
            s.remote_sends(IOPUB, "stream", {"name": "stderr", "text": text}, of=cell, kernel="server_1")
        s.gets(IOPUB, "stream")  # once for one cell
        s.passes_time(0.1)
        s.passes_time(1.1)
        _answer_debug(s, "debugInfo", body={"isStarted": True, "stoppedThreads": [1]})
        assert s.gets(IOPUB, "debug_event").parsed_content["event"] == "stopped"
        s.passes_time(0.5)
        s.passes_time(60)
        s.remote_answers(cell)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


# --- the corners -------------------------------------------------------------------------------------------


def test_how_much_waits_is_known() -> None:
    with stage(opened=False) as s:
        assert s.relay.queued_bytes == 0
        request = s.send_execute()
        assert s.relay.queued_bytes == request.size_bytes
        s.opens()
        s.remote_gets("execute_request")
        assert s.relay.queued_bytes == 0
        s.remote_answers(request)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_an_event_that_the_guard_translates_is_passed_on_translated() -> None:
    with stage() as s:
        _debug_session(s)
        s.remote_sends(IOPUB, "debug_event", {"type": "event", "event": "output", "body": {"output": "x"}})
        assert s.gets(IOPUB, "debug_event").parsed_content["event"] == "output"


def test_an_early_second_interrupt_is_answered_with_the_first() -> None:
    with stage() as s:
        first = s.send("interrupt_request", channel=CONTROL)
        second = s.send("interrupt_request", channel=CONTROL)
        for request in (first, second):
            s.event(InterruptKernel)
            s.gets_busy(of=request)
        s.relay.interrupted(None, now=s.now)
        for request in (first, second):
            s.gets(CONTROL, "interrupt_reply", of=request)
            s.gets_idle(of=request)
        s.relay.interrupted(None, now=s.now)


def test_a_disconnect_without_an_interrupt_interrupts_nothing() -> None:
    with stage() as s:
        _debug_session(s)
        request = s.send_debug("disconnect", seq=8)
        _answer_debug(s, "disconnect", seq=8)
        s.gets_busy()
        s.gets(CONTROL, "debug_reply", of=request)
        s.gets_idle()


def test_a_kernel_that_dies_takes_what_is_held_with_it() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        held = s.send_debug("initialize")
        s.relay.kernel_died("culled", now=s.now)
        s.fails(cell, saying="culled")
        s.fails(held, saying="culled")
        s.event(KernelDied)


def test_a_cell_is_known_to_the_debugger_by_its_id() -> None:
    with stage() as s:
        for metadata in ({"cellId": "vscode-notebook-cell:/a.ipynb#1"}, {"cellId": 3}):
            base = make(SHELL, "execute_request", {"code": "x"}, msg_id=f"c_{len(metadata)}{metadata}")
            request = replace(base, metadata=json.dumps(metadata).encode())
            s.relay.receive_frontend(request, identities=(b"A",), now=s.now)
            assert s.remote_gets("execute_request") == request
            s.remote_answers(request)
            s.gets_busy()
            s.gets(SHELL, "execute_reply")
            s.gets_idle()


def test_a_question_of_our_own_that_is_half_lost_is_asked_again() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_status("busy", of=cell)
        s.remote_replies(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply", of=cell)
        s.passes_time(1.1)
        s.remote_replies(s.remote_gets("kernel_info_request"))  # and its idle is lost as well
        s.passes_time(0.5)
        s.passes_time(0.6)
        s.remote_answers_probe()
        s.gets_idle(of=cell)
        assert s.relay.in_flight == 0


def test_a_debugger_in_doubt_is_asked_once_at_a_time_and_may_answer_nothing() -> None:
    with stage() as s:
        _debug_session(s)
        cell = s.send_execute()
        s.remote_gets("execute_request")
        text = "IOPub data rate exceeded."
        s.remote_sends(IOPUB, "stream", {"name": "stderr", "text": text}, of=cell, kernel="server_1")
        s.gets(IOPUB, "stream")
        for _ in range(4):
            s.passes_time(1.1)
        question = s.remote_gets("debug_request")
        assert question.parsed_content["command"] == "debugInfo"
        s.remote_answers(question, {})
        s.remote_answers(cell)
        s.gets_busy()
        s.gets(SHELL, "execute_reply")
        s.gets_idle()


def test_what_has_its_reply_is_not_sent_again() -> None:
    with stage() as s:
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_status("busy", of=cell)
        s.remote_replies(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply", of=cell)
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        s.remote_answers_probe()
        s.gets_idle(of=cell)
        assert s.relay.in_flight == 0


def test_the_relays_own_questions_are_forgotten_when_they_are_lost() -> None:
    with stage() as s:
        _debug_session(s)
        s.breaks()
        s.reopens()
        s.remote_answers_probe()
        s.remote_gets("debug_request")  # whether it is stopped: the kernel never gets to see it
        s.breaks()
        s.reopens()
        asked = s.remote_gets("debug_request")
        s.remote_answers_probe()
        assert s.relay.in_flight == 0
        s.remote_replies(asked, _response("debugInfo"))
        s.event(Dropped)


def test_a_widgets_message_whose_statuses_are_lost_is_over_all_the_same() -> None:
    with stage() as s:
        widget, cell = s.send("comm_msg"), s.send_execute()
        s.remote_gets("comm_msg")
        s.remote_gets("execute_request")
        s.remote_answers(cell)
        s.gets_busy(of=widget)
        s.gets_idle(of=widget)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply")
        s.gets_idle(of=cell)
        assert s.relay.in_flight == 0


def test_what_the_kernel_says_of_the_relays_own_code_is_for_nobody() -> None:
    with stage(opened=False) as s:
        s.relay.link_opened(terms=TERMS, now=s.now)
        s.remote_answers_probe()
        startup = s.remote_gets("execute_request")
        s.remote_status("busy", of=startup)
        s.remote_sends(IOPUB, "stream", {"name": "stderr", "text": "a warning"}, of=startup)
        cell = s.send_execute()
        s.remote_gets("execute_request")
        s.remote_replies(startup)  # and its idle is lost
        s.remote_answers(cell)
        s.gets_busy(of=cell)
        s.gets(SHELL, "execute_reply")
        s.gets_idle(of=cell)
        assert s.relay.in_flight == 0
