"""Size of a request and of a session in the store (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from . import servers
from .grid import Column, Grid
from .measuring import connect
from .options import BenchOptions
from .servers import Child
from .sessions import REQUEST, Holder, ask, open_session, open_sessions, until_active
from .store import BenchStore, store_of

_REQUESTS: Final = 10
_DEPOSIT_SATS: Final = 10_000
_GROWN_BY: Final = 2_000
_GROWN_BY_SESSIONS: Final = 200
_AT_ONCE: Final = 16
_COLUMNS: Final = (Column("what", "what"), Column("bytes", "bytes"), Column("count", "of so many"))


async def measure_journal(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure the bytes of a request and of a session. Raises `BenchError`."""
    async with servers.served(directory / "journal") as child, store_of(child) as store:
        return [await _request(store, child), await _growth(store, child, options)]


async def _request(store: BenchStore, child: Child) -> Grid:
    """Measure a session that asks ten times in a row, as clients without an Idempotency-Key do."""
    connection = connect(child.port)
    holder = await open_session(connection, _DEPOSIT_SATS)
    await until_active(connection, holder)
    before = await store.events(holder.session_id)
    for _ in range(_REQUESTS):
        await ask(connection, holder, REQUEST)
    connection.close()
    events = (await store.events(holder.session_id))[len(before) :]
    grid = Grid(
        title=f"A session with {_REQUESTS} requests in the store",
        columns=_COLUMNS,
        note="The request's text is in no event. Kept answers expire after ten minutes, with an Idempotency-Key after "
        "25 hours. Sizes in memory are those of MEMORY USAGE.",
    )
    for kind, sizes in by_kind(events).items():
        grid.add(f"event of a request: {kind}", sum(sizes) / len(sizes), len(sizes))
    grid.add("journal for each request", sum(map(len, events)) / _REQUESTS, _REQUESTS)
    footprint = await store.footprint(holder.session_id)
    grid.add("session in memory of the store: journal and snapshot", footprint.own_bytes, 1)
    grid.add("its share of the due times", footprint.due_bytes, 1)
    each = footprint.answers_bytes / footprint.answers if footprint.answers else None
    grid.add("a kept answer, which expires", each, footprint.answers)
    return grid


async def _growth(store: BenchStore, child: Child, options: BenchOptions) -> Grid:
    """Measure the append-only file's growth, less that of an idle server in the same time."""
    holders = await open_sessions(child.port, _GROWN_BY_SESSIONS, _DEPOSIT_SATS)
    before = store.append_only_bytes()
    await asyncio.sleep(options.duration_s)
    idle_per_s = (store.append_only_bytes() - before) / options.duration_s
    begun_s, before = time.perf_counter(), store.append_only_bytes()
    await ask_all(child.port, holders, _GROWN_BY)
    elapsed_s = time.perf_counter() - begun_s
    grown = store.append_only_bytes() - before
    grid = Grid(title="Growth of the append-only file", columns=_COLUMNS)
    grid.add("for each request", (grown - idle_per_s * elapsed_s) / _GROWN_BY, _GROWN_BY)
    grid.add("for each second without any", idle_per_s, None)
    return grid


async def ask_all(port: int, holders: Sequence[Holder], count: int) -> None:
    """Make this many requests by these sessions in turn."""
    turns, numbers = itertools.cycle(holders), iter(range(count))

    async def worker() -> None:
        connection = connect(port)
        for _ in numbers:
            await ask(connection, next(turns), REQUEST)
        connection.close()

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


def by_kind(events: Sequence[bytes]) -> dict[str, list[int]]:
    """Return the lengths of events by their kind, which their tag says."""
    found: dict[str, list[int]] = {}
    for event in events:
        found.setdefault(str(msgspec.json.decode(event).get("type", "?")), []).append(len(event))
    return found
