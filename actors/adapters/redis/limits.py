"""Counters in Redis or Valkey that keep strangers' demand in bounds, shared by all processes.

Each client has keys of its own, so one script handles one key, on Redis Cluster too:

    satmeter:hits:<name>:<client>   sorted set of uses by their time
    satmeter:unpaid:<client>        sorted set of actors with an unpaid invoice, by the time it lapses
    satmeter:unpaid-bytes:<name>    hash of the bytes that unpaid actors keep, by the hour (or part) in which they lapse
    satmeter:unpaid-bytes-of:<id>   what one of these actors was counted for, and under which names

All expire by themselves. Uses from before a clock was set back lie in the future, and count for a window more at most.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from ...clock import system_now_ms
from .guard import guarded

# A refused use is not counted: a client that keeps asking would never be let in again.
_HIT: Final = """
local now, window, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + window), '+inf')
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

# Slots of time rather than actors, as a sum over them must be quick.
_HOLD_BYTES: Final = """
local now, bound = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept, sum, last = redis.call('HGETALL', KEYS[1]), 0, now
for i = 1, #kept, 2 do
  local slot = tonumber(kept[i])
  if slot < now then
    redis.call('HDEL', KEYS[1], kept[i])
  else
    sum = sum + tonumber(kept[i + 1])
    last = math.max(last, slot)
  end
end
for i = 3, #ARGV, 2 do
  sum = sum + tonumber(ARGV[i + 1])
  last = math.max(last, tonumber(ARGV[i]))
end
if sum > bound then return 0 end
for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], math.ceil((last + 1 - now) * 3600000))
return 1
"""
_HOUR_MS: Final = 3_600_000
# A slot is an hour, or a part of one for what is soon gone. Hours are whole numbers, these parts exact fractions.
_PARTS: Final = 16

_Parts = Sequence[tuple[int, str]]
"""Bytes, and the slot in which they lapse, in hours since the epoch."""


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

    async def hold_bytes(self, actor_id: str, kept: Sequence[tuple[int, int]], bounds: Mapping[str, int]) -> str | None:
        """Count what the store keeps of an unpaid actor (see `Limits`). Raises `TransientError`."""
        now_ms = self._now_ms()
        parts = [(size_bytes, _slot(until_ms, now_ms)) for size_bytes, until_ms in kept]
        record = msgspec.json.encode((parts, tuple(bounds)))
        last_ms = max(until_ms for _, until_ms in kept)
        if not await guarded(self._redis.set(_record(actor_id), record, px=max(last_ms - now_ms, 1), nx=True)):
            return None
        held: list[str] = []
        for name, bound in bounds.items():
            args = [_this_slot(now_ms), bound, *(word for size_bytes, slot in parts for word in (slot, size_bytes))]
            if not await guarded(self._hold_bytes(keys=[_bytes(name)], args=args)):
                await self._give_back(parts, held)
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
            await self._give_back(*_of_record(record))

    async def _give_back(self, parts: _Parts, names: Sequence[str]) -> None:
        now = float(_this_slot(self._now_ms()))
        # What has lapsed is counted no more, and a count below zero would stay in the store.
        counted = [(size_bytes, slot) for size_bytes, slot in parts if float(slot) >= now]
        for name in names:
            for size_bytes, slot in counted:
                await guarded(self._redis.hincrby(_bytes(name), slot, -size_bytes))


def _slot(until_ms: int, now_ms: int) -> str:
    """Return the slot at whose end something has lapsed: a whole hour, unless it lapses within the next one."""
    if until_ms - now_ms > _HOUR_MS:
        return str(-(-until_ms // _HOUR_MS))
    return _this_slot(until_ms)


def _this_slot(at_ms: int) -> str:
    return f"{_PARTS * at_ms // _HOUR_MS / _PARTS:.4f}"


def _of_record(record: bytes) -> tuple[_Parts, Sequence[str]]:
    told: Sequence[Any] = msgspec.json.decode(record)
    if len(told) == 3:
        # As earlier versions wrote it.
        size_bytes, hour, names = told
        return [(size_bytes, str(hour))], names
    return told[0], told[1]


def _unpaid(client: str) -> str:
    return f"satmeter:unpaid:{client}"


def _bytes(name: str) -> str:
    return f"satmeter:unpaid-bytes:{name}"


def _record(actor_id: str) -> str:
    return f"satmeter:unpaid-bytes-of:{actor_id}"


def _wait_s(wait_ms: int) -> int | None:
    """Return whole seconds after which a use fits; a script's -1 means that it fits now."""
    return None if wait_ms < 0 else max(1, -(-wait_ms // 1_000))
