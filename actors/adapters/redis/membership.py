"""Membership of a cluster in Redis or Valkey, in one slot, so that a script can look at all of it.

    satmeter:{cluster}:deployment            the deployment's name
    satmeter:{cluster}:hosts_wanted          the number of hosts that the operator asked for
    satmeter:{cluster}:clusters              sorted set of the Ray clusters that use the store, by their last use
    satmeter:{cluster}:<cluster>:servers     hash of servers by id, as JSON
    satmeter:{cluster}:<cluster>:seen        sorted set of server ids by the time at which they were last heard of
    satmeter:{cluster}:<cluster>:lead        the id of the server that leads; expires by itself
    satmeter:{cluster}:<cluster>:placement   the plan, as JSON

Times are milliseconds by the store's clock. Keys of a Ray cluster are forgotten a month after it was last used.

That clock may be set while servers beat, and after a reboot it may be behind. What was noted in its future counts as
noted now. A server beats once a second: if it finds its own last beat long ago, it can't tell how long the others have
been silent, and they count as heard of now. The lease of a leader that is silent for longer than it lasts is over.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from ...partitioning import NO_PLACEMENT, Placement
from ...placement.membership import ClusterView, Server
from .guard import guarded

# Servers beat once a second. A silent leader must be replaced soon. Silent servers are forgotten late, because a store
# that was away itself must not take all of them for gone.
_LEAD_MS: Final = 3_000
_SILENT_MS: Final = 10_000
_FORGET_MS: Final = 60_000
_KEEP_MS: Final = 30 * 86_400_000

_PREFIX: Final = "satmeter:{cluster}:"
_DEPLOYMENT: Final = f"{_PREFIX}deployment"
_WANTED: Final = f"{_PREFIX}hosts_wanted"
_CLUSTERS: Final = f"{_PREFIX}clusters"

_BEAT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local future = string.format('(%.0f', now)
local last = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or now)
local unsure = now - last > tonumber(ARGV[7]) and '-inf' or future
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], unsure, '+inf')) do redis.call('ZADD', KEYS[2], now, id) end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], future, '+inf')) do
  redis.call('ZADD', KEYS[6], now - 1, name)
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[6], now, ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now - ARGV[5])
local leader = redis.call('GET', KEYS[3])
local led = leader and tonumber(redis.call('ZSCORE', KEYS[2], leader) or 0)
if not leader or leader == ARGV[1] or now - led > 2 * ARGV[3] then
  redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])) do
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
for _, i in ipairs({1, 2, 4}) do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
return 1
"""

# Forgotten servers are left out here too: when no server beats any more, none clears them away.
_LOOK: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local servers = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[1], '+inf')) do
  servers[#servers + 1] = redis.call('HGET', KEYS[1], id)
end
return {redis.call('GET', KEYS[3]) or '', redis.call('GET', KEYS[4]) or '', redis.call('GET', KEYS[5]) or '',
        servers, redis.call('ZRANGEBYSCORE', KEYS[2], now - ARGV[1], now - ARGV[2])}
"""

_LEAVE: Final = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
return 0
"""

_PUBLISH: Final = """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
local present = redis.call('GET', KEYS[4])
local version = present and cjson.decode(present)['version'] or 0
if version ~= ARGV[2] - 1 then return 0 end
redis.call('SET', KEYS[4], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return 1
"""


class RedisMembership:
    """Implementation of `Membership` for one Ray cluster; without one, for the cluster that used the store last."""

    def __init__(self, redis: Redis, cluster: str | None = None) -> None:
        self._redis = redis
        self._cluster = cluster
        self._beat = redis.register_script(_BEAT)
        self._look = redis.register_script(_LOOK)
        self._leave = redis.register_script(_LEAVE)
        self._publish = redis.register_script(_PUBLISH)

    async def beat(self, server: Server) -> ClusterView:
        """Report that this server is there, and look around (see `Membership`). Raises `TransientError`."""
        keys = await self._keys()
        record = msgspec.json.encode(server)
        spans = _LEAD_MS, _FORGET_MS, _KEEP_MS
        args: list[str | int | bytes] = [server.server_id, record, *spans, self._cluster or "", _SILENT_MS]
        await guarded(self._beat(keys=keys, args=args))
        return _view(server.server_id, await self._see(keys))

    async def view(self) -> ClusterView:
        """Look around without taking part. Raises `TransientError`."""
        return _view("", await self._see(await self._keys()))

    async def leave(self, server_id: str) -> None:
        """Take a server out. Raises `TransientError`."""
        await guarded(self._leave(keys=await self._keys(), args=[server_id]))

    async def publish(self, server_id: str, placement: Placement) -> bool:
        """Put a plan in the place of the one a version below (see `Membership`). Raises `TransientError`."""
        args: list[str | int | bytes] = [server_id, placement.version, msgspec.json.encode(placement), _LEAD_MS]
        return bool(await guarded(self._publish(keys=await self._keys(), args=args)))

    async def placement(self) -> Placement:
        """Return the plan. Raises `TransientError`."""
        keys = await self._keys()
        return _placement(await guarded(self._redis.get(keys[3])) or b"")

    async def want_hosts(self, count: int | None) -> None:
        """Set how many hosts there should be. Raises `TransientError`."""
        await guarded(self._redis.delete(_WANTED) if count is None else self._redis.set(_WANTED, count))

    async def deployment(self) -> str:
        """Return the deployment's name. Raises `TransientError`."""
        await guarded(self._redis.set(_DEPLOYMENT, secrets.token_hex(4), nx=True))
        name: bytes = await guarded(self._redis.get(_DEPLOYMENT))
        return name.decode()

    async def _see(self, keys: list[str]) -> list[Any]:
        found: list[Any] = await guarded(self._look(keys=keys, args=[_FORGET_MS, _SILENT_MS]))
        return found

    async def _keys(self) -> list[str]:
        cluster = self._cluster
        if cluster is None:
            newest = await guarded(self._redis.zrevrange(_CLUSTERS, 0, 0))
            cluster = newest[0].decode() if newest else ""
        own = [f"{_PREFIX}{cluster}:{name}" for name in ("servers", "seen", "lead", "placement")]
        return [*own, _WANTED, _CLUSTERS]


def _view(server_id: str, found: list[Any]) -> ClusterView:
    leader, placement, wanted, servers, silent = found
    return ClusterView(
        leads=bool(server_id) and leader == server_id.encode(),
        hosts_wanted=int(wanted) if wanted else None,
        placement=_placement(placement),
        servers=sorted((msgspec.json.decode(data, type=Server) for data in servers), key=lambda s: s.server_id),
        silent=[server_id.decode() for server_id in silent],
    )


def _placement(data: bytes) -> Placement:
    return msgspec.json.decode(data, type=Placement) if data else NO_PLACEMENT
