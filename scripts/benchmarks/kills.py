"""Time that sessions are away when their host is killed (`scripts/bench`)."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ..http_client import Connection
from . import servers
from .grid import Column, Grid
from .measuring import connect
from .options import BenchOptions
from .servers import BenchError, Child
from .sessions import REQUEST, Holder, open_sessions
from .store import BenchStore, store_of

_HOSTS: Final = 2
_SESSIONS: Final = 64
_DEPOSIT_SATS: Final = 10_000
_BACK_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_AGAIN_AFTER_S: Final = 0.05
# Both hosts are left at rest for this long, so that the next kill meets a server at rest.
_REST_S: Final = 5.0
_COLUMNS: Final = (
    Column("what", "time to the first answer to a metered request"),
    Column("answers", "answers"),
    Column("median_s", "median s", 2),
    Column("max_s", "max s", 2),
)


async def measure_kills(options: BenchOptions, directory: Path) -> list[Grid]:
    """Kill one of two hosts, again and again. Raises `BenchError`."""
    lost: list[float] = []
    firsts: list[float] = []
    others: list[float] = []
    async with (
        servers.served(directory / "kills", SATMETER_HOSTS=_HOSTS) as child,
        store_of(child) as store,
    ):
        holders = await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS)
        for number in range(options.kills):
            waited = await _kill(child, store, holders, number)
            lived, survived = by_fate(waited)
            lost += lived
            firsts.append(min(lived))
            others += survived
            await _until_back(child)
    grid = Grid(
        title=f"SIGKILL of one of {_HOSTS} hosts, {options.kills} times: all of {_SESSIONS} sessions ask at once",
        columns=_COLUMNS,
        note="Refusals that ask for patience are repeated, and count as waiting.",
    )
    for what, times_s in (
        ("sessions of the killed host", lost),
        ("the first of them that is answered", firsts),
        ("sessions of the other host", others),
    ):
        grid.add(what, len(times_s), statistics.median(times_s), max(times_s))
    return [grid]


async def _kill(child: Child, store: BenchStore, holders: Sequence[Holder], number: int) -> dict[str, list[float]]:
    """Return the times until sessions were answered, by the host that had them at the kill."""
    pids = sorted(child.processes("HostActor"))
    if len(pids) != _HOSTS:
        raise BenchError(f"there are {len(pids)} hosts instead of {_HOSTS}")
    owners = [await store.owner(holder.session_id) for holder in holders]
    connections = [connect(child.port) for _ in holders]
    try:
        for connection in connections:
            await connection.request("GET", "/healthz")
        os.kill(pids[number % _HOSTS], signal.SIGKILL)
        killed_s = time.perf_counter()
        times_s = await asyncio.gather(
            *(
                _answered_after(connection, holder, killed_s)
                for connection, holder in zip(connections, holders, strict=True)
            )
        )
    finally:
        for connection in connections:
            connection.close()
    waited: dict[str, list[float]] = {}
    for owner, time_s in zip(owners, times_s, strict=True):
        waited.setdefault(owner, []).append(time_s)
    return waited


async def _answered_after(connection: Connection, holder: Holder, since_s: float) -> float:
    """Return the seconds until the session answered with 200. Raises `BenchError` when it never does."""
    while True:
        status, _, body = await connection.request("POST", f"{holder.path}/request", REQUEST, holder.headers)
        now_s = time.perf_counter()
        if status == 200:
            return now_s - since_s
        if status != 503 or now_s - since_s > _BACK_WITHIN_S:
            raise BenchError(f"after the kill a session answered {status}: {body.decode(errors='replace')}")
        await asyncio.sleep(_AGAIN_AFTER_S)


def by_fate(waited: Mapping[str, list[float]]) -> tuple[list[float], list[float]]:
    """Return the times of the killed host's sessions, and those of the other's.

    From outside it can't be seen which of the hosts a process was: the killed one's sessions waited longer. Raises
    `BenchError` unless there are two.
    """
    if len(waited) != _HOSTS:
        raise BenchError(f"the sessions lived on {len(waited)} hosts instead of {_HOSTS}")
    slow, fast = sorted(waited.values(), key=statistics.median, reverse=True)
    return slow, fast


async def _until_back(child: Child) -> None:
    deadline_s = time.monotonic() + _BACK_WITHIN_S
    while len(child.processes("HostActor")) < _HOSTS:
        if time.monotonic() > deadline_s:
            raise BenchError("the killed host did not come back")
        await asyncio.sleep(_LOOK_EVERY_S)
    await child.ready("/readyz")
    await asyncio.sleep(_REST_S)
