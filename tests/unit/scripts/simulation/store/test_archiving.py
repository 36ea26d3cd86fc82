"""The simulator's archive is held to the real one: both delete the same, and read the same of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.archive import ARCHIVED, RedisArchive
from satmeter.actors.adapters.redis.audit import AuditStore, StoredActor
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.adapters.redis.scan import ActorKey
from satmeter.actors.ports import Append, Due, Journal
from satmeter.scripts.audit.archive import Actors, Removal
from satmeter.scripts.simulation.store.archiving import SimulatedActors
from satmeter.scripts.simulation.store.data import StoreData
from satmeter.scripts.simulation.store.server import SimulatedJournal, Writes

T = TypeVar("T")
KEY = ActorKey(3, "ses_a")
SUMS = dict.fromkeys(ARCHIVED[1:], 0)


class DirectAccess:
    """A store to which nothing happens on the way."""

    def __init__(self, data: StoreData) -> None:
        self.data = data

    async def ask(self, operation: Callable[[], T], *, writes: Writes = Writes.NOTHING, actor_id: str = "") -> T:
        return operation()


def _write(version: int, events: Sequence[bytes], snapshot: bytes | None, due_ms: int | None) -> Append:
    return Append(
        actor_id=KEY.actor_id,
        partition=KEY.partition,
        epoch=1,
        expected_version=version,
        events=list(events),
        snapshot=snapshot,
        due_ms=due_ms,
        keep_ms=None,
        kept=[],
        liability_change_msat=0,
    )


@pytest.mark.parametrize("due_ms", [None, 5_000])
@pytest.mark.parametrize("length", [1, 2, 3])
async def test_both_delete_what_is_still_as_long_as_was_archived_and_nothing_else(
    redis: Redis, length: int, due_ms: int | None
) -> None:
    data = StoreData(lambda: 0)
    simulated = SimulatedActors(DirectAccess(data))
    store, archive = AuditStore(redis), RedisArchive(redis)
    told: list[tuple[bool, Sequence[StoredActor]]] = []
    both: list[tuple[Journal, Actors, Removal]] = [
        (RedisJournal(redis, lambda actor_id, stored: 0), store, archive),
        (SimulatedJournal(DirectAccess(data)), simulated, simulated),
    ]
    for journal, actors, removal in both:
        assert await journal.claim([KEY.partition], "host-0") == {KEY.partition: 1}
        await journal.append(_write(0, [b'{"n":1}'], b"one", due_ms))
        await journal.append(_write(1, [b'{"n":2}'], None, due_ms))
        before = await actors.read([KEY])
        removed = await removal.remove(KEY, length, SUMS)
        found = {key async for keys in actors.actors() for key in keys}
        assert found == (set() if removed else {KEY})
        assert await journal.due([KEY.partition], 10_000) == (
            [] if removed or due_ms is None else [Due(5_000, KEY.actor_id)]
        )
        told.append((removed, [stored._replace(events=list(stored.events)) for stored in before]))
    assert told[0] == told[1]
    assert told[0][0] == (length == 2)
