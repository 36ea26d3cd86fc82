"""Owners of payouts, in a real store: the first claim wins, for good."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.redis.payout_owners import RedisPayoutOwners
from satmeter.actors.ports import TransientError

HASH, OTHER_HASH = "ab" * 32, "cd" * 32


async def test_the_first_claim_wins_for_good(redis: Redis) -> None:
    owners = RedisPayoutOwners(redis)
    told = await asyncio.gather(*(owners.claim(HASH, f"ses_{n}") for n in range(20)))
    assert len(set(told)) == 1
    assert await owners.claim(HASH, "ses_late") == told[0]
    assert await redis.pttl(f"satmeter:payout:{HASH}") == -1


async def test_owners_are_told_and_what_nobody_claimed_is_left_out(redis: Redis) -> None:
    owners = RedisPayoutOwners(redis)
    assert await owners.owners_of([]) == {}
    assert await owners.claim(HASH, "ses_1") == "ses_1"
    assert await owners.owners_of([OTHER_HASH, HASH]) == {HASH: "ses_1"}


async def test_a_store_that_does_not_answer_is_no_word_about_an_owner() -> None:
    nowhere: Redis = Redis(port=1, retry=Retry(NoBackoff(), 0))
    owners = RedisPayoutOwners(nowhere)
    with pytest.raises(TransientError):
        await owners.claim(HASH, "ses_1")
    with pytest.raises(TransientError):
        await owners.owners_of([HASH])
    await nowhere.aclose()
