"""Time that the server adds to the time to a stream's first text (`scripts/bench`)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..http_client import Connection
from ..load.api import has_text
from . import servers
from .grid import Column, Grid, percentile
from .measuring import Work, measure
from .options import BenchOptions
from .servers import BenchError
from .sessions import REQUEST, Holder, open_sessions

_LATENCY_S: Final = 0.05
# A request has the model called twice: to evaluate it, and to answer it.
_MODEL_S: Final = 2 * _LATENCY_S
_CONNECTIONS: Final = (1, 64)
_SESSIONS: Final = 100
_DEPOSIT_SATS: Final = 100_000
_COLUMNS: Final = (
    Column("connections", "streams at once"),
    Column("count", "streams"),
    Column("p50_ms", "added p50 ms", 1),
    Column("p99_ms", "added p99 ms", 1),
)


async def measure_streams(options: BenchOptions, directory: Path) -> list[Grid]:
    """Measure the time to the first delta, less the model's. Raises `BenchError`."""
    grid = Grid(
        title="Added time to the first text of a stream",
        columns=_COLUMNS,
        note=f"From the request to its first delta, less the {_MODEL_S * 1_000:g} ms that the stub model takes.",
    )
    async with servers.served(directory / "streams", SATMETER_STUB_MODEL_LATENCY_S=_LATENCY_S) as child:
        holders = await open_sessions(child.port, _SESSIONS, _DEPOSIT_SATS)
        for connections in _CONNECTIONS:
            firsts_s: list[float] = []
            await measure(child.port, connections, 2 * options.duration_s, streaming(holders, firsts_s))
            added_ms = [(first_s - _MODEL_S) * 1_000 for first_s in firsts_s]
            grid.add(connections, len(added_ms), percentile(added_ms, 50), percentile(added_ms, 99))
    return [grid]


def streaming(holders: Sequence[Holder], firsts_s: list[float]) -> Work:
    """Return work that makes a streamed request, by one session after the other.

    The work notes how long the first text took.
    """
    turns = itertools.cycle(holders)

    async def work(connection: Connection) -> None:
        holder, first_s, begun_s = next(turns), None, time.perf_counter()

        def note(piece: bytes) -> None:
            nonlocal first_s
            if first_s is None and has_text(piece):
                first_s = time.perf_counter() - begun_s

        body = {**REQUEST, "stream": True}
        status, _, answer = await connection.request("POST", f"{holder.path}/request", body, holder.headers, note)
        if status != 200 or first_s is None:
            raise BenchError(f"a stream brought no text: {status} {answer.decode(errors='replace')[:500]}")
        firsts_s.append(first_s)

    return work
