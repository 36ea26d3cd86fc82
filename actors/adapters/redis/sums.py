"""Hourly sums: kept in each partition by the script that appends events, and moved from there to those of the store.

satmeter:{p0017}:sums     hash of `<hour>:<name>`: what was added and not moved yet
satmeter:{p0017}:taken    the same, taken aside to be moved, under a `number`
satmeter:{p0017}:totals   `sums_epoch`: the epoch through which sums were kept; `sums_from`: the first whole hour;
                          `sums_number`: the number of the last that was taken aside
satmeter:{sums}:hours:<day>   hash of `<hour>:<name>`; expires by itself
satmeter:{sums}:day:<day>     hash of names; expires by itself
satmeter:{sums}:ever          hash of names
satmeter:{sums}:moved         hash of partitions: the number of the last that was added to these

Days and hours count from 1970, in UTC. Each step of a move may be repeated, by several movers at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from ...domain.sums import HOUR_MS
from ...partitioning import PARTITIONS
from ...ports import SumsRead, TransientError
from .guard import guarded
from .keys import partition_keys

KEPT_DAYS: Final = 400
_DAY_HOURS: Final = 24
_DAY_MS: Final = _DAY_HOURS * HOUR_MS
_MOVED: Final = "satmeter:{sums}:moved"
_EVER: Final = "satmeter:{sums}:ever"
_READ_TRIES: Final = 5

_TAKE: Final = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  local sums = redis.call('HGETALL', KEYS[1])
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'number', redis.call('HINCRBY', KEYS[3], 'sums_number', 1))
  for i = 1, #sums, 2 do redis.call('HSET', KEYS[2], sums[i], sums[i + 1]) end
end
return redis.call('HGETALL', KEYS[2])
"""

# ARGV: partition, number, milliseconds to keep each of the days, then for each sum the places of its two keys, hour,
# name and amount.
_ADD: Final = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local days = #KEYS - 2
for i = 3 + days, #ARGV, 4 do
  local place, hour, name, amount = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  redis.pcall('HINCRBY', KEYS[2], name, amount)
  redis.pcall('HINCRBY', KEYS[1 + place], hour .. ':' .. name, amount)
  redis.pcall('HINCRBY', KEYS[2 + place], name, amount)
end
for i = 1, days do redis.call('PEXPIRE', KEYS[2 + i], ARGV[2 + i]) end
return 1
"""

_DROP: Final = """
if redis.call('HGET', KEYS[1], 'number') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

_REST: Final = """
return {redis.call('GET', KEYS[4]), redis.call('HMGET', KEYS[3], 'sums_epoch', 'sums_from'),
        redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
"""


class RedisSums:
    """Hourly sums in Redis or Valkey. All methods raise `TransientError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def move(self, now_ms: int) -> int:
        """Move what has gathered in the partitions; return how many had something."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.eval(_TAKE, 3, *partition_keys(partition, "sums", "taken", "totals"))
        taken = [(partition, _pairs(flat)) for partition, flat in enumerate(await guarded(pipe.execute())) if flat]
        for partition, sums in taken:
            number = sums.pop("number")
            await guarded(self._add(partition, number, sums, now_ms))
            (key,) = partition_keys(partition, "taken")
            await guarded(self._redis.eval(_DROP, 1, key, str(number)))
        return len(taken)

    def _add(self, partition: int, number: int, sums: Mapping[str, int], now_ms: int) -> Any:
        split = [(int(hour), name, amount) for key, amount in sums.items() for hour, _, name in [key.partition(":")]]
        days = sorted({hour // _DAY_HOURS for hour, _, _ in split})
        keys = [_MOVED, _EVER, *(key for day in days for key in (_hours_key(day), _day_key(day)))]
        keep = [max((day + KEPT_DAYS) * _DAY_MS - now_ms, 1) for day in days for _ in range(2)]
        words: list[str | int] = [partition, number, *keep]
        for hour, name, amount in split:
            words += [2 + 2 * days.index(hour // _DAY_HOURS), hour, name, amount]
        return self._redis.eval(_ADD, len(keys), *keys, *words)

    async def hours(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each hour of these days."""
        return await self._read([_hours_key(day) for day in days], None, set(days))

    async def days(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each of these days."""
        return await self._read([_day_key(day) for day in days], days, set(days))

    async def _read(self, keys: Sequence[str], places: Sequence[int] | None, wanted: set[int]) -> SumsRead:
        for _ in range(_READ_TRIES):
            before = _pairs_of(await guarded(self._redis.hgetall(_MOVED)))
            rests = await self._rests()
            pipe = self._redis.pipeline(transaction=False)
            for key in (*keys, _EVER, _MOVED):
                pipe.hgetall(key)
            *found, ever, after = map(_pairs_of, await guarded(pipe.execute()))
            # What was moved meanwhile may be in both, or in neither.
            if before == after:
                return _together(found, ever, places, [rest.unmoved(after) for rest in rests], wanted)
        raise TransientError("the hourly sums are being moved just now")

    async def _rests(self) -> list[_Rest]:
        pipe = self._redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.eval(_REST, 4, *partition_keys(partition, "sums", "taken", "totals", "epoch"))
        answers = await guarded(pipe.execute())
        return [
            _Rest(str(partition), epoch, kept_epoch, int(from_hour or 0), _pairs(sums), _pairs(taken))
            for partition, (epoch, (kept_epoch, from_hour), sums, taken) in enumerate(answers)
        ]


class _Rest(NamedTuple):
    """Sums of a partition that may not be moved yet."""

    partition: str
    epoch: bytes | None
    kept_epoch: bytes | None
    from_hour: int
    sums: dict[str, int]
    taken: dict[str, int]

    def unmoved(self, moved: Mapping[str, int]) -> _Rest:
        """Return the sums that are not among those of the store."""
        taken = dict(self.taken)
        if taken and taken.pop("number") <= moved.get(self.partition, 0):
            taken = {}
        return self._replace(taken=taken)

    @property
    def first_whole(self) -> int | None:
        """First hour that was counted from its beginning; None if the partition is not counted at all."""
        return 0 if self.epoch is None else self.from_hour if self.epoch == self.kept_epoch else None


def _together(
    found: Sequence[Mapping[str, int]],
    ever: Mapping[str, int],
    places: Sequence[int] | None,
    rests: Sequence[_Rest],
    wanted: set[int],
) -> SumsRead:
    """Return the sums by hour, or by the day in `places`, of the days that are wanted."""
    sums: Counter[tuple[int, str]] = Counter()
    for number, hashed in enumerate(found):
        for key, amount in hashed.items():
            hour, _, name = key.partition(":") if places is None else (places[number], "", key)
            sums[int(hour), name] += amount
    total = Counter(ever)
    for rest in rests:
        for key, amount in (*rest.sums.items(), *rest.taken.items()):
            hour_text, _, name = key.partition(":")
            total[name] += amount
            hour, day = int(hour_text), int(hour_text) // _DAY_HOURS
            if day in wanted:
                sums[hour if places is None else day, name] += amount
    firsts = [rest.first_whole for rest in rests]
    from_hour = None if None in firsts else max(first for first in firsts if first is not None)
    return SumsRead(sums, total, from_hour)


def _hours_key(day: int) -> str:
    return f"satmeter:{{sums}}:hours:{day}"


def _day_key(day: int) -> str:
    return f"satmeter:{{sums}}:day:{day}"


def _pairs(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(amount) for name, amount in zip(flat[::2], flat[1::2], strict=True)}


def _pairs_of(hashed: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(amount) for name, amount in hashed.items()}
