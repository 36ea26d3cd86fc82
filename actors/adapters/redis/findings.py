"""Findings of the treasury for the operator, in Redis or Valkey.

The keys share a hash tag, so that one cluster node has them.

satmeter:{findings}:last       the treasury's last findings, as JSON; expires by itself without updates
satmeter:{findings}:refusals   hash of payouts that the node would not even try, by reason
satmeter:{findings}:refused    the reason of the last of them; expires after an hour
satmeter:{findings}:long       hash of payouts under way for long, by actor, as JSON with the time of the note
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from ...clock import system_now_ms
from ...ports import Findings, LongPayout, Refusals
from .guard import guarded, store_errors

_LAST: Final = "satmeter:{findings}:last"
_REFUSALS: Final = "satmeter:{findings}:refusals"
_REFUSED: Final = "satmeter:{findings}:refused"
_LONG: Final = "satmeter:{findings}:long"
_HOLDS_MS: Final = 600_000
_REFUSED_MS: Final = 3_600_000


class _Note(msgspec.Struct, frozen=True):
    payout: LongPayout
    noted_at_ms: int


class RedisFindings:
    """Implementation of `FindingsBoard`."""

    def __init__(self, redis: Redis, now_ms: Callable[[], int] = system_now_ms) -> None:
        self._redis = redis
        self._now_ms = now_ms

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

    async def lasts(self, payout: LongPayout) -> None:
        """See `FindingsBoard.lasts`. Raises `TransientError`."""
        note = msgspec.json.encode(_Note(payout, self._now_ms()))
        with store_errors():
            await self._redis.hset(_LONG, payout.actor_id, note)
            await self._redis.pexpire(_LONG, _HOLDS_MS)

    async def long_payouts(self) -> Sequence[LongPayout]:
        """See `FindingsBoard.long_payouts`. Raises `TransientError`."""
        with store_errors():
            notes = [msgspec.json.decode(note, type=_Note) for note in (await self._redis.hgetall(_LONG)).values()]
            since_ms = self._now_ms() - _HOLDS_MS
            old = [note.payout.actor_id for note in notes if note.noted_at_ms < since_ms]
            if old:
                # Their payouts have ended. One that is noted again meanwhile comes back with its next look-up.
                await self._redis.hdel(_LONG, *old)
        return [note.payout for note in notes if note.noted_at_ms >= since_ms]


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data
