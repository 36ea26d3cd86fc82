"""Hourly sums are what was added to them, at every moment of a move and wherever it is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis import sums
from satmeter.actors.adapters.redis.guard import guarded
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.adapters.redis.keys import partition_keys
from satmeter.actors.adapters.redis.sums import KEPT_DAYS, RedisSums
from satmeter.actors.partitioning import PARTITIONS
from satmeter.actors.ports import Append, ConflictError, FencedError, TransientError
from tests.helpers.stores import nodes_of

HOUR = 500_016
DAY = HOUR // 24
NOW_MS = (HOUR + 2) * 3_600_000
T = TypeVar("T")


@pytest.fixture
def redis(any_redis: Redis) -> Redis:
    """Every kind of store in turn."""
    return any_redis


class Writer:
    """Writes to some partitions, and keeps what it has added."""

    def __init__(self, redis: Redis) -> None:
        self.journal = RedisJournal(redis)
        self.due: Counter[tuple[int, str]] = Counter()
        self.versions: Counter[int] = Counter()

    async def claim(self) -> None:
        self.epochs = dict(await self.journal.claim([3, 700], "host"))

    async def add(self, partition: int, hour: int, **amounts: int) -> None:
        version = self.versions[partition]
        append = Append(partition, self.epochs[partition], "ses_a", version, [b"{}"], hour=hour, sums=amounts)
        await self.journal.append(append)
        self.versions[partition] += 1
        self.due.update({(hour, name): amount for name, amount in amounts.items()})

    async def read(self, redis: Redis) -> None:
        """Compare all readings with what was added."""
        kept = RedisSums(redis)
        read = await kept.hours([DAY, DAY + 1])
        assert dict(read.sums) == dict(self.due)
        total, by_day = Counter[str](), Counter[tuple[int, str]]()
        for (hour, name), amount in self.due.items():
            total[name] += amount
            by_day[hour // 24, name] += amount
        assert dict(read.ever) == dict(total)
        assert dict((await kept.days([DAY, DAY + 1])).sums) == dict(by_day)
        assert read.from_hour == 0


@pytest.fixture
async def writer(redis: Redis) -> Writer:
    """A host's journal, with two partitions."""
    made = Writer(redis)
    await made.claim()
    await made.add(3, HOUR, requests=1, charged_msat=500)
    await made.add(3, HOUR, requests=1)
    await made.add(3, HOUR + 24, requests=1)
    await made.add(700, HOUR, requests=5)
    return made


async def test_sums_are_the_same_before_and_after_a_move(redis: Redis, writer: Writer) -> None:
    await writer.read(redis)
    assert await RedisSums(redis).move(NOW_MS) == 2
    await writer.read(redis)
    assert await RedisSums(redis).move(NOW_MS) == 0
    await writer.add(3, HOUR, requests=7)
    await writer.read(redis)
    await RedisSums(redis).move(NOW_MS)
    await writer.read(redis)


async def test_a_write_that_is_refused_adds_nothing(redis: Redis, writer: Writer) -> None:
    append = Append(3, writer.epochs[3], "ses_a", 0, [b"{}"], hour=HOUR, sums={"requests": 9})
    with pytest.raises(ConflictError):
        await writer.journal.append(append)
    await RedisJournal(redis).claim([3], "other")
    with pytest.raises(FencedError):
        await writer.add(3, HOUR, requests=9)
    await writer.read(redis)


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("step", range(1, 6))
async def test_a_move_that_is_cut_off_anywhere_loses_and_doubles_nothing(
    redis: Redis, writer: Writer, monkeypatch: pytest.MonkeyPatch, step: int, carried_out: bool
) -> None:
    calls = iter(range(1, 100))

    async def cut_off(call: Awaitable[T]) -> T:
        last = next(calls) == step
        if last and not carried_out:
            getattr(call, "close", lambda: None)()
            raise TransientError("cut off before")
        result: T = await guarded(call)
        if last:
            raise TransientError("cut off after")
        return result

    with monkeypatch.context() as patched:
        patched.setattr("satmeter.actors.adapters.redis.sums.guarded", cut_off)
        with pytest.raises(TransientError):
            await RedisSums(redis).move(NOW_MS)
    await writer.read(redis)
    await writer.add(3, HOUR, requests=2)
    await writer.read(redis)
    await RedisSums(redis).move(NOW_MS)
    await RedisSums(redis).move(NOW_MS)
    await writer.read(redis)


async def test_two_movers_at_once_move_each_sum_once(redis: Redis, writer: Writer) -> None:
    first, second = RedisSums(redis), RedisSums(redis)
    (taken,) = await _raw(redis, sums._TAKE, 3, "sums", "taken", "totals")
    await second.move(NOW_MS)
    late = sums._pairs(taken)
    await first._add(3, late.pop("number"), late, NOW_MS)
    await writer.read(redis)


async def _raw(redis: Redis, script: str, count: int, *names: str) -> list[Any]:
    pipe = redis.pipeline(transaction=False)
    pipe.eval(script, count, *partition_keys(3, *names))
    return list(await pipe.execute())


async def test_sums_expire_after_their_days_and_the_total_never(redis: Redis, writer: Writer) -> None:
    await RedisSums(redis).move(NOW_MS)
    left_ms = await redis.pttl(f"satmeter:{{sums}}:hours:{DAY}")
    assert 0 < left_ms <= (KEPT_DAYS + 1) * 86_400_000
    assert await redis.pttl("satmeter:{sums}:ever") == -1


async def test_counting_begins_again_after_a_host_that_does_not_count(redis: Redis, writer: Writer) -> None:
    """As of an earlier version, which raises the epoch alone."""
    await redis.incr("satmeter:{p0003}:epoch")
    assert (await RedisSums(redis).hours([DAY])).from_hour is None
    await writer.journal.claim([3], "host")
    seconds, _ = await (await nodes_of(redis))[0].time()
    assert (await RedisSums(redis).hours([DAY])).from_hour == seconds // 3_600 + 1


async def test_a_claim_of_all_counts_a_new_store_from_the_first_event(redis: Redis) -> None:
    assert (await RedisSums(redis).hours([DAY])).from_hour == 0
    await RedisJournal(redis).claim(range(PARTITIONS), "host")
    await RedisJournal(redis).claim([5], "other")
    assert (await RedisSums(redis).hours([DAY])).from_hour == 0


async def test_a_sum_that_can_t_be_counted_keeps_no_event_out_of_its_journal(redis: Redis, writer: Writer) -> None:
    await writer.add(3, HOUR, huge=2**62)
    await writer.add(3, HOUR, huge=2**62)
    assert len((await writer.journal.load(3, "ses_a")).events) == 5


async def test_unpaid_payouts_are_listed_until_they_are_paid(redis: Redis, writer: Writer) -> None:
    async def write(payout_ms: int | None) -> None:
        version = writer.versions[3]
        await writer.journal.append(Append(3, writer.epochs[3], "ses_a", version, [b"{}"], open_payout_ms=payout_ms))
        writer.versions[3] += 1

    await write(NOW_MS)
    await write(None)
    assert await redis.zrange("satmeter:{p0003}:payouts", 0, -1, withscores=True) == [(b"ses_a", NOW_MS)]
    await write(0)
    assert await redis.zrange("satmeter:{p0003}:payouts", 0, -1) == []
