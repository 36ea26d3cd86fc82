"""Check that the operator's own store is not older than what it confirmed to this server. It writes nothing."""

from __future__ import annotations

from functools import partial

from ...actors.adapters.redis.client import connect
from ...actors.adapters.redis.marks import RedisMarks
from ...actors.ports import TransientError
from ...config.problem import Problem
from ...config.settings import Settings
from ..store.binary import StoreError
from ..store.marks import StoreMarks


async def older_store_problems(settings: Settings) -> list[Problem]:
    """Return the problem of a store that went back. The embedded store is looked at when it runs, at the start."""
    if settings.redis_url is None:
        return []
    client = connect(settings.redis_url)
    try:
        await StoreMarks(settings.data_dir, partial(RedisMarks, client)).enter()
    except StoreError as error:
        return [Problem("REDIS_URL", str(error))]
    except TransientError:
        return []  # `store_problems` reports it.
    finally:
        await client.aclose()
    return []
