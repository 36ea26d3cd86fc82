"""Periods at which budgets renew: whole hours, days and weeks in UTC."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
# Unix time began on a Thursday, and its first Monday came four days later.
_FIRST_MONDAY_MS: Final = 4 * _DAY_MS


class Period(StrEnum):
    """A period of a budget, from the shortest on. Each hour is in one day, and each day in one week, from Monday on."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    @property
    def length_ms(self) -> int:
        """The length, which is the same for all: Unix time leaves out leap seconds, and UTC has no summer time."""
        return _LENGTHS_MS[self]

    def begin_ms(self, at_ms: int) -> int:
        """Return the begin of the period that this time is in."""
        first_ms = _FIRST_MONDAY_MS if self is Period.WEEK else 0
        return at_ms - (at_ms - first_ms) % self.length_ms


_LENGTHS_MS: Final = {Period.HOUR: _HOUR_MS, Period.DAY: _DAY_MS, Period.WEEK: 7 * _DAY_MS}
