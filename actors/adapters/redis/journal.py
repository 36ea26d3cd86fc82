"""Journal in Redis or Valkey: one script writes events, snapshot and due time of an actor, or nothing.

Its keys are in `keys.py`. Those of a partition share a hash tag, so that the script works on a cluster too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from ....config.log_context import in_background, present_traceparent
from ...metrics.journal import JournalMetrics
from ...metrics.tracing import begin_step, end_span
from ...ports import Append, ConflictError, Due, FencedError, Stored, TransientError
from .batch import Batches, Grouped
from .client import TIMEOUT_S
from .cluster_client import ClusterRedis
from .guard import guarded
from .keys import journal_key, kept_key, partition_key, partition_keys, snapshot_key
from .totals import LiabilityOf, count_totals

# Longer pipelines don't get cheaper per write, but hold up the writes behind them.
_BATCH_MAX: Final = 512
_SPAN: Final = "journal append"

# The total goes on with the new epoch if it was kept through the one before. A partition that was never claimed holds
# nothing. The hourly sums go on likewise, or begin with the next whole hour.
_CLAIM: Final = """
local before = redis.call('GET', KEYS[1]) or '0'
redis.call('SET', KEYS[2], ARGV[1])
local epoch = redis.call('INCR', KEYS[1])
if before == '0' then
  redis.call('HSET', KEYS[3], 'sums_epoch', epoch, 'sums_from', 0)
elseif redis.call('HGET', KEYS[3], 'sums_epoch') == before then
  redis.call('HSET', KEYS[3], 'sums_epoch', epoch)
else
  local hour = math.floor(redis.call('TIME')[1] / 3600)
  redis.call('HSET', KEYS[3], 'sums_epoch', epoch, 'sums_from', hour + 1)
end
if before == '0' then
  redis.call('HSET', KEYS[3], 'epoch', epoch, 'liability_msat', 0)
elseif redis.call('HGET', KEYS[3], 'epoch') == before then
  redis.call('HSET', KEYS[3], 'epoch', epoch)
else
  redis.call('HDEL', KEYS[3], 'epoch', 'liability_msat')
  return {epoch, 0}
