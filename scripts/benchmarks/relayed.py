"""Relayed calls, with the upstream as a process of its own over HTTP (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from ..http_client import Connection
from . import upstreams
from .cpu import cpu_ms, cpu_s
from .grid import Cell, Column, Grid, medians, ratio
from .measuring import Work, measure
from .options import BenchOptions
from .servers import Child
from .sessions import Holder, open_sessions, post

_CONNECTIONS: Final = (1, 64)
_SESSIONS: Final = 200
_DEPOSIT_SATS: Final = 100_000
_EMPTY: Final = "(a) /healthz of this server"
_UPSTREAM: Final = "(b) the upstream alone"
_THIS: Final = "(c) relayed"
_BESIDE: Final = "(d) relayed by the other version"
_LITELLM: Final = "(e) LiteLLM's proxy"
_COLUMNS: Final = (
    Column("what", "what"),
    Column("connections", "connections"),
    Column("per_s", "per s"),
    Column("of_empty", "of (a)", 2),
    Column("of_beside", "of (d)", 2),
    Column("p50_ms", "p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("front_ms", "CPU ms a call: front", 2),
    Column("hosts_ms", "hosts", 2),
    Column("store_ms", "store", 2),
    Column("all_ms", "all", 2),
)


class Way:
    """One way to the upstream: its server, and the work that is done there."""

    def __init__(self, child: Child, work: Work) -> None:
        self._child = child
        self._work = work

    async def measure(self, connections: int, duration_s: float) -> dict[str, float]:
        """Return rate, latencies, and CPU for each call by process."""
        before = cpu_s(self._child.pid)
        measured = await measure(self._child.port, connections, duration_s, self._work)
        return {**measured.figures, **cpu_ms(before, cpu_s(self._child.pid), measured.count)}


async def measure_relayed_whole(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure whole calls, each way in turn. Raises `BenchError`."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstreams.nginx(directory / "nginx"))
        this = await stack.enter_async_context(upstreams.relaying(directory / "this", upstream))
        ways = {
            _EMPTY: Way(this, _healthz),
            _UPSTREAM: Way(upstream, calling([None])),
            _THIS: Way(this, await _paid(this)),
        }
        if options.beside is not None:
            beside = await stack.enter_async_context(upstreams.relaying(directory / "beside", upstream, options.beside))
            ways[_BESIDE] = Way(beside, await _paid(beside))
        if options.litellm is not None:
            key = f"sk-{secrets.token_hex(32)}"
            litellm = await stack.enter_async_context(
                upstreams.litellm(directory / "litellm", upstream, options.litellm, key)
            )
            ways[_LITELLM] = Way(litellm, calling([Holder("", key)]))
        grid = new_grid(options)
        for connections in _CONNECTIONS:
            add_rows(grid, connections, await _rounds(options, ways, connections))
        return [grid]


def new_grid(options: BenchOptions) -> Grid:
    """Return the table of whole calls, still empty."""
    return Grid(
        title="A relayed call of the Messages API, whole",
        columns=_COLUMNS,
        note=f"Medians of {options.rounds} rounds of {options.duration_s:g} s each, all ways in turn. The upstream is "
        "nginx, which answers at once.",
    )


async def _rounds(options: BenchOptions, ways: Mapping[str, Way], connections: int) -> dict[str, dict[str, float]]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            rounds[name].append(await way.measure(connections, options.duration_s))
            # Work that the last way left to do must not count for the next.
            await asyncio.sleep(options.pause_s)
    return {name: medians(figures) for name, figures in rounds.items()}


def add_rows(grid: Grid, connections: int, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Add a row for each way, with its ratios to the others."""
    per_s = {name: of["per_s"] for name, of in figures.items()}
    for name, of in figures.items():
        # Processes of other versions have other names.
        ours = name in {_EMPTY, _THIS}
        row: list[Cell] = [
            name,
            connections,
            of["per_s"],
            ratio(of["per_s"], per_s[_EMPTY]),
            ratio(of["per_s"], per_s[_BESIDE]) if name == _THIS and _BESIDE in per_s else None,
            of["p50_ms"],
            of["p99_ms"],
            *(of[process] if ours else None for process in ("front_ms", "hosts_ms", "store_ms")),
            of["all_ms"],
        ]
        grid.add(*row)


async def _paid(child: Child) -> Work:
    return calling(await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS))


def calling(holders: Sequence[Holder | None]) -> Work:
    """Return work that makes a call, by one session after the other; None for a server that needs none."""
    turns = itertools.cycle(holders)

    async def work(connection: Connection) -> None:
        holder = next(turns)
        await post(connection, upstreams.PATH, upstreams.BODY, 200, {} if holder is None else holder.headers)

    return work


async def _healthz(connection: Connection) -> None:
    await connection.request("GET", "/healthz")
