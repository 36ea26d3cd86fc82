"""Periods of budgets begin at whole hours, days and weeks in UTC, and each is within the longer ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.credentials.periods import Period


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("at", "hour", "day", "week"),
    [
        ("2026-11-29T23:59:59.999", "2026-11-29T23:00", "2026-11-29", "2026-11-23"),
        ("2026-11-30T00:00:00.000", "2026-11-30T00:00", "2026-11-30", "2026-11-30"),
        # Not at the change to summer time, and over the end of a year.
        ("2027-03-28T02:30:00.000", "2027-03-28T02:00", "2027-03-28", "2027-03-22"),
        ("2027-01-01T12:00:00.001", "2027-01-01T12:00", "2027-01-01", "2026-12-28"),
    ],
)
def test_a_window_begins_at_a_whole_hour_day_or_monday(at: str, hour: str, day: str, week: str) -> None:
    begins = [period.begin_ms(ms(at)) for period in (Period.HOUR, Period.DAY, Period.WEEK)]
    assert begins == [ms(hour), ms(day), ms(week)]


@given(st.integers(0, 10**14))
def test_a_time_is_in_the_window_that_it_begins_and_each_is_within_the_longer_ones(at_ms: int) -> None:
    around = (0, 2**63)
    for period in (Period.WEEK, Period.DAY, Period.HOUR):
        begin_ms = period.begin_ms(at_ms)
        end_ms = begin_ms + period.length_ms
        assert around[0] - 4 * 86_400_000 <= begin_ms <= at_ms < end_ms <= around[1]
        assert (
            period.begin_ms(begin_ms) == begin_ms == period.begin_ms(end_ms - 1) and period.begin_ms(end_ms) == end_ms
        )
        around = begin_ms, end_ms
        assert datetime.fromtimestamp(begin_ms // 1_000, UTC).weekday() == 0 or period is not Period.WEEK
