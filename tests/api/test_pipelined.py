"""Several requests on one connection, of which one can't be read, comes late, or loses its client."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

import pytest
from starlette.types import Receive, Scope, Send

from satmeter.http.edge.shares import Caps
from tests.api.test_slow_clients import GET, LONG_S, hello, rest_of, serving
from tests.helpers.http.fronts import converse
from tests.helpers.patience import PATIENCE_S

NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "many_headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    "large_head": b"GET / HTTP/1.1\r\nX: " + b"y" * 600_000,
    "no_body": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


class Paused:
    """An application that answers, whole or in pieces, once it may; `gone` once it was told that its client left."""

    def __init__(self, *, streams: bool = False) -> None:
        self._streams = streams
        self.asked = asyncio.Event()
        self.may = asyncio.Event()
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = [] if self._streams else [(b"content-length", b"8")]
        start = {"type": "http.response.start", "status": 200, "headers": length}
        if self._streams:
            await send(start)
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        self.asked.set()
        leaving = asyncio.create_task(self._leaving(receive))
        await self.may.wait()
        if not self._streams:
            await send(start)
        await send({"type": "http.response.body", "body": b"finished", "more_body": False})
        leaving.cancel()

    async def _leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


@pytest.mark.parametrize("name", NO_HTTP)
async def test_a_request_is_answered_before_what_comes_behind_it_is_refused(name: str) -> None:
    app = Paused()
    async with serving(app, head_s=LONG_S, idle_s=LONG_S) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET + GET + NO_HTTP[name])
        async with asyncio.timeout(PATIENCE_S):
            await app.asked.wait()
        app.may.set()
        answers = await rest_of(reader)
        writer.close()
    assert statuses(answers) in ([200, 200, 400], [200, 200, 431])
    assert answers.count(b"finished") == 2


@pytest.mark.parametrize("streams", [False, True])
async def test_half_a_head_does_not_end_the_answer_before_it(streams: bool) -> None:
    app = Paused(streams=streams)
    async with serving(app, idle_s=LONG_S, stall_s=LONG_S) as (server, connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET + b"GET / HT")
        async with asyncio.timeout(PATIENCE_S):
            await app.asked.wait()
            (connection,) = cast(Any, connections._watched)
            while not connection._deaf:
                await asyncio.sleep(0)
        app.may.set()
        answers = await rest_of(reader)
        writer.close()
    first, _, second = answers.partition(b"finished")
    assert first.startswith(b"HTTP/1.1 200 ") and (b"begun" in first) == streams
    assert statuses(second) == [408]


async def test_a_body_that_turns_out_to_be_none_gets_no_second_answer() -> None:
    async with serving(hello, idle_s=LONG_S) as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            first = await reader.readuntil(b"hello")
        writer.write(b"zz\r\n")
        rest = await rest_of(reader)
        writer.close()
    assert first.startswith(b"HTTP/1.1 200 ") and rest == b""


async def test_a_large_packet_that_can_t_be_read_gets_one_answer() -> None:
    async with serving(Paused(), head_s=LONG_S, idle_s=LONG_S) as (server, _):
        answer = await converse(server.port, b"\0" * 70_000, until_closed=True)
    assert len(statuses(answer)) == 1


async def test_the_request_under_way_learns_that_its_client_has_left_though_others_wait_behind_it() -> None:
    app = Paused(streams=True)
    async with serving(app, Caps(9, 9, 9), head_s=LONG_S, idle_s=LONG_S) as (server, _):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET + GET)
        async with asyncio.timeout(PATIENCE_S):
            await app.asked.wait()
            writer.close()
            assert await app.gone.wait()
        app.may.set()
