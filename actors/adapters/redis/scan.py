"""Scan for all actors of a store, by the keys of their journals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from redis.asyncio import Redis

from .cluster_client import ClusterRedis
from .guard import store_errors
from .keys import ACTOR_KEY, JOURNALS, JOURNALS_AND_SNAPSHOTS

_AT_ONCE: Final = 64
_SCAN_COUNT: Final = 1_000


class ActorKey(NamedTuple):
    """Key of an actor's journal: its partition and its id."""

    partition: int
    actor_id: str


async def all_actors(redis: Redis, *, also_snapshots: bool = False) -> AsyncIterator[Sequence[ActorKey]]:
    """Yield all actors, a few at a time, those of each primary in turn; one may come twice.

    With `also_snapshots`, actors that have a snapshot without a journal are among them. Raises `TransientError`.
    """
    pattern = JOURNALS_AND_SNAPSHOTS if also_snapshots else JOURNALS
    with store_errors():
        nodes = list((await redis.primaries()).values()) if isinstance(redis, ClusterRedis) else [redis]
        for node in nodes:
            cursor = -1
            while cursor != 0:
                cursor, keys = await node.scan(max(cursor, 0), match=pattern, count=_SCAN_COUNT)
                matches = [ACTOR_KEY.fullmatch(key.encode() if isinstance(key, str) else key) for key in keys]
                actors = [ActorKey(int(m[1]), m[2].decode(errors="replace")) for m in matches if m is not None]
                for i in range(0, len(actors), _AT_ONCE):
                    yield actors[i : i + _AT_ONCE]
