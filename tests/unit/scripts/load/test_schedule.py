"""The open loop starts requests when they are due, not when the server is ready for them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.scripts.load.schedule import OpenLoop


def test_requests_are_due_at_fixed_times_whatever_became_of_earlier_ones() -> None:
    loop = OpenLoop(rate_per_s=10, duration_s=1, in_flight_max=100)
    assert loop.total == 10
    assert loop.take(0.0) == [0.0]
    assert loop.take(0.05) == []
    # Nothing was answered, and the loop looked late: what was due meanwhile is due when it was.
    assert loop.take(0.32) == [0.1, 0.2, 0.3]
    assert (loop.started, loop.in_flight) == (4, 4)
    assert loop.pause_s(0.32) == 0.4 - 0.32


def test_a_full_house_delays_requests_and_leaves_their_due_times() -> None:
    loop = OpenLoop(rate_per_s=10, duration_s=1, in_flight_max=2)
    assert (loop.take(0.0), loop.take(0.1)) == ([0.0], [0.1])
    assert loop.take(0.3) == [] and loop.blocked
    # Blocked, it sleeps until something ends, at the longest to the end.
    assert loop.pause_s(0.3) > 0.9
    loop.finish()
    assert loop.take(0.45) == [0.2]
    assert (loop.late_in_flight, loop.late_generator) == (1, 0)
    assert round(loop.lag_max_s, 9) == 0.25


def test_a_generator_that_is_too_slow_is_told_apart_from_a_full_house() -> None:
    loop = OpenLoop(rate_per_s=10, duration_s=1, in_flight_max=100)
    loop.take(0.0)
    assert loop.take(0.16) == [0.1]
    assert (loop.late_in_flight, loop.late_generator) == (0, 1)
    loop.take(0.201)
    assert loop.late_generator == 1


def test_what_was_due_and_never_sent_is_counted() -> None:
    loop = OpenLoop(rate_per_s=10, duration_s=1, in_flight_max=3)
    loop.take(5.0)
    assert loop.over(5.0)
    assert loop.not_sent(ended_s=1.0) == 7
    # Of a test that was ended early, only what had been due by then.
    assert loop.not_sent(ended_s=0.45) == 2


@settings(deadline=None)
@given(rate=st.floats(0.01, 100), duration=st.floats(0.1, 10), looks=st.lists(st.floats(0, 12), max_size=30))
def test_each_request_is_started_once_and_never_before_it_is_due(
    rate: float, duration: float, looks: list[float]
) -> None:
    loop = OpenLoop(rate, duration, in_flight_max=10**9)
    taken: list[float] = []
    for now_s in [*sorted(looks), duration + 1]:
        fresh = loop.take(now_s)
        assert all(due_s <= now_s + 1e-6 for due_s in fresh)
        taken += fresh
    assert taken == [number / rate for number in range(loop.total)]
    assert loop.not_sent(duration) == 0 and loop.over(duration + 1)
    assert abs(loop.total - rate * duration) <= 1


def test_a_product_that_is_a_hair_above_a_whole_number_adds_no_request() -> None:
    assert OpenLoop(rate_per_s=0.1, duration_s=30, in_flight_max=1).total == 3
    assert OpenLoop(rate_per_s=0.01, duration_s=0.1, in_flight_max=1).total == 1
