"""Routing table of partitions: the store's owners, read once, and again when a host says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from ..partitioning import PARTITIONS, partition_of

Owners = Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]
"""Reads the owners of partitions (`Journal.owners`). Raises `TransientError`."""

_ALL: Final = range(PARTITIONS)


class RoutingTable:
    """Owners of all partitions. Many callers may ask for a new look at the same time; they share one."""

    def __init__(self, owners: Owners) -> None:
        self._read = owners
        self._owners: Mapping[int, str] = {}
        self._looking: asyncio.Task[None] | None = None

    def host_of(self, actor_id: str) -> str | None:
        """Return the host that owned the actor at the last look; None without an owner or before the first look."""
        return self._owners.get(partition_of(actor_id))

    @property
    def hosts(self) -> frozenset[str]:
        """Return all hosts that owned something at the last look."""
        return frozenset(self._owners.values())

    @property
    def complete(self) -> bool:
        """Return whether every partition had an owner at the last look."""
        return len(self._owners) == PARTITIONS

    async def look(self) -> None:
        """Read the owners again. Raises `TransientError`."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            # The error is retrieved even when all callers have given up. asyncio would log it as a defect otherwise.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        # Shielded: a caller that gives up must not end the look for the other callers.
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            self._owners = await self._read(_ALL)
        finally:
            self._looking = None
