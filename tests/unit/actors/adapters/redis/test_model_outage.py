"""Board of the model's outages on every kind of store."""

from __future__ import annotations

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.model_outage import RedisModelBoard
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.outage import ModelOutage, ModelWait, Stage


async def test_failures_waits_and_outages_are_kept_on_each_kind_of_store(any_redis: Redis) -> None:
    board = RedisModelBoard(any_redis, "local")
    assert [await board.count_failure() for _ in range(3)] == [1, 2, 3]
    wait = ModelWait(ModelFault.OVERLOADED, until_ms=5)
    await board.tell_wait("tiny", wait)
    outage = ModelOutage(Stage.DOWN, None, 1, 1)
    assert await board.swap(None, outage)
    word = await board.read()
    assert (word.outage, word.failures, word.waits) == (outage, 3, {"tiny": wait})
    assert await any_redis.pttl("satmeter:model:local") > 0
    assert await board.swap(outage, None)
    await board.forget_failures()
    assert (await board.read()).failures == 0
