"""Where partitions are, as a router knows it: the store's word, read once, and again when a host says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from ..partitioning import PARTITIONS, partition_of

Owners = Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]
"""Reads the owners of partitions (`Journal.owners`). Raises `TransientError`."""

_ALL: Final = range(PARTITIONS)


class Whereabouts:
    """The owners of all partitions. Many may ask for a new look at once; they share one."""

    def __init__(self, owners: Owners) -> None:
        self._read = owners
        self._owners: Mapping[int, str] = {}
        self._looking: asyncio.Task[None] | None = None

    def host_of(self, actor_id: str) -> str | None:
        """The host that owned the actor at the last look; None when nobody did, or none was made yet."""
        return self._owners.get(partition_of(actor_id))

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts that owned something at the last look."""
        return frozenset(self._owners.values())

    @property
    def complete(self) -> bool:
        """Whether every partition had an owner at the last look."""
        return len(self._owners) == PARTITIONS

    async def look(self) -> None:
        """Reads the owners anew. Raises `TransientError`."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            # When all who waited have given up, its error is nobody's, and no defect that had to be told.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        # Shielded: a caller that gives up must not end the look for those who wait with it.
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            self._owners = await self._read(_ALL)
        finally:
            self._looking = None
