"""Clock of the treasury, by which it measures the age of an order: no other machine's clock has a part in it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from ..clock import system_now_ms, system_uptime_ms


class TreasuryTime(msgspec.Struct, frozen=True):
    """Moment by the clocks of the treasury's process of this name; another process can't tell how long ago it was."""

    process: str
    uptime_ms: int
    now_ms: int


class TreasuryClock:
    """Clock of one process. It takes a moment for the longer past of what uptime and wall clock say.

    A wall clock may be set back. The uptime of a machine that was suspended by its hypervisor lacks that time, and the
    wall clock has it as soon as it was set.
    """

    def __init__(
        self, now_ms: Callable[[], int] = system_now_ms, uptime_ms: Callable[[], int] = system_uptime_ms
    ) -> None:
        self._process = secrets.token_hex(16)
        self._now_ms = now_ms
        self._uptime_ms = uptime_ms

    def read(self) -> TreasuryTime:
        """Return the present moment."""
        return TreasuryTime(self._process, self._uptime_ms(), self._now_ms())

    def age_ms(self, moment: TreasuryTime) -> int | None:
        """Return how long ago a moment was; None if it is of another process."""
        if moment.process != self._process:
            return None
        return max(self._uptime_ms() - moment.uptime_ms, self._now_ms() - moment.now_ms)
