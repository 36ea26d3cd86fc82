"""Ticker that wakes actors at the times that they asked for, whether or not they are called."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from ..ports import Due, TransientError

# Due times beyond the horizon stay in the store, so that sleeping actors cost a host no memory.
_HORIZON_MS: Final = 120_000
_RESCAN_S: Final = 60.0
_LONGEST_NAP_S: Final = 1.0
_log = structlog.get_logger(__name__)


class Ticker:
    """Ticker with the near deadlines in a heap; it reads the store for those that come near."""

    def __init__(
        self,
        due: Callable[[int], Awaitable[Sequence[Due]]],
        wake: Callable[[str], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._due = due
        self._wake = wake
        self._now_ms = now_ms
        self._heap: list[Due] = []
        self._changed = asyncio.Event()

    def schedule(self, actor_id: str, due_ms: int) -> None:
        """Wake the actor at that time; also too often, and also when its plans have changed since."""
        if due_ms <= self._now_ms() + _HORIZON_MS:
            heapq.heappush(self._heap, Due(due_ms, actor_id))
            self._changed.set()

    async def scan(self) -> None:
        """Take over the due times in the store that come soon. Raises `TransientError`."""
        for due in await self._due(self._now_ms() + _HORIZON_MS):
            self.schedule(due.actor_id, due.due_ms)

    def tick(self) -> None:
        """Wake all whose time has come."""
        now_ms = self._now_ms()
        woken: set[str] = set()
        while self._heap and self._heap[0].due_ms <= now_ms:
            woken.add(heapq.heappop(self._heap).actor_id)
        for actor_id in woken:
            self._wake(actor_id)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        next_scan_s = loop.time() + _RESCAN_S
        while True:
            self.tick()
            if loop.time() >= next_scan_s:
                next_scan_s = loop.time() + _RESCAN_S
                await self._scan_quietly()
            self._changed.clear()
            nap_s = _LONGEST_NAP_S
            if self._heap:
                nap_s = min(nap_s, max(self._heap[0].due_ms - self._now_ms(), 0) / 1_000)
            try:
                async with asyncio.timeout(nap_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _scan_quietly(self) -> None:
        try:
            await self.scan()
        except TransientError as error:
            _log.warning("due_times_unreadable", error=str(error))
