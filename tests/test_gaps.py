"""The remote kernel's message numbers, and what is missing among them."""

from __future__ import annotations

import pytest

from colab_kernel.gaps import AT_MOST, NUDGES, MessageCounter


def seen(*numbers: int, kernel: str = "session_7") -> MessageCounter:
    counter = MessageCounter()
    for number in numbers:
        assert counter.note(f"{kernel}_{number}", from_kernel=True)
    return counter


def test_numbers_without_a_gap_miss_nothing() -> None:
    assert seen(5, 6, 7, 8).take_missing() == 0


def test_a_gap_is_counted_once() -> None:
    counter = seen(1, 12)
    assert counter.take_missing() == 10
    assert counter.take_missing() == 0


def test_what_comes_late_is_not_missing() -> None:
    assert seen(1, 12, *range(2, 12)).take_missing() == 0


def test_what_comes_late_after_it_was_counted_changes_nothing() -> None:
    counter = seen(1, 12)
    assert counter.take_missing() == 10
    assert counter.note("session_7_5", from_kernel=True)
    assert counter.take_missing() == 0


def test_replies_to_others_are_taken_off() -> None:
    counter = seen(1, 12)
    for _ in range(5):
        counter.note_reply_to_another()
    assert counter.take_missing() == 5


def test_a_few_are_what_a_server_uses_up_itself() -> None:
    assert seen(1, 2 + NUDGES).take_missing() == 0


def test_a_gap_beyond_what_can_be_remembered_is_still_counted() -> None:
    assert seen(1, 2 + AT_MOST + 10).take_missing() == AT_MOST + 10


@pytest.mark.parametrize("msg_id", ["", "no-number", "9", "session_x"])
def test_ids_of_another_kind_are_not_counted(msg_id: str) -> None:
    counter = seen(1)
    assert counter.note(msg_id, from_kernel=True)
    assert counter.take_missing() == 0


def test_a_reply_under_another_name_tells_of_another_kernel() -> None:
    assert not seen(1).note("other_8_2", from_kernel=True)


def test_another_name_on_iopub_is_the_servers() -> None:
    counter = seen(1)
    assert counter.note("server_1_900", from_kernel=False)
    assert counter.take_missing() == 0


def test_before_the_first_reply_nothing_is_counted() -> None:
    counter = MessageCounter()
    assert counter.note("session_7_3", from_kernel=False)
    assert counter.note("session_7_9", from_kernel=True)
    assert counter.take_missing() == 0
