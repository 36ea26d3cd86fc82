"""Receivers of webhooks: played, and on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from standardwebhooks.webhooks import Webhook

from satmeter.actors.domain.webhooks import Notify
from tests.helpers.fakes import Gate
from tests.helpers.patience import PATIENCE_S

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(answer: bytes) -> Answer:
    """A receiver that answers this and closes the connection."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return say


def status(line: str) -> Answer:
    """A receiver that answers with this status."""
    return saying(f"HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nok".encode())


@dataclass
class FakeWebhooks:
    """A receiver. `script` has what it does with the next notices: takes them, wants no more, or fails."""

    script: list[bool | Exception] = field(default_factory=list)
    sent: list[Notify] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)

    async def send(self, notify: Notify) -> bool:
        self.sent.append(notify)
        await self.gate.pass_through()
        outcome = self.script.pop(0) if self.script else True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        pass


@dataclass
class Received:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> object:
        """Its JSON, the signature verified by the library that receivers use."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Receiver of webhooks: its requests, and its answers to them."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: status("200 OK"))
    received: list[Received] = field(default_factory=list)
    came: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def next(self) -> Received:
        """Waits for one more."""
        async with asyncio.timeout(PATIENCE_S):
            await self.came.acquire()
        return self.received[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(Received(head[0], headers, body))
            self.came.release()
            await self.answer(reader, writer)


@asynccontextmanager
async def receiving(answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on 127.0.0.1."""
    receiver = Receiver()
    if answer is not None:
        receiver.answer = answer
    async with serving(receiver._serve, tls) as port:
        receiver.port = port
        yield receiver


@asynccontextmanager
async def serving(handle: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on 127.0.0.1, whose connections end with it. Yields its port."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        # A handler that is cancelled would be told of by asyncio's streams.
        with contextlib.suppress(asyncio.CancelledError):
            await handle(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
