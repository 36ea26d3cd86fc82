"""Limits in a real store, with a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.limits import RedisLimits
from satmeter.actors.ports import TransientError

HOUR_S = 3_600


@dataclass
class Clock:
    ms: int = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(redis: Redis, clock: Clock) -> RedisLimits:
    return RedisLimits(redis, clock.now_ms)


async def test_so_many_uses_fit_into_a_window_and_the_next_is_told_when_to_come(
    limits: RedisLimits, clock: Clock
) -> None:
    assert await limits.hit("demo", "anna", 2, HOUR_S) is None
    clock.ms += 600_000
    assert await limits.hit("demo", "anna", 2, HOUR_S) is None
    assert await limits.hit("demo", "anna", 2, HOUR_S) == 3_000


async def test_the_window_slides_and_does_not_start_anew_for_all_uses_at_once(
    limits: RedisLimits, clock: Clock
) -> None:
    await limits.hit("demo", "anna", 2, HOUR_S)
    clock.ms += 600_000
    await limits.hit("demo", "anna", 2, HOUR_S)
    clock.ms += 3_000_000
    assert await limits.hit("demo", "anna", 2, HOUR_S) is None
    assert await limits.hit("demo", "anna", 2, HOUR_S) == 600


async def test_whoever_comes_back_after_the_time_that_was_told_is_let_in(limits: RedisLimits, clock: Clock) -> None:
    await limits.hit("demo", "anna", 1, HOUR_S)
    clock.ms += 1_234_567
    wait_s = await limits.hit("demo", "anna", 1, HOUR_S)
    assert wait_s is not None
    clock.ms += wait_s * 1_000
    assert await limits.hit("demo", "anna", 1, HOUR_S) is None


async def test_refused_uses_are_not_counted(limits: RedisLimits, clock: Clock) -> None:
    await limits.hit("demo", "anna", 1, HOUR_S)
    for _ in range(5):
        clock.ms += 700_000
        assert await limits.hit("demo", "anna", 1, HOUR_S) is not None
    clock.ms += 100_001
    assert await limits.hit("demo", "anna", 1, HOUR_S) is None


async def test_clients_and_names_are_counted_apart(limits: RedisLimits) -> None:
    assert await limits.hit("demo", "anna", 1, HOUR_S) is None
    assert await limits.hit("demo", "ben", 1, HOUR_S) is None
    assert await limits.hit("other", "anna", 1, HOUR_S) is None


async def test_a_limit_of_zero_lets_nobody_in(limits: RedisLimits) -> None:
    assert await limits.hit("demo", "anna", 0, HOUR_S) == HOUR_S


async def test_uses_are_counted_across_processes(limits: RedisLimits, redis: Redis, clock: Clock) -> None:
    await limits.hit("demo", "anna", 1, HOUR_S)
    assert await RedisLimits(redis, clock.now_ms).hit("demo", "anna", 1, HOUR_S) is not None


async def test_so_many_invoices_may_be_open_until_the_first_lapses(limits: RedisLimits, clock: Clock) -> None:
    assert await limits.reserve("anna", "job_1", 2, clock.ms + 60_000) is None
    assert await limits.reserve("anna", "job_2", 2, clock.ms + 90_000) is None
    assert await limits.reserve("anna", "job_3", 2, clock.ms + 60_000) == 60
    assert await limits.reserve("ben", "job_4", 2, clock.ms + 60_000) is None
    clock.ms += 60_000
    assert await limits.reserve("anna", "job_3", 2, clock.ms + 60_000) is None


async def test_a_job_counts_once_however_often_it_is_reserved(limits: RedisLimits, clock: Clock) -> None:
    for _ in range(3):
        assert await limits.reserve("anna", "job_1", 2, clock.ms + 60_000) is None
    assert await limits.reserve("anna", "job_2", 2, clock.ms + 60_000) is None
    assert await limits.reserve("anna", "job_1", 2, clock.ms + 60_000) is None


async def test_a_paid_invoice_makes_room(limits: RedisLimits, clock: Clock) -> None:
    await limits.reserve("anna", "job_1", 1, clock.ms + 60_000)
    await limits.release("anna", "job_1")
    assert await limits.reserve("anna", "job_2", 1, clock.ms + 60_000) is None
    await limits.release("anna", "job_1")
    assert await limits.reserve("anna", "job_3", 1, clock.ms + 60_000) is not None


async def test_what_is_counted_expires_by_itself(limits: RedisLimits, redis: Redis, clock: Clock) -> None:
    await limits.hit("demo", "anna", 1, HOUR_S)
    await limits.reserve("anna", "job_1", 5, clock.ms + 90_000)
    await limits.reserve("anna", "job_2", 5, clock.ms + 60_000)
    left_ms = {key: await redis.pttl(key) for key in await redis.keys("*")}
    assert len(left_ms) == 2
    assert 3_590_000 < left_ms[b"satmeter:hits:demo:anna"] <= 3_600_000
    assert 80_000 < left_ms[b"satmeter:unpaid:anna"] <= 90_000


async def test_a_store_that_can_t_be_reached_is_said_to_be_so() -> None:
    redis = connect("unix:///nonexistent/store.sock")
    limits = RedisLimits(redis)
    for call in (limits.hit("demo", "a", 1, 1), limits.reserve("a", "job_1", 1, 1), limits.release("a", "job_1")):
        with pytest.raises(TransientError):
            await call
    await redis.aclose()


# Bytes of unpaid actors


async def test_bytes_fit_until_a_bound_is_reached_and_a_refusal_counts_nothing(
    limits: RedisLimits, clock: Clock
) -> None:
    until_ms = clock.ms + 2 * HOUR_S * 1_000
    bounds = {"anna": 100, "all": 250}
    assert await limits.hold_bytes("job_1", [(80, until_ms)], bounds) is None
    assert await limits.hold_bytes("job_2", [(80, until_ms)], bounds) == "anna"
    assert await limits.hold_bytes("job_2", [(20, until_ms)], bounds) is None
    assert await limits.hold_bytes("job_3", [(100, until_ms)], {"ben": 100, "all": 250}) is None
    assert await limits.hold_bytes("job_4", [(80, until_ms)], {"carl": 100, "all": 250}) == "all"
    assert await limits.hold_bytes("job_4", [(50, until_ms)], {"carl": 50, "all": 250}) is None


async def test_an_actor_s_bytes_count_once_and_are_given_back_once_when_it_is_paid(
    limits: RedisLimits, clock: Clock
) -> None:
    until_ms = clock.ms + 2 * HOUR_S * 1_000
    for _ in range(3):
        assert await limits.hold_bytes("job_1", [(60, until_ms)], {"anna": 100}) is None
    assert await limits.hold_bytes("job_2", [(60, until_ms)], {"anna": 100}) == "anna"
    for _ in range(3):
        await limits.release("anna", "job_1")
    assert await limits.hold_bytes("job_2", [(100, until_ms)], {"anna": 100}) is None
    assert await limits.hold_bytes("job_3", [(1, until_ms)], {"anna": 100}) == "anna"


async def test_bytes_lapse_with_what_they_were_counted_for(limits: RedisLimits, redis: Redis, clock: Clock) -> None:
    hour_ms = HOUR_S * 1_000
    await limits.hold_bytes("job_1", [(100, clock.ms + hour_ms)], {"anna": 100})
    assert await limits.hold_bytes("job_2", [(100, clock.ms + hour_ms)], {"anna": 100}) == "anna"
    clock.ms += 2 * hour_ms
    assert await limits.hold_bytes("job_2", [(100, clock.ms + hour_ms)], {"anna": 100}) is None
    for key in await redis.keys("satmeter:unpaid-bytes*"):
        assert 0 < await redis.pttl(key) <= 2 * hour_ms


async def test_parts_lapse_each_at_its_time(limits: RedisLimits, redis: Redis, clock: Clock) -> None:
    hour_ms = HOUR_S * 1_000
    kept = [(20, clock.ms + 48 * hour_ms), (70, clock.ms + hour_ms // 6)]
    assert await limits.hold_bytes("job_1", kept, {"anna": 100}) is None
    clock.ms += hour_ms // 6
    assert await limits.hold_bytes("job_2", [(50, clock.ms + hour_ms)], {"anna": 100}) == "anna"
    # A sixteenth of an hour later at most, as they are counted in such slots.
    clock.ms += hour_ms // 16
    assert await limits.hold_bytes("job_2", [(90, clock.ms + hour_ms)], {"anna": 100}) == "anna"
    assert await limits.hold_bytes("job_2", [(80, clock.ms + hour_ms // 6)], {"anna": 100}) is None
    clock.ms += 47 * hour_ms
    assert await limits.hold_bytes("job_3", [(90, clock.ms + hour_ms)], {"anna": 100}) == "anna"
    clock.ms += 2 * hour_ms
    assert await limits.hold_bytes("job_3", [(90, clock.ms + hour_ms)], {"anna": 100}) is None


async def test_a_payment_gives_back_what_has_not_lapsed_and_nothing_twice(
    limits: RedisLimits, redis: Redis, clock: Clock
) -> None:
    hour_ms = HOUR_S * 1_000
    await limits.hold_bytes("job_1", [(20, clock.ms + 48 * hour_ms), (70, clock.ms + hour_ms // 6)], {"anna": 100})
    clock.ms += hour_ms
    await limits.release("anna", "job_1")
    assert await limits.hold_bytes("job_2", [(101, clock.ms + hour_ms)], {"anna": 100}) == "anna"
    assert await limits.hold_bytes("job_2", [(100, clock.ms + hour_ms)], {"anna": 100}) is None


async def test_a_record_of_an_earlier_version_is_given_back(limits: RedisLimits, redis: Redis, clock: Clock) -> None:
    hour = clock.ms // (HOUR_S * 1_000) + 40
    await redis.hset("satmeter:unpaid-bytes:anna", str(hour), 60)
    await redis.set("satmeter:unpaid-bytes-of:job_1", f'[60,{hour},["anna"]]', px=1_000_000)
    assert await limits.hold_bytes("job_2", [(50, clock.ms + HOUR_S)], {"anna": 100}) == "anna"
    await limits.release("anna", "job_1")
    assert await limits.hold_bytes("job_2", [(50, clock.ms + HOUR_S)], {"anna": 100}) is None


async def test_a_clock_set_back_bars_no_client_for_hours(limits: RedisLimits, clock: Clock) -> None:
    for _ in range(2):
        assert await limits.hit("demo", "anna", 2, 60) is None
    clock.ms -= HOUR_S * 1_000
    assert await limits.hit("demo", "anna", 2, 60) is None
    assert await limits.hit("demo", "anna", 2, 60) is None
    assert await limits.hit("demo", "anna", 2, 60) == 60


async def test_a_clock_set_back_a_little_gives_no_uses_away(limits: RedisLimits, clock: Clock) -> None:
    for _ in range(2):
        assert await limits.hit("demo", "anna", 2, 60) is None
    clock.ms -= 30_000
    assert await limits.hit("demo", "anna", 2, 60) == 90
