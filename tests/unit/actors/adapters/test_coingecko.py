"""The price source's answers: what is a price, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import httpx
import pytest

from satmeter.actors.adapters.coingecko import CoinGecko
from satmeter.actors.ports import TransientError

URL = "https://prices.test/api/v3/simple/price?ids=bitcoin&vs_currencies=usd"


async def fetched(handler: Callable[[httpx.Request], httpx.Response] | httpx.AsyncBaseTransport) -> Decimal:
    transport = handler if isinstance(handler, httpx.AsyncBaseTransport) else httpx.MockTransport(handler)
    source = CoinGecko(URL, transport=transport, timeout_s=0.05)
    try:
        return await source.fetch()
    finally:
        await source.close()


def saying(body: str | bytes, status: int = 200) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, content=body)


@pytest.mark.parametrize("text", ["67187.33589365526", "100000", "0.1", "1e5", "-1", "67187.335893655260000001"])
async def test_a_price_is_taken_digit_by_digit(text: str) -> None:
    price = await fetched(saying(f'{{"bitcoin": {{"usd": {text}, "usd_24h_vol": 1.5}}}}'))
    assert str(price) == str(Decimal(text))


async def test_the_configured_address_is_asked() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"bitcoin": {"usd": 1}})

    await fetched(handler)
    assert asked == [URL]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "{}",
        "5",
        "null",
        '{"bitcoin": null}',
        '{"bitcoin": {}}',
        '{"bitcoin": []}',
        '{"bitcoin": {"eur": 5}}',
        '{"bitcoin": {"usd": "100000"}}',
        '{"bitcoin": {"usd": null}}',
        '{"bitcoin": {"usd": true}}',
        '{"bitcoin": {"usd": NaN}}',
        '{"bitcoin": {"usd": Infinity}}',
        '{"bitcoin": {"usd": [1]}}',
        b"\xff\xfe\xfd",
        "[" * 4_000,
        '{"bitcoin": {"usd": 1}}' + " " * 5_000,
    ],
)
async def test_anything_else_is_a_transient_failure(body: str | bytes) -> None:
    with pytest.raises(TransientError):
        await fetched(saying(body))


@pytest.mark.parametrize("status", [204, 400, 403, 404, 429, 500, 503])
async def test_every_other_status_is_a_transient_failure(status: int) -> None:
    with pytest.raises(TransientError, match=str(status)):
        await fetched(saying('{"bitcoin": {"usd": 1}}', status))


@pytest.mark.parametrize(
    ("told", "wait_s"), [("120", 120.0), ("999999", 3_600.0), ("soon", None), ("-1", None), (None, None)]
)
async def test_a_refusal_tells_when_to_come_back(told: str | None, wait_s: float | None) -> None:
    headers = {"Retry-After": told} if told is not None else {}
    with pytest.raises(TransientError) as caught:
        await fetched(lambda _: httpx.Response(429, headers=headers))
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.TooManyRedirects("x")])
async def test_a_broken_connection_is_a_transient_failure(error: Exception) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(TransientError):
        await fetched(handler)


class _Trickling(httpx.AsyncByteStream):
    """Sends a byte whenever it is asked, and never ends: no single read takes long."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.Event().wait()


async def test_the_time_limit_holds_for_the_whole_fetch_not_for_each_read() -> None:
    with pytest.raises(TransientError, match="TimeoutError"):
        await fetched(lambda request: httpx.Response(200, stream=_Trickling()))


class _Endless(httpx.AsyncByteStream):
    """A body that would fill the memory."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.sent_bytes += 1_024
            yield b" " * 1_024


async def test_a_body_without_end_is_given_up_after_a_few_kilobytes() -> None:
    endless = _Endless()
    with pytest.raises(TransientError, match="too long"):
        await fetched(lambda request: httpx.Response(200, stream=endless))
    assert endless.sent_bytes < 10_000


async def test_a_failure_does_not_tell_the_address_which_may_hold_a_key() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"can't connect to {request.url}")

    with pytest.raises(TransientError) as caught:
        await fetched(handler)
    assert "prices.test" not in str(caught.value)


async def test_a_redirect_is_followed_but_never_out_of_tls() -> None:
    asked: list[str] = []

    def to(where: str) -> Callable[[httpx.Request], httpx.Response]:
        def handler(request: httpx.Request) -> httpx.Response:
            asked.append(str(request.url))
            if request.url.path == "/moved":
                return httpx.Response(200, content='{"bitcoin": {"usd": 1}}')
            return httpx.Response(302, headers={"Location": where})

        return handler

    assert await fetched(to("https://other.test/moved")) == Decimal(1)
    asked.clear()
    with pytest.raises(TransientError):
        await fetched(to("http://prices.test/moved"))
    assert asked == [URL]
