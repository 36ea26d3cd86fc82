from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis_client import connect
from satmeter.actors.adapters.redis_journal import RedisJournal
from satmeter.actors.ports import Append, ConflictError, Due, FencedError, Stored, TransientError

ACTOR = "job_a"


def append(epoch: int, version: int, *events: bytes, **fields: Any) -> Append:
    return Append(partition=17, epoch=epoch, actor_id=ACTOR, expected_version=version, events=events, **fields)


async def claimed(redis: Redis) -> tuple[RedisJournal, int]:
    journal = RedisJournal(redis)
    return journal, (await journal.claim([17], "host-0"))[17]


async def test_events_are_read_in_the_order_in_which_they_were_written(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", b"two"))
    await journal.append(append(epoch, 2, b"three"))
    assert await journal.load(17, ACTOR) == Stored(None, 0, [b"one", b"two", b"three"])


async def test_a_snapshot_spares_the_events_before_it(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", b"two", snapshot=b'{"a":\n1}'))
    await journal.append(append(epoch, 2, b"three"))
    assert await journal.load(17, ACTOR) == Stored(b'{"a":\n1}', 2, [b"three"])


async def test_a_write_at_another_version_changes_nothing(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", due_ms=5))
    with pytest.raises(ConflictError):
        await journal.append(append(epoch, 0, b"other", snapshot=b"s", due_ms=9))
    assert await journal.load(17, ACTOR) == Stored(None, 0, [b"one"])
    assert await journal.due([17], 100) == [Due(5, ACTOR)]


async def test_a_former_owners_write_is_refused_with_the_epoch_that_holds(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.claim([17], "host-0")
    with pytest.raises(FencedError) as fenced:
        await journal.append(append(epoch, 0, b"one"))
    assert fenced.value.current_epoch == epoch + 1
    assert await journal.load(17, ACTOR) == Stored(None, 0, [])


async def test_one_refused_write_does_not_touch_the_others_in_its_pipeline(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    good = [Append(17, epoch, f"job_{n}", 0, [b"e"]) for n in range(20)]
    bad = Append(17, epoch, "job_bad", 3, [b"e"])
    outcomes = await asyncio.gather(*(journal.append(a) for a in [*good, bad]), return_exceptions=True)
    assert outcomes[:-1] == [None] * 20
    assert isinstance(outcomes[-1], ConflictError)


async def test_writes_of_one_turn_share_a_round_trip(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(Append(17, epoch, "job_first", 0, [b"e"]))
    before = (await redis.info("stats"))["total_reads_processed"]
    await asyncio.gather(*(journal.append(Append(17, epoch, f"job_{n}", 0, [b"e"])) for n in range(100)))
    after = (await redis.info("stats"))["total_reads_processed"]
    assert after - before < 10


async def test_a_store_that_forgot_the_script_is_given_it_again(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await redis.script_flush()
    await asyncio.gather(*(journal.append(Append(17, epoch, f"job_{n}", 0, [b"e"])) for n in range(5)))
    for n in range(5):
        assert (await journal.load(17, f"job_{n}")).events == [b"e"]


async def test_due_times_come_and_go_with_the_write(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", due_ms=50))
    assert await journal.due([16, 17], 49) == []
    assert await journal.due([16, 17], 50) == [Due(50, ACTOR)]
    await journal.append(append(epoch, 1, b"two"))
    assert await journal.due([17], 100) == []


async def test_a_due_time_is_forgotten_only_when_its_actor_is_gone(redis: Redis) -> None:
    journal, epoch = await claimed(redis)
    await journal.append(append(epoch, 0, b"one", due_ms=50))
    await journal.forget_due(17, epoch, ACTOR)
    assert len(await journal.due([17], 100)) == 1
    await redis.delete("satmeter:{p0017}:j:job_a")
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


async def test_a_store_that_cannot_be_reached_is_a_transient_error_for_every_call() -> None:
    redis = connect("unix:///nonexistent/satmeter.sock")
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
