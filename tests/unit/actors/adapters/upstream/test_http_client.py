"""The HTTP client against a server that misbehaves: what failed, whether it was sent, and that nothing is quoted."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from satmeter.actors.adapters.upstream import http_client
from satmeter.actors.adapters.upstream.http import NotSentError, SentUnknownError, SilentServerError
from tests.helpers.http.raw_server import END, HEAD, Peer, RawServer, raw_server
from tests.helpers.http.upstream import BODY, KEY, PATIENCE_S, SECRET, SILENCE_S, body_of, client, exchange, failure_of

# What it sends and gives


async def test_it_sends_what_it_is_told_and_nothing_of_its_own_that_matters() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"ok", "200 OK", "request-id: req_1", "Set-Cookie: a=b")
        await peer.request()
        await peer.answer(b"again")

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url + "?beta=true", KEY | {"user-agent": "ours"}, BODY)
        assert (answer.status, answer.headers["Request-ID"]) == (200, "req_1")
        assert await body_of(answer) == b"ok"
        assert await exchange(server, made) == b"again"
    first, second = (request.decode().lower().split("\r\n") for request in server.requests)
    assert first[0] == "post /v1/messages?beta=true http/1.1" and first[-1] == BODY.decode()
    assert f"x-api-key: {SECRET}" in first and "user-agent: ours" in first
    # Else a server may compress the answer, whose bytes go to the client as they are.
    assert "accept-encoding: identity" in first
    # The connection was used again, and no cookie was kept.
    assert server.connections == 1 and not any(line.startswith(("cookie", "user-agent")) for line in second)


@pytest.mark.parametrize(("body", "connections"), [(b'{"stream": true}', 3), (b'{"stream": false}', 1)])
async def test_the_connection_of_a_stream_is_not_used_again_without_tls(body: bytes, connections: int) -> None:
    """A server that closes it after the stream would do so just while the next call is written."""

    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.answer()

    async with raw_server(serve) as server, client() as made:
        for _ in range(3):
            assert await body_of(await made.post(server.url, KEY, body)) == b"ok"
        assert server.connections == connections


@pytest.mark.parametrize("status", ["302 Found", "401 Unauthorized", "429 Too Many Requests", "503 Unavailable"])
async def test_every_status_is_an_answer(status: str) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"{}", status, "location: /elsewhere", "retry-after: 3")

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        assert (answer.status, answer.headers["retry-after"]) == (int(status[:3]), "3")
        assert await body_of(answer) == b"{}"
        assert len(server.requests) == 1


async def test_a_compressed_answer_is_given_as_it_came() -> None:
    packed = bytes.fromhex("1f8b0800000000000003cb480500acbcbc1f03000000")

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer(packed, "200 OK", "content-encoding: gzip")

    async with raw_server(serve) as server, client() as made:
        assert await exchange(server, made) == packed


async def test_each_chunk_is_given_when_it_comes() -> None:
    taken: asyncio.Queue[None] = asyncio.Queue()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        for number in range(3):
            await peer.chunk(b"event %d" % number)
            await taken.get()
        await peer.send(END)
        await peer.until_gone()

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        found = []
        async for chunk in answer.chunks():
            found.append(chunk)
            taken.put_nowait(None)
        await answer.aclose()
    assert found == [b"event 0", b"event 1", b"event 2"]


async def test_many_calls_at_once_wait_for_no_connection() -> None:
    arrived, all_there = 0, asyncio.Event()

    async def serve(peer: Peer) -> None:
        nonlocal arrived
        await peer.request()
        arrived += 1
        if arrived == 150:
            all_there.set()
        await all_there.wait()
        await peer.answer()

    async with raw_server(serve) as server, client() as made:
        assert set(await asyncio.gather(*[exchange(server, made) for _ in range(150)])) == {b"ok"}


# What fails before anything is sent


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "http://no.such.host.invalid/", "http:///x", "ftp://a/", "http://a:b/"]
)
async def test_a_server_that_cannot_be_reached_was_sent_nothing(url: str, unused_tcp_port: int) -> None:
    async with client() as made:
        failure = await failure_of(made.post(url.format(port=unused_tcp_port), KEY, BODY))
    assert isinstance(failure, NotSentError)


async def test_connecting_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> object:
        return await asyncio.Event().wait()

    async with client(connect_s=0.05) as made:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        failure = await failure_of(made.post("http://a.test/", KEY, BODY))
    assert isinstance(failure, NotSentError) and "ConnectionTimeoutError" in str(failure)


async def test_a_handshake_that_falls_silent_is_part_of_connecting() -> None:
    async def serve(peer: Peer) -> None:
        await peer.until_gone()

    async with raw_server(serve) as server, client(connect_s=0.05) as made:
        assert isinstance(await failure_of(made.post(f"https://127.0.0.1:{server.port}/", KEY, BODY)), NotSentError)


async def test_a_kept_connection_that_is_closed_before_the_first_byte_was_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library finds it out when it writes. A text that it changes would make the outcome unknown, not certain."""
    from aiohttp import http_writer

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.until_gone()

    write = http_writer.StreamWriter.write

    async def closed(writer: http_writer.StreamWriter, *args: Any, **kwargs: Any) -> None:
        assert writer.transport is not None
        writer.transport.close()
        await write(writer, *args, **kwargs)

    async with raw_server(serve) as server, client() as made:
        assert await exchange(server, made) == b"ok"
        monkeypatch.setattr(http_writer.StreamWriter, "write", closed)
        failure = await failure_of(made.post(server.url, KEY, BODY))
        assert isinstance(failure, NotSentError) and len(server.requests) == 1


# What may have been sent


async def closes_at_accept(peer: Peer) -> None:
    peer.writer.close()