end
return {epoch, 1}
"""

# A sum that can't be counted must not keep an event out of its journal: `pcall`.
_APPEND: Final = """
local epoch = tonumber(redis.call('GET', KEYS[1]) or '0')
if epoch ~= tonumber(ARGV[1]) then return {1, epoch} end
local version = redis.call('LLEN', KEYS[2])
if version ~= tonumber(ARGV[2]) then return {2, version} end
local events = tonumber(ARGV[7])
if ARGV[8] ~= '0' then redis.call('HINCRBY', KEYS[5], 'liability_msat', ARGV[8]) end
local sums = tonumber(ARGV[9])
for i = 11, 9 + 2 * sums, 2 do redis.pcall('HINCRBY', KEYS[6], ARGV[i], ARGV[i + 1]) end
if ARGV[10] == '0' then redis.call('ZREM', KEYS[7], ARGV[3])
elseif ARGV[10] ~= '' then redis.call('ZADD', KEYS[7], ARGV[10], ARGV[3]) end
local first = 11 + 2 * sums
if ARGV[#ARGV] ~= '' and version > 0 then
  local rest = redis.call('LRANGE', KEYS[2], 1, -1)
  redis.call('DEL', KEYS[2])
  redis.call('RPUSH', KEYS[2], ARGV[#ARGV])
  for i = 1, #rest do redis.call('RPUSH', KEYS[2], rest[i]) end
end
for i = first, first + events - 1 do redis.call('RPUSH', KEYS[2], ARGV[i]) end
for i = 8, #KEYS do
  local place = first + events + 2 * (i - 8)
  redis.call('SET', KEYS[i], ARGV[place], 'PX', ARGV[place + 1])
end
if ARGV[4] ~= '' then redis.call('SET', KEYS[3], ARGV[4]) end
if ARGV[5] == '' then redis.call('ZREM', KEYS[4], ARGV[3]) else redis.call('ZADD', KEYS[4], ARGV[5], ARGV[3]) end
if ARGV[6] == '' then
  redis.call('PERSIST', KEYS[2])
  redis.call('PERSIST', KEYS[3])
else
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
return {0, version}
"""

_LOAD: Final = """
local snapshot = redis.call('GET', KEYS[2])
local from = 0
if snapshot then from = tonumber(string.match(snapshot, '^(%d+)\\n')) end
return {snapshot or '', redis.call('LRANGE', KEYS[1], from, -1)}
"""

# The numbers of the ledger rise with the journal, so the first event above one is found by halving.
_HISTORY: Final = """
local low, high = 0, redis.call('LLEN', KEYS[1])
local after = tonumber(ARGV[1])
while low < high do
  local middle = math.floor((low + high) / 2)
  local seq = cjson.decode(redis.call('LINDEX', KEYS[1], middle))['seq'] or 0
  if seq > after then high = middle else low = middle + 1 end
end
return redis.call('LRANGE', KEYS[1], low, low + ARGV[2] - 1)
"""

# Stretches of a journal from its end towards its beginning; the store does nothing else meanwhile. Most searches are
# for something recent.
_SEARCH_FIRST: Final = 64
_SEARCH_STRETCH: Final = 256
_SEARCH: Final = """
local high = tonumber(ARGV[2])
if high < 0 then high = redis.call('LLEN', KEYS[1]) end
if high == 0 then return {0, {}} end
local low = math.max(high - ARGV[3], 0)
local events, found = redis.call('LRANGE', KEYS[1], low, high - 1), {}
for i = #events, 1, -1 do
  if string.find(events[i], ARGV[1], 1, true) then found[#found + 1] = events[i] end
end
return {low, found}
"""

_FORGET_DUE: Final = """
local epoch = tonumber(redis.call('GET', KEYS[1]) or '0')
if epoch ~= tonumber(ARGV[1]) then return {1, epoch} end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[3], ARGV[2]) end
return {0, 0}
"""


class RedisJournal:
    """Implementation of `Journal`. Appends that arrive while one pipeline is on its way share the next (group commit).

    On a cluster each node has pipelines of its own, so that a node that hangs holds up no other node's writes.
    `liability_of` returns the sum that the wallet must hold for an actor. With it, a partition that is claimed has its
    total counted, if it has none, before anything is written to it. Without it, that is left to the next host that
    claims it.
    """

    def __init__(
        self, redis: Redis, liability_of: LiabilityOf | None = None, metrics: JournalMetrics | None = None
    ) -> None:
        self._redis = redis
        self._metrics = metrics
        self._liability_of = liability_of
        self._cluster = redis if isinstance(redis, ClusterRedis) else None
        self._batches = None if self._cluster else Batches(redis, TIMEOUT_S)
        self._reads = Grouped(redis, TIMEOUT_S)
        self._waiting: dict[Hashable, list[tuple[Append, asyncio.Future[None]]]] = {}
        self._flushers: dict[Hashable, asyncio.Task[None]] = {}
        self._append = redis.register_script(_APPEND)
        self._load = redis.register_script(_LOAD)
        self._history = redis.register_script(_HISTORY)
        self._search = redis.register_script(_SEARCH)
        self._searching = asyncio.Semaphore(1)
        self._forget = redis.register_script(_FORGET_DUE)

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """Raise the epochs (see `Journal`). Raises `TransientError`."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in partitions:
            # The script is sent as its text, not by its digest. Claims are rare, and a restarted store has forgotten
            # digests.
            pipe.eval(_CLAIM, 3, *partition_keys(partition, "epoch", "owner", "totals"), host_id)
        answers = dict(zip(partitions, await guarded(pipe.execute()), strict=True))
        epochs = {partition: epoch for partition, (epoch, _) in answers.items()}
        uncounted = {partition: epochs[partition] for partition, (_, counted) in answers.items() if not counted}
        if uncounted and self._liability_of is not None:
            await count_totals(self._redis, uncounted, self._liability_in)
        return epochs

    async def _liability_in(self, partition: int, actor_id: str) -> int:
        assert self._liability_of is not None
        return self._liability_of(actor_id, await self.load(partition, actor_id))

    async def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """Return the hosts that claimed these partitions last. Raises `TransientError`."""
        return {partition: owner.decode() for partition, owner in (await self._each(partitions, "owner")).items()}

    async def epochs(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return the partitions' epochs as they are stored. Raises `TransientError`."""
        return {partition: int(epoch) for partition, epoch in (await self._each(partitions, "epoch")).items()}

    async def _each(self, partitions: Sequence[int], name: str) -> Mapping[int, bytes]:
        """Return a key of each partition, where it exists."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in partitions:
            pipe.get(partition_key(partition, name))
        values = await guarded(pipe.execute())
        return {partition: value for partition, value in zip(partitions, values, strict=True) if value is not None}

    async def append(self, append: Append) -> None:
        """Write all of it or nothing (see `Journal`)."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        shard = self._cluster.shard_of(partition_key(append.partition, "epoch")) if self._cluster else None
        self._waiting.setdefault(shard, []).append((append, future))
        if shard not in self._flushers:
            self._flushers[shard] = in_background(self._flush(shard))
        span, confirmed = begin_step(_SPAN, present_traceparent()), False
        try:
            await future
            confirmed = True
        finally:
            end_span(span, failed=not confirmed)

    async def _flush(self, shard: Hashable) -> None:
        try:
            while waiting := self._waiting.pop(shard, None):
                batch, rest = waiting[:_BATCH_MAX], waiting[_BATCH_MAX:]
                if rest:
                    self._waiting[shard] = rest
                await self._write(batch)
        finally:
            del self._flushers[shard]
            for _, future in self._waiting.pop(shard, ()):
                _fail(future, TransientError("the journal was closed"))

    async def _write(self, batch: list[tuple[Append, asyncio.Future[None]]]) -> None:
        begun_s = time.perf_counter()
        try:
            results = await self._execute([append for append, _ in batch])
        except (RedisError, OSError) as error:
            results = [error] * len(batch)
        except asyncio.CancelledError:
            for _, future in batch:
                _fail(future, TransientError("the journal was closed while writing"))
            raise
        if self._metrics is not None:
            self._metrics.wrote(len(batch), time.perf_counter() - begun_s)
        for (_, future), result in zip(batch, results, strict=True):
            failure = _append_error(result)
            if failure is not None:
                if self._metrics is not None:
                    self._metrics.failed(failure)
                _fail(future, failure)
            elif not future.done():
                future.set_result(None)

    async def _execute(self, appends: Sequence[Append]) -> list[Any]:
        results = await self._pipeline(appends)
        if any(isinstance(result, NoScriptError) for result in results):
            # A restarted store has forgotten the script; those calls did nothing, so they are safe to repeat.
            await self._redis.script_load(_APPEND)
            again = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
            for i, result in zip(again, await self._pipeline([appends[i] for i in again]), strict=True):
                results[i] = result
        return results

    async def _pipeline(self, appends: Sequence[Append]) -> list[Any]:
        sha = self._append.sha
        calls = [("EVALSHA", sha, len(keys), *keys, *args) for keys, args in map(_append_call, appends)]
        if self._batches is not None:
            return await self._batches.send(calls)
        pipe = self._redis.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command(*call)
        results: list[Any] = await pipe.execute(raise_on_error=False)
        return results

    async def load(self, partition: int, actor_id: str) -> Stored:
        """Return the stored state of an actor. Raises `TransientError`."""
        keys = [journal_key(partition, actor_id), snapshot_key(partition, actor_id)]
        snapshot, events = await guarded(self._read(keys))
        if not snapshot:
            return Stored(None, 0, events)
        version, _, state = snapshot.partition(b"\n")
        return Stored(state, int(version), events)

    async def _read(self, keys: Sequence[str]) -> Any:
        try:
            return await self._reads.run("EVALSHA", self._load.sha, len(keys), *keys)
        except NoScriptError:
            # A store that was just started knows no scripts. This call sends it the text.
            return await self._load(keys=keys)

    async def recall(self, partition: int, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return the answers that are kept. Raises `TransientError`."""
        keys = [kept_key(partition, actor_id, name) for name in names]
        values = await guarded(self._redis.mget(keys))
        return {name: value for name, value in zip(names, values, strict=True) if value is not None}

    async def history(self, partition: int, actor_id: str, after: int, count: int) -> Sequence[bytes]:
        """Return events from the first whose `seq` is above `after`. Raises `TransientError`."""
        events: Sequence[bytes] = await guarded(
            self._history(keys=[journal_key(partition, actor_id)], args=[after, count])
        )
        return events

    async def search(self, partition: int, actor_id: str, text: str, count: int) -> Sequence[bytes]:
        """Return the newest events that contain a text (see `Journal`). Raises `TransientError`."""
        keys, high, stretch, found = [journal_key(partition, actor_id)], -1, _SEARCH_FIRST, list[bytes]()
        # One at a time: the holder of a long journal must not keep the store busy.
        async with self._searching:
            while high and len(found) < count:
                high, more = await guarded(self._search(keys=keys, args=[text, high, stretch]))
                found, stretch = found + more, _SEARCH_STRETCH
        return found[:count]

    async def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        """Return all that is due before a time. Raises `TransientError`."""
        pipe = self._redis.pipeline(transaction=False)
        for partition in partitions:
            pipe.zrangebyscore(partition_key(partition, "due"), "-inf", before_ms, withscores=True)
        found = await guarded(pipe.execute())
        return [Due(int(score), actor_id.decode()) for rows in found for actor_id, score in rows]

    async def forget_due(self, partition: int, epoch: int, actor_id: str) -> None:
        """Drop a due time without an actor. Raises `FencedError`, `TransientError`."""
        keys = [partition_key(partition, "epoch"), journal_key(partition, actor_id), partition_key(partition, "due")]
        status, current = await guarded(self._forget(keys=keys, args=[epoch, actor_id]))
        if status:
            raise FencedError(current)

    async def check(self) -> None:
        """Raise `TransientError` when the store can't be written to."""
        await guarded(self._redis.set("satmeter:check", 1, px=60_000))

    async def close(self) -> None:
        """Let the writes under way finish, then disconnect."""
        if self._flushers:
            await asyncio.wait(self._flushers.values(), timeout=2)
        await self._redis.aclose()


def _append_call(append: Append) -> tuple[list[str], list[Any]]:
    partition, actor_id = append.partition, append.actor_id
    names = "epoch", f"j:{actor_id}", f"s:{actor_id}", "due", "totals", "sums", "payouts"
    keys = partition_keys(partition, *names)
    snapshot = b""
    if append.snapshot is not None:
        snapshot = b"%d\n%b" % (append.expected_version + len(append.events), append.snapshot)
    due = "" if append.due_ms is None else append.due_ms
    keep = "" if append.keep_ms is None else append.keep_ms
    keys += [kept_key(partition, actor_id, kept.name) for kept in append.kept]
    answers = [part for kept in append.kept for part in (kept.value, kept.keep_ms)]
    events = append.events
    change = append.liability_change_msat
    payout = "" if append.open_payout_ms is None else append.open_payout_ms
    fixed = [append.epoch, append.expected_version, actor_id, snapshot, due, keep, len(events), change]
    sums = [part for name, amount in append.sums.items() for part in (f"{append.hour}:{name}", amount)]
    return keys, [*fixed, len(append.sums), payout, *sums, *events, *answers, append.opening or b""]


def _append_error(result: Any) -> Exception | None:
    if isinstance(result, Exception):
        return TransientError(f"the store did not confirm a write: {result}")
    status, value = result
    if status == 1:
        return FencedError(int(value))
    return ConflictError(f"the journal is at version {value}") if status == 2 else None


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
