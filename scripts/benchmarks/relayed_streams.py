"""Streams that are relayed at once: how long their events are on the way, and what each costs (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from ..http_client import Connection, Origin
from . import upstreams
from .cpu import cpu_s
from .grid import Cell, Column, Grid, percentile
from .options import BenchOptions
from .provider import EVENT_EVERY_S, sent_at_ns
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
_COLUMNS: Final = (
    Column("what", "what"),
    Column("streams", "streams"),
    Column("due_per_s", "events due per s"),
    Column("came_per_s", "came per s"),
    Column("p50_ms", "on the way p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("front_us", "CPU µs an event: front", 1),
    Column("hosts_us", "hosts", 1),
    Column("all_us", "all", 1),
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


async def measure_relayed_streams(options: BenchOptions, directory: Path) -> Grid:
    """Measure as many streams at once as the options say. Raises `BenchError`."""
    allow_files(2 * max(options.streams))
    grid = Grid(
        title="Relayed streams at once",
        columns=_COLUMNS,
        note=f"Each stream has an event each {EVENT_EVERY_S * 1_000:g} ms. On the way: from the upstream's write to "
        "the client's read. CPU of the server's processes, without upstream and client.",
    )
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(upstreams.provider(directory / "events"))
        ways = {"relayed": await stack.enter_async_context(upstreams.relaying(directory / "streams", upstream))}
        if options.beside is not None:
            ways["relayed by the other version"] = await stack.enter_async_context(
                upstreams.relaying(directory / "streams-beside", upstream, options.beside)
            )
        holders = {name: await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS) for name, child in ways.items()}
        for streams in options.streams:
            grid.add("the upstream alone", streams, *await _row(upstream, [None], streams, options.duration_s))
            for name, child in ways.items():
                grid.add(name, streams, *await _row(child, holders[name], streams, options.duration_s))
    return grid


async def _row(child: Child, holders: Sequence[Holder | None], streams: int, duration_s: float) -> list[Cell]:
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
        delays.delays_ms.clear()
        before, began_s = cpu_s(child.pid), time.perf_counter()
        await asyncio.sleep(duration_s)
        after, elapsed_s, found = cpu_s(child.pid), time.perf_counter() - began_s, delays.delays_ms[:]
        for task in tasks:
            task.cancel()
    if not found:
        raise BenchError("no event came while streams were measured")
    spent_us = {name: (seconds - before.get(name, 0.0)) / len(found) * 1e6 for name, seconds in after.items()}
    return [
        streams / EVENT_EVERY_S,
        len(found) / elapsed_s,
        percentile(found, 50),
        percentile(found, 99),
        spent_us.get("front"),
        spent_us.get("hosts"),
        sum(spent_us.values()),
    ]
