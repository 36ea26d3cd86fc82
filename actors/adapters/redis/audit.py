"""Audit's view of the store: every actor's journal and snapshot, and the keys beside them. It writes nothing.

A journal only ever grows at its end, so the events before a length that was read stay readable at leisure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ...partitioning import PARTITIONS
from ...ports import SumsRead
from .archive import RedisArchive
from .guard import guarded, unanswered
from .keys import invoice_key, journal_key, partition_key, partition_keys, snapshot_key
from .scan import ActorKey, all_actors
from .sums import RedisSums
from .totals import Liability, sum_totals

EVENTS_AT_ONCE: Final = 256

# Journal and snapshot are read at the same moment. A write between would look like a snapshot without its journal.
_READ: Final = """
local length = redis.call('LLEN', KEYS[1])
local due = redis.call('ZSCORE', KEYS[3], ARGV[2])
return {redis.call('GET', KEYS[2]), length, redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1), due and 1 or 0}
"""
_UNREADABLE: Final = -1
_WRONG_TYPE: Final = "WRONGTYPE"


class StoredActor(NamedTuple):
    """Actor at one moment: its snapshot with the version of that, its journal's length, and the first events.

    A value that is not a snapshot has a negative version. `trouble`: why the store can't tell; the rest says nothing
    then. `due`: whether it is to be looked after at some time.
    """

    key: ActorKey
    snapshot: bytes | None
    snapshot_version: int
    length: int
    events: Sequence[bytes]
    trouble: str | None = None
    due: bool = False


_TOTALS: Final = """
local lengths = {}
for i = 3, #KEYS do
  local length = redis.pcall('LLEN', KEYS[i])
  lengths[i - 2] = type(length) == 'number' and length or 0
end
return {redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], 'epoch'),
        redis.call('HGET', KEYS[2], 'liability_msat'), lengths}
"""


class PartitionTotal(NamedTuple):
    """Running total of a partition, None while it has none, and at the same moment the lengths of these journals.

    claimed: whether a host ever had the partition. readable: whether the total, if there is one, is a number.
    """

    liability_msat: int | None
    lengths: Sequence[int]
    claimed: bool
    readable: bool


class PartitionKeys(NamedTuple):
    """Epoch and owner of a partition, by the store; None for a key that is missing."""

    epoch: bytes | None
    owner: bytes | None


class AuditStore:
    """Reader of the whole store, piece by piece. All methods raise `TransientError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._read = redis.register_script(_READ)

    def actors(self) -> AsyncIterator[Sequence[ActorKey]]:
        """Return all actors, a few at a time, those of each primary in turn; one may come twice.

        Actors of which there is only a snapshot are among them.
        """
        return all_actors(self._redis, also_snapshots=True)

    async def read(self, actors: Collection[ActorKey]) -> Sequence[StoredActor]:
        """Return these actors as they are now, without those that are gone."""
        pipe = self._redis.pipeline(transaction=False)
        for key in actors:
            keys = [journal_key(*key), snapshot_key(*key), partition_key(key.partition, "due")]
            pipe.eval(_READ, len(keys), *keys, EVENTS_AT_ONCE, key.actor_id)
        found = []
        for key, answer in zip(actors, await self._execute(pipe, one_by_one=True), strict=True):
            if isinstance(answer, ResponseError):
                if _WRONG_TYPE not in str(answer):
                    raise unanswered(answer) from answer
                found.append(StoredActor(key, None, 0, 0, (), "there is something else where its journal should be"))
                continue
            snapshot, length, events, due = answer
            if snapshot is None and length:
                found.append(StoredActor(key, None, 0, length, events, due=bool(due)))
            elif snapshot is not None:
                version, _, state = snapshot.partition(b"\n")
                number = int(version) if version.isdigit() else _UNREADABLE
                found.append(StoredActor(key, state, number, length, events, due=bool(due)))
        return found

    async def more(self, key: ActorKey, first: int, end: int) -> Sequence[bytes]:
        """Return events number `first` to before `end`; none of a journal that is gone by now."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.lrange(journal_key(*key), first, end - 1)
        events: Sequence[bytes] = (await self._execute(pipe))[0]
        return events

    async def partitions(self) -> Sequence[PartitionKeys]:
        """Return epochs and owners of all partitions, in order."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            for key in partition_keys(partition, "epoch", "owner"):
                pipe.get(key)
        values = await self._execute(pipe)
        return [PartitionKeys(*pair) for pair in zip(values[::2], values[1::2], strict=True)]

    async def total(self, partition: int, actor_ids: Sequence[str]) -> PartitionTotal:
        """Return the running total, and how long these actors' journals are at that moment."""
        keys = partition_keys(partition, "epoch", "totals", *(f"j:{actor_id}" for actor_id in actor_ids))
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(_TOTALS, len(keys), *keys)
        ((epoch, kept_epoch, amount, lengths),) = await self._execute(pipe)
        if epoch is None or epoch != kept_epoch:
            return PartitionTotal(None, lengths, epoch is not None, True)
        readable = amount is not None and amount.removeprefix(b"-").isdigit()
        return PartitionTotal(int(amount) if readable else None, lengths, True, readable)

    async def archived(self) -> Mapping[str, int | None]:
        """Return the sums that were taken out of the store, by `ARCHIVED`."""
        return await RedisArchive(self._redis).archived()

    async def sums(self, days: Sequence[int]) -> SumsRead:
        """Return the hourly sums of these days."""
        return await RedisSums(self._redis).hours(days)

    async def liability(self) -> Liability:
        """Return the sum of the running totals."""
        return await sum_totals(self._redis)

    async def owners_of_invoices(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """Return the owners of these invoices that were made ahead; unowned invoices are left out."""
        pipe = self._redis.pipeline(transaction=False)
        for payment_hash in payment_hashes:
            pipe.get(invoice_key(payment_hash))
        owners = zip(payment_hashes, await self._execute(pipe) if payment_hashes else (), strict=True)
        return {payment_hash: owner.decode() for payment_hash, owner in owners if owner not in (None, b"-")}

    async def _execute(self, pipe: Any, *, one_by_one: bool = False) -> list[Any]:
        """Return all answers; with `one_by_one`, a refusal of the store is in its place as an error."""
        answers: list[Any] = await guarded(pipe.execute(raise_on_error=not one_by_one))
        return answers
