"""Admission control: a host takes no further calls while too many of its actors are at work."""

from __future__ import annotations

import asyncio
from typing import Final

# With more than about a second's worth, the host takes no further calls until some actors are done.
_AT_WORK_MAX: Final = 2_000


class AdmissionControl:
    """Count of the actors at work; routers that bring further calls wait while it is too high."""

    def __init__(self, most: int = _AT_WORK_MAX) -> None:
        self._most = most
        self._count = 0
        self._eased = asyncio.Event()

    def begin(self) -> None:
        """Count one more actor at work."""
        self._count += 1

    def end(self) -> None:
        """Count one actor less at work."""
        self._count -= 1
        self._eased.set()

    async def admit(self) -> None:
        """Return once there is room for more."""
        while self._count >= self._most:
            self._eased.clear()
            await self._eased.wait()
