from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.ports import Append, ConflictError, Due, FencedError, Journal, Kept, Stored, TransientError
from satmeter.scripts.simulation.store.data import StoreData
from satmeter.scripts.simulation.store.server import SimulatedJournal, Writes
from tests.helpers.stores import nodes_of

ACTOR = "job_a"
HOUR_MS = 3_600_000
T = TypeVar("T")


@pytest.fixture
def redis(any_redis: Redis) -> Redis:
    """Every kind of store in turn: the journal is the same on all."""
    return any_redis


@pytest.fixture(params=["store_url", "sentinel_url", "cluster_url", "simulated"])
def place(request: pytest.FixtureRequest) -> str | None:
    """The URL of each kind of store; None for the simulator's."""
    return None if request.param == "simulated" else str(request.getfixturevalue(request.param))


@pytest_asyncio.fixture
async def store(place: str | None) -> AsyncIterator[AnyStore]:
    """The journal on each of them: the simulator's must be the same as the real ones."""
    if place is None:
        yield SimulatedStore()
        return
    redis = connect(place)
    yield RealStore(redis)
    await redis.aclose()


class RealStore:
    """A journal on a real store."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.journal: Journal = RedisJournal(redis)

    async def claimed(self) -> tuple[Journal, int]:
        for node in await nodes_of(self.redis):
            await node.flushall()
        return self.journal, (await self.journal.claim([17], "host-0"))[17]

    async def delete(self) -> None:
        await self.redis.delete("satmeter:{p0017}:j:job_a")

    async def expires_in_ms(self) -> int | None:
        left = await self.redis.pttl("satmeter:{p0017}:j:job_a")
        assert left != -2
        return None if left == -1 else left


class SimulatedStore:
    """The simulator's store, on a clock that stands still."""

    def __init__(self) -> None:
        self.data = StoreData(lambda: 1_800_000_000_000)
        self.journal: Journal = SimulatedJournal(DirectAccess(self.data))

    async def claimed(self) -> tuple[Journal, int]:
        return self.journal, (await self.journal.claim([17], "host-0"))[17]

    async def delete(self) -> None:
        self.data.delete(17, ACTOR)

    async def expires_in_ms(self) -> int | None:
        return self.data.expires_in_ms(17, ACTOR)


class DirectAccess:
    """The way to the simulator's store when nothing goes wrong on it."""

    def __init__(self, data: StoreData) -> None:
        self.data = data

    async def ask(self, operation: Callable[[], T], *, writes: Writes = Writes.NOTHING, actor_id: str = "") -> T:
        return operation()


AnyStore = RealStore | SimulatedStore


async def reads(redis: Redis) -> int:
    """Count how often the store has read from its clients."""
    return sum([(await node.info("stats"))["total_reads_processed"] for node in await nodes_of(redis)])


def append(epoch: int, version: int, *events: bytes, **fields: Any) -> Append:
    return Append(partition=17, epoch=epoch, actor_id=ACTOR, expected_version=version, events=events, **fields)


async def claimed(redis: Redis) -> tuple[RedisJournal, int]:
    journal = RedisJournal(redis)
    return journal, (await journal.claim([17], "host-0"))[17]


