"""Relayed calls that wait at once for a slow upstream: time and memory that each costs (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from ..http_client import Connection, LostError, Origin
from . import upstreams
from .cpu import cpu_ms, cpu_s
from .grid import Cell, Column, Grid, percentile
from .measuring import connect
from .options import BenchOptions
from .provider import WAITING
from .servers import BenchError, Child
from .sessions import Holder, open_sessions
from .waiting import allow_files

_WAIT_S: Final = 10.0
_TIMEOUT_S: Final = 120.0
_SESSIONS: Final = 500
_DEPOSIT_SATS: Final = 100_000
# The last calls have so long to come to the upstream before the first is answered.
_BEFORE_FIRST_ANSWER_S: Final = 0.5
# What the first calls load and keep is not the memory of a call that waits.
_FIRST_CALLS: Final = 50
_LARGE_CHARS: Final = 60_000
# So many times fewer calls have large bodies.
_LARGE_PART: Final = 10
_LOOK_EVERY_S: Final = 0.25
_PROCESSES: Final = ("server.front", "HostActor")
_COLUMNS: Final = (
    Column("what", "what"),
    Column("calls", "calls"),
    Column("body_kb", "body kB", 1),
    Column("waiting", "at the upstream at once"),
    Column("p50_ms", "added p50 ms", 1),
    Column("p99_ms", "p99 ms", 1),
    Column("failed", "failed"),
    Column("front_kb", "kB a call: front", 1),
    Column("hosts_kb", "hosts", 1),
    Column("both_kb", "both", 1),
    Column("front_ms", "CPU ms a call: front", 2),
    Column("hosts_ms", "hosts", 2),
    Column("all_ms", "all", 2),
    Column("client_ms", "client", 2),
)


async def measure_relayed_waiting(options: BenchOptions, directory: Path) -> list[Grid]:
    """Make as many calls as the options say, evenly over the upstream's time. Raises `BenchError`."""
    # The limit is raised before the servers start, which inherit it.
    allow_files(2 * options.waiting)
    grid = Grid(
        title=f"{options.waiting:,} relayed calls that wait at once for an upstream of {_WAIT_S:g} s",
        columns=_COLUMNS,
        note="Calls begin evenly over the upstream's time, so that all wait when the first is answered. Added: from "
        "when a call was due, beyond the upstream's time; the upstream alone shows what client and upstream add. "
        "Memory: resident, of front and hosts, beyond what it was before, when most were at the upstream, for each of "
        "them.",
    )
    ways = {"relayed": None, **({} if options.beside is None else {"relayed by the other version": options.beside})}
    large = {**upstreams.BODY, "messages": [{"role": "user", "content": "x" * _LARGE_CHARS}]}
    large_calls = options.waiting // _LARGE_PART
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(upstreams.provider(directory / "slow", _WAIT_S))
        grid.add("the upstream alone", *await _row(slow, slow, [None], options.waiting, upstreams.BODY))
        for number, (name, satmeter) in enumerate(ways.items()):
            # What one row has taken and given back would hide what the next one takes.
            for size, count, body in (("small", options.waiting, upstreams.BODY), ("large", large_calls, large)):
                async with upstreams.relaying(directory / f"{size}-{number}", slow, satmeter) as child:
                    holders = await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS)
                    await _row(child, slow, holders, _FIRST_CALLS, upstreams.BODY)
                    grid.add(name, *await _row(child, slow, holders, count, body))
    return [grid]


class Calls:
    """Calls that were made: what each took beyond the upstream's time, and how many failed."""

    def __init__(self, port: int, body: Mapping[str, Any]) -> None:
        self._origin = Origin("127.0.0.1", port)
        self._body = body
        self.added_ms: list[float] = []
        self.failed = 0

    async def make(self, due_s: float, holder: Holder | None) -> None:
        """Make a call when it is due."""
        loop = asyncio.get_running_loop()
        connection = Connection(self._origin, _TIMEOUT_S)
        headers = {} if holder is None else holder.headers
        try:
            await asyncio.sleep(due_s - loop.time())
            status, _, _ = await connection.request("POST", upstreams.PATH, self._body, headers)
        except LostError:
            status = 0
        finally:
            connection.close()
        if status == 200:
            self.added_ms.append((loop.time() - due_s - _WAIT_S) * 1_000)
        else:
            self.failed += 1


async def _row(
    child: Child, upstream: Child, holders: Sequence[Holder | None], count: int, body: Mapping[str, Any]
) -> list[Cell]:
    """Make this many calls; return the figures of a row. Raises `BenchError`."""
    loop = asyncio.get_running_loop()
    before_kb, before_s, client_before_s = _memory_kb(child), cpu_s(child.pid), time.process_time()
    calls, began_s = Calls(child.port, body), loop.time()
    most, most_kb = 0, before_kb
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due_s = began_s + number * (_WAIT_S - _BEFORE_FIRST_ANSWER_S) / count
            group.create_task(calls.make(due_s, holders[number % len(holders)]))
        while len(calls.added_ms) + calls.failed < count:
            await asyncio.sleep(_LOOK_EVERY_S)
            if (waiting := await _waiting(upstream)) > most:
                most, most_kb = waiting, _memory_kb(child)
    if calls.failed == count:
        raise BenchError("all calls failed")
    more_kb = [
        None if before is None or after is None else (after - before) / most
        for before, after in zip(before_kb, most_kb, strict=True)
    ]
    spent_ms = cpu_ms(before_s, cpu_s(child.pid), count)
    return [
        count,
        len(msgspec.json.encode(body)) / 1_024,
        most,
        percentile(calls.added_ms, 50),
        percentile(calls.added_ms, 99),
        calls.failed,
        *more_kb,
        None if None in more_kb else sum(filter(None, more_kb)),
        *(spent_ms[name] or None for name in ("front_ms", "hosts_ms", "all_ms")),
        (time.process_time() - client_before_s) / count * 1_000,
    ]


async def _waiting(upstream: Child) -> int:
    """Return how many calls wait at the upstream."""
    connection = connect(upstream.port)
    try:
        _, _, told = await connection.request("GET", WAITING)
        return int(told)
    finally:
        connection.close()


def _memory_kb(child: Child) -> list[int | None]:
    """Return the memory of front and hosts; None for what has another name in another version."""
    found = [child.processes(name).values() for name in _PROCESSES]
    return [sum(process.resident_kb for process in processes) or None for processes in found]
