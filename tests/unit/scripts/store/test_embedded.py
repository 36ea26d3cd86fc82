"""The embedded store: it keeps what it acknowledged, comes back by itself, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from satmeter.actors.cancellation import cancel_and_wait
from satmeter.scripts.store.binary import find_binary
from satmeter.scripts.store.embedded import EmbeddedStore, StoreError, running_store_url
from satmeter.scripts.store.lock import DataDirLock, end_orphan, process_mark

_TIMEOUT_S = 20.0


@asynccontextmanager
async def _running(data_dir: Path) -> AsyncIterator[tuple[EmbeddedStore, Redis]]:
    store = EmbeddedStore(data_dir)
    # Patient: a client that waits until the store is (again) there.
    client: Redis = Redis.from_url(
        await store.start(),
        retry=Retry(ConstantBackoff(0.02), 500),
    )
    try:
        yield store, client
    finally:
        await client.aclose()
        await store.stop()


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with _running(tmp_path) as (_, client):
        await client.set("paid", 21)
    async with _running(tmp_path) as (_, client):
        assert await client.get("paid") == b"21"


async def test_every_write_goes_to_disk_and_nothing_is_ever_evicted(tmp_path: Path) -> None:
    async with _running(tmp_path) as (_, client):
        config = await client.config_get("append*", "port", "maxmemory-policy", "save")
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "always"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["port"] == "0"


async def test_a_killed_store_comes_back_at_the_same_url_with_its_data(tmp_path: Path) -> None:
    async with _running(tmp_path) as (store, client):
        watcher = asyncio.create_task(store.watch())
        await client.set("paid", 21)
        first = store.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert await asyncio.wait_for(client.get("paid"), _TIMEOUT_S) == b"21"
        assert store.pid not in (None, first)
        await store.stop()
        await asyncio.wait_for(watcher, _TIMEOUT_S)


async def test_a_half_written_last_entry_is_dropped_and_the_rest_is_kept(tmp_path: Path) -> None:
    async with _running(tmp_path) as (_, client):
        await client.set("paid", 21)
        await client.set("torn", "x" * 100)
    (log,) = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 50)
    async with _running(tmp_path) as (_, client):
        assert await client.get("paid") == b"21"
        assert await client.get("torn") is None


async def test_two_servers_never_share_a_data_directory(tmp_path: Path) -> None:
    async with _running(tmp_path):
        with pytest.raises(StoreError, match=rf"in use by another server \(process id {os.getpid()}\)"):
            await EmbeddedStore(tmp_path).start()
    async with _running(tmp_path) as (_, client):
        assert await client.ping()


async def test_a_server_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lock = DataDirLock(tmp_path / "data")
    lock.acquire()
    store = EmbeddedStore(tmp_path / "data", lock_within_s=30)
    starting = asyncio.ensure_future(store.start())
    try:
        while not (tmp_path / "data" / "store").exists():
            await asyncio.sleep(0)
        lock.release()
        assert (await starting).startswith("unix://")
    finally:
        await store.stop()


async def test_other_programs_find_a_running_store_by_its_data_directory(tmp_path: Path) -> None:
    odd = tmp_path / "a b?c#d%20"
    assert running_store_url(odd) is None
    async with _running(odd) as (_, client):
        await client.set("paid", 21)
        url = running_store_url(odd)
        assert url is not None
        other: Redis = Redis.from_url(url)
        assert await other.get("paid") == b"21"
        await other.aclose()
    assert running_store_url(odd) is None


async def test_a_copy_of_a_directory_is_never_taken_for_its_original(tmp_path: Path) -> None:
    """Its `store.url` is that of the original, whose store runs: an audit of the copy would prove the other one."""
    copy = tmp_path / "copy"
    async with _running(tmp_path / "original") as (_, client):
        await client.set("paid", 21)
        shutil.copytree(tmp_path / "original", copy, ignore=shutil.ignore_patterns("*.sock"))
        assert running_store_url(tmp_path / "original") is not None
        assert running_store_url(copy) is None
        async with _running(copy) as (_, other):
            assert await other.get("paid") == b"21"
            assert running_store_url(copy) not in (None, running_store_url(tmp_path / "original"))


async def test_a_store_that_was_killed_with_its_server_is_not_found(tmp_path: Path) -> None:
    async with _running(tmp_path) as (store, _):
        url_file = tmp_path / "store.url"
        left = url_file.read_text()
    assert store.pid is None
    url_file.write_text(left)
    assert running_store_url(tmp_path) is None


async def test_a_second_server_that_is_refused_leaves_the_first_ones_store_to_be_found(tmp_path: Path) -> None:
    async with _running(tmp_path):
        second = EmbeddedStore(tmp_path)
        with pytest.raises(StoreError):
            await second.start()
        await second.stop()
        assert running_store_url(tmp_path) is not None


async def test_a_data_directory_with_a_long_path_and_odd_characters_works(tmp_path: Path) -> None:
    odd = tmp_path / ("long" * 30) / "50% of a#b?c d"
    async with _running(odd) as (store, client):
        assert await client.ping()
        socket = Path(str((await client.config_get("unixsocket"))["unixsocket"]))
        assert len(os.fsencode(socket)) <= 103
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert store.pid is None
    assert not socket.parent.exists()


async def test_odd_characters_in_a_short_path_work(tmp_path: Path) -> None:
    async with _running(tmp_path / "a b?c#d%20") as (_, client):
        assert await client.ping()


async def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    async with _running(tmp_path) as (store, _):
        pid = store.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await store.stop()


async def test_a_store_that_cannot_read_its_files_says_so_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with _running(tmp_path) as (_, client):
        await client.set("paid", 21)
    (manifest,) = (tmp_path / "store" / "appendonlydir").glob("*.manifest")
    manifest.write_text("rubbish\n")
    with pytest.raises(StoreError, match=r"(?s)ended at once.*AOF manifest"):
        await EmbeddedStore(tmp_path).start()
    # The failed start gave the directory free.
    lock = DataDirLock(tmp_path)
    lock.acquire()
    lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child's life to its parent's")
async def test_the_store_dies_with_a_server_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from satmeter.scripts.store.embedded import EmbeddedStore\n"
        "async def main():\n"
        "    store = EmbeddedStore(Path(sys.argv[1])); await store.start(); print(store.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", code, tmp_path, stdout=subprocess.PIPE)
    assert server.stdout is not None
    pid = int(await asyncio.wait_for(server.stdout.readline(), _TIMEOUT_S))
    pidfd = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pidfd, ended.set)
    try:
        server.kill()
        await server.wait()
        await asyncio.wait_for(ended.wait(), _TIMEOUT_S)
    finally:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)


def _waiting_process(*words: str) -> subprocess.Popen[bytes]:
    code = "import signal; print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_store_left_by_a_killed_server_is_ended(tmp_path: Path) -> None:
    with _waiting_process("satmeter-0123") as orphan:
        (tmp_path / "pid").write_text(f"{orphan.pid}\n")
        end_orphan(tmp_path / "pid", "satmeter-0123")
        assert orphan.wait(_TIMEOUT_S) == -signal.SIGTERM
    assert not (tmp_path / "pid").exists()


async def test_a_running_store_is_known_by_its_pid_file_and_its_mark(tmp_path: Path) -> None:
    async with _running(tmp_path) as (store, client):
        first = store.pid
        watcher = asyncio.create_task(store.watch())
        await asyncio.to_thread(end_orphan, tmp_path / "store" / "valkey.pid", process_mark(tmp_path / "store"))
        assert await asyncio.wait_for(client.ping(), _TIMEOUT_S)
        assert store.pid not in (None, first)
        await cancel_and_wait([watcher])


async def test_a_watch_that_ends_while_the_store_comes_back_leaves_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _running(tmp_path) as (store, _):
        watcher = asyncio.create_task(store.watch())
        disconnect = ConnectionPool.disconnect

        async def cancelled(pool: ConnectionPool, *args: Any) -> None:
            watcher.cancel()
            await disconnect(pool, *args)

        monkeypatch.setattr(ConnectionPool, "disconnect", cancelled)
        assert store.pid is not None
        os.kill(store.pid, signal.SIGKILL)
        await asyncio.wait([watcher], timeout=_TIMEOUT_S)
        monkeypatch.undo()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    assert watcher.cancelled()
    assert not [str(warning.message) for warning in told]


def test_a_stranger_that_got_the_old_process_id_is_left_alone(tmp_path: Path) -> None:
    with _waiting_process("something-else") as stranger:
        (tmp_path / "pid").write_text(f"{stranger.pid}\n")
        end_orphan(tmp_path / "pid", "satmeter-0123")
        assert stranger.poll() is None
        stranger.kill()


def _without_bundled_store(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("satmeter.scripts.store.binary.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(path))


def _program(folder: Path, name: str, output: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    return program


def test_without_any_store_the_error_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_bundled_store(monkeypatch, tmp_path)
    with pytest.raises(StoreError, match=r"install Valkey or Redis .* or set REDIS_URL"):
        find_binary()


def test_a_store_on_the_path_is_the_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_bundled_store(monkeypatch, tmp_path)
    program = _program(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64")
    assert find_binary() == program


def test_a_store_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_bundled_store(monkeypatch, tmp_path)
    _program(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64")
    with pytest.raises(StoreError, match=r"version 6\.0, which is too old"):
        find_binary()
