"""Removal from the store of journals of actors that are done, once they are on disk elsewhere.

The same script adds what is deleted to its partition's `satmeter:{p0017}:totals` (`archived_actors` and so on), so that
an audit knows what it must find in archives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from ...partitioning import PARTITIONS
from .guard import guarded
from .keys import journal_key, partition_key, partition_keys, snapshot_key
from .scan import ActorKey

ARCHIVED: Final = ("actors", "received_msat", "spent_msat", "refunded_msat", "owed_msat")

# The actor is removed at the length that was archived, or not at all. A host may have it in memory, and write to it at
# any moment. A later write is refused for its version, upon which the host reads again, and finds nothing. While the
# partition's total is being counted nothing is removed either: it may have been counted already.
_REMOVE: Final = """
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
if redis.call('HGET', KEYS[4], 'epoch') ~= redis.call('GET', KEYS[5]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[6], ARGV[2])
redis.call('HINCRBY', KEYS[4], 'archived_actors', 1)
redis.call('HINCRBY', KEYS[4], 'archived_received_msat', ARGV[3])
redis.call('HINCRBY', KEYS[4], 'archived_spent_msat', ARGV[4])
redis.call('HINCRBY', KEYS[4], 'archived_refunded_msat', ARGV[5])
redis.call('HINCRBY', KEYS[4], 'archived_owed_msat', ARGV[6])
redis.call('HINCRBY', KEYS[4], 'liability_msat', -ARGV[6])
return 1
"""


class RedisArchive:
    """Archive's part in the store. All methods raise `TransientError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._remove = redis.register_script(_REMOVE)

    async def remove(self, key: ActorKey, length: int, sums: Mapping[str, int]) -> bool:
        """Delete an actor that is still `length` events long, and add its sums; return whether it was."""
        keys = [
            journal_key(*key),
            snapshot_key(*key),
            *partition_keys(key.partition, "due", "totals", "epoch", "payouts"),
        ]
        args: list[int | str] = [length, key.actor_id, *(sums[name] for name in ARCHIVED[1:])]
        return bool(await guarded(self._remove(keys=keys, args=args)))

    async def archived(self) -> Mapping[str, int | None]:
        """Return the sums of all that was ever archived, by the names in `ARCHIVED`.

        None where the store holds something else than a number.
        """
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.hmget(partition_key(partition, "totals"), *(f"archived_{name}" for name in ARCHIVED))
        rows: Sequence[Sequence[bytes | None]] = await guarded(pipe.execute())
        columns = {name: [row[i] or b"0" for row in rows] for i, name in enumerate(ARCHIVED)}
        return {
            name: sum(map(int, column)) if all(value.isdigit() for value in column) else None
            for name, column in columns.items()
        }
