"""For how long a job's cell may stand still, and its deadline with it."""

from __future__ import annotations

import pytest

from colab_magics.daemon.stops import Stand, Stops


def stopped(stops: Stops, *, at: float, reason: str = "exception") -> None:
    stops.event({"event": "stopped", "body": {"reason": reason, "threadId": 1}}, now=at)


def continued(stops: Stops, *, at: float) -> None:
    stops.event({"event": "continued", "body": {"threadId": 1}}, now=at)


@pytest.mark.parametrize(("reason", "stand"), [("exception", Stand.HELD), ("breakpoint", Stand.PAUSED)])
def test_the_deadline_stands_still_with_the_cell(reason: str, stand: Stand) -> None:
    stops = Stops(hold_s=60.0)
    stopped(stops, at=100.0, reason=reason)
    assert stops.stand is stand
    assert stops.stood_s(now=130.0) == 30.0
    continued(stops, at=130.0)
    assert stops.stand is Stand.RUNS
    assert stops.stood_s(now=500.0) == 30.0


@pytest.mark.parametrize("reason", ["exception", "breakpoint"])
def test_the_deadline_stands_still_no_longer_than_hold_allows_in_all(reason: str) -> None:
    stops = Stops(hold_s=60.0)
    stopped(stops, at=0.0, reason=reason)
    continued(stops, at=50.0)
    stopped(stops, at=100.0, reason=reason)
    assert stops.left_s(now=105.0) == 5.0
    assert stops.stood_s(now=1000.0) == 60.0


def test_without_hold_the_deadline_of_a_paused_cell_does_not_stand_still() -> None:
    stops = Stops(hold_s=0.0)
    stopped(stops, at=0.0, reason="pause")
    assert stops.stood_s(now=10.0) == 0.0


def test_what_is_held_goes_on_when_its_time_is_over_and_a_pause_does_not() -> None:
    held, paused = Stops(hold_s=60.0), Stops(hold_s=60.0)
    stopped(held, at=0.0)
    stopped(paused, at=0.0, reason="pause")
    assert not held.is_overdue(now=59.0)
    assert held.is_overdue(now=60.0)
    assert not paused.is_overdue(now=1000.0)


def test_a_second_stop_while_it_stands_does_not_begin_anew() -> None:
    """Each thread may tell of the same stop."""
    stops = Stops(hold_s=60.0)
    stopped(stops, at=0.0)
    stopped(stops, at=20.0)
    assert stops.stood_s(now=30.0) == 30.0
