"""A server of bytes on the loopback, for tests of clients: each connection is served by a function of the test's."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass
class Peer:
    """One connection. `requests`: those of all connections. `gone` is set when the client has closed this one."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes]
    gone: asyncio.Event

    async def request(self) -> bytes:
        """Read a request to its end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")] or [b":0"]
        whole = head + await self.reader.readexactly(int(length.partition(b":")[2]))
        self.requests.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        """Send a chunk of a body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def answer(self, body: bytes = b"ok", status: str = "200 OK", *headers: str) -> None:
        """Send a whole answer."""
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers))
        await self.send(head.encode() + b"\r\n" + body)

    async def until_gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(65_536):
            pass
        self.gone.set()

    def reset(self) -> None:
        """Break the connection off without an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    """The server's address, and what it has seen. `gone` is set when a client has closed a connection, `served` when
    one was served to its end.
    """

    port: int = 0
    scheme: str = "http"
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    served: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Return the address of calls."""
        return f"{self.scheme}://127.0.0.1:{self.port}/v1/messages"


@asynccontextmanager
async def raw_server(
    serve: Callable[[Peer], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve each connection by this function, and close it when that returns or the client has gone."""
    seen = RawServer(scheme="https" if tls else "http")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            await serve(Peer(reader, writer, seen.requests, seen.gone))
        except (ConnectionError, asyncio.IncompleteReadError):
            seen.gone.set()
        finally:
            writer.close()
            seen.served.set()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=1 << 24)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
