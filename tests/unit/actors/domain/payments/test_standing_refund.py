"""Standing refunds: the times of their tries."""

from __future__ import annotations

import itertools

from satmeter.actors.domain.payments.standing_refund import PATIENCE_MS, StandingRefund, first_try_ms, named

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


def times_of_tries(*, permanent: bool = False, retry_after_ms: int = 0) -> list[int]:
    """Return the times of the tries at a destination that never gives an invoice, the first of them at 1."""
    standing, now_ms, times = named(None, "a@b.c", 0), 1, [1]
    while (next_ms := standing.next_try_ms(now_ms, retry_after_ms, permanent=permanent)) is not None:
        standing = standing.after_failure("unreachable", now_ms, next_ms)
        now_ms = next_ms
        times.append(now_ms)
    assert standing.after_failure("unreachable", now_ms, None).over
    return times


def pauses(times: list[int]) -> list[int]:
    """Return the pauses between the times, in minutes."""
    return [(later - earlier) // MINUTE_MS for earlier, later in itertools.pairwise(times)]


def test_pauses_grow_from_a_minute_to_a_day_and_end_after_thirty_days() -> None:
    times = times_of_tries()
    assert pauses(times)[:12] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_440]
    assert times[-1] - times[0] == PATIENCE_MS == 30 * DAY_MS
    assert max(pauses(times)) == 1_440 and len(times) < 50


def test_a_destination_that_refuses_is_asked_once_a_day() -> None:
    times = times_of_tries(permanent=True)
    assert set(pauses(times)) == {1_440} and len(times) == 31


def test_a_destination_that_asks_for_more_time_gets_it_up_to_a_day() -> None:
    assert pauses(times_of_tries(retry_after_ms=10 * MINUTE_MS))[:5] == [10, 10, 10, 10, 16]
    assert pauses(times_of_tries(retry_after_ms=100 * DAY_MS))[0] == 1_440


def test_a_payment_begins_the_tries_again() -> None:
    failed = named(None, "a@b.c", 0).after_failure("refused", 5, 6)
    assert (failed.tries, failed.since_ms, failed.next_ms, failed.error) == (1, 5, 6, "refused")
    assert failed.after_payment() == StandingRefund("a@b.c")


def test_another_destination_counts_up_and_waits_for_a_minute() -> None:
    first = named(None, "a@b.c", first_try_ms(None, 7))
    assert (first.number, first.next_ms) == (1, 0)
    second = named(first, "d@e.f", first_try_ms(first, 7))
    assert (second.destination, second.number, second.next_ms, second.tries) == ("d@e.f", 2, 7 + MINUTE_MS, 0)
