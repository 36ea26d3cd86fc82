"""Connects to the store the way everything here wants it: short time-outs, and no hidden retries."""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# A store that is paused must be noticed well before its clients give up.
_TIMEOUT_S: Final = 2.0
_CONNECT_TIMEOUT_S: Final = 1.0
_CONNECTIONS_MAX: Final = 64


def connect(url: str) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`. It connects at its first command.

    The library would repeat a command whose answer was lost. A write must not be repeated by anyone who does not know
    what it means, so that is switched off: the journal's versions decide.
    """
    # This one waits for a free connection: to the plain pool a burst is an error, as if the store were down.
    pool = BlockingConnectionPool.from_url(
        url,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        max_connections=_CONNECTIONS_MAX,
        timeout=_TIMEOUT_S,
    )
    return Redis.from_pool(pool)
