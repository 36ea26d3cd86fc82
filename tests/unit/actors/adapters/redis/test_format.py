"""A store that a newer version wrote is refused, and left as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.format import FORMAT, NewerStoreError, check_format, enter_format
from satmeter.actors.ports import TransientError
from satmeter.config.settings import Settings
from satmeter.scripts.preflight.store_checks import store_problems


@pytest.mark.parametrize("look", [check_format, enter_format])
async def test_a_newer_store_is_refused_and_nothing_is_changed(
    redis: Redis, look: Callable[[Redis], Awaitable[None]]
) -> None:
    await redis.set("satmeter:format", FORMAT + 1)
    with pytest.raises(
        NewerStoreError, match=rf"format {FORMAT + 1}, this one reads up to {FORMAT}.*Nothing was changed"
    ):
        await look(redis)
    assert await redis.get("satmeter:format") == str(FORMAT + 1).encode()
    assert await redis.keys() == [b"satmeter:format"]


async def test_a_new_store_and_an_older_one_are_entered(redis: Redis) -> None:
    for older in (None, FORMAT - 1, FORMAT):
        if older is not None:
            await redis.set("satmeter:format", older)
        await check_format(redis)
        await enter_format(redis)
        assert await redis.get("satmeter:format") == str(FORMAT).encode()


async def test_looking_alone_writes_nothing(redis: Redis) -> None:
    await check_format(redis)
    assert await redis.keys() == []


@pytest.mark.parametrize("look", [check_format, enter_format])
async def test_a_store_that_does_not_answer_is_not_taken_for_an_old_one(
    look: Callable[[Redis], Awaitable[None]],
) -> None:
    nobody: Redis = Redis(port=9, socket_connect_timeout=0.5)
    with pytest.raises(TransientError):
        await look(nobody)
    await nobody.aclose()


@pytest.mark.parametrize("found", [str(FORMAT + 1), "x"])
async def test_the_check_of_a_store_tells_of_a_newer_one(redis: Redis, store_url: str, found: str) -> None:
    await redis.set("satmeter:format", found)
    (problem,) = await store_problems(Settings(redis_url=store_url))
    assert problem.message.startswith(f"The store was written by a newer version of Satmeter (format {found},")
    with pytest.raises(NewerStoreError):
        await enter_format(redis)
    assert await redis.get("satmeter:format") == found.encode()
