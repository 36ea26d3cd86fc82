"""`satmeter check` and the start look whether the operator's own store went back."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.format import enter_format
from satmeter.actors.adapters.redis.marks import RedisMarks
from satmeter.config.settings import Settings
from satmeter.scripts.preflight.probes import probe
from satmeter.scripts.preflight.store_age import older_store_problems
from satmeter.scripts.store.marks import StoreMarks


async def test_a_store_that_went_back_is_told_and_nothing_written(redis: Redis, store_url: str, tmp_path: Path) -> None:
    settings = Settings(redis_url=store_url, data_dir=tmp_path)
    assert await older_store_problems(settings) == []
    await enter_format(redis)
    await StoreMarks(tmp_path, partial(RedisMarks, redis)).begin()
    assert (await probe(settings)).problems == []
    await redis.flushall()
    (problem,) = await older_store_problems(settings)
    assert problem.variable == "REDIS_URL" and "--accept-loss" in problem.message
    assert (await probe(settings)).problems == [problem]
    assert await redis.keys() == []


async def test_the_embedded_store_and_one_that_does_not_answer_are_looked_at_elsewhere(tmp_path: Path) -> None:
    assert await older_store_problems(Settings(data_dir=tmp_path)) == []
    assert await older_store_problems(Settings(redis_url="redis://127.0.0.1:1", data_dir=tmp_path)) == []
