"""Payouts under way for long, noted in a real store until their look-ups end."""

from __future__ import annotations

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.findings import RedisFindings
from satmeter.actors.ports import LongPayout

NOW_MS = 1_800_000_000_000
FIRST = LongPayout("ses_a", "ab" * 32, 900_000, NOW_MS - 90_000_000)
SECOND = LongPayout("job_b", "cd" * 32, 7_000, NOW_MS - 99_000_000)


async def test_a_note_is_there_for_as_long_as_it_is_repeated(redis: Redis) -> None:
    now_ms = NOW_MS
    findings = RedisFindings(redis, lambda: now_ms)
    assert await findings.long_payouts() == []
    for payout in (FIRST, SECOND, FIRST):
        await findings.lasts(payout)
    assert set(await findings.long_payouts()) == {FIRST, SECOND}
    now_ms += 400_000
    await findings.lasts(SECOND)
    now_ms += 400_000
    assert await findings.long_payouts() == [SECOND]
    assert await redis.hkeys("satmeter:{findings}:long") == [b"job_b"]
    assert 0 < await redis.pttl("satmeter:{findings}:long") <= 600_000
