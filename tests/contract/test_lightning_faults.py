"""The LNbits client and a node that is down, slow, in trouble, or somebody else altogether."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.ports import PermanentError, TransientError
from tests.helpers.patience import PATIENCE_S
from tests.lnbits.answers import HASH, KEY, ORDER, Call, failure, node, saying

CALLS: dict[str, Call] = {
    "create_invoice": lambda node: node.create_invoice(ORDER),
    "lookup": lambda node: node.lookup(HASH),
    "settlements": lambda node: node.settlements(100),
    "check": lambda node: node.check(),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
async def test_a_node_that_is_down_is_a_transient_failure(call: Call) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"no route to {request.url} with {request.headers}")

    assert isinstance(await failure(call, handler), TransientError)


class _Silent(httpx.AsyncByteStream):
    """A body that begins and never goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.Event().wait()


@every_call
async def test_a_node_that_is_slow_is_given_up_in_time(call: Call) -> None:
    error = await failure(call, lambda request: httpx.Response(200, stream=_Silent()), timeout_s=0.05)
    assert isinstance(error, TransientError)


async def test_waiting_for_a_free_slot_counts_as_waiting_for_the_node() -> None:
    lightning = node(lambda request: httpx.Response(200, stream=_Silent()), timeout_s=0.05, concurrency=1)
    outcomes = await asyncio.gather(*(lightning.check() for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TransientError] * 3
    await lightning.close()


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    under_way, most = 0, 0
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            arrived.release()
            await go_on.wait()
            under_way -= 1
            return httpx.Response(500 if request.method == "POST" else 200, json={"balance": 0})

    lightning = LnbitsLightning("http://node.test", KEY, timeout_s=5, concurrency=2, transport=Transport())
    calls = [
        asyncio.ensure_future(call) for _ in range(5) for call in (lightning.check(), lightning.create_invoice(ORDER))
    ]
    async with asyncio.timeout(PATIENCE_S):
        await arrived.acquire()
        await arrived.acquire()
        go_on.set()
        await asyncio.gather(*calls, return_exceptions=True)
    assert most == 2
    await lightning.close()


class _Flood(httpx.AsyncByteStream):
    """A body without end."""

    sent_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            _Flood.sent_bytes += 1_048_576
            yield b" " * 1_048_576


@every_call
async def test_a_body_without_end_is_given_up(call: Call) -> None:
    _Flood.sent_bytes = 0
    assert isinstance(await failure(call, lambda request: httpx.Response(200, stream=_Flood())), TransientError)
    assert _Flood.sent_bytes < 20 * 1_048_576


@every_call
@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>502</html>",
        "null",
        "5",
        '"paid"',
        "{}",
        "[1]",
        "[{}]",
        '{"paid": "yes"}',
        '{"paid": 1, "details": {}}',
        '{"balance": "much"}',
        '[{"payment_hash": 1, "amount": "21000", "status": true}]',
        b"\xff\xfe",
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [200, 201])
async def test_rubbish_is_a_transient_failure(call: Call, status: int, text: str | bytes) -> None:
    assert isinstance(await failure(call, saying(status, text=text)), TransientError)


@every_call
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_a_permanent_failure(call: Call, status: int) -> None:
    error = await failure(call, saying(status, {"detail": f"Invalid key {KEY}"}))
    assert isinstance(error, PermanentError)
    assert "Invalid key" in str(error)


@every_call
async def test_a_body_that_does_not_fit_is_a_permanent_failure(call: Call) -> None:
    assert isinstance(await failure(call, saying(400, {"detail": [{"msg": "no"}]})), PermanentError)


@every_call
@pytest.mark.parametrize("status", [301, 307, 408, 425, 429, 500, 502, 503, 520])
async def test_a_node_in_trouble_is_a_transient_failure(call: Call, status: int) -> None:
    error = await failure(call, saying(status, {"detail": "retry", "status": "failed"}, Location="http://x.test"))
    assert isinstance(error, TransientError)
    assert str(status) in str(error)


@every_call
@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_proxy_s_page_is_transient_even_where_the_node_s_own_word_would_be_final(
    call: Call, status: int
) -> None:
    assert isinstance(await failure(call, saying(status, text="<html>not here</html>")), TransientError)


@pytest.mark.parametrize(("sent", "wait_s"), [("7", 7.0), ("86400", 60.0), ("soon", None), ("-1", None)])
async def test_the_node_s_wish_for_a_pause_is_passed_on_within_reason(sent: str, wait_s: float | None) -> None:
    error = await failure(CALLS["check"], saying(429, {"detail": "slow down"}, **{"Retry-After": sent}))
    assert isinstance(error, TransientError)
    assert error.retry_after_s == wait_s
