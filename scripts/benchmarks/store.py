"""Store of a server as `scripts/bench` reads it, with copies of the journal of one actor to many."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from redis.asyncio import Redis

from ...actors.adapters.redis.client import connect
from ...actors.adapters.redis.keys import partition_key
from ...actors.domain.credentials import macaroon
from ...actors.partitioning import partition_of
from ...config.root_key import derived_keys, with_root_key
from ...config.settings import Settings
from ...http.request import ids
from ..store.embedded import running_store_url
from .servers import BenchError, Child
from .sessions import Holder

# The copies are made in batches, as the store must answer within seconds, also on a slow disk.
_COPIES_AT_ONCE: Final = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of an actor in the store: its own keys, its share of its partition's due times, and the answers kept."""

    own_bytes: int
    due_bytes: int
    answers_bytes: int
    answers: int


class BenchStore:
    """Store of a server that the benchmark started. Keys are those of `RedisJournal`."""

    def __init__(self, redis: Redis, data_dir: Path) -> None:
        self._redis: Any = redis
        self._data_dir = data_dir

    async def events(self, actor_id: str) -> Sequence[bytes]:
        """Return the events in the journal of an actor."""
        events: Sequence[bytes] = await self._redis.lrange(_key(actor_id, f"j:{actor_id}"), 0, -1)
        return events

    async def footprint(self, actor_id: str) -> Footprint:
        """Return what an actor takes."""
        own = [await self._bytes(_key(actor_id, f"{kind}:{actor_id}")) for kind in "js"]
        answers = [
            await self._bytes(key)
            async for key in self._redis.scan_iter(match=_key(actor_id, f"k:{actor_id}:*"), count=10_000)
        ]
        due = _key(actor_id, "due")
        share = await self._bytes(due) // max(await self._redis.zcard(due), 1)
        return Footprint(sum(own), share, sum(answers), len(answers))

    async def used_bytes(self) -> int:
        """Return what the store itself says it has allocated."""
        used: int = (await self._redis.info("memory"))["used_memory"]
        return used

    async def script_calls(self) -> int:
        """Return how many scripts the store has run; reading an actor into memory is one."""
        calls: int = (await self._redis.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
        return calls

    async def owner(self, actor_id: str) -> str:
        """Return the host that the actor's partition belongs to."""
        owner: bytes = await self._redis.get(_key(actor_id, "owner"))
        return owner.decode()

    def append_only_bytes(self) -> int:
        """Return the length of the append-only file."""
        files = (self._data_dir / "store" / "appendonlydir").glob("*.aof")
        return sum(file.stat().st_size for file in files)

    async def copy_sessions(self, prototype: Holder, count: int) -> list[Holder]:
        """Make this many sessions with the journal of this one, which no host has had in memory yet."""
        macaroon_id, _ = macaroon.read(prototype.macaroon)
        key = derived_keys(with_root_key(Settings(data_dir=self._data_dir))).macaroons
        copies = await self._copy(prototype.session_id, count, ids.new_session_id)
        return [Holder(copy, macaroon.mint(key, replace(macaroon_id, session_id=copy))) for copy in copies]

    async def copy_jobs(self, prototype_id: str, count: int) -> list[str]:
        """Make this many jobs with the journal of this one, which no host has had in memory yet."""
        return await self._copy(prototype_id, count, ids.new_job_id)

    async def _copy(self, actor_id: str, count: int, new_id: Callable[[], str]) -> list[str]:
        journal, due = _key(actor_id, f"j:{actor_id}"), await self._redis.zscore(_key(actor_id, "due"), actor_id)
        if due is None or await self._redis.exists(_key(actor_id, f"s:{actor_id}")):
            raise BenchError(f"{actor_id} can't be copied: it has a snapshot, or nothing that it is due for")
        copies = [new_id() for _ in range(count)]
        for start in range(0, count, _COPIES_AT_ONCE):
            pipe = self._redis.pipeline(transaction=False)
            for copy in copies[start : start + _COPIES_AT_ONCE]:
                pipe.copy(journal, _key(copy, f"j:{copy}"))
                pipe.zadd(_key(copy, "due"), {copy: due})
            await pipe.execute()
        return copies

    async def _bytes(self, key: str | bytes) -> int:
        used: int | None = await self._redis.memory_usage(key, samples=0)
        return used or 0


@asynccontextmanager
async def store_of(child: Child) -> AsyncIterator[BenchStore]:
    """Yield the embedded store of a server that runs. Raises `BenchError` when the store does not run."""
    url = running_store_url(child.directory)
    if url is None:
        raise BenchError("the server's store does not run")
    redis = connect(url)
    try:
        yield BenchStore(redis, child.directory)
    finally:
        await redis.aclose()


def _key(actor_id: str, name: str) -> str:
    return partition_key(partition_of(actor_id), name)
