"""Jobs whose evaluation's invoice was made ahead: whatever is lost or dies in between, who pays is credited, once.

The order that holds it: an invoice is bound in the store first, then its job is journaled, then somebody sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.job.state import CreateJob, GetJob, JobState, JobView
from satmeter.actors.domain.payments.invoices import Settle, Settled, Settlement
from satmeter.actors.ports import Append, TransientError, Urgency
from satmeter.actors.router.router import Router
from satmeter.actors.services.treasury import Treasury
from tests.helpers.hosts import World, job_in, until


def job_id(number: int) -> str:
    return f"job_{number:032d}"


async def create(router: Router, number: int) -> JobView:
    reply = await router.call(job_id(number), CreateJob(f"say {number}", "client"))
    assert isinstance(reply, JobView)
    return reply


def ready(world: World) -> list[str]:
    """The invoices made ahead, in the order in which they are given out."""
    return [each for each, order in world.lightning.orders.items() if order.urgency is Urgency.AHEAD]


async def stocked(world: World, router: Router, count: int = 1) -> list[str]:
    """Brings demand, so that so many invoices lie ready."""
    for number in range(count):
        await create(router, 900 + number)
    taken = await world.redis.keys("satmeter:invoice:*")

    async def enough() -> bool:
        return len(ready(world)) - len(taken) >= count

    await until(enough)
    return ready(world)[len(taken) :]


@asynccontextmanager
async def watching(world: World, router: Router) -> AsyncIterator[list[Settlement]]:
    """A treasury as it is after a start: it remembers nothing. What it delivered."""
    delivered: list[Settlement] = []

    async def deliver(settlement: Settlement) -> None:
        assert settlement.actor_id is not None
        reply = await router.call(settlement.actor_id, Settle(settlement.payment_hash, settlement.amount_msat))
        assert isinstance(reply, Settled)
        delivered.append(settlement)

    treasury = Treasury(world.lightning, world.bindings, deliver, sweep_interval_s=0.01)
    running = asyncio.create_task(treasury.run())
    try:
        yield delivered
    finally:
        await treasury.close()
        assert running.cancelled()


async def credited(world: World, router: Router, number: int) -> Settlement:
    """Send the job a treasury's credit, with which it goes on."""
    async with watching(world, router) as delivered:

        async def told() -> bool:
            return any(settlement.actor_id == job_id(number) for settlement in delivered)

        await until(told)
    await job_in(router, job_id(number), JobState.AWAITING_WORK_PAYMENT)
    return next(settlement for settlement in delivered if settlement.actor_id == job_id(number))


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis, invoices_ahead=4)


async def test_a_payment_of_an_invoice_made_ahead_moves_its_job_also_after_a_restart_and_credits_once(
    world: World,
) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        job = await create(router, 1)
        assert job.eval_invoice.payment_hash == invoice
        assert job.eval_invoice.expires_at_ms >= world.now_ms() + 60_000 - 1_000
        world.lightning.pay(invoice)
        first = await credited(world, router, 1)
    async with world.serving() as (_, router):
        # Neither host nor treasury remembers; the node tells again, and nothing is evaluated twice.
        assert await credited(world, router, 1) == first
    assert len(world.model.evaluated) == 1
    assert await world.redis.pttl(f"satmeter:invoice:{invoice}") == -1


async def test_whenever_a_job_is_written_its_invoice_is_bound_already(world: World) -> None:
    unbound: list[str] = []
    inner = world.journal.append

    async def checked(append: Append) -> None:
        bound = await world.redis.keys("satmeter:invoice:*")
        owners = [await world.redis.get(key) for key in bound]
        if any(payment_hash.encode() in append.events[0] for payment_hash in ready(world)):
            unbound.extend([] if append.actor_id.encode() in owners else [append.actor_id])
        await inner(append)

    world.journal.append = checked  # type: ignore[method-assign]
    async with world.serving() as (_, router):
        await stocked(world, router, 3)
        jobs = [await create(router, number) for number in range(10)]
        assert sum(job.eval_invoice.payment_hash in ready(world) for job in jobs) > 5
    assert unbound == []


