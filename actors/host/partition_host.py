"""Host that owns partitions, whatever it runs their actors in."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from ..messages import Answer, Call, Cancel
from ..ports import Due, Journal
from .dispatcher import LONG_POLL_S, Dispatcher
from .partitions import Partitions
from .replies import ReplyTo
from .ticker import Ticker


class PartitionHost(ABC):
    """Host with its partitions, the dispatcher of its calls, and the ticker of its actors' times.

    `kinds`: the prefixes of ids it can run. `only`: the one actor that it runs, in a partition that another host owns.
    """

    def __init__(
        self,
        host_id: str,
        journal: Journal,
        kinds: Collection[str],
        *,
        now_ms: Callable[[], int],
        only: str | None = None,
    ) -> None:
        self.kinds = kinds
        self.partitions = Partitions(host_id, journal, self)
        self._journal = journal
        self._now_ms = now_ms
        self._dispatcher = Dispatcher(self.partitions, kinds, self.deliver, only)
        self._ticker = Ticker(self._due, self.wake, now_ms)
        self._tasks: list[asyncio.Task[None]] = []

    @abstractmethod
    def deliver(self, call: Call, reply_to: ReplyTo) -> None:
        """Take a call to an actor that is this host's own."""

    @abstractmethod
    def wake(self, actor_id: str) -> None:
        """Have an actor look at its times."""

    @abstractmethod
    def busy_partitions(self, partitions: Collection[int]) -> Collection[int]:
        """See `Actors.busy_partitions`."""

    @abstractmethod
    def drop_partition(self, partition: int) -> None:
        """See `Actors.drop_partition`."""

    @abstractmethod
    def _watch_actors(self) -> Coroutine[Any, Any, None]:
        """Look after the actors in memory until cancelled."""

    async def start(self, partitions: Sequence[int] = ()) -> None:
        """Begin to work, with these partitions. Raises `TransientError`."""
        if not self._tasks:
            loops = self._ticker.run(), self._watch_actors(), self._dispatcher.stall_detector.run()
            self._tasks = [asyncio.create_task(loop) for loop in loops]
        await self.take(partitions)

    async def take(self, partitions: Collection[int]) -> None:
        """Take partitions over, and take up what was under way in them. Raises `TransientError`."""
        if partitions:
            await self.partitions.claim(partitions)
            await self._ticker.scan()

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls, as soon as the host is not behind with its work; their answers go to this queue."""
        await self._dispatcher.submit(queue_id, calls)

    async def collect(self, queue_id: str, longest_s: float = LONG_POLL_S) -> list[Answer]:
        """Return the answers that are ready; wait for the first one for at most `longest_s`."""
        return await self._dispatcher.collect(queue_id, longest_s)

    async def _due(self, before_ms: int) -> Sequence[Due]:
        return await self._journal.due(list(self.partitions.owned), before_ms)
