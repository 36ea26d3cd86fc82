"""Memory that sessions and jobs take in a host, live and passivated (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from ..http_client import Connection
from . import servers
from .grid import Column, Grid
from .measuring import connect
from .openings import new_job
from .options import BenchOptions
from .servers import BenchError, Child
from .sessions import REQUEST, Holder, ask, open_session, show, until_active
from .store import BenchStore, store_of

_REQUESTS: Final = 10
_DEPOSIT_SATS: Final = 10_000
_AT_ONCE: Final = 64
# A sweep every 5 s passivates actors that have been idle for long enough.
_SWEEP_S: Final = 5.0
# Any machine activates more in a second than this: all must be live when the memory is read.
_ACTIVATED_PER_S_MIN: Final = 800
_PATIENCE_MIN_S: Final = 30.0
# Jobs take less memory, and fewer of them are measured.
_SESSIONS_FOR_A_JOB: Final = 5
_SETTLE_S: Final = 1.0
_COLUMNS: Final = (
    Column("what", "what"),
    Column("host_mb", "host MB", 1),
    Column("each_bytes", "bytes each, over the start"),
)

T = TypeVar("T")


async def measure_memory(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure a host's memory before, with and after this many sessions and jobs. Raises `BenchError`."""
    grids = []
    for what, measure, count in (
        ("sessions", _sessions, options.passivated),
        ("jobs", _jobs, options.passivated // _SESSIONS_FOR_A_JOB),
    ):
        patience_s = max(_PATIENCE_MIN_S, math.ceil(count / _ACTIVATED_PER_S_MIN))
        settings = {"SATMETER_HOSTS": 1, "SATMETER_PASSIVATE_AFTER_S": patience_s}
        # Each has a server of its own: memory that the allocator keeps of the ones would look free for the others.
        async with servers.served(directory / what, **settings) as child, store_of(child) as store:
            grids.append(await measure(store, child, count, patience_s))
    return grids


async def _sessions(store: BenchStore, child: Child, count: int, patience_s: float) -> Grid:
    connection = connect(child.port)
    prototype = await open_session(connection, _DEPOSIT_SATS)
    await until_active(connection, prototype)
    for _ in range(_REQUESTS):
        await ask(connection, prototype, REQUEST)
    connection.close()
    events = len(await store.events(prototype.session_id))
    what = f"{count:,} sessions, each with {events} events in its journal"

    async def look(connection: Connection, holder: Holder) -> None:
        await show(connection, holder)

    return await _lives(store, child, what, patience_s, lambda: store.copy_sessions(prototype, count), look)


async def _jobs(store: BenchStore, child: Child, count: int, patience_s: float) -> Grid:
    connection = connect(child.port)
    prototype_id = await new_job(connection)
    connection.close()

    async def look(connection: Connection, job_id: str) -> None:
        status, _, body = await connection.request("GET", f"/jobs/{job_id}")
        if status != 200:
            raise BenchError(f"a job can't be read: {body.decode(errors='replace')}")

    what = f"{count:,} jobs that await their first payment"
    return await _lives(store, child, what, patience_s, lambda: store.copy_jobs(prototype_id, count), look)


async def _lives(
    store: BenchStore,
    child: Child,
    what: str,
    patience_s: float,
    copy: Callable[[], Awaitable[Sequence[T]]],
    look: Callable[[Connection, T], Awaitable[None]],
) -> Grid:
    await asyncio.sleep(_SETTLE_S)
    grid = Grid(title=f"Memory of a host with {what}", columns=_COLUMNS)
    front_mb = child.resident_kb("server.front") / 1_024
    start_kb, store_bytes = child.resident_kb("HostActor"), await store.used_bytes()
    grid.add("at the start", start_kb / 1_024, None)
    actors = await copy()
    store_bytes = await store.used_bytes() - store_bytes

    def add(moment: str) -> None:
        now_kb = child.resident_kb("HostActor")
        grid.add(moment, now_kb / 1_024, (now_kb - start_kb) * 1_024 / len(actors))

    await asyncio.sleep(_SETTLE_S)
    add("all in the store, none activated yet")
    await _activate(store, child.port, actors, look, patience_s)
    add("all live")
    await asyncio.sleep(patience_s + 2 * _SWEEP_S)
    add("all passivated")
    await _activate(store, child.port, actors, look, patience_s)
    add("all live again")
    grid.note = (
        "Passivated ones hold nothing: what stays is free within the process, and is used again. The store "
        f"takes {store_bytes / len(actors):,.0f} bytes for each; the front has {front_mb:.0f} MB."
    )
    return grid


async def _activate(
    store: BenchStore,
    port: int,
    actors: Sequence[T],
    look: Callable[[Connection, T], Awaitable[None]],
    patience_s: float,
) -> None:
    """Look at all actors.

    Raises `BenchError` when some were live before, or the first are passivated meanwhile.
    """
    waiting, begun_s, calls = iter(actors), time.perf_counter(), await store.script_calls()

    async def worker() -> None:
        connection = connect(port)
        for actor in waiting:
            await look(connection, actor)
        connection.close()

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    if time.perf_counter() - begun_s > patience_s:
        raise BenchError(
            f"{len(actors):,} can't be activated within {patience_s:g} s: this machine is too slow, or has other work"
        )
    if await store.script_calls() - calls < len(actors):
        raise BenchError("some were still in memory when all were to be passivated")
