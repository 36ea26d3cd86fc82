"""Table of a metered request by every way to the actors, beside an empty endpoint, all in turn (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from ..http_client import Connection
from . import servers
from .grid import Column, Grid, medians, ratio
from .measuring import Work, measure
from .options import BenchOptions
from .servers import Child
from .sessions import REQUEST, asking, open_sessions

_CONNECTIONS: Final = (1, 64, 256)
_SESSIONS: Final = 500
# A session can spend this in a whole run.
_DEPOSIT_SATS: Final = 100_000
# No session leaves memory while the other ways have their turn.
_SETTINGS: Final = {"SATMETER_PASSIVATE_AFTER_S": 3_600}

EMPTY: Final = "(a) empty Starlette endpoint"
LOCAL: Final = "(b) metered request, host in the front's process"
COALESCED: Final = "(c) metered request, hosts on Ray, coalesced"
_COLUMNS: Final = (
    Column("what", "what"),
    Column("connections", "connections"),
    Column("per_s", "per s"),
    Column("of_empty", "of (a)", 2),
    Column("of_local", "of (b)", 2),
    Column("p50_ms", "p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
)

Figures = Mapping[str, Mapping[str, float]]
"""Figures of each way: `per_s`, `p50_ms`, `p99_ms`."""


async def measure_table(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure the table, and how long a server takes to start. Raises `BenchError`."""
    async with AsyncExitStack() as stack:
        started_s = time.perf_counter()
        ray = await stack.enter_async_context(servers.served(directory / "ray", **_SETTINGS))
        start = Grid(title="Start of a server", columns=(Column("ready_s", "s to the first 200 of /readyz", 1),))
        start.add(time.perf_counter() - started_s)
        ways = {
            EMPTY: await stack.enter_async_context(servers.empty(directory / "empty")),
            LOCAL: await stack.enter_async_context(servers.in_one_process(directory / "local", **_SETTINGS)),
            COALESCED: ray,
        }
        works = {name: await _work(name, child) for name, child in ways.items()}
        grid = new_grid(options)
        for connections in _CONNECTIONS:
            add_rows(grid, connections, await _rounds(options, ways, works, connections))
    return [start, grid]


def new_grid(options: BenchOptions) -> Grid:
    """Return the table, still empty."""
    return Grid(
        title="A metered request: over HTTP, two journal writes, each on disk before it counts",
        columns=_COLUMNS,
        note=f"Medians of {options.rounds} rounds of {options.duration_s:g} s each, all ways in turn.",
    )


async def _work(name: str, child: Child) -> Work:
    if name == EMPTY:
        return _get_root
    return asking(await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS), REQUEST)


async def _get_root(connection: Connection) -> None:
    await connection.request("GET", "/")


async def _rounds(
    options: BenchOptions, ways: Mapping[str, Child], works: Mapping[str, Work], connections: int
) -> Figures:
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, child in ways.items():
            measured = await measure(child.port, connections, options.duration_s, works[name])
            rounds[name].append(measured.figures)
            # Work that the last way left to do must not count for the next.
            await asyncio.sleep(options.pause_s)
    return {name: medians(figures) for name, figures in rounds.items()}


def add_rows(grid: Grid, connections: int, figures: Figures) -> None:
    """Add a row for each way, with its ratios to the others."""
    per_s = {name: of["per_s"] for name, of in figures.items()}
    for name, of in figures.items():
        grid.add(
            name,
            connections,
            of["per_s"],
            ratio(per_s[name], per_s[EMPTY]),
            ratio(per_s[name], per_s[LOCAL]) if name == COALESCED else None,
            of["p50_ms"],
            of["p99_ms"],
        )
