"""Bodies that are fed to a taker: each piece when it comes, to its end, its breaking off or its silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from satmeter.actors.adapters.upstream import http_client
from satmeter.actors.adapters.upstream.http import SentUnknownError, SilentServerError
from satmeter.actors.adapters.upstream.http_client import AiohttpClient
from tests.helpers.http.certificates import contexts
from tests.helpers.http.raw_server import END, HEAD, Peer, RawServer, raw_server
from tests.helpers.http.upstream import BODY, KEY, PATIENCE_S, SILENCE_S, client, failure_of

SO_FAR = HEAD + b"6\r\nso far\r\n"
BY_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nso far"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\nso far"


class Taker:
    """Notes what it is given. `most`: it wants no more then. `fails`: what it raises at a piece."""

    def __init__(self, most: int = 1_000, fails: Exception | None = None) -> None:
        self.found: list[bytes] = []
        self.came = asyncio.Event()
        self._most = most
        self._fails = fails

    def __call__(self, piece: bytes) -> bool:
        self.found.append(piece)
        self.came.set()
        if self._fails is not None:
            raise self._fails
        return len(self.found) >= self._most


async def fed(server: RawServer, made: AiohttpClient, taker: Taker) -> bool:
    answer = await made.post(server.url, KEY, BODY)
    try:
        return await answer.feed(taker)
    finally:
        await answer.aclose()


async def test_each_piece_is_given_when_it_comes() -> None:
    taker = Taker()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        for number in range(3):
            await peer.chunk(b"event %d" % number)
            await taker.came.wait()
            taker.came.clear()
        await peer.send(END)
        await peer.until_gone()

    async with raw_server(serve) as server, client() as made:
        assert await fed(server, made, taker) is False
    assert taker.found == [b"event 0", b"event 1", b"event 2"]


@pytest.mark.parametrize("sent", [SO_FAR + END, UNTIL_CLOSED, BY_LENGTH.replace(b"100", b"6")])
async def test_what_came_with_the_head_is_given_too(sent: bytes) -> None:
    taker = Taker()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        await asyncio.wait_for(server.served.wait(), PATIENCE_S)
        assert await answer.feed(taker) is False
        await answer.aclose()
    assert b"".join(taker.found) == b"so far"


async def test_a_taker_that_wants_no_more_leaves_the_rest_to_be_read() -> None:
    taker = Taker(most=1)

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await taker.came.wait()
        await peer.send(b"4\r\nmore\r\n" + END)
        await peer.until_gone()

    async with raw_server(serve) as server, client() as made:
        answer = await made.post(server.url, KEY, BODY)
        assert await answer.feed(taker) is True
        assert [chunk async for chunk in answer.chunks()] == [b"more"]
        await answer.aclose()


async def test_a_rest_that_falls_silent_is_told() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await peer.until_gone()

    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        answer = await made.post(server.url, KEY, BODY)
        assert await answer.feed(Taker(most=1)) is True
        assert type(await failure_of(anext(answer.chunks()))) is SilentServerError
        await answer.aclose()


async def test_what_the_taker_raises_ends_the_call() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await peer.until_gone()

    async with raw_server(serve) as server, client() as made:
        with pytest.raises(LookupError, match="mine"):
            await fed(server, made, Taker(fails=LookupError("mine")))
        await asyncio.wait_for(server.gone.wait(), 1.0)


@pytest.mark.parametrize(
    ("sent", "rest"),
    [(SO_FAR, b""), (BY_LENGTH, b""), (SO_FAR, b"zz is not a size\r\n")],
    ids=["chunks", "length", "?"],
)
async def test_a_body_that_breaks_off_is_told_after_what_came(sent: bytes, rest: bytes) -> None:
    taker = Taker()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await taker.came.wait()
        await peer.send(rest)

    async with raw_server(serve) as server, client() as made:
        assert type(await failure_of(fed(server, made, taker))) is SentUnknownError
    assert taker.found == [b"so far"]


async def test_a_reset_is_told() -> None:
    taker = Taker()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await taker.came.wait()
        peer.reset()

    async with raw_server(serve) as server, client() as made:
        assert type(await failure_of(fed(server, made, taker))) is SentUnknownError


async def test_a_body_that_falls_silent_is_told_and_its_connection_closed() -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await peer.until_gone()

    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        began_s = time.monotonic()
        assert type(await failure_of(fed(server, made, Taker()))) is SilentServerError
        assert time.monotonic() - began_s >= SILENCE_S
        await asyncio.wait_for(server.gone.wait(), 1.0)


async def test_each_byte_ends_a_silence() -> None:
    """Also those that make no chunk whole yet, and however seldom the silence is looked at."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"14\r\n")
        for _ in range(20):
            await waited(SILENCE_S / 4)
            await peer.send(b"x")
        await peer.send(b"\r\n" + END)
        await peer.until_gone()

    taker = Taker()
    async with raw_server(serve) as server, client(silence_s=SILENCE_S) as made:
        assert await fed(server, made, taker) is False
    assert b"".join(taker.found) == b"x" * 20


async def test_a_connection_that_the_library_has_closed_unannounced_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_LOOK_S", 0.02)
    taker = Taker()

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await peer.until_gone()

    async with raw_server(serve) as server, client() as made:
        answer: Any = await made.post(server.url, KEY, BODY)
        feeding = asyncio.create_task(answer.feed(taker))
        await taker.came.wait()
        answer._response.connection.transport.abort()
        assert type(await failure_of(feeding)) is SentUnknownError
        await answer.aclose()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_connection_serves_another_call_after_a_fed_body(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], *, over_tls: bool
) -> None:
    async def serve(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD)
            for _ in range(3):
                await asyncio.sleep(0)
                await peer.chunk(b"event")
            await peer.send(END)

    async def work() -> None:
        ours, theirs = contexts(tmp_path)
        async with raw_server(serve, ours if over_tls else None) as server, client(tls=theirs) as made:
            for _ in range(3):
                taker = Taker()
                assert await fed(server, made, taker) is False
                assert b"".join(taker.found) == b"event" * 3
            assert server.connections == 1

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_cancelling_closes_the_connection_within_a_second(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], *, over_tls: bool
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(SO_FAR)
        await peer.until_gone()

    async def work() -> None:
        ours, theirs = contexts(tmp_path)
        taker = Taker()
        async with raw_server(serve, ours if over_tls else None) as server, client(tls=theirs) as made:
            feeding = asyncio.create_task(fed(server, made, taker))
            await taker.came.wait()
            feeding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await feeding
            await asyncio.wait_for(server.gone.wait(), 1.0)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


async def waited(seconds: float) -> None:
    """Let real time pass, as a slow server does."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, passed.set)
    await passed.wait()
