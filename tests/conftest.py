"""What all tests share: a real store, and that unit and property tests never start Ray."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.scripts.store import EmbeddedStore

_WITHOUT_RAY = (Path(__file__).parent / "unit", Path(__file__).parent / "property")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def store_url() -> AsyncIterator[str]:
    """The URL of an embedded store that runs for the whole session."""
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sm-") as data_dir:
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
    monkeypatch.setattr("tests.hosts.PLACEMENT", chosen)
    return chosen


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
