"""Marks of a server in the store: counts that only rise, by which a store that went back is noticed.

    satmeter:{p0017}:mark:<server>   raised every few seconds; expires a century after the last time

A store keeps its writes in one order, so that one with a mark has all that it confirmed before. On a cluster each
primary keeps an order of its own, so each has a mark, in a partition of its own. `docs/decisions/store.md` says more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from redis.asyncio import Redis

from ....config.store_url import Address
from ...partitioning import PARTITIONS
from .cluster_client import ClusterRedis
from .format import was_entered
from .guard import guarded, store_errors
from .keys import partition_key

# A machine that keeps no time while it is off may begin at 1970. When its clock is set right, no mark may expire: the
# store would look as if it had gone back.
_HOLDS_MS: Final = 100 * 366 * 86_400_000


class RedisMarks:
    """Marks of one server. All methods raise `TransientError`."""

    def __init__(self, redis: Redis, server: str) -> None:
        self._redis = redis
        self._name = f"mark:{server}"
        self._partitions: dict[Address, int] = {}

    async def entered(self) -> bool:
        """Return whether any server ever wrote to this store."""
        return await was_entered(self._redis)

    async def read(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Return the marks in these partitions, 0 where there is none."""
        numbers = list(partitions)
        pipe = self._redis.pipeline(transaction=False)
        for partition in numbers:
            pipe.get(partition_key(partition, self._name))
        found = await guarded(pipe.execute()) if numbers else []
        return {partition: int(mark or 0) for partition, mark in zip(numbers, found, strict=True)}

    async def raise_all(self) -> Mapping[int, int]:
        """Raise the mark of each primary, and return the marks by partition. All of them are in the store then."""
        partitions = sorted(await self._one_of_each_primary())
        pipe = self._redis.pipeline(transaction=False)
        for partition in partitions:
            key = partition_key(partition, self._name)
            pipe.incr(key)
            pipe.pexpire(key, _HOLDS_MS)
        marks = (await guarded(pipe.execute()))[::2]
        return dict(zip(partitions, map(int, marks), strict=True))

    async def _one_of_each_primary(self) -> Iterable[int]:
        redis = self._redis
        if not isinstance(redis, ClusterRedis):
            return [0]
        with store_errors():
            primaries = set(await redis.primaries())
        known = {address: partition for address, partition in self._partitions.items() if address in primaries}
        if set(known) != primaries or any(self._shard(redis, number) != place for place, number in known.items()):
            known = {}
            for partition in range(PARTITIONS):
                address = self._shard(redis, partition)
                if address is not None:
                    known.setdefault(address, partition)
        self._partitions = known
        return known.values()

    def _shard(self, redis: ClusterRedis, partition: int) -> Address | None:
        return redis.shard_of(partition_key(partition, self._name))
