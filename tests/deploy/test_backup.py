"""deploy/single/backup: a copy of a store that is written to meanwhile is that store, at one moment of the backup."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from satmeter.scripts.store.embedded import EmbeddedStore

BACKUP = Path(__file__).parents[2] / "deploy" / "single" / "backup"
KEY = "satmeter:test"


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sm-") as name:
        yield Path(name)


async def _run(place: Path, **environment: str) -> tuple[int, str, str]:
    settings = place / "settings"
    (settings / "keys").mkdir(parents=True, exist_ok=True)
    (settings / "keys" / "MACAROON_ROOT_KEY").write_text("key\n")
    process = await asyncio.create_subprocess_exec(
        str(BACKUP),
        str(place / "copies"),
        env={
            "PATH": "/usr/bin:/bin",
            "STORE": str(place / "data" / "store" / "appendonlydir"),
            "SETTINGS": str(settings),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode().strip(), err.decode()


async def _written(redis: Redis, done: asyncio.Event) -> None:
    """Appends numbers, and rewrites the file now and then, as the store does by itself."""
    number = await redis.llen(KEY)
    while not done.is_set():
        await redis.rpush(KEY, *range(number, number + 50))
        number += 50
        if number % 2_000 == 0:
            with suppress(ResponseError):  # One is under way.
                await redis.execute_command("BGREWRITEAOF")  # type: ignore[no-untyped-call]


async def test_what_was_confirmed_before_is_in_the_copy_and_nothing_is_torn(place: Path) -> None:
    store = EmbeddedStore(place / "data")
    redis: Redis = Redis.from_url(await store.start())
    done = asyncio.Event()
    # Some length, so that copying it takes a moment.
    await redis.set("satmeter:long", b"x" * 20_000_000)
    writing = asyncio.create_task(_written(redis, done))
    copies: list[tuple[int, Path]] = []
    for _ in range(3):
        before = await redis.llen(KEY)
        status, name, err = await _run(place)
        assert status == 0, err
        copies.append((before, Path(shutil.move(name, place / f"copy-{len(copies)}"))))
    done.set()
    await writing
    await redis.aclose()
    await store.stop()
    for before, copy in copies:
        restored = place / f"{copy.name}.d"
        with tarfile.open(copy) as files:
            assert {member.mode & 0o077 for member in files.getmembers() if member.isfile()} == {0}
            files.extractall(restored, filter="data")
        assert (restored / "etc" / "keys" / "MACAROON_ROOT_KEY").read_text() == "key\n"
        (restored / "data" / "store").mkdir(parents=True)
        shutil.move(restored / "appendonlydir", restored / "data" / "store")
        again = EmbeddedStore(restored / "data")
        redis = Redis.from_url(await again.start())
        numbers = [int(number) for number in await redis.lrange(KEY, 0, -1)]
        assert numbers == list(range(len(numbers))) and len(numbers) >= before
        assert await redis.strlen("satmeter:long") == 20_000_000
        await redis.aclose()
        await again.stop()


async def test_the_newest_are_kept_and_a_failure_leaves_them_alone(place: Path) -> None:
    store = EmbeddedStore(place / "data")
    await store.start()
    copies = place / "copies"
    copies.mkdir()
    for day in range(1, 6):
        (copies / f"satmeter-2026010{day}T032000Z.tar.gz").touch()
    (copies / "mine.txt").touch()
    status, name, err = await _run(place, KEEP="3")
    await store.stop()
    assert status == 0, err
    kept = {"satmeter-20260104T032000Z.tar.gz", "satmeter-20260105T032000Z.tar.gz", Path(name).name, "mine.txt"}
    assert {path.name for path in copies.iterdir()} == kept
    # A store that is not there, or that can't be read.
    status, _, err = await _run(place, STORE=str(place / "nowhere"), TRIES="1")
    assert status == 1 and "can't be read" in err
    assert {path.name for path in copies.iterdir()} == kept
