"""What an audit reads of the store: every actor's journal and snapshot, and what stands beside them. It writes nothing.

A journal only ever grows at its end, so what lay before a length that was read stays readable at leisure.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..placement import PARTITIONS
from ..ports import TransientError
from .redis_cluster import ClusterRedis

EVENTS_AT_ONCE: Final = 256
_ACTORS_AT_ONCE: Final = 64
_SCAN_COUNT: Final = 1_000
_JOURNALS: Final = "satmeter:{p*}:j:*"
_KEY: Final = re.compile(rb"satmeter:\{p(\d{4})\}:j:(.+)")

# Both at the same moment: a write between the two would look like a snapshot of a journal that isn't there.
_READ: Final = """
local length = redis.call('LLEN', KEYS[1])
return {redis.call('GET', KEYS[2]) or '', length, redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)}
"""


class ActorKey(NamedTuple):
    """Where an actor's journal lies."""

    partition: int
    actor_id: str


class StoredActor(NamedTuple):
    """An actor at one moment: its snapshot with the version of that, its journal's length, and the first events."""

    key: ActorKey
    snapshot: bytes | None
    snapshot_version: int
    length: int
    events: Sequence[bytes]


class PartitionKeys(NamedTuple):
    """Who owns a partition, by the store; None where there is nothing."""

    epoch: bytes | None
    owner: bytes | None


class AuditStore:
    """Reads the whole store piece by piece. All methods raise `TransientError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._read = redis.register_script(_READ)

    async def actors(self) -> AsyncIterator[Sequence[ActorKey]]:
        """All actors, a few at a time, those of each primary in turn; one may come twice."""
        try:
            redis = self._redis
            nodes = list((await redis.primaries()).values()) if isinstance(redis, ClusterRedis) else [redis]
            for node in nodes:
                cursor = -1
                while cursor != 0:
                    cursor, keys = await node.scan(max(cursor, 0), match=_JOURNALS, count=_SCAN_COUNT)
                    matches = [_KEY.fullmatch(key.encode() if isinstance(key, str) else key) for key in keys]
                    found = [match for match in matches if match is not None]
                    actors = [ActorKey(int(match[1]), match[2].decode(errors="replace")) for match in found]
                    for i in range(0, len(actors), _ACTORS_AT_ONCE):
                        yield actors[i : i + _ACTORS_AT_ONCE]
        except (RedisError, OSError) as error:
            raise _down(error) from error

    async def read(self, actors: Collection[ActorKey]) -> Sequence[StoredActor]:
        """These actors as they are now, without those that are gone."""
        pipe = self._redis.pipeline(transaction=False)
        for partition, actor_id in actors:
            keys = (f"satmeter:{{p{partition:04d}}}:{name}:{actor_id}" for name in ("j", "s"))
            pipe.eval(_READ, 2, *keys, EVENTS_AT_ONCE)
        found = []
        for key, (snapshot, length, events) in zip(actors, await self._execute(pipe), strict=True):
            version, _, state = snapshot.partition(b"\n")
            if length or snapshot:
                found.append(StoredActor(key, state if snapshot else None, int(version or 0), length, events))
        return found

    async def more(self, key: ActorKey, first: int, end: int) -> Sequence[bytes]:
        """Events number `first` to before `end`; none of a journal that is gone by now."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.lrange(f"satmeter:{{p{key.partition:04d}}}:j:{key.actor_id}", first, end - 1)
        events: Sequence[bytes] = (await self._execute(pipe))[0]
        return events

    async def partitions(self) -> Sequence[PartitionKeys]:
        """Epochs and owners of all partitions, in order."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            for name in ("epoch", "owner"):
                pipe.get(f"satmeter:{{p{partition:04d}}}:{name}")
        values = await self._execute(pipe)
        return [PartitionKeys(*pair) for pair in zip(values[::2], values[1::2], strict=True)]

    async def owners_of_invoices(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """Whose these invoices are that were made ahead; those that nobody ever was given are left out."""
        pipe = self._redis.pipeline(transaction=False)
        for payment_hash in payment_hashes:
            pipe.get(f"satmeter:invoice:{payment_hash}")
        owners = zip(payment_hashes, await self._execute(pipe) if payment_hashes else (), strict=True)
        return {payment_hash: owner.decode() for payment_hash, owner in owners if owner not in (None, b"-")}

    async def _execute(self, pipe: Any) -> list[Any]:
        try:
            answers: list[Any] = await pipe.execute()
        except (RedisError, OSError) as error:
            raise _down(error) from error
        return answers


def _down(error: Exception) -> TransientError:
    return TransientError(f"the store did not answer: {error}")
