"""Counts of a front's answers, handed to the store so that any front can tell those of all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from ..ports import OperatorBoard, TransientError


class AnswerCounts:
    """Counts of a front's answers by minute, handed to the store when a minute is over.

    A front that dies loses the counts of its last minute. They are figures of operation, never of money.
    """

    def __init__(self, board: OperatorBoard, now_ms: Callable[[], int]) -> None:
        self._board = board
        self._now_ms = now_ms
        self._minute = 0
        self._counts: Counter[str] = Counter()
        self._telling: set[asyncio.Task[None]] = set()

    def add(self, *names: str) -> None:
        """Count an answer under each of these names."""
        minute = self._now_ms() // 60_000
        if minute != self._minute:
            self._hand_over(minute)
        for name in names:
            self._counts[name] += 1

    def _hand_over(self, minute: int) -> None:
        done, counts = self._minute, self._counts
        self._minute, self._counts = minute, Counter()
        if counts:
            task = asyncio.create_task(self._tell(done, counts))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def flush(self) -> None:
        """Hand over what was counted in this minute so far."""
        self._hand_over(self._now_ms() // 60_000)
        if self._telling:
            await asyncio.wait(self._telling)

    async def _tell(self, minute: int, counts: Mapping[str, int]) -> None:
        try:
            await self._board.count_answers(minute, counts)
        except TransientError:
            return  # The minute is missing from a figure of the last hour.

    async def last_hour(self) -> Mapping[str, int]:
        """Return the counts of all fronts in the last hour. Raises `TransientError`."""
        await self.flush()
        minute = self._now_ms() // 60_000
        return await self._board.answers(range(minute - 59, minute + 1))
