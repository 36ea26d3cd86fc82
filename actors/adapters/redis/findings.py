"""Findings of the treasury for the operator, in Redis or Valkey.

The keys share a hash tag, so that one cluster node has them.

satmeter:{findings}:last       the treasury's last findings, as JSON; expires by itself without updates
satmeter:{findings}:refusals   hash of payouts that the node would not even try, by reason
satmeter:{findings}:refused    the reason of the last of them; expires after an hour
"""

from __future__ import annotations

from typing import Final

import msgspec
from redis.asyncio import Redis

from ...ports import Findings, Refusals
from .guard import guarded, store_errors

_LAST: Final = "satmeter:{findings}:last"
_REFUSALS: Final = "satmeter:{findings}:refusals"
_REFUSED: Final = "satmeter:{findings}:refused"
_HOLDS_MS: Final = 600_000
_REFUSED_MS: Final = 3_600_000


class RedisFindings:
    """Implementation of `FindingsBoard`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, findings: Findings) -> None:
        """See `FindingsBoard.tell`. Raises `TransientError`."""
        await guarded(self._redis.set(_LAST, msgspec.json.encode(findings), px=_HOLDS_MS))

    async def told(self) -> tuple[Findings | None, Refusals]:
        """See `FindingsBoard.told`. Raises `TransientError`."""
        with store_errors():
            data = await self._redis.get(_LAST)
            counts = await self._redis.hgetall(_REFUSALS)
            last = await self._redis.get(_REFUSED)
        findings = None if data is None else msgspec.json.decode(data, type=Findings)
        found = {_text(name): int(count) for name, count in counts.items()}
        return findings, Refusals(found, None if last is None else _text(last))

    async def refused(self, reason: str) -> None:
        """See `FindingsBoard.refused`. Raises `TransientError`."""
        with store_errors():
            await self._redis.hincrby(_REFUSALS, reason, 1)
            await self._redis.set(_REFUSED, reason, px=_REFUSED_MS)


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data
