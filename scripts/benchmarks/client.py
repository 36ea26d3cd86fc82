"""A lean HTTP client for benchmarks: what it costs must not hide what the server costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from .. import http_client
from .grid import percentile


class Connection:
    """One keep-alive connection to a port of this machine, one request at a time."""

    def __init__(self, port: int) -> None:
        self._lean = http_client.Connection(http_client.Origin("127.0.0.1", port))

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of the answer. Raises `ConnectionError`."""
        status, _, answer = await self._lean.request(method, path, body, headers)
        return status, answer

    async def stream(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], on_body: http_client.OnBody
    ) -> tuple[int, bytes]:
        """Make a request whose body comes in pieces, which go to `on_body`. Raises `ConnectionError`."""
        status, _, answer = await self._lean.request(method, path, body, headers, on_body)
        return status, answer

    async def events(self, path: str) -> AsyncIterator[Any]:
        """Yield the data of server-sent events until the stream ends. Raises `ConnectionError`."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        stream = asyncio.create_task(self._lean.request("GET", path, on_body=pieces.put_nowait))
        # A body has no empty pieces, so that one can mark the end.
        stream.add_done_callback(lambda _: pieces.put_nowait(b""))
        rest = b""
        try:
            while piece := await pieces.get():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.startswith(b"data:"):
                        yield msgspec.json.decode(line[5:])
            stream.result()
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Close the connection."""
        self._lean.close()


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
        connection = Connection(port)
        try:
            begun_s = time.perf_counter()
            while begun_s < deadline_s:
                await work(connection)
                ended_s = time.perf_counter()
                latencies_s.append(ended_s - begun_s)
                begun_s = ended_s
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return Measured(latencies_s, time.perf_counter() - started_s)
