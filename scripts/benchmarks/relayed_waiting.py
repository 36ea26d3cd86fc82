"""Relayed calls that wait at once for a slow upstream: time and memory that each costs (`scripts/bench`)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from . import upstreams
from .grid import Column, Grid, percentile
from .measuring import connect
from .options import BenchOptions
from .servers import BenchError, Child
from .sessions import Holder, open_sessions
from .waiting import allow_files

_WAIT_S: Final = 10.0
_SESSIONS: Final = 500
_DEPOSIT_SATS: Final = 100_000
# The last calls are under way for so long when memory is read.
_BEFORE_FIRST_ANSWER_S: Final = 0.5
_PROCESSES: Final = ("server.front", "HostActor")
_COLUMNS: Final = (
    Column("what", "what"),
    Column("calls", "calls at once"),
    Column("wait_s", "upstream s", 1),
    Column("p50_ms", "added p50 ms", 1),
    Column("p99_ms", "added p99 ms", 1),
    Column("failed", "failed"),
    Column("front_kb", "kB a call: front", 1),
    Column("hosts_kb", "hosts", 1),
)


async def measure_relayed_waiting(options: BenchOptions, directory: Path) -> Grid:
    """Make as many calls as the options say, evenly over the upstream's time. Raises `BenchError`."""
    allow_files(2 * options.waiting)
    grid = Grid(
        title=f"{options.waiting:,} relayed calls that wait at once",
        columns=_COLUMNS,
        note="Calls begin evenly over the upstream's time, so that all wait when the first is answered. Added: from "
        "when a call was due, beyond the upstream's time. "
        "Memory: resident, of front and hosts, beyond what it was before.",
    )
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(upstreams.provider(directory / "slow", _WAIT_S))
        ways = {"relayed": None, **({} if options.beside is None else {"relayed by the other version": options.beside})}
        for number, (name, satmeter) in enumerate(ways.items()):
            async with upstreams.relaying(directory / f"waiting-{number}", slow, satmeter) as child:
                grid.add(name, options.waiting, _WAIT_S, *await _row(child, options.waiting))
    return grid


async def _row(child: Child, calls: int) -> list[float | int | None]:
    holders = await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS)
    loop = asyncio.get_running_loop()
    before_kb = _memory_kb(child)
    added_ms: list[float] = []
    failed = 0
    began_s = loop.time()

    async def call(number: int, holder: Holder) -> None:
        nonlocal failed
        due_s = began_s + number * (_WAIT_S - _BEFORE_FIRST_ANSWER_S) / calls
        connection = connect(child.port)
        try:
            await asyncio.sleep(due_s - loop.time())
            status, _, _ = await connection.request("POST", upstreams.PATH, upstreams.BODY, holder.headers)
        except ConnectionError:
            status = 0
        finally:
            connection.close()
        added_ms.append((loop.time() - due_s - _WAIT_S) * 1_000)
        failed += status != 200

    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            group.create_task(call(number, holders[number % len(holders)]))
        await asyncio.sleep(began_s + _WAIT_S - loop.time())
        during_kb = _memory_kb(child)
    if failed == calls:
        raise BenchError("all calls failed")
    more_kb = [
        None if before is None or during is None else (during - before) / calls
        for before, during in zip(before_kb, during_kb, strict=True)
    ]
    return [percentile(added_ms, 50), percentile(added_ms, 99), failed, *more_kb]


def _memory_kb(child: Child) -> list[int | None]:
    """Return the memory of front and hosts; None for what has another name in another version."""
    found = [child.processes(name).values() for name in _PROCESSES]
    return [sum(process.resident_kb for process in processes) or None for processes in found]
