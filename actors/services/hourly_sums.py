"""Mover of hourly sums from the partitions to those of the whole store, in the treasury's process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..ports import PortError
from .watch import Outage

_MOVE_EVERY_S: Final = 60.0

Move = Callable[[int], Awaitable[int]]
"""Moves what has gathered, at this time in ms, and returns how many partitions had something. Raises `PortError`."""


class SumsMover:
    """Mover that moves once a minute, until it is cancelled. A second one beside it does no harm."""

    def __init__(
        self, move: Move, now_ms: Callable[[], int], *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._move = move
        self._now_ms = now_ms
        self._pause = pause
        self._outage = Outage("hourly_sums")

    async def run(self) -> None:
        """Move until cancelled. What can't be moved stays where it is, and is counted there."""
        while True:
            try:
                await self._move(self._now_ms())
            except PortError as error:
                self._outage.failed(error)
            else:
                self._outage.recovered()
            await self._pause(_MOVE_EVERY_S)