@pytest.mark.parametrize("moment", ["before it was written", "after it was written"])
async def test_an_invoice_whose_binding_is_in_doubt_is_shown_to_nobody_and_the_job_gets_another(
    world: World, moment: str
) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        if moment == "before it was written":
            world.bindings.lose_before_writing = 1
        else:
            world.bindings.lose_after_writing = 1
        shown = [(await create(router, number)).eval_invoice for number in range(1, 5)]
        assert invoice not in [each.payment_hash for each in shown]
        for number, each in enumerate(shown, 1):
            world.lightning.pay(each.payment_hash)
            await credited(world, router, number)


async def test_with_the_store_and_the_node_failing_the_answer_is_that_it_can_t_be_done_now(world: World) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        world.bindings.lose_before_writing = 1
        world.lightning.fault = TransientError("too many", retry_after_s=7)
        with pytest.raises(RefusedError) as refused:
            await create(router, 1)
        assert refused.value.refusal.code is Code.UNAVAILABLE and refused.value.refusal.retry_after_s == 7
        world.lightning.fault = None
        assert (await create(router, 1)).eval_invoice.payment_hash != invoice


async def test_a_crash_between_binding_and_journal_leaves_a_job_that_can_be_made_anew_and_paid(world: World) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        world.journal.lose_before_writing = 1_000  # The host dies while it tries to write.
        creating = asyncio.create_task(create(router, 1))

        async def bound() -> bool:
            return await world.redis.get(f"satmeter:invoice:{invoice}") is not None

        await until(bound)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    world.journal.lose_before_writing = 0
    async with world.serving() as (_, router):
        job = await create(router, 1)
        assert job.eval_invoice.payment_hash != invoice
        assert (await create(router, 2)).eval_invoice.payment_hash != invoice
        world.lightning.pay(job.eval_invoice.payment_hash)
        await credited(world, router, 1)


async def test_a_write_of_the_job_that_is_not_confirmed_does_not_part_it_from_its_invoice(world: World) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        world.journal.lose_after_writing = 1
        assert (await create(router, 1)).eval_invoice.payment_hash == invoice
        world.lightning.pay(invoice)
        await credited(world, router, 1)


async def test_the_invoice_for_work_is_that_of_somebody_who_has_paid_and_goes_before_all_others(world: World) -> None:
    world.invoices_ahead = 0
    async with world.serving() as (_, router):
        job = await create(router, 1)
        world.lightning.pay(job.eval_invoice.payment_hash)
        await credited(world, router, 1)
    assert [order.urgency for order in world.lightning.orders.values()] == [Urgency.NEW, Urgency.PAID]


async def test_jobs_made_at_the_same_time_never_share_an_invoice_and_each_is_credited_its_own(world: World) -> None:
    async with world.serving() as (_, router):
        await stocked(world, router, 4)
        jobs = await asyncio.gather(*(create(router, number) for number in range(1, 13)))
        hashes = [job.eval_invoice.payment_hash for job in jobs]
        assert len(set(hashes)) == 12
        for payment_hash in hashes:
            world.lightning.pay(payment_hash)
        async with watching(world, router) as delivered:

            async def all_told() -> bool:
                return len(delivered) >= 12

            await until(all_told)
        assert {each.payment_hash: each.actor_id for each in delivered} == {
            payment_hash: job_id(number) for number, payment_hash in enumerate(hashes, 1)
        }


async def test_an_invoice_that_lapsed_unpaid_is_looked_up_and_its_job_expires(world: World) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        assert (await create(router, 1)).eval_invoice.payment_hash == invoice
    world.offset_ms = 120_000
    async with world.serving() as (_, router):
        await job_in(router, job_id(1), JobState.EXPIRED)
        world.lightning.pay(invoice)  # After its end a payment is honoured all the same.
        await credited(world, router, 1)


async def test_a_payment_that_only_the_look_up_at_the_end_finds_credits_its_job(world: World) -> None:
    async with world.serving() as (_, router):
        (invoice,) = await stocked(world, router)
        await create(router, 1)
    world.lightning.pay(invoice)
    await world.redis.delete(f"satmeter:invoice:{invoice}")  # Even a store that lost the binding loses no credit.
    world.offset_ms = 120_000
    async with world.serving() as (_, router):
        await job_in(router, job_id(1), JobState.AWAITING_WORK_PAYMENT)
        reply = await router.call(job_id(1), GetJob())
        assert isinstance(reply, JobView)
