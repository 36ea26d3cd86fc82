"""Fixtures of all tests: a real store, and a guard that unit and property tests never start Ray."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.scripts.store.embedded import EmbeddedStore
from tests.helpers.custody import pytest_cmdline_main
from tests.helpers.ordering import (
    pytest_collection_modifyitems,
    pytest_runtest_teardown,
    pytest_xdist_make_scheduler,
)
from tests.helpers.quick_disk import quick_disk
from tests.helpers.stores import cluster, nodes_of, watched
from tests.lightning.stand_ins.nwc.fixtures import nostr_relay
from tests.llamacpp.fixtures import llama
from tests.lnbits.fixtures import lnbits

# How long an example takes says how busy the machine is, and nothing of the code. The examples are the same each time,
# so that a change fails by what it changed; `scripts/fuzz` draws others.
settings.register_profile(
    "satmeter", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("satmeter")

__all__ = [
    "llama",
    "lnbits",
    "nostr_relay",
    "pytest_cmdline_main",
    "pytest_collection_modifyitems",
    "pytest_runtest_teardown",
    "pytest_xdist_make_scheduler",
]

_WITHOUT_RAY = (Path(__file__).parent / "unit", Path(__file__).parent / "property")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store_url() -> AsyncIterator[str]:
    """The URL of an embedded store that runs for the whole session."""
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as data_dir:
        store = EmbeddedStore(Path(data_dir))
        yield await store.start()
        await store.stop()


@pytest_asyncio.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    """A client of the session's store, which is empty at the start of each test."""
    client: Redis = Redis.from_url(store_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(params=["shared", "dedicated"])
def placement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs twice: with all actors in one host, and with each in one of its own."""
    chosen: str = request.param
    monkeypatch.setattr("tests.helpers.hosts.PLACEMENT", chosen)
    return chosen


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster_url() -> AsyncIterator[str]:
    """The URL of a cluster that runs for the rest of the session."""
    async with cluster() as store:
        yield store.url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sentinel_url() -> AsyncIterator[str]:
    """The URL of a primary behind a sentinel, with a replica, that run for the rest of the session."""
    async with watched() as store:
        yield store.url


@pytest.fixture(params=["store_url", "sentinel_url", "cluster_url"])
def any_store_url(request: pytest.FixtureRequest) -> str:
    """One kind of store after the other."""
    return str(request.getfixturevalue(request.param))


@pytest_asyncio.fixture
async def any_redis(any_store_url: str) -> AsyncIterator[Redis]:
    """The server's own client of each kind of store, which is empty at the start of each test."""
    client = connect(any_store_url)
    for node in await nodes_of(client):
        await node.flushall()
    yield client
    await client.aclose()


@pytest_asyncio.fixture
async def clustered(cluster_url: str) -> AsyncIterator[ClusterRedis]:
    """The server's own client of a cluster, which is empty at the start of each test."""
    client = connect(cluster_url)
    assert isinstance(client, ClusterRedis)
    for node in await nodes_of(client):
        await node.flushall()
    yield client
    await client.aclose()


@pytest.fixture(autouse=True)
def _no_ray_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(request.path.is_relative_to(folder) for folder in _WITHOUT_RAY):
        return
    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", _refuse_ray)
    else:
        monkeypatch.setitem(sys.modules, "ray", None)  # makes `import ray` raise


def _refuse_ray(*_args: Any, **_kwargs: Any) -> None:
    raise AssertionError("a unit test must not start Ray: test the plain class, or move the test to tests/cluster")