async def test_events_are_read_in_the_order_in_which_they_were_written(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", b"two"))
    await journal.append(append(epoch, 2, b"three"))
    assert await journal.load(17, ACTOR) == Stored(None, 0, [b"one", b"two", b"three"])


async def test_a_snapshot_spares_the_events_before_it(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", b"two", snapshot=b'{"a":\n1}'))
    await journal.append(append(epoch, 2, b"three"))
    assert await journal.load(17, ACTOR) == Stored(b'{"a":\n1}', 2, [b"three"])


async def test_another_event_takes_the_place_of_the_first(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"a long text", keep_ms=HOUR_MS))
    await journal.append(append(epoch, 1, b"two", b"three"))
    await journal.append(append(epoch, 3, b"four", opening=b"short", keep_ms=HOUR_MS))
    assert await journal.load(17, ACTOR) == Stored(None, 0, [b"short", b"two", b"three", b"four"])
    left_ms = await store.expires_in_ms()
    assert left_ms is not None and 0 < left_ms <= HOUR_MS
    with pytest.raises(ConflictError):
        await journal.append(append(epoch, 3, b"five", opening=b"other"))
    assert (await journal.load(17, ACTOR)).events[0] == b"short"


async def test_a_write_at_another_version_changes_nothing(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", due_ms=5))
    with pytest.raises(ConflictError):
        await journal.append(append(epoch, 0, b"other", snapshot=b"s", due_ms=9))
    assert await journal.load(17, ACTOR) == Stored(None, 0, [b"one"])
    assert await journal.due([17], 100) == [Due(5, ACTOR)]


async def test_a_former_owners_write_is_refused_with_the_epoch_that_holds(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.claim([17], "host-0")
    with pytest.raises(FencedError) as fenced:
        await journal.append(append(epoch, 0, b"one"))
    assert fenced.value.current_epoch == epoch + 1
    assert await journal.load(17, ACTOR) == Stored(None, 0, [])


async def test_one_refused_write_does_not_touch_the_others_in_its_pipeline(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    good = [Append(17, epoch, f"job_{n}", 0, [b"e"]) for n in range(20)]
    bad = Append(17, epoch, "job_bad", 3, [b"e"])
    outcomes = await asyncio.gather(*(journal.append(a) for a in [*good, bad]), return_exceptions=True)
    assert outcomes[:-1] == [None] * 20
    assert isinstance(outcomes[-1], ConflictError)


async def test_writes_of_one_turn_share_a_round_trip(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(Append(17, epoch, "job_first", 0, [b"e"]))
    before = await reads(redis)
    await asyncio.gather(*(journal.append(Append(17, epoch, f"job_{n}", 0, [b"e"])) for n in range(100)))
    assert await reads(redis) - before < 12


async def test_a_store_that_forgot_the_script_is_given_it_again(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    for node in await nodes_of(redis):
        await node.script_flush()
    await asyncio.gather(*(journal.append(Append(17, epoch, f"job_{n}", 0, [b"e"])) for n in range(5)))
    for n in range(5):
        assert (await journal.load(17, f"job_{n}")).events == [b"e"]


async def test_due_times_come_and_go_with_the_write(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", due_ms=50))
    assert await journal.due([16, 17], 49) == []
    assert await journal.due([16, 17], 50) == [Due(50, ACTOR)]
    await journal.append(append(epoch, 1, b"two"))
    assert await journal.due([17], 100) == []


async def test_a_due_time_is_forgotten_only_when_its_actor_is_gone(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", due_ms=50))
    await journal.forget_due(17, epoch, ACTOR)
    assert len(await journal.due([17], 100)) == 1
    await store.delete()
    with pytest.raises(FencedError):
        await journal.forget_due(17, epoch + 1, ACTOR)
    await journal.forget_due(17, epoch, ACTOR)
    assert await journal.due([17], 100) == []


async def test_keys_expire_when_told_and_stay_when_told(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", keep_ms=60_000, snapshot=b"s"))
    assert 0 < await redis.pttl("satmeter:{p0017}:j:job_a") <= 60_000
    assert 0 < await redis.pttl("satmeter:{p0017}:s:job_a") <= 60_000
    await journal.append(append(epoch, 1, b"two"))
    assert await redis.pttl("satmeter:{p0017}:j:job_a") == -1
    assert await redis.pttl("satmeter:{p0017}:s:job_a") == -1


async def test_an_actor_expires_when_told_and_stays_when_told(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    await journal.append(append(epoch, 0, b"one", keep_ms=60_000))
    assert 0 < (await store.expires_in_ms() or 0) <= 60_000
    await journal.append(append(epoch, 1, b"two"))
    assert await store.expires_in_ms() is None


async def test_a_history_begins_after_a_number_of_the_ledger(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    events = [b'{"seq":%d}' % seq for seq in (0, 1, 1, 3, 4)]
    await journal.append(append(epoch, 0, *events))
    assert await journal.history(17, ACTOR, 0, 10) == events[1:]
    assert await journal.history(17, ACTOR, 1, 1) == events[3:4]
    assert await journal.history(17, ACTOR, 4, 10) == []


async def test_owners_and_epochs_are_those_of_the_last_claim(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    assert (await journal.claim([17, 18], "host-1")) == {17: epoch + 1, 18: 1}
    assert await journal.owners([16, 17, 18]) == {17: "host-1", 18: "host-1"}
    assert await journal.epochs([16, 17, 18]) == {17: epoch + 1, 18: 1}


async def test_partitions_are_claimed_and_asked_in_one_go_wherever_they_lie(redis: Redis) -> None:
    journal = RedisJournal(redis)
    epochs = await journal.claim(range(100), "host-0")
    assert epochs == dict.fromkeys(range(100), 1)
    await asyncio.gather(*(journal.append(Append(p, 1, f"job_{p}", 0, [b"e"], due_ms=p)) for p in range(100)))
    assert await journal.due(range(100), 98) == [Due(p, f"job_{p}") for p in range(99)]
    for partition in (0, 50, 99):
        assert (await journal.load(partition, f"job_{partition}")).events == [b"e"]


async def test_one_refused_write_does_not_touch_those_of_other_partitions(redis: Redis) -> None:
    journal = RedisJournal(redis)
    await journal.claim(range(50), "host-0")
    await journal.claim([7], "host-0")
    appends = [Append(p, 1, f"job_{p}", 0, [b"e"]) for p in range(50)]
    outcomes = await asyncio.gather(*(journal.append(a) for a in appends), return_exceptions=True)
    assert isinstance(outcomes.pop(7), FencedError)
    assert outcomes == [None] * 49


async def test_answers_that_were_kept_are_recalled_by_name(store: AnyStore) -> None:
    journal, epoch = await store.claimed()
    kept = [Kept("a", b"1", 60_000), Kept("b", b"2", 60_000)]
    await journal.append(append(epoch, 0, b"one", kept=kept))
    assert await journal.recall(17, ACTOR, ["a", "b", "c"]) == {"a": b"1", "b": b"2"}


async def test_a_store_that_answers_passes_the_check(redis: Redis) -> None:
    await RedisJournal(redis).check()


@pytest.mark.parametrize(
    "url",
    ["unix:///nonexistent/satmeter.sock", "redis+sentinel://127.0.0.1:1/mymaster", "redis+cluster://127.0.0.1:1"],
)
async def test_a_store_that_cannot_be_reached_is_a_transient_error_for_every_call(url: str) -> None:
    redis = connect(url)
    journal = RedisJournal(redis)
    for call in (
        journal.claim([1], "host-0"),
        journal.append(append(1, 0, b"e")),
        journal.load(1, "a"),
        journal.due([1], 1),
        journal.forget_due(1, 1, "a"),
        journal.check(),
    ):
        with pytest.raises(TransientError):
            await call
    await journal.close()
