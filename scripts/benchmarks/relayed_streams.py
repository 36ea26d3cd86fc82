"""Streams that are relayed at once: how long their events are on the way, and what each costs (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from ..http_client import Connection, Origin
from . import upstreams
from .cpu import cpu_s
from .grid import Cell, Column, Grid, percentile
from .measuring import connect
from .options import BenchOptions
from .provider import EVERY, sent_at_ns
from .servers import BenchError, Child
from .sessions import Holder, open_sessions
from .waiting import allow_files

_SESSIONS: Final = 200
_DEPOSIT_SATS: Final = 100_000
# The rest begins when these have begun.
_BEGINNING_AT_ONCE: Final = 32
_BEGUN_WITHIN_S: Final = 90.0
# Longer than a stream takes to begin and to be measured.
_LASTS_S: Final = 600.0
# More than come while the streams begin and are measured; the measurement ends them.
_EVENTS: Final = 20_000
# Events come at the new rate for so long before they are measured.
_SETTLES_S: Final = 2.0
_BEGIN_EVERY_S: Final = 1.0
_KEPT_UP: Final = 0.98
_NOT_OURS: Final = frozenset({"upstream", "client"})
_COLUMNS: Final = (
    Column("what", "what"),
    Column("streams", "streams"),
    Column("every_ms", "event each ms"),
    Column("due_per_s", "due per s"),
    Column("came_per_s", "came per s"),
    Column("p50_ms", "on the way p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("front_us", "CPU µs an event: front", 1),
    Column("hosts_us", "hosts", 1),
    Column("all_us", "all", 1),
    Column("upstream_us", "upstream", 1),
    Column("client_us", "client", 1),
    Column("busy", "processors busy", 2),
    Column("kept_up", "kept up"),
)


class Delays:
    """Delays of the events that have come since it was last cleared."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self._rests: dict[int, bytes] = {}

    def take(self, stream: int, piece: bytes, now_ns: int) -> int:
        """Take the next bytes of a stream, however they are cut; return how many events they make whole."""
        whole, _, rest = (self._rests.get(stream, b"") + piece).rpartition(b"\n\n")
        self._rests[stream] = rest
        sent = sent_at_ns(whole)
        self.delays_ms += [(now_ns - at_ns) / 1_000_000 for at_ns in sent]
        return len(sent)


