"""Partitions of a host: taken over from others, given away to others, lost to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from ..ports import FencedError, Journal

# Calls to a partition that stays busy wait that long at most: less than callers do (see the router).
_PARKED_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.02
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Leaving:
    park_at_s: float
    cut_at_s: float
    over: asyncio.Future[None]


class Actors(Protocol):
    """Actors of a host, as far as their partitions' moves concern them."""

    def busy_partitions(self, partitions: Collection[int]) -> Collection[int]:
        """Return those of these partitions that have something under way."""
        ...

    def drop_partition(self, partition: int) -> None:
        """Forget the actors in memory of a partition that is no longer the host's."""
        ...


class Partitions:
    """Partitions that a host owns, with their epochs.

    A partition that is to go does so at the first moment in which nothing is under way in it. One that stays busy takes
    nothing new for its last two seconds, so that it comes to rest. Work that still runs at the end of its patience is
    cut off, and the next host takes it up as after a crash.
    """

    def __init__(self, host_id: str, journal: Journal, actors: Actors) -> None:
        self._host_id = host_id
        self._journal = journal
        self._actors = actors
        self._epochs: dict[int, int] = {}
        self._leaving: dict[int, _Leaving] = {}
        self._giving: asyncio.Task[None] | None = None

    def __contains__(self, partition: int) -> bool:
        return partition in self._epochs

    @property
    def owned(self) -> Collection[int]:
        """Partitions that this host owns, as far as it knows."""
        return self._epochs.keys()

    def epoch(self, partition: int) -> int:
        """Return the epoch that a write must carry.

        Zero for a partition that was lost: the store refuses the write, and the host learns of the loss.
        """
        return self._epochs.get(partition, 0)

    async def claim(self, partitions: Collection[int]) -> None:
        """Make these partitions this host's own. Raises `TransientError`."""
        claimed: Mapping[int, int] = await self._journal.claim(sorted(partitions), self._host_id)
        self._epochs.update(claimed)

    def borrow(self, partition: int, epoch: int) -> None:
        """Write to a partition with the epoch of its owner, until the owner or another host raises it."""
        self._epochs[partition] = epoch

    def give(self, partitions: Collection[int], patience_s: float) -> None:
        """Give these partitions away, each within `patience_s`."""
        now_s, loop = time.monotonic(), asyncio.get_running_loop()
        for partition in partitions:
            if partition in self._epochs and partition not in self._leaving:
                end_s = now_s + patience_s
                self._leaving[partition] = _Leaving(end_s - _PARKED_S, end_s, loop.create_future())
        if self._leaving and (self._giving is None or self._giving.done()):
            self._giving = asyncio.create_task(self._give())

    def keep(self, partitions: Collection[int]) -> None:
        """Keep those of these partitions that were to be given away."""
        for partition in [partition for partition in self._leaving if partition in partitions]:
            self._leaving.pop(partition).over.set_result(None)

    def rest_of(self, partition: int) -> asyncio.Future[None] | None:
        """Return what a new call must wait for while its partition comes to rest: that it is kept, or gone."""
        leaving = self._leaving.get(partition)
        return None if leaving is None or time.monotonic() < leaving.park_at_s else leaving.over

    def lose(self, partition: int) -> None:
        """Let go of a partition: the host's copy of it is void, and callers must ask elsewhere."""
        self._epochs.pop(partition, None)
        if (leaving := self._leaving.pop(partition, None)) is not None:
            leaving.over.set_result(None)
        self._actors.drop_partition(partition)

    async def verify(self) -> None:
        """Let go of partitions that others have taken over meanwhile. Raises `TransientError`."""
        held = dict(self._epochs)
        stored = await self._journal.epochs(list(held))
        # A partition that this host claimed again while it asked is its own all the same.
        lost = [p for p, epoch in held.items() if self._epochs.get(p) == epoch != stored.get(p)]
        for partition in lost:
            self.lose(partition)
        if lost:
            _log.warning("partitions_taken_over", host_id=self._host_id, count=len(lost))

    async def confirm(self, partition: int) -> None:
        """Raise `FencedError` when others have taken a partition over meanwhile, and `TransientError`."""
        stored = (await self._journal.epochs([partition])).get(partition, 0)
        if stored != self.epoch(partition):
            raise FencedError(stored)

    def cancel(self) -> None:
        """Stop giving partitions away."""
        if self._giving is not None:
            self._giving.cancel()

    async def _give(self) -> None:
        while self._leaving:
            busy, now_s = self._actors.busy_partitions(self._leaving.keys()), time.monotonic()
            for partition, leaving in list(self._leaving.items()):
                if partition not in busy or now_s >= leaving.cut_at_s:
                    self.lose(partition)
            await asyncio.sleep(_LOOK_EVERY_S)
