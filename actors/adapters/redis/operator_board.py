"""Store's part in the operator's figures: lists of actors by their sets, and counts of the fronts' answers.

satmeter:{fronts}:<minute>   hash of counts, see `http/operator/answers.py`; expires by itself
satmeter:signed_out:<name>   there once the operator signed out, see `http/operator/sign_in.py`; expires with the cookie
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from ...partitioning import PARTITIONS
from ...ports import Listed, SumsRead
from .guard import guarded
from .keys import partition_key
from .sums import RedisSums

_KEEP_ANSWERS_MS: Final = 3 * 3_600_000


class RedisOperatorBoard:
    """Implementation of `OperatorBoard`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sums = RedisSums(redis)

    async def hours(self, days: Sequence[int]) -> SumsRead:
        """See `OperatorBoard.hours`. Raises `TransientError`."""
        return await self._sums.hours(days)

    async def days(self, days: Sequence[int]) -> SumsRead:
        """See `OperatorBoard.days`. Raises `TransientError`."""
        return await self._sums.days(days)

    async def due(self, most: int) -> Listed:
        """See `OperatorBoard.due`. Raises `TransientError`."""
        return await self._listed("due", most)

    async def open_payouts(self, most: int) -> Listed:
        """See `OperatorBoard.open_payouts`. Raises `TransientError`."""
        return await self._listed("payouts", most)

    async def _listed(self, name: str, most: int) -> Listed:
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.zcard(partition_key(partition, name))
        counts: Sequence[int] = await guarded(pipe.execute())
        total, full = sum(counts), [(partition, count) for partition, count in enumerate(counts) if count]
        each = total if total <= most else max(1, most // len(full))
        pipe = self._redis.pipeline(transaction=False)
        for partition, _ in full:
            pipe.zrange(partition_key(partition, name), 0, each - 1, withscores=True)
        rows = await guarded(pipe.execute()) if full else ()
        some = [
            (partition, actor_id.decode(), int(score))
            for (partition, _), row in zip(full, rows, strict=True)
            for actor_id, score in row
        ]
        return Listed(total, some)

    async def count_answers(self, minute: int, counts: Mapping[str, int]) -> None:
        """See `OperatorBoard.count_answers`. Raises `TransientError`."""
        pipe, key = self._redis.pipeline(transaction=False), _answers_key(minute)
        for name, count in counts.items():
            pipe.hincrby(key, name, count)
        pipe.pexpire(key, _KEEP_ANSWERS_MS)
        await guarded(pipe.execute())

    async def answers(self, minutes: Sequence[int]) -> Mapping[str, int]:
        """See `OperatorBoard.answers`. Raises `TransientError`."""
        pipe = self._redis.pipeline(transaction=False)
        for minute in minutes:
            pipe.hgetall(_answers_key(minute))
        found: Counter[str] = Counter()
        for counts in await guarded(pipe.execute()):
            found.update({name.decode(): int(count) for name, count in counts.items()})
        return found

    async def end_sign_in(self, name: str, keep_ms: int) -> None:
        """See `OperatorBoard.end_sign_in`. Raises `TransientError`."""
        await guarded(self._redis.set(_signed_out_key(name), 1, px=max(keep_ms, 1)))

    async def is_sign_in_ended(self, name: str) -> bool:
        """See `OperatorBoard.is_sign_in_ended`. Raises `TransientError`."""
        return bool(await guarded(self._redis.exists(_signed_out_key(name))))


def _signed_out_key(name: str) -> str:
    return f"satmeter:signed_out:{name}"


def _answers_key(minute: int) -> str:
    return f"satmeter:{{fronts}}:{minute}"
