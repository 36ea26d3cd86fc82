"""Lean HTTP/1.1 client for load tests and benchmarks: its own cost must not hide the server's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import msgspec

_CONNECTS_WITHIN_S: Final = 10.0
# uvicorn closes connections that were idle for 5 s; a request at that moment would be lost.
_IDLE_MAX_S: Final = 4.0
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

OnBody = Callable[[bytes], None]
"""Receives the pieces of a body as they come."""


class LostError(ConnectionError):
    """A lost answer. `sent`: the request may have reached the server, and may have been carried out."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Answer(NamedTuple):
    """A whole answer; names of headers are in lower case."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def retry_after_s(self) -> int | None:
        """The seconds of a Retry-After header; None without one, or if it holds a date."""
        value = self.headers.get(b"retry-after", b"")
        return int(value) if value.isdigit() and len(value) < 10 else None


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a server: host and port, and the prefix of all its paths."""

    host: str
    port: int
    base: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Return the origin of a URL. Raises `ValueError` for a malformed one."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in _PORTS or not parts.hostname or port == -1:
            raise ValueError(f"{url!r} is not an address: write it like http://127.0.0.1:8402 or https://example.org")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{url!r}: leave out the user, the query and the fragment")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/"), tls)

    @property
    def authority(self) -> str:
        """Host and port, as in a Host header."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Connection(asyncio.Protocol):
    """A keep-alive connection, opened at the first request, for one request at a time."""

    def __init__(self, origin: Origin, timeout_s: float = 60.0) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._host = f"Host: {origin.authority}\r\n"
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._on_body: OnBody | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self.reusable = False

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        on_body: OnBody | None = None,
    ) -> Answer:
        """Send a request and return the whole answer. Raises `LostError`, after which the connection is closed."""
        payload = b"" if body is None else msgspec.json.encode(body)
        kind = "Content-Type: application/json\r\n" if payload else ""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if headers else ""
        start = f"{method} {self._origin.base}{path} HTTP/1.1\r\n{self._host}Content-Length: {len(payload)}\r\n"
        if self._transport is None:
            await self._connect()
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._on_body = on_body
        timer = loop.call_later(self._timeout_s, self._lose, f"no answer within {self._timeout_s:g} s")
        self._transport.write(f"{start}{kind}{more}\r\n".encode() + payload)
        try:
            return await self._waiting
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._waiting = self._on_body = None

    async def events(self, path: str) -> AsyncIterator[Any]:
        """Yield the data of server-sent events until the stream ends. Raises `LostError`."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        stream = asyncio.create_task(self.request("GET", path, on_body=pieces.put_nowait))
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

    def close(self) -> None:
        """Close the connection."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _connect(self) -> None:
        origin = self._origin
        server_name = origin.host if origin.tls else None
        try:
            async with asyncio.timeout(_CONNECTS_WITHIN_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: self, origin.host, origin.port, ssl=origin.tls, server_hostname=server_name
                )
        except (OSError, UnicodeError) as error:
            raise LostError(f"no connection ({type(error).__name__}: {error})", sent=False) from None

    # Callbacks of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare the parser of a new connection."""
        # uvloop's transports are not subclasses of it.
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; malformed HTTP loses the answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._lose("the answer is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """Lose the awaited answer, if any, with the connection."""
        del exc
        self._transport = None
        self.reusable = False
        self._lose("the connection broke before the answer had come")

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a new answer."""
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add one of its headers."""
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """Add a piece of its body."""
        self._body.append(data)
        if self._on_body is not None:
            self._on_body(data)

    def on_message_complete(self) -> None:
        """Hand over the whole answer."""
        status: int = self._parser.get_status_code()
        if status < 200:
            return  # an interim answer
        self.reusable = self._transport is not None and self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(status, self._headers, b"".join(self._body)))

    def _lose(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LostError(why, sent=True))


class Pool:
    """Keep-alive connections to one origin, at most `connections_max`; requests wait while all are busy."""

    def __init__(self, origin: Origin, connections_max: int, timeout_s: float) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(connections_max)
        self._idle: list[tuple[float, Connection]] = []

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        on_body: OnBody | None = None,
    ) -> Answer:
        """Send a request over any of the connections, and return the whole answer. Raises `LostError`."""
        async with self._slots:
            connection = self._take() or Connection(self._origin, self._timeout_s)
            answer = await connection.request(method, path, body, headers, on_body)
            if connection.reusable:
                self._idle.append((asyncio.get_running_loop().time(), connection))
            else:
                connection.close()
            return answer

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()

    def _take(self) -> Connection | None:
        """Return the most recently used idle connection, as the server may be about to close the others."""
        while self._idle:
            since_s, connection = self._idle.pop()
            if connection.reusable and asyncio.get_running_loop().time() - since_s < _IDLE_MAX_S:
                return connection
            connection.close()
        return None
