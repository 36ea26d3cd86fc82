"""Counters in Redis or Valkey that keep strangers' demand in bounds, shared by all processes.

Each client has keys of its own, so one script handles one key, on Redis Cluster too:

    satmeter:hits:<name>:<client>   sorted set of uses by their time
    satmeter:unpaid:<client>        sorted set of actors with an unpaid invoice, by the time it lapses

Both expire by themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

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


class RedisLimits:
    """Implementation of `Limits`."""

    def __init__(self, redis: Redis, now_ms: Callable[[], int] = system_now_ms) -> None:
        self._redis = redis
        self._now_ms = now_ms
        self._hit = redis.register_script(_HIT)
        self._reserve = redis.register_script(_RESERVE)

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Count one use in a sliding window (see `Limits`). Raises `TransientError`."""
        args: list[int | str] = [self._now_ms(), window_s * 1_000, limit, secrets.token_hex(8)]
        return _wait_s(await guarded(self._hit(keys=[f"satmeter:hits:{name}:{client}"], args=args)))

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        """Count an unpaid invoice until it lapses (see `Limits`). Raises `TransientError`."""
        args: list[int | str] = [self._now_ms(), until_ms, limit, invoice_of]
        return _wait_s(await guarded(self._reserve(keys=[_unpaid(client)], args=args)))

    async def release(self, client: str, invoice_of: str) -> None:
        """Stop counting an invoice, which was paid. Raises `TransientError`."""
        await guarded(self._redis.zrem(_unpaid(client), invoice_of))


def _unpaid(client: str) -> str:
    return f"satmeter:unpaid:{client}"


def _wait_s(wait_ms: int) -> int | None:
    """Return whole seconds after which a use fits; a script's -1 means that it fits now."""
    return None if wait_ms < 0 else max(1, -(-wait_ms // 1_000))
