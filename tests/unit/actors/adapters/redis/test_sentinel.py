"""A store behind Sentinel: the same client finds each new primary, and a former one is not written to or read from."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.ports import Append, TransientError
from tests.helpers.hosts import until
from tests.helpers.stores import Store, tell, watched


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    """One that a test may break."""
    async with watched() as running:
        yield running


async def goes_on(journal: RedisJournal) -> None:
    """Waits until partition 17's `job_a` has a second event, and sees that it has the first, and each once."""

    async def written() -> bool:
        try:
            if len((await journal.load(17, "job_a")).events) < 2:
                await journal.append(Append(17, 1, "job_a", 1, [b"two"]))
        except TransientError:
            return False
        return True

    await until(written)
    assert (await journal.load(17, "job_a")).events == [b"one", b"two"]


async def begun(redis: Redis) -> RedisJournal:
    journal = RedisJournal(redis)
    await journal.claim([17], "host-0")
    await journal.append(Append(17, 1, "job_a", 0, [b"one"]))
    assert await redis.wait(1, 5_000) == 1
    return journal


async def test_after_a_failover_the_same_journal_goes_on_with_what_was_acknowledged(store: Store) -> None:
    journal = await begun(connect(store.url))
    store.servers[0].signal(signal.SIGKILL)
    await goes_on(journal)
    await journal.close()


async def test_a_primary_that_was_demoted_takes_no_write_and_its_successor_is_found(store: Store) -> None:
    redis = connect(store.url)
    journal = await begun(redis)
    former, successor = store.servers
    assert store.sentinel is not None
    async with former.client() as old, successor.client() as new, store.sentinel.client() as sentinel:
        # By hand, without the sentinel, which would end the client's connections as it demotes.
        await tell(new, "REPLICAOF", "NO", "ONE")
        await tell(old, "REPLICAOF", "127.0.0.1", successor.port)
        with pytest.raises(TransientError):
            await journal.append(Append(17, 1, "job_a", 1, [b"two"]))
        # No read either, while the sentinel still names the former one.
        with pytest.raises(TransientError):
            await journal.load(17, "job_a")
        await tell(sentinel, "SENTINEL REMOVE", "mymaster")
        await tell(sentinel, "SENTINEL MONITOR", "mymaster", "127.0.0.1", successor.port, 1)
        await goes_on(journal)
        assert await new.llen("satmeter:{p0017}:j:job_a") == 2
    await journal.close()


async def test_a_primary_that_is_cut_off_confirms_nothing_and_its_successor_is_found(store: Store) -> None:
    journal = await begun(connect(store.url))
    former, successor = store.servers
    assert store.sentinel is not None
    async with former.client() as old, successor.client() as new, store.sentinel.client() as sentinel:
        await old.config_set("min-replicas-to-write", 1)
        await tell(new, "REPLICAOF", "NO", "ONE")
        await until(lambda: _alone(old))
        with pytest.raises(TransientError, match="NOREPLICAS"):
            await journal.append(Append(17, 1, "job_a", 1, [b"two"]))
        await tell(sentinel, "SENTINEL REMOVE", "mymaster")
        await tell(sentinel, "SENTINEL MONITOR", "mymaster", "127.0.0.1", successor.port, 1)
        await goes_on(journal)
        assert await old.llen("satmeter:{p0017}:j:job_a") == 1
    await journal.close()


async def _alone(primary: Redis) -> bool:
    return bool((await primary.info("replication"))["connected_slaves"] == 0)


async def test_a_burst_waits_for_free_connections_instead_of_failing(sentinel_url: str) -> None:
    redis = connect(sentinel_url)
    assert await asyncio.gather(*(redis.set("burst", n) for n in range(300))) == [True] * 300
    await redis.aclose()
