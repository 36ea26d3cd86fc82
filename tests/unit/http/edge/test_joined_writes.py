"""Writes of answers: head and body in one packet where both are there, and no head that waits for its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from satmeter.http.edge.connections import Connections
from satmeter.http.edge.shares import Caps
from satmeter.http.protocol import HttpProtocol
from tests.helpers.patience import PATIENCE_S

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Written(asyncio.Transport):
    """Transport that notes its writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol: HttpProtocol
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_protocol(self) -> HttpProtocol:
        return self.protocol


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[HttpProtocol, Written]]:
    config = uvicorn.Config(app, http=HttpProtocol, log_config=None)
    config.load()
    state, transport = ServerState(), Written()
    protocol = HttpProtocol(config, state, {}, connections=Connections(Caps(10, 10, 10)))
    transport.protocol = protocol
    protocol.connection_made(transport)
    yield protocol, transport
    protocol.connection_lost(None)
    await asyncio.wait_for(asyncio.gather(*state.tasks, return_exceptions=True), PATIENCE_S)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_a_head_is_written_with_its_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start((b"content-length", b"2")))
        await send(body(b"ok"))

    async with serving(app) as (protocol, transport):
        for count in (1, 2):
            protocol.data_received(GET)
            await turns()
            assert len(transport.writes) == count and transport.writes[-1].endswith(b"\r\n\r\nok")


async def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    more = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await more.wait()
        await send(body(b"first", True))
        await send(body(b"second", True))
        await send(body(b""))

    async with serving(app) as (protocol, transport):
        protocol.data_received(GET)
        await turns()
        (head,) = transport.writes
        assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")
        more.set()
        await turns()
        assert transport.writes[1:] == [b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"]


async def test_an_answer_that_is_cut_short_still_has_its_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        raise ValueError("a defect")

    async with serving(app) as (protocol, transport):
        protocol.data_received(GET)
        await turns()
        assert transport.closed and b"".join(transport.writes).startswith(b"HTTP/1.1 200")


async def test_nothing_is_written_to_a_connection_that_is_gone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        transport.close()

    async with serving(app) as (protocol, transport):
        protocol.data_received(GET)
        await turns()
        assert transport.writes == []


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_an_answer_without_a_body_is_written(method: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send(body(b""))

    async with serving(app) as (protocol, transport):
        protocol.data_received(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
        await turns()
        assert b"".join(transport.writes).startswith(b"HTTP/1.1 204")


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it_before_the_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start((b"content-length", b"2")))
        await send(body(b"ok"))

    async with serving(app) as (protocol, transport):
        protocol.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n")
        await turns()
        assert b"".join(transport.writes).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        protocol.data_received(b"x")
        await turns()
        assert b"HTTP/1.1 200 OK" in b"".join(transport.writes)
