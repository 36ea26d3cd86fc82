"""Counters in Redis or Valkey that keep strangers' demand in bounds, shared by all processes.

Each client has keys of its own, so one script handles one key, on Redis Cluster too:

    satmeter:hits:<name>:<client>   sorted set of uses by their time
    satmeter:unpaid:<client>        sorted set of actors with an unpaid invoice, by the time it lapses
    satmeter:unpaid-bytes:<name>    hash of the bytes that unpaid actors keep, by the hour in which they lapse
    satmeter:unpaid-bytes-of:<id>   what one of these actors was counted for, and under which names

All expire by themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from ...clock import system_now_ms
from .guard import guarded

# A refused use is not counted: a client that keeps asking would never be let in again.
_HIT: Final = """
local now, window, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) < limit then
  redis.call('ZADD', KEYS[1], now, ARGV[4])
  redis.call('PEXPIRE', KEYS[1], window)
  return -1
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return oldest[2] and math.ceil(oldest[2] + window - now) or window
"""

_RESERVE: Final = """
local now, until_, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[4]) and redis.call('ZCARD', KEYS[1]) >= limit then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return math.ceil(first[2] - now)
end
redis.call('ZADD', KEYS[1], until_, ARGV[4])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', KEYS[1], math.ceil(last[2] - now))
return -1
"""

# Hours rather than actors, as a sum over them must be quick.
_HOLD_BYTES: Final = """
local this_hour, hour = tonumber(ARGV[1]), tonumber(ARGV[2])
local size, bound = tonumber(ARGV[3]), tonumber(ARGV[4])
local kept, sum = redis.call('HGETALL', KEYS[1]), size
for i = 1, #kept, 2 do
  if tonumber(kept[i]) < this_hour then redis.call('HDEL', KEYS[1], kept[i]) else sum = sum + tonumber(kept[i + 1]) end
end
if sum > bound then return 0 end
redis.call('HINCRBY', KEYS[1], hour, size)
redis.call('PEXPIRE', KEYS[1], (hour + 1 - this_hour) * 3600000)
return 1
"""
_HOUR_MS: Final = 3_600_000


class RedisLimits:
    """Implementation of `Limits`."""

    def __init__(self, redis: Redis, now_ms: Callable[[], int] = system_now_ms) -> None:
        self._redis = redis
        self._now_ms = now_ms
        self._hit = redis.register_script(_HIT)
        self._reserve = redis.register_script(_RESERVE)
        self._hold_bytes = redis.register_script(_HOLD_BYTES)

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Count one use in a sliding window (see `Limits`). Raises `TransientError`."""
        args: list[int | str] = [self._now_ms(), window_s * 1_000, limit, secrets.token_hex(8)]
        return _wait_s(await guarded(self._hit(keys=[f"satmeter:hits:{name}:{client}"], args=args)))

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        """Count an unpaid invoice until it lapses (see `Limits`). Raises `TransientError`."""
        args: list[int | str] = [self._now_ms(), until_ms, limit, invoice_of]
        return _wait_s(await guarded(self._reserve(keys=[_unpaid(client)], args=args)))

    async def hold_bytes(self, actor_id: str, size_bytes: int, until_ms: int, bounds: Mapping[str, int]) -> str | None:
        """Count what the store keeps of an unpaid actor (see `Limits`). Raises `TransientError`."""
        now_ms = self._now_ms()
        hour = until_ms // _HOUR_MS
        record = msgspec.json.encode((size_bytes, hour, tuple(bounds)))
        if not await guarded(self._redis.set(_record(actor_id), record, px=until_ms - now_ms, nx=True)):
            return None
        held: list[str] = []
        for name, bound in bounds.items():
            args = [now_ms // _HOUR_MS, hour, size_bytes, bound]
            if not await guarded(self._hold_bytes(keys=[_bytes(name)], args=args)):
                await self._give_back(size_bytes, hour, held)
                await guarded(self._redis.delete(_record(actor_id)))
                return name
            held.append(name)
        return None

    async def release(self, client: str, invoice_of: str) -> None:
        """Stop counting an invoice, which was paid (see `Limits`). Raises `TransientError`."""
        await guarded(self._redis.zrem(_unpaid(client), invoice_of))
        record = await guarded(self._redis.get(_record(invoice_of)))
        # The one who deletes it gives back.
        if record is not None and await guarded(self._redis.delete(_record(invoice_of))):
            await self._give_back(*msgspec.json.decode(record, type=tuple[int, int, tuple[str, ...]]))

    async def _give_back(self, size_bytes: int, hour: int, names: Sequence[str]) -> None:
        for name in names:
            await guarded(self._redis.hincrby(_bytes(name), str(hour), -size_bytes))


def _unpaid(client: str) -> str:
    return f"satmeter:unpaid:{client}"


def _bytes(name: str) -> str:
    return f"satmeter:unpaid-bytes:{name}"


def _record(actor_id: str) -> str:
    return f"satmeter:unpaid-bytes-of:{actor_id}"


def _wait_s(wait_ms: int) -> int | None:
    """Return whole seconds after which a use fits; a script's -1 means that it fits now."""
    return None if wait_ms < 0 else max(1, -(-wait_ms // 1_000))
