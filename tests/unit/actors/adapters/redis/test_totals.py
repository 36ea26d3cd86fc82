"""The running totals of what the wallet must hold stay exact: through lost answers, moves, and older versions."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.adapters.redis.totals import sum_totals
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.domain.session.messages import CloseSession, SessionView
from satmeter.actors.partitioning import PARTITIONS, partition_of
from satmeter.actors.ports import Append, ConflictError, FencedError
from tests.helpers.hosts import World
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened, show

PARTITION = partition_of(SES)
PREFIX = f"satmeter:{{p{PARTITION:04d}}}"


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


async def _total(world: World) -> int:
    liability = await sum_totals(world.redis)
    assert liability.uncounted == 0
    return liability.msat


async def test_a_new_store_owes_nothing_and_needs_no_counting(world: World) -> None:
    assert await _total(world) == 0
    await world.journal.claim(range(PARTITIONS), "host-0")
    assert await _total(world) == 0


@pytest.mark.usefixtures("placement")
async def test_the_total_follows_deposits_debits_and_payouts(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        assert await _total(world) == 10_000_000
        await answered(router, ask())
        view = await show(router)
        assert await _total(world) == view.balance_msat.value
        target = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))
        closed = await router.call(SES, CloseSession(target, Once("c", "d", keyed=True), GRANT))
        assert isinstance(closed, SessionView)
        assert await _total(world) == closed.refund.owed_msat.value > 0


@pytest.mark.parametrize("seed", range(5))
async def test_lost_confirmations_leave_it_exact(world: World, seed: int) -> None:
    chance = random.Random(seed)
    async with world.serving() as (_, router):
        await opened(router)
        for number in range(20):
            fault = chance.choice(["lose_after_writing", "lose_before_writing", ""])
            if fault:
                setattr(world.journal, fault, chance.randint(1, 2))
            try:
                await answered(router, ask(number))
            except RefusedError:
                continue
        world.journal.lose_after_writing = world.journal.lose_before_writing = 0
        view = await show(router)
        assert view.spent_msat and await _total(world) == view.balance_msat.value + view.held_msat.value


async def test_a_write_that_is_refused_changes_no_total(world: World) -> None:
    epoch = (await world.journal.claim([PARTITION], "host-0"))[PARTITION]
    append = Append(PARTITION, epoch, SES, 0, [b"{}"], liability_change_msat=500)
    await world.journal.append(append)
    with pytest.raises(ConflictError):
        await world.journal.append(append)
    with pytest.raises(FencedError):
        await world.journal.append(Append(PARTITION, epoch - 1, SES, 1, [b"{}"], liability_change_msat=500))
    assert await _total(world) == 500


async def test_it_goes_on_with_the_next_owner(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
    async with world.serving() as (_, router):
        await answered(router, ask())
        assert await _total(world) == (await show(router)).balance_msat.value


async def test_a_store_of_a_version_without_totals_is_counted_before_it_is_served(world: World) -> None:
    raw: Any = world.redis
    async with world.serving() as (_, router):
        await opened(router)
        await answered(router, ask())
        expected = await _total(world)
    await raw.delete(*[key async for key in raw.scan_iter("*:totals")])
    assert (await sum_totals(world.redis)).uncounted == PARTITIONS
    async with world.serving() as (_, router):
        assert await _total(world) == expected
        await answered(router, ask(2))
        assert await _total(world) == (await show(router)).balance_msat.value


async def test_counting_tells_how_far_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.adapters.redis.totals._TELL_EVERY_S", 0.0)
    raw: Any = world.redis
    async with world.serving() as (_, router):
        await opened(router)
    await raw.delete(*[key async for key in raw.scan_iter("*:totals")])
    with capture_logs() as logs:
        await world.journal.claim(range(PARTITIONS), "host-0")
    told = [(log["event"], log["actors_so_far"]) for log in logs if "actors_so_far" in log]
    assert told == [
        ("liabilities_count_begun", 0),
        ("liabilities_counted", 1),
    ]


async def test_what_a_host_without_totals_wrote_in_between_is_counted(world: World) -> None:
    """As in a rolling upgrade, or after going back to the version before: it raises the epoch and keeps no total."""
    raw: Any = world.redis
    async with world.serving() as (_, router):
        await opened(router)
        before = await raw.hgetall(f"{PREFIX}:totals")
        await answered(router, ask())
        expected = await _total(world)
    await raw.incr(f"{PREFIX}:epoch")
    # It wrote what the debit wrote, and left the total as it was.
    await raw.hset(f"{PREFIX}:totals", "liability_msat", before[b"liability_msat"])
    assert (await sum_totals(world.redis)).uncounted == 1
    async with world.serving():
        assert await _total(world) == expected


@pytest.mark.parametrize("event", [b'{"type":"teleported","at_ms":1}', b"{", b'{"type":"\xff"}'])
async def test_an_actor_that_can_t_be_read_leaves_its_partition_uncounted_and_stops_no_other(
    world: World, event: bytes
) -> None:
    raw: Any = world.redis
    async with world.serving() as (_, router):
        await opened(router)
    other = next(f"job_{n:032d}" for n in range(10_000) if partition_of(f"job_{n:032d}") != PARTITION)
    await raw.rpush(f"satmeter:{{p{partition_of(other):04d}}}:j:{other}", event)
    await raw.delete(*[key async for key in raw.scan_iter("*:totals")])
    with capture_logs() as logs:
        async with world.serving():
            liability = await sum_totals(world.redis)
    assert (liability.msat, liability.uncounted) == (10_000_000, 1)
    assert any(log["event"] == "actor_not_counted" and log["actor_id"] == other for log in logs)
