"""Limits under many askers at once, over several connections, and what stays in the store after long use."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.limits import RedisLimits

HOUR_S = 3_600
START_MS = 1_800_000_000_000


def at(redis: Redis, ms: int = START_MS) -> RedisLimits:
    """Limits at this time."""
    return RedisLimits(redis, lambda: ms)


async def test_uses_at_the_same_time_are_never_more_than_fit(redis: Redis, store_url: str) -> None:
    async with Redis.from_url(store_url) as second:
        processes = at(redis), at(second)
        asked = (limits.hit("demo", "anna", 5, HOUR_S) for _ in range(25) for limits in processes)
        answers = await asyncio.gather(*asked)
    assert (answers.count(None), answers.count(HOUR_S)) == (5, 45)


async def test_reservations_at_the_same_time_are_never_more_than_fit(redis: Redis, store_url: str) -> None:
    async with Redis.from_url(store_url) as second:
        processes = at(redis), at(second)
        # Each job asks both: a client that repeats its POST may come to another process.
        asked = (limits.reserve("anna", f"job_{i}", 7, START_MS + 60_000) for i in range(20) for limits in processes)
        answers = await asyncio.gather(*asked)
    assert (answers.count(None), answers.count(60)) == (14, 26)
    assert await redis.zcard("satmeter:unpaid:anna") == 7


async def test_a_later_reservation_of_the_same_job_moves_the_time_at_which_it_lapses(redis: Redis) -> None:
    await at(redis).reserve("anna", "job_1", 1, START_MS + 30_000)
    await at(redis).reserve("anna", "job_1", 1, START_MS + 60_000)
    assert await at(redis, START_MS + 59_999).reserve("anna", "job_2", 1, START_MS + 90_000) == 1
    assert await at(redis, START_MS + 60_000).reserve("anna", "job_2", 1, START_MS + 90_000) is None


async def test_a_payment_frees_only_the_place_of_its_own_client_and_job(redis: Redis) -> None:
    limits = at(redis)
    await limits.reserve("anna", "job_1", 1, START_MS + 60_000)
    await limits.release("ben", "job_1")
    await limits.release("anna", "job_2")
    assert await limits.reserve("anna", "job_2", 1, START_MS + 60_000) == 60


async def test_uses_that_no_longer_count_do_not_pile_up(redis: Redis) -> None:
    quarter_ms = HOUR_S * 250
    for i in range(50):
        assert await at(redis, START_MS + i * quarter_ms).hit("demo", "anna", 5, HOUR_S) is None
    assert await redis.zcard("satmeter:hits:demo:anna") <= 5


async def test_a_store_that_lost_its_scripts_in_a_restart_is_given_them_again(redis: Redis) -> None:
    limits = at(redis)
    assert await limits.hit("demo", "anna", 2, HOUR_S) is None
    await redis.script_flush()
    assert await limits.hit("demo", "anna", 2, HOUR_S) is None
    assert await limits.hit("demo", "anna", 2, HOUR_S) == HOUR_S
