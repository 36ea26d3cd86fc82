"""Measurements of work that is done over many connections at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..http_client import Connection, Origin
from .grid import percentile


def connect(port: int) -> Connection:
    """Return a keep-alive connection to a port of this machine, opened at its first request."""
    return Connection(Origin("127.0.0.1", port))


Work = Callable[[Connection], Awaitable[None]]
"""Work that a worker does again and again."""


class Measured:
    """Latencies of a run, and its duration."""

    def __init__(self, latencies_s: list[float], elapsed_s: float) -> None:
        self._latencies_s = latencies_s
        self._elapsed_s = elapsed_s

    @property
    def count(self) -> int:
        """Number of times that the work was done."""
        return len(self._latencies_s)

    @property
    def figures(self) -> dict[str, float]:
        """Rate per second, and the latencies that half and 99 % stayed within, in milliseconds."""
        p50_s, p99_s = percentile(self._latencies_s, 50), percentile(self._latencies_s, 99)
        # Every worker has done its work at least once.
        assert p50_s is not None and p99_s is not None
        return {"per_s": self.count / self._elapsed_s, "p50_ms": p50_s * 1_000, "p99_ms": p99_s * 1_000}


async def measure(port: int, connections: int, duration_s: float, work: Work) -> Measured:
    """Run the work over this many connections, again and again, for this long."""
    latencies_s: list[float] = []
    started_s = time.perf_counter()
    deadline_s = started_s + duration_s

    async def worker() -> None:
        connection = connect(port)
        try:
            begun_s = time.perf_counter()
            while begun_s < deadline_s:
                await work(connection)
                ended_s = time.perf_counter()
                latencies_s.append(ended_s - begun_s)
                begun_s = ended_s
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return Measured(latencies_s, time.perf_counter() - started_s)
