"""Key of invoices, in a real store: one for all, made once."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.redis.invoice_key import RedisInvoiceKey
from satmeter.actors.ports import TransientError


async def test_all_have_the_key_that_was_made_first(redis: Redis) -> None:
    assert await RedisInvoiceKey(redis).read() is None
    made = await asyncio.gather(*(RedisInvoiceKey(redis).made() for _ in range(20)))
    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert await RedisInvoiceKey(redis).read() == made[0]
    assert await redis.pttl("satmeter:invoice_key") == -1


async def test_a_store_that_does_not_answer_says_nothing() -> None:
    nowhere: Redis = Redis(port=1, retry=Retry(NoBackoff(), 0))
    with pytest.raises(TransientError):
        await RedisInvoiceKey(nowhere).read()
    with pytest.raises(TransientError):
        await RedisInvoiceKey(nowhere).made()
    await nowhere.aclose()
