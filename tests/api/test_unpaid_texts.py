"""Texts of jobs that are not paid for: they are in the store for minutes, and what is left of the job for its time."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, api_over

TEXT = "the text of a stranger " * 1_000
KEY = {"Idempotency-Key": "one"}


async def _kept(redis: Redis) -> bool:
    """Return whether the text is anywhere in the store."""
    async for key in redis.scan_iter("satmeter:*"):
        kind = await redis.type(key)
        parts = await redis.lrange(key, 0, -1) if kind == b"list" else []
        if kind == b"string":
            parts = [await redis.get(key) or b""]
        if any(TEXT.encode() in part for part in parts):
            return True
    return False


async def _dropped(api: Api, redis: Redis) -> str:
    """Return the id of a job that was created with a key, has expired, and lost its text."""
    job_id: str = (await api.create(TEXT, **KEY))["jobId"]
    assert await _kept(redis)
    api.world.offset_ms = 62_000
    await api.job_in(job_id, "expired")
    api.world.offset_ms = 124_000

    async def gone() -> bool:
        await api.show(job_id)
        return not await _kept(redis)

    await until(gone)
    return job_id


@pytest.mark.parametrize("amount", ["late", "never"])
async def test_the_text_of_an_unpaid_job_is_gone_a_minute_after_its_invoice(amount: str, redis: Redis) -> None:
    async with api_over(redis) as api:
        job_id = await _dropped(api, redis)
        job = await api.show(job_id)
        assert job["state"] == "expired"
        if amount == "late":
            await api.pay(job["evalInvoice"])
            failed = await api.job_in(job_id, "failed")
            assert failed["refund"] == {"owedMsat": 10_000, "paidMsat": 0, "payableSats": 10, "state": "owed"}
            assert "owed back" in failed["errorMessage"]


async def test_its_key_still_stands_for_it(redis: Redis) -> None:
    async with api_over(redis) as api:
        job_id = await _dropped(api, redis)
        assert (await api.create(TEXT, **KEY))["jobId"] == job_id
        conflict = await api.http.post("/jobs", json={"request": "another"}, headers=KEY)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")


async def test_its_bytes_are_another_text_s_again(redis: Redis) -> None:
    async with api_over(redis, unpaid_bytes_per_ip=524_288, job_expiry_s=60) as api:
        while (await api.http.post("/jobs", json={"request": "x" * 100_000})).status_code == 201:
            pass
        api.world.offset_ms = 10 * 60_000
        assert await api.create("x" * 100_000)
