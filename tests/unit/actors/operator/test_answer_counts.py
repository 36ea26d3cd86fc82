"""Counts of answers reach the store minute by minute, and all fronts' counts are told together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.operator_board import RedisOperatorBoard
from satmeter.actors.operator.answer_counts import AnswerCounts
from satmeter.actors.ports import OperatorBoard, TransientError


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


async def test_the_last_hour_is_that_of_all_fronts(redis: Redis) -> None:
    clock = Clock()
    first, second = (AnswerCounts(RedisOperatorBoard(redis), clock) for _ in range(2))
    first.add("all", "failed")
    second.add("all")
    await second.flush()
    assert await first.last_hour() == {"all": 2, "failed": 1}
    clock.now_ms += 59 * 60_000
    first.add("all")
    assert await second.last_hour() == {"all": 2, "failed": 1}
    assert await first.last_hour() == {"all": 3, "failed": 1}
    clock.now_ms += 60_000
    assert await first.last_hour() == {"all": 1}
    (key, *_) = [key async for key in redis.scan_iter("satmeter:{fronts}:*")]
    assert 0 < await redis.pttl(key) <= 3 * 3_600_000


async def test_a_store_that_is_away_costs_a_minute_of_the_figure_alone() -> None:
    class Away:
        async def count_answers(self, minute: int, counts: Mapping[str, int]) -> None:
            raise TransientError("away")

        async def answers(self, minutes: Sequence[int]) -> Mapping[str, int]:
            return {}

    counts = AnswerCounts(cast(OperatorBoard, cast(Any, Away())), Clock())
    counts.add("all")
    assert await counts.last_hour() == {}
