"""Connection to the store, as all code here needs it: short time-outs, and no hidden retries."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ....config.store_url import StoreKind, parse_store_url
from .cluster_client import ClusterRedis
from .sentinel import SentinelPool

# A store that is paused must be noticed well before its clients give up.
TIMEOUT_S: Final = 2.0
_CONNECT_TIMEOUT_S: Final = 1.0
_CONNECTIONS_MAX: Final = 64


def connect(url: str) -> Redis:
    """Return a client for any form of `REDIS_URL`, which connects at its first command.

    Raises `ValueError` for an unknown form. The library would repeat a command whose answer was lost. Code that does
    not know the meaning of a write must not repeat it, so that is switched off: the journal's versions decide.
    """
    store = parse_store_url(url)
    if store.kind is StoreKind.CLUSTER:
        return ClusterRedis(store.addresses, lambda address: _server(store.server(address)))
    if store.kind is StoreKind.SENTINEL:
        sentinels = [_server(store.sentinel(address)) for address in store.addresses]
        # The address is a stand-in: the pool asks the sentinels for the real one.
        return Redis.from_pool(SentinelPool.over(store.server(store.addresses[0]), store.master, sentinels, _options()))
    return _server(url)


def _server(url: str) -> Redis:
    # This pool waits for a free connection. The plain pool raises an error in a burst, as if the store were down.
    return Redis.from_pool(BlockingConnectionPool.from_url(url, **_options()))


def _options() -> dict[str, Any]:
    return {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": _CONNECTIONS_MAX,
        "timeout": TIMEOUT_S,
        # The library would name itself by CLIENT SETINFO, a right that Redis 7.0 does not know.
        "driver_info": None,
    }
