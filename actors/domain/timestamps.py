"""Timestamps as the wire shows them."""

from __future__ import annotations

from typing import Final

_DAY_S: Final = 86_400
# Years are counted from March, so that the leap day is the last day, and from the year 0. March 1 of that year was so
# many days before 1970. The calendar repeats every 400 years.
_MARCH_OF_0_DAYS: Final = 719_468
_CYCLE_DAYS: Final = 146_097


def timestamp(at_ms: int) -> str:
    """Format a time in RFC 3339, in UTC."""
    seconds, milliseconds = divmod(at_ms, 1_000)
    days, second = divmod(seconds, _DAY_S)
    cycle, day_of_cycle = divmod(days + _MARCH_OF_0_DAYS, _CYCLE_DAYS)
    leaps = day_of_cycle // 1_460 - day_of_cycle // 36_524 + day_of_cycle // (_CYCLE_DAYS - 1)
    year = (day_of_cycle - leaps) // 365
    day_of_year = day_of_cycle - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    year += cycle * 400 + (month >= 10)
    month += 3 if month < 10 else -9
    clock = f"{second // 3_600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}.{milliseconds:03d}Z"
