"""Clock of this machine, for every part that is not given another one."""

from __future__ import annotations

import time
from typing import Final

# It counts the time of a suspended machine, too; not every system has it.
_UPTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def system_now_ms() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def system_uptime_ms() -> int:
    """Return the milliseconds since the machine was started, by a clock that nobody sets."""
    return time.clock_gettime_ns(_UPTIME) // 1_000_000


def system_awake_ms() -> int:
    """Return the milliseconds that the machine was awake since its start, by a clock that nobody sets.

    A node on the same machine did nothing while it was suspended, and goes on with its payments afterwards.
    """
    return time.monotonic_ns() // 1_000_000
