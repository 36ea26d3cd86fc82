"""Findings of the treasury for the operator, passed to the fronts through the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from ..ports import Findings, PortError, Refusals

_ASK_AGAIN_S: Final = 1.0


class FindingsCache:
    """Cache of the findings in a front's memory, read at most once a second."""

    def __init__(
        self,
        told: Callable[[], Awaitable[tuple[Findings | None, Refusals]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = told
        self._clock = clock
        self._known: tuple[Findings | None, Refusals] = (None, Refusals())
        self._read_s: float | None = None

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Return the last known findings, None while no treasury looks, and the refusals. Never raises."""
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s > _ASK_AGAIN_S:
            self._read_s = now_s
            try:
                self._known = await self._told()
            except PortError:
                self._known = (None, Refusals())
        return self._known


class NoFindings:
    """Stand-in for the cache where no treasury looks."""

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Return no findings and no refusals."""
        return None, Refusals()
