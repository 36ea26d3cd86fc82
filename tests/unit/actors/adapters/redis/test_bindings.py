"""Bindings of invoices made ahead to their actors, in a real store."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.redis.bindings import RedisBindings
from satmeter.actors.effects.invoice_pool import KEEP_BOUND_MS
from satmeter.actors.ports import TransientError
from tests.helpers.jobs import JobBench

HASH, OTHER_HASH = "ab" * 32, "cd" * 32
KEEP_MS = 60_000


@pytest.fixture
def bindings(redis: Redis) -> RedisBindings:
    return RedisBindings(redis)


async def test_an_invoice_is_one_actor_s_whoever_else_comes(bindings: RedisBindings) -> None:
    came = await asyncio.gather(*(bindings.bind(HASH, f"job_{number}", KEEP_MS) for number in range(20)))
    assert sorted(came) == [False] * 19 + [True]
    assert await bindings.owners_of_paid([HASH]) == {HASH: f"job_{came.index(True)}"}


async def test_while_it_is_unpaid_a_binding_expires_and_once_it_was_paid_never(
    redis: Redis, bindings: RedisBindings
) -> None:
    await bindings.bind(HASH, "job_a", KEEP_MS)
    assert 0 < await redis.pttl(f"satmeter:invoice:{HASH}") <= KEEP_MS
    for _ in range(2):
        assert await bindings.owners_of_paid([HASH]) == {HASH: "job_a"}
        assert await redis.pttl(f"satmeter:invoice:{HASH}") == -1


async def test_what_was_paid_while_it_was_nobody_s_is_told_once_and_becomes_nobody_s_for_good(
    bindings: RedisBindings,
) -> None:
    await bindings.bind(OTHER_HASH, "job_b", KEEP_MS)
    assert await bindings.owners_of_paid([HASH, OTHER_HASH]) == {HASH: None, OTHER_HASH: "job_b"}
    assert await bindings.owners_of_paid([HASH, OTHER_HASH]) == {OTHER_HASH: "job_b"}
    assert not await bindings.bind(HASH, "job_a", KEEP_MS)


async def test_a_store_that_does_not_answer_is_no_word_about_an_owner() -> None:
    nowhere: Redis = Redis(port=1, retry=Retry(NoBackoff(), 0))
    bindings = RedisBindings(nowhere)
    with pytest.raises(TransientError):
        await bindings.bind(HASH, "job_a", KEEP_MS)
    with pytest.raises(TransientError):
        await bindings.owners_of_paid([HASH])
    await nowhere.aclose()


def test_a_binding_outlasts_every_job_that_can_still_be_paid() -> None:
    bench = JobBench()
    bench.open()
    end_ms = bench.state.eval_invoice.expires_at_ms
    gone_ms = bench.now_ms + (bench.behaviour.keep_ms(bench.state, bench.now_ms) or 0)
    # The latest that an unpaid job can be written to is when it is about to be gone.
    gone_ms += bench.behaviour.keep_ms(bench.state, gone_ms) or 0
    assert gone_ms < end_ms + KEEP_BOUND_MS
