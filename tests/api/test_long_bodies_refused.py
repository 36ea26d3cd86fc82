"""Bodies of more bytes than are read: their clients, which are still sending, see the answer and not a reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from satmeter.http.edge.connections import Connections, Patience
from satmeter.http.edge.limits import Rate, Rates
from satmeter.http.edge.shares import Caps
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api, Listening, listening
from tests.helpers.http.messages import Shop, shop_over
from tests.helpers.patience import PATIENCE_S

MIB = 1_048_576
PATIENT = Patience(head_s=99, idle_s=99, rest_s=0.2, linger_s=99, stall_s=99, look_s=0.02)


class Refuses:
    """An application that answers without reading. `closes`: the answer says that it is the connection's last."""

    def __init__(self, *, closes: bool) -> None:
        self.asked: list[str] = []
        self._headers = [(b"content-length", b"3"), *([(b"connection", b"close")] if closes else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 401, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"no!", "more_body": False})


@asynccontextmanager
async def serving(
    app: Any, rests: Rates | None = None, **patience: Any
) -> AsyncIterator[tuple[Listening, Connections]]:
    connections = Connections(Caps(100, 100, 100), patience=PATIENT._replace(**patience), rests=rests)
    async with listening(app, connections) as server:
        yield server, connections


class Talker:
    """A client that sends all it has before it looks for an answer."""

    def __init__(self, port: int, head: str, size_bytes: int, rest: bytes = b"") -> None:
        self.sent_bytes = 0
        self._to = ("127.0.0.1", port)
        self._head, self._size_bytes, self._rest = head, size_bytes, rest

    def _talk(self) -> bytes:
        with socket.create_connection(self._to, timeout=PATIENCE_S) as connection:
            connection.sendall(f"{self._head}Host: x\r\nContent-Length: {self._size_bytes}\r\n\r\n".encode())
            piece = bytes(65_536)
            while self.sent_bytes < self._size_bytes:
                self.sent_bytes += connection.send(piece[: self._size_bytes - self.sent_bytes])
            connection.sendall(self._rest)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
            return answer

    async def talk(self) -> bytes:
        """Return all that the server sent until it closed. Raises `ConnectionError` when it broke off."""
        return await asyncio.to_thread(self._talk)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("closes", [False, True])
async def test_a_client_that_looks_once_it_has_sent_all_gets_its_answer(version: str, closes: bool) -> None:
    async with serving(Refuses(closes=closes)) as (server, connections):
        answer = await Talker(server.port, f"POST / HTTP/{version}\r\n", 40 * MIB).talk()
        assert answer.startswith(b"HTTP/1.1 401 ") and answer.endswith(b"no!")
        await until(lambda: _none_left(connections))


@pytest.mark.parametrize("path", ["/jobs", "/v1/messages", "/nothing"])
async def test_a_stranger_is_told_at_once_that_the_connection_ends(api: Api, path: str) -> None:
    """A proxy that still passes on the body hears it while nothing breaks."""
    async with listening(api.app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {20 * MIB}\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        assert answer[9:12] == (b"404" if path == "/nothing" else b"413")
        assert answer.lower().count(b"connection: close\r\n") == 1
        for _ in range(20):
            writer.write(bytes(MIB))
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def test_an_unpaid_session_with_twenty_mib_gets_its_402(shop: Shop) -> None:
    opened = (await shop.api.http.post("/sessions", json={"amountSats": 500})).json()
    async with listening(shop.api.app) as server:
        head = f"POST /v1/messages HTTP/1.1\r\nX-Api-Key: {opened['macaroon']}\r\n"
        answer = await Talker(server.port, head, 20 * MIB).talk()
    assert answer.startswith(b"HTTP/1.1 402 ") and opened["depositInvoice"]["paymentRequest"].encode() in answer


@pytest.fixture
async def shop(redis: Any) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


@pytest.mark.parametrize("closes", [False, True])
async def test_what_is_thrown_away_is_bounded_for_each_address(closes: bool) -> None:
    rests = Rates.of(Rate(1.0, 2.0 * MIB), Rate(100.0 * MIB, 100.0 * MIB))
    async with serving(Refuses(closes=closes), rests) as (server, connections):
        talker = Talker(server.port, "POST / HTTP/1.1\r\n", 80 * MIB)
        with contextlib.suppress(ConnectionError):
            await talker.talk()
        # Beside what was thrown away, it fills the buffers of the system.
        assert talker.sent_bytes < 40 * MIB
        await until(lambda: _none_left(connections))


@pytest.mark.parametrize("closes", [False, True])
async def test_what_is_thrown_away_may_not_trickle(closes: bool) -> None:
    async with serving(Refuses(closes=closes), linger_s=0.2) as (server, connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert await reader.readuntil(b"no!")
        trickle = asyncio.create_task(_trickle(writer))
        await until(lambda: _none_left(connections))
        trickle.cancel()
        writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0)


@pytest.mark.parametrize("closes", [False, True])
async def test_a_request_behind_it_is_not_answered(closes: bool) -> None:
    app = Refuses(closes=closes)
    async with serving(app) as (server, connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {9 * MIB}\r\n\r\n".encode())
        await reader.readuntil(b"no!")
        (protocol,) = cast(Any, connections._watched)
        # In one piece with the end of the body, as the system may hand it over.
        protocol.data_received(bytes(9 * MIB) + b"POST /behind HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()
    assert app.asked == ["/"]


async def _none_left(connections: Connections) -> bool:
    return connections.total == 0
