"""Clients that send heads slowly or without end, take no answers, or hold connections: on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from satmeter.http.edge.connections import Connections, Patience, welcome
from satmeter.http.edge.limits import Rate, Rates
from satmeter.http.edge.shares import Caps
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Listening, converse, listening
from tests.helpers.patience import PATIENCE_S

QUICK = Patience(head_s=0.2, idle_s=0.2, rest_s=0.2, stall_s=0.2, look_s=0.02)
# Longer than any test waits: what ends a connection then is not this.
LONG_S = 4 * PATIENCE_S
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without reading the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


class Endless:
    """An application whose answer has no end; `ended` once it was told that its client is gone."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(self._gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not self.ended.is_set():
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
            await asyncio.sleep(0)
        await gone

    async def _gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.ended.set()


@asynccontextmanager
async def serving(
    app: Any = hello, caps: Caps | None = None, **patience: Any
) -> AsyncIterator[tuple[Listening, Connections]]:
    connections = Connections(caps or Caps(100, 100, 100), patience=QUICK._replace(**patience))
    async with listening(app, connections) as server:
        yield server, connections


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the connection ends, in order or by a reset."""
    read = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while part := await reader.read(65_536):
                read += part
    return read


async def test_a_head_that_is_half_sent_is_a_408() -> None:
    async with serving(idle_s=LONG_S) as (server, connections):
        answer = await converse(server.port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: y", until_closed=True)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer and b"connection: close" in answer
        await until(lambda: _none_left(connections))


async def test_a_second_head_that_is_half_sent_is_a_408_too() -> None:
    async with serving(idle_s=LONG_S) as (server, _):
        answer = await converse(server.port, GET + b"GET / HTTP/1.1\r\n", until_closed=True)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 408 " in answer


async def test_a_head_may_not_trickle() -> None:
    async with serving(idle_s=LONG_S) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        trickle = Trickle(writer)
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 408 ")
        trickle.end()


class Trickle:
    """A client that sends a byte now and again."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._send()

    def _send(self) -> None:
        self._writer.write(b"X")
        self._timer = asyncio.get_running_loop().call_later(0.01, self._send)

    def end(self) -> None:
        self._timer.cancel()
        self._writer.close()


@pytest.mark.parametrize("sent", [b"", GET], ids=["nothing sent", "one request"])
async def test_a_connection_without_a_request_is_closed(sent: bytes) -> None:
    async with serving() as (server, connections):
        answer = await converse(server.port, sent, until_closed=True)
        assert answer.startswith(b"HTTP/1.1 200 ") if sent else answer == b""
        await until(lambda: _none_left(connections))


async def test_the_rest_of_a_body_that_was_answered_may_not_trickle() -> None:
    async with serving(idle_s=LONG_S, head_s=LONG_S) as (server, _):
        sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        trickle = Trickle(writer)
        assert (await rest_of(reader)).endswith(b"hello")
        trickle.end()


ENDLESS = {
    "a value": b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
    "a path": b"GET /",
    "a name": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "a trailer": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
    "a chunk's extension": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_has_no_end_in_a_head_is_a_431_before_memory_grows(name: str) -> None:
    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if message["type"] == "http.request":
            await hello(scope, receive, send)

    async with serving(reads, head_s=LONG_S) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ENDLESS[name])
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not writer.is_closing() and sent_bytes < 40_000_000:
                writer.write(b"x" * 10_000)
                await writer.drain()
                await asyncio.sleep(0)
                sent_bytes += 10_000
                if reader._buffer:  # type: ignore[attr-defined]
                    break
        assert (await rest_of(reader)).startswith(b"HTTP/1.1 431 ")
        writer.close()
    assert sent_bytes < 20_000_000


async def test_a_trailer_changes_nothing_in_a_request() -> None:
    seen = []

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.append([name for name, _ in scope["headers"]])
        await hello(scope, receive, send)

    body = b"1\r\nx\r\n0\r\nAuthorization: Bearer another\r\n\r\n"
    async with serving(reads) as (server, _):
        await converse(server.port, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body, until_closed=True)
    assert seen == [[b"transfer-encoding"]]


async def test_thousands_of_requests_in_one_packet_are_not_kept() -> None:
    begun = []

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    async with serving(waits, head_s=LONG_S) as (server, connections):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET * 3_000)
        await until(lambda: _refused(connections))
        (connection,) = cast(Any, connections._watched)
        assert len(connection.pipeline) <= 16
        writer.close()
        await until(lambda: _none_left(connections))
    assert len(begun) == 1


async def test_a_client_that_takes_no_answer_is_cut_off() -> None:
    app = Endless()
    async with serving(app, idle_s=LONG_S) as (server, connections):
        reader, writer = await _narrow(server.port)
        writer.write(GET)
        await asyncio.wait_for(app.ended.wait(), PATIENCE_S)
        await until(lambda: _none_left(connections))
        assert app.ended.is_set() and connections.total == 0
        writer.close()
        del reader


async def test_a_client_that_takes_its_answer_is_not_cut_off() -> None:
    app = Endless()
    async with serving(app, idle_s=LONG_S) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 6 * QUICK.stall_s
        while loop.time() < until_s:
            await reader.readexactly(65_536)
        assert not app.ended.is_set()
        writer.close()


