"""Actors that took no money: strangers open as many as they like."""

from __future__ import annotations

from redis.asyncio import Redis

from satmeter.actors.domain.job.state import CreateJob, JobState
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from tests.helpers.hosts import World, job_in, until

RESTING_MAX = 64


async def test_few_unpaid_actors_stay_in_memory_and_all_can_still_be_paid(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (host, router):
        ids = [f"job_{number:0>32}" for number in range(3 * RESTING_MAX)]
        jobs = [await router.call(job_id, CreateJob(f"a request {job_id}", "client")) for job_id in ids]

        async def few() -> bool:
            return host.live_actors <= RESTING_MAX

        await until(few)
        for job_id, job in ((ids[0], jobs[0]), (ids[-1], jobs[-1])):
            world.lightning.pay(job.eval_invoice.payment_hash)
            await router.call(job_id, Settle(job.eval_invoice.payment_hash, Msat(10_000)))
            assert (await job_in(router, job_id, JobState.AWAITING_WORK_PAYMENT)).work_invoice is not None
