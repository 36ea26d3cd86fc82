"""What a host with a process for each actor does without one."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.invoices import Settle, Settled, SettleOutcome
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.session_api import OpenSession, SessionCreated
from satmeter.actors.placement import partition_of
from satmeter.actors.router import Router
from tests.host_sessions import SES, answered, ask, opened, show
from tests.hosts import World, until


@pytest.fixture
def world(redis: Redis) -> World:
    """With processes for sessions."""
    world = World(redis)
    world.dedicated = True
    return world


async def test_what_is_only_looked_at_and_a_payment_that_is_told_again_start_no_process(world: World) -> None:
    """A treasury that begins anew tells the payments of all sessions again: at once, they would be a storm."""
    async with world.serving() as (_, router):
        created = await opened(router)
        before = await show(router)
    again = Settle(created.deposit_invoice.payment_hash, before.deposited_msat)
    async with world.serving() as (host, router):
        assert await show(router) == before
        assert await _settled(router, again) is SettleOutcome.REPLAYED
        assert host.live_actors == 0
        await answered(router, ask())
        assert host.live_actors == 1
        assert (await show(router)).spent_msat > Msat(0)


async def test_a_payment_that_is_news_has_a_process(world: World) -> None:
    async with world.serving() as (_, router):
        created = await router.call(SES, OpenSession(10_000, "client"))
        assert isinstance(created, SessionCreated)
    async with world.serving() as (host, router):
        settle = Settle(created.deposit_invoice.payment_hash, Msat.from_sats(10_000))
        assert await _settled(router, settle) is SettleOutcome.APPLIED
        assert host.live_actors == 1


async def test_a_session_that_was_left_with_a_hold_is_run_to_release_it(world: World) -> None:
    world.model.gate.close()
    async with world.serving() as (_, router):
        await opened(router)
        dying = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
    with pytest.raises(RefusedError):
        await dying
    world.model.gate.open()
    async with world.serving() as (host, router):
        assert (await show(router)).held_msat == Msat(0)
        assert host.live_actors == 1


async def test_an_actor_whose_process_was_ended_by_somebody_else_has_another_one(world: World) -> None:
    """By another host, for example: a process has the name of its actor, and there is one of a name."""
    world.model.gate.close()
    async with world.serving(passivate_after_s=0.05) as (_, router):
        await opened(router)
        asking = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        await world.solos.end(SES)
        world.model.gate.open()
        assert (await asking).cost.debit_msat > Msat(0)
        assert (await show(router)).held_msat == Msat(0)


async def test_a_process_that_is_started_for_what_is_due_and_fails_to_is_started_again(world: World) -> None:
    world.model.gate.close()
    async with world.serving() as (_, router):
        await opened(router)
        dying = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
    with pytest.raises(RefusedError):
        await dying
    world.solo_failures = 2
    world.offset_ms += 30_000
    async with world.serving(passivate_after_s=0.05):

        async def released() -> bool:
            stored = await world.journal.load(partition_of(SES), SES)
            return b"hold_released" in stored.events[-1]

        await until(released)


async def test_nobody_is_told_at_the_end_that_nothing_was_charged_for_what_was_under_way(world: World) -> None:
    world.model.gate.close()
    async with world.serving() as (host, router):
        await opened(router)
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        await host.stop(patience_s=0)
        with pytest.raises(RefusedError) as refused:
            await asking
    assert "it is not known what was done" in refused.value.refusal.message


async def _settled(router: Router, settle: Settle) -> SettleOutcome:
    settled = await router.call(SES, settle)
    assert isinstance(settled, Settled)
    return settled.outcome
