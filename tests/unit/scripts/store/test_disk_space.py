"""The embedded store on a disk that is full: it waits for room instead of being loaded again and again in vain."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from structlog.testing import capture_logs

from satmeter.scripts.store.disk_space import ROOM_MIN_BYTES, lacks_room, until_room
from satmeter.scripts.store.embedded import EmbeddedStore, StoreError
from satmeter.scripts.store.lock import DataDirLock
from tests.helpers.hosts import until


class Disk:
    """A disk with as much room as a test says."""

    def __init__(self) -> None:
        self.free = ROOM_MIN_BYTES
        self.looks = 0

    def usage(self, _directory: Path) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(free=self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(shutil, "disk_usage", disk.usage)
    return disk


async def holds(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await until(asked)


async def test_a_store_that_ended_on_a_full_disk_is_started_when_there_is_room(tmp_path: Path, disk: Disk) -> None:
    store = EmbeddedStore(tmp_path)
    url = await store.start()
    with capture_logs() as log:
        watcher = asyncio.create_task(store.watch())
        try:
            disk.free, looks, pid = ROOM_MIN_BYTES - 1, disk.looks, store.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await holds(lambda: disk.looks > looks + 2)
            assert store.pid is None
            disk.free = ROOM_MIN_BYTES
            await holds(lambda: store.pid not in (None, pid))
            async with Redis.from_url(url, retry=Retry(ConstantBackoff(0.02), 500)) as client:
                assert await client.ping()
        finally:
            await store.stop()
            await watcher
    said = [str(entry["event"]) for entry in log if "disk" in entry["event"]]
    assert said == ["disk_full", "disk_has_room_again"]


async def test_who_waits_for_room_is_let_go_when_nobody_needs_it_any_more(tmp_path: Path, disk: Disk) -> None:
    disk.free, needless = 0, False
    waiting = asyncio.create_task(until_room(tmp_path, lambda: needless, 0.001))
    await holds(lambda: disk.looks > 3)
    assert not waiting.done()
    needless = True
    await waiting


async def test_a_store_is_not_started_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    disk.free = 0
    with pytest.raises(StoreError, match=r"The disk is full: make room for .*, or move it to another disk\."):
        await EmbeddedStore(tmp_path).start()
    lock = DataDirLock(tmp_path)
    lock.acquire()
    lock.release()


def test_a_disk_that_does_not_tell_how_full_it_is_is_taken_to_have_room(tmp_path: Path) -> None:
    assert not lacks_room(tmp_path / "gone")
