"""A lean HTTP client for benchmarks: what it costs must not hide what the server costs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httptools
import msgspec


class _Response:
    """Collects one response for httptools."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.done = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer. Raises `ConnectionError`."""
        reader = await self._send(method, path, body, headers or {})
        response = _Response()
        parser = httptools.HttpResponseParser(response)
        while not response.done:
            data = await reader.read(65_536)
            if not data:
                raise ConnectionError("the server closed the connection")
            parser.feed_data(data)
        return parser.get_status_code(), bytes(response.body)

    async def events(self, path: str) -> AsyncIterator[Any]:
        """The data of server-sent events until the stream ends; the connection is of no use after it."""
        reader = await self._send("GET", path, None, {})
        while line := await reader.readline():
            if line.startswith(b"data:"):
                yield msgspec.json.decode(line[5:])

    async def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> asyncio.StreamReader:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        payload = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(payload)}\r\n"
        kind = "Content-Type: application/json\r\n" if payload else ""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"{head}{kind}{more}\r\n".encode() + payload)
        return self._reader

    async def close(self) -> None:
        """Closes it."""
        if self._writer is not None:
            self._writer.close()


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
