"""The exchange with a node's HTTP API: bounded, and silent about keys."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from satmeter.actors.adapters.lightning.http_exchange import Answer, HttpExchange
from satmeter.actors.ports import PermanentError, PortError, TransientError

KEY = "5ec2e7key0of0the0node"
Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]


def own_words(body: bytes) -> str | None:
    return body[5:].decode() if body.startswith(b"node:") else None


@asynccontextmanager
async def exchange_with(handler: Handler, timeout_s: float = 5) -> AsyncIterator[HttpExchange]:
    http = HttpExchange(
        "http://node.invalid/base",
        secrets=[KEY, ""],
        detail_of=own_words,
        timeout_s=timeout_s,
        connections=2,
        transport=httpx.MockTransport(handler),  # type: ignore[arg-type]  # it takes both kinds of functions
    )
    try:
        yield http
    finally:
        await http.close()


def answering(answer: httpx.Response | Exception) -> Handler:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


async def never(request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_request_is_sent_as_it_was_given() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(418, content=b"tea", headers={"Retry-After": "7"})

    async with exchange_with(handle) as http:
        answer = await http.ask("POST", "/pay", headers={"Key": KEY}, form={"invoice": "lnbc1", "n": "2"})
        await http.ask("GET", http.url("/list"), params={"n": "5"})
    assert answer == Answer(418, b"tea", 7.0)
    assert str(seen[0].url) == "http://node.invalid/base/pay" and seen[0].content == b"invoice=lnbc1&n=2"
    assert seen[0].headers["Key"] == KEY and seen[0].headers["Accept"] == "application/json"
    assert str(seen[1].url) == "http://node.invalid/base/list?n=5"


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError(KEY),
        httpx.LocalProtocolError(KEY),
        httpx.InvalidURL(KEY),
        httpx.DecodingError(""),
    ],
)
async def test_a_call_that_breaks_may_work_later_and_shows_no_key(fault: Exception) -> None:
    async with exchange_with(answering(fault)) as http:
        with pytest.raises(TransientError) as caught:
            await http.ask("GET", "/")
        assert KEY not in "".join(traceback.format_exception(caught.value))
        with pytest.raises(TransientError) as caught:
            await anext(http.lines("GET", "/"))
        assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_a_time_out_covers_the_wait_for_the_turn() -> None:
    turn = asyncio.Lock()
    async with exchange_with(never, timeout_s=0.02) as http:
        with pytest.raises(TransientError, match="TimeoutError"):
            await http.ask("GET", "/", turn=turn)
        assert not turn.locked()
        async with turn:
            with pytest.raises(TransientError, match="TimeoutError"):
                await http.ask("GET", "/", turn=turn)


async def test_a_call_may_have_a_time_out_of_its_own() -> None:
    async with exchange_with(never, timeout_s=60) as http:
        with pytest.raises(TransientError, match="TimeoutError"):
            await http.ask("GET", "/", timeout_s=0.01)


async def test_an_answer_without_an_end_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_048_576

    for path in ("ask", "lines"):
        async with exchange_with(answering(httpx.Response(200, content=endless()))) as http:
            with pytest.raises(TransientError, match="rubbish"):
                await (http.ask("GET", "/") if path == "ask" else anext(http.lines("GET", "/")))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", PermanentError),
        (403, b"<html>", PermanentError),
        (400, b"node:no", PermanentError),
        (404, b"node:no", PermanentError),
        (404, b"<html>", TransientError),
        (408, b"node:no", TransientError),
        (429, b"node:no", TransientError),
        (301, b"node:no", TransientError),
        (500, b"node:no", TransientError),
        (503, b"", TransientError),
    ],
)
async def test_only_the_nodes_own_refusal_is_for_good(status: int, body: bytes, kind: type[PortError]) -> None:
    answer = Answer(status, body, 3.0)
    async with exchange_with(never) as http:
        assert http.good(Answer(201, body, None)) == body
        with pytest.raises(kind) as caught:
            http.good(answer)
        if isinstance(caught.value, TransientError):
            assert caught.value.retry_after_s == 3.0


async def test_what_the_node_says_is_told_in_short_and_without_keys() -> None:
    async with exchange_with(never) as http:
        said = http.said(Answer(400, f"node:not with {KEY}{'x' * 9_000}".encode(), None))
    assert "not with [key]x" in said and len(said) < 300


async def test_lines_come_one_by_one_however_they_were_cut() -> None:
    async def bits() -> AsyncIterator[bytes]:
        for bit in (b'{"a"', b":1}\n\n", b'{"a":2}\n{"a":3}', b"\n", b"rest"):
            yield bit

    async with exchange_with(answering(httpx.Response(200, content=bits()))) as http:
        assert [line async for line in http.lines("GET", "/")] == [b'{"a":1}', b'{"a":2}', b'{"a":3}', b"rest"]


async def test_lines_of_a_refusal_are_its_error() -> None:
    async with exchange_with(answering(httpx.Response(403, content=b"node:no right"))) as http:
        with pytest.raises(PermanentError, match="no right"):
            await anext(http.lines("GET", "/"))


async def test_a_stream_that_is_silent_for_long_ends_without_an_error() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"a":1}\n'
        raise httpx.ReadTimeout("silence")

    async with exchange_with(answering(httpx.Response(200, content=body()))) as http:
        assert [line async for line in http.lines("GET", "/", silence_s=60)] == [b'{"a":1}']


async def test_the_first_line_of_a_stream_that_stays_open_is_an_answer_of_any_status() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'\n{"a":'
        yield b'1}\n{"a":2}\n'
        await asyncio.Event().wait()

    async with exchange_with(answering(httpx.Response(404, content=body()))) as http:
        assert await http.ask("GET", "/", first_line=True) == Answer(404, b'{"a":1}', None)
    async with exchange_with(answering(httpx.Response(200, content=b""))) as http:
        assert await http.ask("GET", "/", first_line=True) == Answer(200, b"", None)


async def test_a_first_line_that_does_not_come_is_given_up_in_time() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"a":'
        await asyncio.Event().wait()

    async with exchange_with(answering(httpx.Response(200, content=body())), timeout_s=0.05) as http:
        with pytest.raises(TransientError):
            await http.ask("GET", "/", first_line=True)
