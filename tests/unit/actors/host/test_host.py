from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.demo import AskDemo, DemoAnswer
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.job.state import CreateJob, GetJob, JobState, JobView, WatchJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle, Settled, SettleOutcome
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Append, TransientError
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, job_in, until
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("placement")

JOB = "job_abcdefghijklmnopqrstuvwxyz012345"


async def create(router: Router, job_id: str = JOB, request: str = "say hello") -> JobView:
    reply = await router.call(job_id, CreateJob(request, "client"))
    assert isinstance(reply, JobView)
    return reply


async def settle(router: Router, world: World, payment_hash: str, job_id: str = JOB) -> SettleOutcome:
    if payment_hash not in world.lightning.paid_msat:
        world.lightning.pay(payment_hash)
    reply = await router.call(job_id, Settle(payment_hash, Msat(world.lightning.paid_msat[payment_hash])))
    assert isinstance(reply, Settled)
    return reply.outcome


async def pay_through(router: Router, world: World) -> JobView:
    """A whole job, both of its invoices paid."""
    job = await create(router)
    await settle(router, world, job.eval_invoice.payment_hash)
    job = await job_in(router, JOB, JobState.AWAITING_WORK_PAYMENT)
    assert job.work_invoice is not None
    await settle(router, world, job.work_invoice.payment_hash)
    return await job_in(router, JOB, JobState.COMPLETE)