async def _narrow(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose client reads nothing by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1_024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return reader, writer


async def test_nothing_is_kept_of_a_connection_that_has_ended() -> None:
    async with serving(idle_s=LONG_S, head_s=LONG_S) as (server, connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"x" * 5_000)
        await reader.readuntil(b"hello")
        assert [cast(Any, protocol).cycle.body for protocol in connections._watched] == [b""]
        await _is_let_go(connections, writer)


async def test_nothing_is_kept_of_requests_that_waited_behind_one_another() -> None:
    async with serving(Ask(), idle_s=LONG_S, head_s=LONG_S) as (server, connections):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(3 * b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: _wait_behind(connections, 2))
        await _is_let_go(connections, writer)


async def _is_let_go(connections: Connections, writer: asyncio.StreamWriter) -> None:
    """Closes the only connection, and waits until nothing holds it any more. The collector does not help."""
    kept = weakref.ref(next(iter(connections._watched)))
    gc.disable()
    try:
        writer.close()
        await until(lambda: _gone(kept))
    finally:
        gc.enable()


async def _wait_behind(connections: Connections, count: int) -> bool:
    return any(len(cast(Any, protocol).pipeline) == count for protocol in connections._watched)


async def _gone(kept: weakref.ref[Any]) -> bool:
    return kept() is None


async def test_one_address_has_so_many_connections_and_no_more() -> None:
    async with serving(caps=Caps(2, 2, 10), idle_s=LONG_S, head_s=LONG_S) as (server, connections):
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await until(lambda: _are(connections, 2))
        answer = await converse(server.port, b"", until_closed=True)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b'"code":"rate_limited"' in answer and b"retry-after: 5" in answer
        held[0][1].close()
        await until(lambda: _are(connections, 1))
        assert (await converse(server.port, LAST, until_closed=True)).endswith(b"hello")
        held[1][1].close()


async def test_strangers_who_hold_all_connections_of_a_payers_address_give_way_to_it() -> None:
    async with serving(Ask(), caps=Caps(3, 3, 10), idle_s=LONG_S, head_s=LONG_S) as (server, connections):
        payer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await Ask.asked(payer, b"/paid")
        # One that only holds its connection, one with half a head, and one whose answer never comes.
        strangers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        strangers[0][1].write(b"GET /waits HTTP/1.1\r\n\r\n")
        await until(lambda: _busy(connections))
        strangers[1][1].write(b"GET / HTTP/1.1\r\n")
        again = await asyncio.open_connection("127.0.0.1", server.port)
        assert await Ask.asked(again, b"/paid")
        assert await rest_of(strangers[1][0]) == b""
        third = await asyncio.open_connection("127.0.0.1", server.port)
        assert await Ask.asked(third, b"/paid")
        assert await rest_of(strangers[0][0]) == b""
        # All of the address have paid now, and none of those gives way.
        assert (await converse(server.port, b"", until_closed=True)).startswith(b"HTTP/1.1 429 ")
        for connection in (payer, again, third):
            assert await Ask.asked(connection, b"/free")
        for _, writer in (payer, again, third, *strangers):
            writer.close()


class Ask:
    """An application that is paid for `/paid`, and answers all but `/waits`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/paid":
            welcome(scope)
        while scope["path"] == "/waits" and (await receive())["type"] != "http.disconnect":
            pass
        await hello(scope, receive, send)

    @staticmethod
    async def asked(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: bytes) -> bool:
        connection[1].write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            return (await connection[0].readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


async def _busy(connections: Connections) -> bool:
    return any(connection._answering for connection in cast(Any, connections._watched))


async def test_a_front_that_is_full_says_so_and_goes_on_to_accept() -> None:
    async with serving(caps=Caps(5, 5, 1), idle_s=LONG_S, head_s=LONG_S) as (server, connections):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: _are(connections, 1))
        for _ in range(3):
            answer = await converse(server.port, b"", until_closed=True)
            assert answer.startswith(b"HTTP/1.1 503 ") and b'"code":"overloaded"' in answer
        writer.close()
        await until(lambda: _none_left(connections))
        assert (await converse(server.port, LAST, until_closed=True)).startswith(b"HTTP/1.1 200 ")


async def test_new_connections_are_bounded_by_their_rate_and_turned_away_unread() -> None:
    rates = Rates.of(Rate(0.001, 3), Rate(1_000, 1_000))
    connections = Connections(Caps(100, 100, 100), (), QUICK, rates)
    async with listening(hello, connections) as server:
        answers = [await converse(server.port, LAST, until_closed=True) for _ in range(3)]
        assert [answer[9:12] for answer in answers] == [b"200"] * 3
        assert (await converse(server.port, b"", until_closed=True)).startswith(b"HTTP/1.1 429 ")
        connections._welcome["127.0.0.1"] = None
        assert (await converse(server.port, LAST, until_closed=True)).endswith(b"hello")


async def test_connections_of_a_trusted_proxy_are_not_one_clients() -> None:
    connections = Connections(Caps(1, 1, 10), ["127.0.0.1"], QUICK)
    async with listening(hello, connections) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        await until(lambda: _are(connections, 5))
        assert connections.total == len(held)
        for _, writer in held:
            writer.close()


async def _refused(connections: Connections) -> bool:
    return any(connection._deaf for connection in cast(Any, connections._watched))


async def _none_left(connections: Connections) -> bool:
    return connections.total == 0


async def _are(connections: Connections, number: int) -> bool:
    return connections.total == number
