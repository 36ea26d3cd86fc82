"""The operator's books count what is open, and ask about a payout without sending one."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.operator_board import RedisOperatorBoard
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.domain.session.messages import CloseSession
from satmeter.actors.operator import books as operator_books
from satmeter.actors.partitioning import PARTITIONS, partition_of
from satmeter.actors.ports import TransientError
from tests.helpers.hosts import World, until
from tests.helpers.http.fronts import books_of
from tests.helpers.session_steps import GRANT, SES, opened

TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


async def test_a_payout_is_listed_from_its_begin_until_it_is_paid(world: World) -> None:
    books = books_of(world)
    world.lightning.payout_script = [TransientError("no answer")]
    world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PENDING)
    async with world.serving() as (_, router):
        await opened(router)
        assert (await books.census()).states == {("ses", "active"): 1}
        assert (await books.payouts()).total == 0
        await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT, waits=False))

        async def unclear() -> bool:
            listed = (await books.payouts()).listed
            return bool(listed and listed[0].under_way and not listed[0].sending)

        await until(unclear)
        (payout,) = (await books.payouts()).listed
        assert (payout.actor_id, payout.amount_msat) == (SES, 5_000_000)
        assert payout.final_ms > payout.since_ms
        assert await books.look_again(SES) == PayoutReport(PayoutStatus.PENDING)
        assert len(world.lightning.payout_orders) == 1
        world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PAID, Msat(1_000))

        async def paid() -> bool:
            return (await books.payouts()).total == 0

        await until(paid)
        assert await books.look_again(SES) is None


@pytest.mark.parametrize("actor_id", ["", "ses_none", "demo_x", "nothing"])
async def test_of_an_actor_without_a_payout_nothing_is_asked(world: World, actor_id: str) -> None:
    assert await books_of(world).look_again(actor_id) is None
    assert world.lightning.calls == []


async def test_a_journal_that_can_t_be_read_hides_no_other(world: World) -> None:
    raw: Any = world.redis
    async with world.serving() as (_, router):
        await opened(router)
        await raw.rpush(f"satmeter:{{p{partition_of('ses_bad'):04d}}}:j:ses_bad", b"{")
        await raw.zadd(f"satmeter:{{p{partition_of('ses_bad'):04d}}}:due", {"ses_bad": 1})
        states = (await books_of(world).census()).states
        assert states == {("ses", "active"): 1, ("ses", "unreadable"): 1}


async def test_of_very_many_only_some_are_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_books, "_STATES_MOST", 10)
    raw: Any = world.redis
    for number in range(4):
        await raw.zadd(f"satmeter:{{p{number:04d}}}:due", {f"ses_{place}": place for place in range(10)})
    census = await books_of(world).census()
    assert (census.total, census.looked_at, census.states) == (40, 8, {})
    listed = await RedisOperatorBoard(world.redis).due(100)
    assert listed.total == len(listed.some) == 40 and listed.some[9] == (0, "ses_9", 9)


async def test_partitions_are_counted_by_their_hosts(world: World) -> None:
    await world.journal.claim(range(10), "host-a")
    found = await books_of(world).partitions()
    assert (found.by_host, found.unowned) == ({"host-a": 10}, PARTITIONS - 10)
    assert await books_of(world).upstreams() == {}
