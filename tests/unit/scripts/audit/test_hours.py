"""The audit finds every way in which the hourly sums differ from the journals."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.sums import RedisSums
from satmeter.scripts.audit.hours import hour_differences
from tests.helpers.audits import audited, finds, key_of, raw, used_world
from tests.helpers.hosts import World
from tests.helpers.session_steps import SES


@pytest.fixture
async def world(redis: Redis) -> World:
    """See `used_world`."""
    return await used_world(redis)


def sums_key() -> str:
    return key_of(SES, "sums").rpartition(":")[0]


async def test_sums_that_were_kept_beside_the_journals_agree_also_when_they_were_moved(world: World) -> None:
    report = await audited(world)
    assert (report.difference_count, report.hours_compared) == (0, 1)
    read = await RedisSums(world.redis).hours([world.now_ms() // 86_400_000])
    books, ever = report, read.ever
    together = {name: books.sessions[name] + books.jobs[name] for name in books.sessions}
    assert ever["received_msat"] == together["received"]
    assert ever["charged_msat"] - ever.get("returned_msat", 0) + ever["routing_msat"] == together["spent"]
    assert (ever["routing_msat"], ever["refunded_msat"]) == (together["fees"], together["refunded"])
    assert (ever["requests"], ever["sessions_paid"], ever["jobs_paid"], ever["jobs_complete"]) == (40, 1, 1, 1)
    await RedisSums(world.redis).move(world.now_ms())
    report = await audited(world)
    assert (report.difference_count, report.hours_compared) == (0, 1)


@pytest.mark.parametrize("by", [1, -1])
async def test_a_sum_that_was_changed_is_found(world: World, by: int) -> None:
    hour = world.now_ms() // 3_600_000
    await raw(world).hincrby(sums_key(), f"{hour}:charged_msat", by)
    await finds(world, "the hourly sum charged_msat of 2027-01-")


async def test_a_sum_that_is_missing_is_found(world: World) -> None:
    await raw(world).delete(sums_key())
    await finds(world, "is not what the journals add up to")


async def test_hours_that_were_not_counted_whole_are_not_compared(world: World) -> None:
    await raw(world).delete(sums_key())
    totals = sums_key().rpartition(":")[0] + ":totals"
    await raw(world).hset(totals, "sums_from", world.now_ms() // 3_600_000 + 1)
    report = await audited(world)
    assert (report.difference_count, report.hours_compared) == (0, 0)
    await raw(world).hdel(totals, "sums_epoch")
    assert (await audited(world)).hours_compared == 0


async def test_damage_of_a_journal_is_told_and_not_what_follows_from_it(world: World) -> None:
    await raw(world).lrem(key_of(SES, "j"), 1, await raw(world).lindex(key_of(SES, "j"), 5))
    report = await finds(world, "can't follow on those before it")
    assert not any("hourly sum" in str(difference) for difference in report.differences)


def test_what_was_written_during_the_audit_is_no_difference() -> None:
    before, after = {(5, "requests"): 3}, {(5, "requests"): 6, (6, "requests"): 1}
    for found in (3, 5, 6):
        assert not hour_differences({(5, "requests"): found}, before, after, 0, 10)
    for found in (2, 7):
        (difference,) = hour_differences({(5, "requests"): found}, before, after, 0, 10)
        assert difference.expected == str(found)
    assert not hour_differences({(5, "requests"): 9}, before, after, 6, 10)
