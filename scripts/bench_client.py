"""A lean HTTP client for benchmarks: what it costs must not hide what the server costs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from . import lean_http


class Connection:
    """One keep-alive connection to a port of this machine, one request at a time."""

    def __init__(self, port: int) -> None:
        self._lean = lean_http.Connection(lean_http.Origin("127.0.0.1", port))

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `ConnectionError`."""
        status, _, answer = await self._lean.request(method, path, body, headers)
        return status, answer

    async def events(self, path: str) -> AsyncIterator[Any]:
        """The data of server-sent events until the stream ends. Raises `ConnectionError`."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        stream = asyncio.create_task(self._lean.request("GET", path, on_body=pieces.put_nowait))
        # An empty piece is no piece of a body.
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
        """Closes it."""
        self._lean.close()


Work = Callable[[Connection], Awaitable[None]]
"""What a worker does again and again."""


class Measured:
    """Latencies of a run, and how long it took in all."""

    def __init__(self, latencies_s: list[float], elapsed_s: float) -> None:
        self._sorted = sorted(latencies_s)
        self._elapsed_s = elapsed_s

    @property
    def per_s(self) -> float:
        """Requests in a second."""
        return len(self._sorted) / self._elapsed_s

    def percentile_ms(self, percent: float) -> float:
        """The latency that so many percent stayed within, in milliseconds."""
        index = max(math.ceil(len(self._sorted) * percent / 100) - 1, 0)
        return self._sorted[index] * 1_000


async def measure(port: int, connections: int, duration_s: float, work: Work) -> Measured:
    """Runs the work over so many connections, again and again, for so long."""
    latencies_s: list[float] = []
    started_s = time.perf_counter()
    deadline_s = started_s + duration_s

    async def worker() -> None:
        connection = Connection(port)
        while (begun_s := time.perf_counter()) < deadline_s:
            await work(connection)
            latencies_s.append(time.perf_counter() - begun_s)
        await connection.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return Measured(latencies_s, time.perf_counter() - started_s)
