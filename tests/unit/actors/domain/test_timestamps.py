"""Timestamps at the ends of what they can show."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.timestamps import timestamp


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_868_799_999, "2000-02-29T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        # An operator may let sessions live for ever.
        (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
        (10**18, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_shown_in_utc_up_to_the_end_of_the_calendar(at_ms: int, shown: str) -> None:
    assert timestamp(at_ms) == shown