async def resets_at_accept(peer: Peer) -> None:
    peer.reset()


async def closes_after_reading(peer: Peer) -> None:
    await peer.request()


async def resets_after_reading(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def closes_in_the_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD[:30])


async def sends_garbage(peer: Peer) -> None:
    await peer.request()
    await peer.send(f"\x00\x01 {SECRET}\r\n\r\n".encode())


async def sends_a_huge_header(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nx: " + SECRET.encode() * 40_000 + b"\r\n\r\n")


async def sends_too_many_headers(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(5_000)) + b"\r\n")


@pytest.mark.parametrize(
    "serve",
    [
        closes_at_accept,
        resets_at_accept,
        closes_after_reading,
        resets_after_reading,
        closes_in_the_head,
        sends_garbage,
        sends_a_huge_header,
        sends_too_many_headers,
    ],
)
async def test_what_breaks_off_after_connecting_may_have_been_sent(serve: Callable[[Peer], Awaitable[None]]) -> None:
    async with raw_server(serve) as server, client() as made:
        failure = await failure_of(made.post(server.url, KEY, BODY))
        assert type(failure) is SentUnknownError
        # Nothing is sent a second time by the library.
        assert server.connections == 1


async def test_a_kept_connection_that_breaks_off_under_a_call_may_have_brought_it() -> None:
    """The money of a second call: the library sends nothing again by itself."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.reader.read(1)
        peer.reset()

    async with raw_server(serve) as server, client() as made:
        assert await exchange(server, made) == b"ok"
        assert type(await failure_of(made.post(server.url, KEY, BODY))) is SentUnknownError
        assert (server.connections, len(server.requests)) == (1, 1)


async def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used() -> None:
    closed = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        peer.writer.close()
        closed.set()

    async with raw_server(serve) as server, client() as made:
        for number in range(1, 4):
            closed.clear()
            assert await exchange(server, made) == b"ok"
            await closed.wait()
            assert server.connections == number


async def test_nor_one_that_was_closed_while_this_loop_was_busy() -> None:
    """The loop has not seen it when the call begins, and would write to it: nobody would know who read that."""
    closed, connections = threading.Event(), []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connections.append(connection)
                while SECRET.encode() + b'"}' not in connection.recv(65_536):
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            closed.set()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    server = RawServer(listener.getsockname()[1])
    async with client() as made:
        assert await exchange(server, made) == b"ok"
        # The loop stands still meanwhile.
        assert closed.wait(PATIENCE_S)
        assert await exchange(server, made) == b"ok"
    assert len(connections) == 2
    serving.join(PATIENCE_S)
    listener.close()


def chunked(*chunks: bytes) -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        (chunked(b"so far"), b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nso far", b""),
        (chunked(b"so far"), b"zz is not a size\r\n"),
    ],
    ids=["chunked", "by length", "garbage"],
)
async def test_a_body_that_breaks_off_is_told_after_what_came(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, rest: bytes
) -> None:
    """The library lets the reader of a body wait in which it can't read on."""
    monkeypatch.setattr(http_client, "_LOOK_S", 0.02)
    begun = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await begun.wait()
        await peer.send(rest)

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        found = []

        async def read() -> None:
            async for chunk in answer.chunks():
                found.append(chunk)
                begun.set()

        assert type(await failure_of(read())) is SentUnknownError
        assert found == [b"so far"]
        await answer.aclose()


@pytest.mark.parametrize("end", [END, b""], ids=["ended", "broken off"])
async def test_a_reader_that_takes_its_time_gets_all_that_came(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(http_client, "_LOOK_S", 0.01)
    gone = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"so far") + end)
        await gone.wait()

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        await waited(0.05)
        assert await anext(answer.chunks()) == b"so far"
        gone.set()
        await answer.aclose()


# Silence


async def test_a_server_that_says_nothing_is_silent() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.until_gone()

    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        assert type(await failure_of(made.post(server.url, KEY, BODY))) is SilentServerError
        await asyncio.wait_for(server.gone.wait(), PATIENCE_S)


async def test_a_server_that_does_not_read_is_silent() -> None:
    """The library's own clock begins when all is written, which would be never."""

    async def serve(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await release.wait()

    release = asyncio.Event()
    large = b"x" * (1 << 20)
    async with raw_server(serve) as server, client(silence_s=SILENCE_S, connect_s=SILENCE_S) as made:
        socketless = made.post(server.url, KEY, large * 16)
        with pytest.warns(ResourceWarning, match="large body"):
            assert type(await failure_of(socketless)) is SilentServerError
        release.set()


async def test_a_body_that_falls_silent_is_told_after_what_came() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"so far"))
        await peer.until_gone()

    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        answer = await made.post(server.url, KEY, BODY)
        chunks = answer.chunks()
        assert await anext(chunks) == b"so far"
        assert type(await failure_of(anext(chunks))) is SilentServerError
        await answer.aclose()
        await asyncio.wait_for(server.gone.wait(), PATIENCE_S)


async def test_each_byte_ends_a_silence() -> None:
    """Also those that make no chunk whole yet."""
    lasted_s = 0.0

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"14\r\n")
        for _ in range(20):
            await waited(SILENCE_S / 4)
            await peer.send(b"x")
        await peer.send(b"\r\n" + END)
        await peer.until_gone()

    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        began_s = time.monotonic()
        assert await exchange(server, made) == b"x" * 20
        lasted_s = time.monotonic() - began_s
    assert lasted_s > 4 * SILENCE_S


async def waited(seconds: float) -> None:
    """Let real time pass, as a slow server does."""
    loop = asyncio.get_running_loop()
    passed = asyncio.Event()
    loop.call_later(seconds, passed.set)
    await passed.wait()
