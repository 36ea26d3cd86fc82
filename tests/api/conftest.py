"""The front's fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.fronts import Api, api_over


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    """A front with default settings."""
    async with api_over(redis) as front:
        yield front
