"""Cost of the first look at a passivated session, beside a look at a live one (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..http_client import Connection
from . import servers
from .grid import Column, Grid, percentile
from .measuring import connect
from .options import BenchOptions
from .sessions import REQUEST, Holder, ask, open_session, show, until_active
from .store import store_of

_REQUESTS: Final = 10
_DEPOSIT_SATS: Final = 10_000
# The time is long enough that a second look finds a session live, and short enough to wait for.
_PASSIVATE_AFTER_S: Final = 3.0
_SWEEP_S: Final = 5.0
_BATCH: Final = 100
_COLUMNS: Final = (
    Column("what", "GET /sessions/{id}, one at a time"),
    Column("count", "looks"),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
)


async def measure_cold(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure latencies of cold and of warm sessions. Raises `BenchError`."""
    settings = {"SATMETER_PASSIVATE_AFTER_S": _PASSIVATE_AFTER_S}
    async with servers.served(directory / "cold", **settings) as child, store_of(child) as store:
        connection = connect(child.port)
        prototype = await open_session(connection, _DEPOSIT_SATS)
        await until_active(connection, prototype)
        for _ in range(_REQUESTS):
            await ask(connection, prototype, REQUEST)
        events = len(await store.events(prototype.session_id))
        holders = await store.copy_sessions(prototype, options.cold)
        grid = Grid(title=f"Activation of sessions with {events} events in their journals", columns=_COLUMNS)
        looks: dict[str, list[float]] = {"cold, never in memory": [], "warm, right after it": []}
        for start in range(0, len(holders), _BATCH):
            # Cold and warm looks take turns, so that both have the same moments.
            for found in looks.values():
                found.extend(await _looks(connection, holders[start : start + _BATCH]))
        await asyncio.sleep(_PASSIVATE_AFTER_S + _SWEEP_S)
        looks["cold, passivated"] = await _looks(connection, holders)
        for what, latencies_s in looks.items():
            p50_s, p99_s = percentile(latencies_s, 50), percentile(latencies_s, 99)
            assert p50_s is not None and p99_s is not None
            grid.add(what, len(latencies_s), p50_s * 1_000, p99_s * 1_000)
        connection.close()
    return [grid]


async def _looks(connection: Connection, holders: Sequence[Holder]) -> list[float]:
    latencies_s = []
    for holder in holders:
        begun_s = time.perf_counter()
        await show(connection, holder)
        latencies_s.append(time.perf_counter() - begun_s)
    return latencies_s
