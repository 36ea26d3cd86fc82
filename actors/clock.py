"""Clock of this machine, for every part that is not given another one."""

from __future__ import annotations

import time


def system_now_ms() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000