async def test_a_job_runs_from_its_creation_to_its_result(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        job = await pay_through(router, world)
    assert job.result == "the answer"
    assert len(world.model.evaluated) == len(world.model.completed) == 1
    assert world.limits.released == [("client", JOB)]


async def test_what_a_host_acknowledged_the_next_host_knows(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        before = await pay_through(router, world)
    async with world.serving() as (_, router):
        assert await router.call(JOB, GetJob()) == before


@pytest.mark.parametrize("step", ["evaluate", "invoice", "work"])
async def test_a_step_that_died_with_its_host_is_taken_up_by_the_next_without_anybody_asking(
    redis: Redis, step: str
) -> None:
    world = World(redis)
    gate = world.lightning.gate if step == "invoice" else world.model.gate
    async with world.serving() as (_, router):
        job = await create(router)
        world.model.gate.close() if step == "evaluate" else None
        if step == "invoice":
            world.lightning.gate.close()
            await gate.wait_for_arrival()
        await settle(router, world, job.eval_invoice.payment_hash)
        if step == "work":
            job = await job_in(router, JOB, JobState.AWAITING_WORK_PAYMENT)
            assert job.work_invoice is not None
            await gate.wait_for_arrival()
            gate.close()
            await settle(router, world, job.work_invoice.payment_hash)
        await gate.wait_for_arrival()
    gate.open()
    async with world.serving() as (_, router):
        if step == "work":
            job = await job_in(router, JOB, JobState.COMPLETE)
            assert job.ledger is not None and job.ledger.charged_msat == Msat(3_780)
        else:
            await job_in(router, JOB, JobState.AWAITING_WORK_PAYMENT)


async def test_a_duplicate_payment_is_credited_once_across_hosts(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        job = await create(router)
        assert await settle(router, world, job.eval_invoice.payment_hash) is SettleOutcome.APPLIED
        assert await settle(router, world, job.eval_invoice.payment_hash) is SettleOutcome.REPLAYED
    async with world.serving() as (_, router):
        assert await settle(router, world, job.eval_invoice.payment_hash) is SettleOutcome.REPLAYED


async def test_concurrent_creations_under_one_id_make_one_invoice_and_get_one_answer(redis: Redis) -> None:
    world = World(redis)
    world.lightning.gate.close()
    async with world.serving() as (_, router):
        creations = [asyncio.create_task(create(router)) for _ in range(5)]
        await world.lightning.gate.wait_for_arrival()
        world.lightning.gate.open()
        first, *others = await asyncio.gather(*creations)
    assert all(other == first for other in others)
    assert len(world.lightning.orders) == 1


async def test_a_slow_model_does_not_block_a_query(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        job = await create(router)
        world.model.gate.close()
        await settle(router, world, job.eval_invoice.payment_hash)
        await world.model.gate.wait_for_arrival()
        reply = await router.call(JOB, GetJob())
        assert isinstance(reply, JobView) and reply.state is JobState.EVALUATING


async def test_a_watcher_sees_each_state_until_the_final_one(redis: Redis) -> None:
    world = World(redis)
    states: list[JobState] = []

    async def watch(replies: AsyncGenerator[Any, None]) -> None:
        async with aclosing(replies):
            async for reply in replies:
                if reply.state not in states:
                    states.append(reply.state)

    async with world.serving() as (_, router):
        await create(router)
        watching = asyncio.create_task(watch(router.stream(JOB, WatchJob())))
        await pay_through(router, world)
        async with asyncio.timeout(PATIENCE_S):
            await watching
    assert states == [
        JobState.AWAITING_EVAL_PAYMENT,
        JobState.EVALUATING,
        JobState.AWAITING_WORK_PAYMENT,
        JobState.EXECUTING,
        JobState.COMPLETE,
    ]


async def test_a_job_expires_by_itself_after_the_node_was_asked(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        await create(router)
        world.offset_ms += 62_000
        await job_in(router, JOB, JobState.EXPIRED)
    assert world.lightning.calls.count("lookup") == 1


async def test_a_job_that_was_paid_while_every_host_was_down_goes_on_when_one_is_back(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        job = await create(router)
    world.lightning.pay(job.eval_invoice.payment_hash)
    world.offset_ms += 62_000
    async with world.serving() as (_, router):
        assert (await job_in(router, JOB, JobState.AWAITING_WORK_PAYMENT)).work_invoice is not None


async def test_idle_actors_leave_memory_and_nothing_is_lost_by_it(redis: Redis) -> None:
    world = World(redis)
    async with world.serving(passivate_after_s=0.01) as (host, router):
        before = await create(router)

        async def passivated() -> bool:
            return host.live_actors == 0

        await until(passivated)
        assert await router.call(JOB, GetJob()) == before


async def test_asking_for_an_id_that_does_not_exist_leaves_nothing_in_memory(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (host, router):
        with pytest.raises(RefusedError) as refused:
            await router.call(JOB, GetJob())
        assert refused.value.refusal.code is Code.NOT_FOUND
        assert host.live_actors == 0
    assert await redis.keys("*j:job*") == []


async def test_a_former_owner_can_write_nothing_and_drops_what_it_held(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (old_host, old_router):
        job = await create(old_router)
        async with world.serving() as (_, new_router):
            call = asyncio.create_task(settle(old_router, world, job.eval_invoice.payment_hash))
            await job_unchanged(new_router, job)

            async def dropped() -> bool:
                return partition_of(JOB) not in old_host.partitions

            await until(dropped)
            assert old_host.live_actors == 0
            call.cancel()
            assert await settle(new_router, world, job.eval_invoice.payment_hash) is SettleOutcome.APPLIED


@pytest.mark.usefixtures("placement")
async def test_a_former_owner_denies_no_payment_that_only_its_successor_knows_of(redis: Redis) -> None:
    """The treasury would take the payment for unowned, and never report it again."""
    world = World(redis)
    async with world.serving() as (old_host, old_router):
        job = await create(old_router)
        async with world.serving() as (_, new_router):
            await settle(new_router, world, job.eval_invoice.payment_hash)
            priced = await job_in(new_router, JOB, JobState.AWAITING_WORK_PAYMENT)
            assert priced.work_invoice is not None
            denied = asyncio.create_task(settle(old_router, world, priced.work_invoice.payment_hash))

            async def dropped() -> bool:
                return denied.done() or partition_of(JOB) not in old_host.partitions

            await until(dropped)
            assert not denied.done()
            denied.cancel()
            assert await settle(new_router, world, priced.work_invoice.payment_hash) is SettleOutcome.APPLIED


async def job_unchanged(router: Router, job: JobView) -> None:
    assert await router.call(JOB, GetJob()) == job


@pytest.mark.parametrize("written", [True, False], ids=["written", "not_written"])
@pytest.mark.parametrize("write", range(5), ids=["opened", "eval_paid", "accepted", "invoiced", "work_paid"])
async def test_a_write_whose_confirmation_is_lost_credits_and_charges_once(
    redis: Redis, write: int, written: bool
) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        original = world.journal.append
        writes = iter(range(100))

        async def append(append: Append) -> None:
            if next(writes) == write:
                world.journal.lose_after_writing, world.journal.lose_before_writing = int(written), int(not written)
            await original(append)

        world.journal.append = append  # type: ignore[method-assign]
        job = await pay_through(router, world)
        # The fault was really made.
        assert next(writes) > write and not (world.journal.lose_after_writing or world.journal.lose_before_writing)
    assert job.ledger is not None
    assert (job.ledger.charged_msat, job.ledger.paid_msat) == (Msat(3_780), Msat(9_000))
    async with world.serving() as (_, router):
        assert await router.call(JOB, GetJob()) == job
    events = await redis.lrange(f"satmeter:{{p{partition_of(JOB):04d}}}:j:{JOB}", 0, -1)
    assert sum(b'"eval_paid"' in event for event in events) == sum(b'"work_paid"' in event for event in events) == 1
    assert len(world.lightning.orders) <= 3


async def test_a_transient_model_failure_is_retried_and_charged_once(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        world.model.faults = [TransientError("overloaded")]
        job = await create(router)
        await settle(router, world, job.eval_invoice.payment_hash)

        async def failed_once() -> bool:
            return len(world.model.evaluated) == 1 and not world.model.faults

        await until(failed_once)
        world.offset_ms += 5_000
        await job_in(router, JOB, JobState.AWAITING_WORK_PAYMENT)
    assert len(world.model.evaluated) == 2


async def test_a_node_that_is_down_refuses_creation_and_leaves_nothing_in_the_store(redis: Redis) -> None:
    world = World(redis)
    world.lightning.fault = TransientError("down")
    async with world.serving() as (_, router):
        with pytest.raises(RefusedError) as refused:
            await create(router)
        assert refused.value.refusal.code is Code.UNAVAILABLE
        assert await redis.keys("*j:job*") == []
        world.lightning.fault = None
        await create(router)


async def test_an_unpaid_job_has_an_end_in_the_store_and_a_paid_one_has_none(redis: Redis) -> None:
    world = World(redis)
    key = f"satmeter:{{p{partition_of(JOB):04d}}}:j:{JOB}"
    async with world.serving() as (_, router):
        job = await create(router)
        assert 48 * 3_600 < await redis.ttl(key) <= 48 * 3_600 + 60
        await settle(router, world, job.eval_invoice.payment_hash)
        assert await redis.ttl(key) == -1


async def test_the_demo_answers_and_keeps_nothing(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (host, router):
        assert await router.call("demo_1", AskDemo("hello")) == DemoAnswer("the answer")
        assert host.live_actors == 0
    assert await redis.keys("*demo*") == []


async def test_a_defect_in_an_actor_is_answered_and_does_not_stop_the_others(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        await create(router)
    journal = f"satmeter:{{p{partition_of(JOB):04d}}}:j:{JOB}"
    await redis.rpush(journal, b'{"type":"job_teleported","at_ms":1}')
    async with world.serving() as (_, router):
        with pytest.raises(RefusedError) as refused:
            await router.call(JOB, GetJob())
        assert refused.value.refusal.code is Code.UNAVAILABLE
        await create(router, job_id=f"{JOB[:-1]}x")
    assert await redis.llen(journal) == 2
