"""Wallet's standing, in Redis or Valkey.

satmeter:solvency   the treasury's last findings, as JSON; expires by itself without updates
"""

from __future__ import annotations

from typing import Final

import msgspec
from redis.asyncio import Redis

from ...ports import Standing
from .guard import guarded
from .totals import sum_totals

_KEY: Final = "satmeter:solvency"
_HOLDS_MS: Final = 600_000


class RedisSolvency:
    """Implementation of `SolvencyBoard`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def liability(self) -> tuple[int, int]:
        """See `SolvencyBoard.liability`. Raises `TransientError`."""
        return await sum_totals(self._redis)

    async def tell(self, standing: Standing) -> None:
        """See `SolvencyBoard.tell`. Raises `TransientError`."""
        await guarded(self._redis.set(_KEY, msgspec.json.encode(standing), px=_HOLDS_MS))

    async def told(self) -> Standing | None:
        """See `SolvencyBoard.told`. Raises `TransientError`."""
        data = await guarded(self._redis.get(_KEY))
        return None if data is None else msgspec.json.decode(data, type=Standing)
