"""Stall detector, which notices that the process stood still, during which others may have taken over what it owns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from ..ports import TransientError

# This is less than the time after which others take a host for dead, and take its partitions over.
_STALL_S: Final = 2.5
_BEAT_S: Final = 0.5


class StallDetector:
    """Detector of pauses of the process, after which it has the host verify what others may have changed."""

    def __init__(self, verify: Callable[[], Awaitable[None]], clock: Callable[[], float] | None = None) -> None:
        self._verify = verify
        self._clock = clock or time.monotonic
        self._last_s = self._clock()

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.verify_after_stall()
            self._last_s = self._clock()
            await asyncio.sleep(_BEAT_S)

    async def verify_after_stall(self) -> None:
        """Re-verify partition ownership if the process was paused; otherwise return immediately."""
        if self._clock() - self._last_s > _STALL_S:
            # Without the store, ownership can't be verified. But nothing can be written then, either.
            with suppress(TransientError):
                await self._verify()
                self._last_s = self._clock()