async def measure_relayed_streams(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure as many streams at once as the options say, at rates from the lowest to the highest.

    Raises `BenchError`.
    """
    allow_files(2 * max(streams for streams, _ in options.streams))
    grid = Grid(
        title="Relayed streams at once",
        columns=_COLUMNS,
        note="On the way: from the upstream's write to the client's read. All: CPU of the server's processes, Ray's "
        f"and the store's too; upstream and client share the {os.cpu_count()} processors with them. Kept up: "
        f"{_KEPT_UP:.0%} of the events that were due have come. A rate that was not kept up with shows the most that "
        "this machine carries, and its delays grow for as long as it lasts.",
    )
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstreams.provider(directory / "events"))
        ways = {"relayed": await stack.enter_async_context(upstreams.relaying(directory / "streams", upstream))}
        if options.beside is not None:
            ways["relayed by the other version"] = await stack.enter_async_context(
                upstreams.relaying(directory / "streams-beside", upstream, options.beside)
            )
        holders = {name: await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS) for name, child in ways.items()}
        for streams, rates_per_s in options.streams:
            await _add(grid, "the upstream alone", upstream, upstream, [None], streams, rates_per_s, options.duration_s)
            for name, child in ways.items():
                await _add(grid, name, child, upstream, holders[name], streams, rates_per_s, options.duration_s)
    return [grid]


class Measurement:
    """Measurement of the events of streams under way, with the CPU that they cost each process."""

    def __init__(self, child: Child, upstream: Child, delays: Delays) -> None:
        self._child = child
        self._upstream = upstream
        self._delays = delays

    async def row(self, due_per_s: float, duration_s: float) -> list[Cell]:
        """Return what the events of this time show. Raises `BenchError` without any."""
        self._delays.delays_ms.clear()
        before, began_s = self._spent_s(), time.perf_counter()
        await asyncio.sleep(duration_s)
        after, elapsed_s, found = self._spent_s(), time.perf_counter() - began_s, self._delays.delays_ms[:]
        if not found:
            raise BenchError("no event came while streams were measured")
        return figures(found, elapsed_s, due_per_s, {name: after[name] - before.get(name, 0.0) for name in after})

    def _spent_s(self) -> dict[str, float]:
        alone = self._child is self._upstream
        server = {} if alone else cpu_s(self._child.pid)
        upstream_s = sum(cpu_s(self._upstream.pid).values())
        return {**server, "upstream": upstream_s, "client": time.process_time()}


def figures(delays_ms: Sequence[float], elapsed_s: float, due_per_s: float, spent_s: Mapping[str, float]) -> list[Cell]:
    """Return the figures of a row. `spent_s`: CPU seconds by process, `upstream` and `client` among them."""
    came_per_s = len(delays_ms) / elapsed_s
    each_us = {name: seconds / len(delays_ms) * 1e6 for name, seconds in spent_s.items()}
    ours = [us for name, us in each_us.items() if name not in _NOT_OURS]
    return [
        due_per_s,
        came_per_s,
        percentile(delays_ms, 50),
        percentile(delays_ms, 99),
        each_us.get("front"),
        each_us.get("hosts"),
        sum(ours) if ours else None,
        each_us["upstream"],
        each_us["client"],
        sum(spent_s.values()) / elapsed_s,
        "yes" if came_per_s >= _KEPT_UP * due_per_s else "no",
    ]


async def _add(
    grid: Grid,
    name: str,
    child: Child,
    upstream: Child,
    holders: Sequence[Holder | None],
    streams: int,
    rates_per_s: Sequence[int],
    duration_s: float,
) -> None:
    """Open the streams, and add a row for each rate."""
    await _set_every(upstream, _BEGIN_EVERY_S)
    async with _streaming(child, holders, streams) as delays:
        for rate_per_s in rates_per_s:
            every_s = streams / rate_per_s
            await _set_every(upstream, every_s)
            await asyncio.sleep(_SETTLES_S)
            row = await Measurement(child, upstream, delays).row(rate_per_s, duration_s)
            grid.add(name, streams, every_s * 1_000, *row)


async def _set_every(upstream: Child, every_s: float) -> None:
    connection = connect(upstream.port)
    try:
        await connection.request("GET", f"{EVERY}{every_s}")
    finally:
        connection.close()


@asynccontextmanager
async def _streaming(child: Child, holders: Sequence[Holder | None], streams: int) -> AsyncIterator[Delays]:
    """Yield the delays of this many streams once all have begun; end them in the end. Raises `BenchError`."""
    delays, ready, slots = Delays(), asyncio.Event(), asyncio.Semaphore(_BEGINNING_AT_ONCE)
    begun = 0

    async def stream(number: int) -> None:
        holder, first = holders[number % len(holders)], asyncio.Event()
        connection = Connection(Origin("127.0.0.1", child.port), _LASTS_S)

        def note(piece: bytes) -> None:
            nonlocal begun
            if delays.take(number, piece, time.monotonic_ns()) and not first.is_set():
                first.set()
                begun += 1
                if begun == streams:
                    ready.set()

        body = {**upstreams.BODY, "max_tokens": _EVENTS, "stream": True}
        headers = {} if holder is None else holder.headers
        try:
            async with slots:
                answer = asyncio.ensure_future(connection.request("POST", upstreams.PATH, body, headers, note))
                waits = asyncio.ensure_future(first.wait())
                await asyncio.wait((answer, waits), return_when=asyncio.FIRST_COMPLETED)
            status, _, told = await answer
            raise BenchError(f"a stream ended early: {status} {told[-300:].decode(errors='replace')}")
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream(number)) for number in range(streams)]
        try:
            async with asyncio.timeout(_BEGUN_WITHIN_S):
                await ready.wait()
        except TimeoutError:
            raise BenchError(f"only {begun} of {streams} streams began within {_BEGUN_WITHIN_S:.0f} s") from None
        yield delays
        for task in tasks:
            task.cancel()
