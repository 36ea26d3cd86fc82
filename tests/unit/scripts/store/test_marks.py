"""Marks outside the store: a store that comes back empty, other or older is refused until the operator decides."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.actors.adapters.redis.format import enter_format
from satmeter.actors.adapters.redis.marks import RedisMarks
from satmeter.actors.ports import TransientError
from satmeter.scripts.store.binary import StoreError
from satmeter.scripts.store.marks import StoreMarks
from tests.helpers.stores import nodes_of

AT_MS = 1_800_000_000_000
Server = Callable[[], StoreMarks]


def server_of(redis: Redis, data_dir: Path) -> StoreMarks:
    return StoreMarks(data_dir, partial(RedisMarks, redis), now_ms=lambda: AT_MS)


async def served(redis: Redis, data_dir: Path, marks: int = 3, *, accept_loss: bool = False) -> str | None:
    """Has a server start over the store, make marks, and end; returns the loss that it accepted."""
    server = server_of(redis, data_dir)
    lost = await server.enter(accept_loss=accept_loss)
    await enter_format(redis)
    await server.begin()
    for _ in range(marks):
        await server.mark()
    return lost


async def copied(redis: Redis) -> dict[Any, Any]:
    return {key: await redis.dump(key) for node in await nodes_of(redis) for key in await node.keys()}


async def restored(redis: Redis, copy: dict[Any, Any]) -> None:
    for node in await nodes_of(redis):
        await node.flushall()
    for key, value in copy.items():
        await redis.restore(key, 0, value)


async def test_a_first_start_knows_nothing_and_the_next_is_held_to_it(any_redis: Redis, tmp_path: Path) -> None:
    await served(any_redis, tmp_path)
    await served(any_redis, tmp_path)
    file = json.loads((tmp_path / "store_marks.json").read_text())
    assert file["at"] == "2027-01-15T08:00:00.000Z"
    primaries = 3 if isinstance(any_redis, ClusterRedis) else 1
    assert list(file["marks"].values()) == [8] * primaries
    assert (tmp_path / "store_marks.json").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["store_marks.json"]  # noqa: PTH208


async def test_an_empty_store_is_refused_until_the_operator_decides(any_redis: Redis, tmp_path: Path) -> None:
    await served(any_redis, tmp_path)
    await restored(any_redis, {})
    with pytest.raises(StoreError, match=r"^The store is empty, and was not: .* 2027-01-15.*--accept-loss"):
        await server_of(any_redis, tmp_path).enter()
    assert await copied(any_redis) == {}
    assert "is empty" in str(await served(any_redis, tmp_path, accept_loss=True))
    # Once decided, it is held to what it confirms from then on.
    await served(any_redis, tmp_path)
    await restored(any_redis, {})
    with pytest.raises(StoreError):
        await server_of(any_redis, tmp_path).enter()


async def test_an_older_copy_is_refused_and_told_how_much_older(any_redis: Redis, tmp_path: Path) -> None:
    await served(any_redis, tmp_path)
    backup = await copied(any_redis)
    await served(any_redis, tmp_path, marks=29)
    await restored(any_redis, backup)
    with pytest.raises(StoreError, match=r"^The store is older than what it confirmed: .* lacks about 60 s"):
        await server_of(any_redis, tmp_path).enter()
    assert await copied(any_redis) == backup
    assert await served(any_redis, tmp_path, accept_loss=True) is not None
    await served(any_redis, tmp_path)


async def test_one_primary_of_a_cluster_that_went_back_is_enough(clustered: ClusterRedis, tmp_path: Path) -> None:
    await served(clustered, tmp_path)
    await (await nodes_of(clustered))[2].flushall()
    with pytest.raises(StoreError, match="older"):
        await server_of(clustered, tmp_path).enter()


async def test_another_store_is_told(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path)
    await redis.flushall()
    await served(redis, tmp_path / "other")
    with pytest.raises(StoreError, match=r"^This is another store, or an older one"):
        await server_of(redis, tmp_path).enter()


async def test_each_server_is_held_to_its_own_marks_whatever_others_write(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path / "one")
    await served(redis, tmp_path / "two")
    backup = await copied(redis)
    await served(redis, tmp_path / "one")
    await restored(redis, backup)
    # The other one lost nothing that it knows of, and writes for long over the older store.
    await served(redis, tmp_path / "two", marks=50)
    with pytest.raises(StoreError, match="older"):
        await server_of(redis, tmp_path / "one").enter()


async def test_a_loss_younger_than_the_last_mark_is_not_found(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path)
    backup = await copied(redis)
    await redis.rpush("satmeter:{p0000}:j:ses_x", "an event")
    await restored(redis, backup)
    await served(redis, tmp_path)


async def test_accepting_where_nothing_was_lost_changes_nothing(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path)
    assert await server_of(redis, tmp_path).enter(accept_loss=True) is None


async def test_a_copy_of_the_data_directory_shares_its_count(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "store_marks.json").write_bytes((tmp_path / "one" / "store_marks.json").read_bytes())
    one, two = server_of(redis, tmp_path / "one"), server_of(redis, tmp_path / "two")
    with capture_logs() as logs:
        await one.enter()
        await two.enter()
        for _ in range(3):
            await one.mark()
            await two.mark()
    assert logs == []
    await served(redis, tmp_path / "one")


async def test_a_store_that_goes_back_while_it_is_served_is_an_error_in_the_log(redis: Redis, tmp_path: Path) -> None:
    server = server_of(redis, tmp_path)
    await server.enter()
    await server.begin()
    await redis.flushall()
    with capture_logs() as logs:
        await server.mark()
        await server.mark()
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("store_went_back", "error")
    assert "satmeter audit" in entry["hint"]


async def test_a_damaged_file_is_told_and_made_again_when_that_is_accepted(redis: Redis, tmp_path: Path) -> None:
    (tmp_path / "store_marks.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        await server_of(redis, tmp_path).enter()
    assert await served(redis, tmp_path, accept_loss=True) is not None
    await served(redis, tmp_path)


async def test_a_store_that_does_not_answer_is_not_taken_for_an_older_one(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path)
    before = (tmp_path / "store_marks.json").read_bytes()
    nobody: Redis = Redis(port=9, socket_connect_timeout=0.5)
    server = server_of(nobody, tmp_path)
    with pytest.raises(TransientError):
        await server.enter(accept_loss=True)
    with capture_logs() as logs:
        await server.mark()
        await server.mark()
    assert [entry["event"] for entry in logs] == ["store_mark_not_made"]
    assert (tmp_path / "store_marks.json").read_bytes() == before
    await nobody.aclose()


async def test_a_mark_outlives_a_clock_that_began_at_1970_and_is_set_right(redis: Redis, tmp_path: Path) -> None:
    await served(redis, tmp_path)
    (key,) = [key async for key in redis.scan_iter("*mark:*")]
    assert await redis.pttl(key) > AT_MS
