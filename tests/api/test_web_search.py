"""The provider's web search: held at the most that it can cost, charged by what was used, refused without a bound."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.scripts.receipts.receipt import check_digest, check_price, exact_json
from satmeter.scripts.receipts.usage import check_answer, check_usage
from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

Json = dict[str, Any]
SEARCH: Json = {"type": "web_search_20250305", "name": "web_search", "max_uses": 4}
CALL: Json = {"model": MODEL, "max_tokens": 1_000, "messages": HELLO, "tools": [SEARCH]}
USAGE: Json = {
    "input_tokens": 12_000,
    "output_tokens": 300,
    "cache_read_input_tokens": 7_000,
    "cache_creation_input_tokens": 6_000,
    "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0},
}
CONTENT: list[Json] = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sextant"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {"type": "text", "text": "It measures angles."},
]
MESSAGE: Json = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": CONTENT,
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
# Dollars a million tokens, and infrastructure, as msat before the margin; three searches at 10 dollars a thousand.
COST = math.ceil((12_000 * 2 + 300 * 10 + 7_000 * 0.1 + 6_000 * 2.5 + 500 + 30_000) * 1.4)
# Eleven times a million tokens, written to the cache; the answer; four searches.
MOST = math.ceil((11_000_000 * 2.5 + 1_000 * 10 + 500 + 40_000) * 1.4)


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, sats=50_000) as found:
        yield found


async def checked(shop: Shop, sent: bytes, answer: bytes) -> Json:
    """The receipt of the last request, as `satmeter receipt verify` checks it."""
    request_id = (await shop.ledger())[-1]["requestId"]
    found = await shop.api.http.get(
        f"/sessions/{shop.session_id}/requests/{request_id}/receipt", headers={"authorization": f"Bearer {shop.key}"}
    )
    receipt: Json = exact_json(found.content)["receipt"]
    check_price(receipt)
    check_usage(receipt)
    check_answer(receipt, check_digest(receipt, "answerSha256", answer, "answer"))
    return receipt


@pytest.mark.parametrize("stream", [False, True])
async def test_a_search_is_charged_by_its_fee_and_proved_by_the_receipt(shop: Shop, stream: bool) -> None:
    if stream:
        first = {"input_tokens": 2_000, "output_tokens": 1}
        shop.upstream.streams(sse(start(first), block(), delta("It measures angles."), change(usage=USAGE), STOP))
    else:
        shop.upstream.answers(200, MESSAGE)
    with capture_logs() as logs:
        answer = await shop.post({**CALL, "stream": stream})
        await shop.until_free()
    assert answer.status_code == 200, answer.text
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
    assert shop.upstream.bodies[-1]["tools"] == [SEARCH]
    ledger = [(entry["kind"], entry["amountMsat"]) for entry in (await shop.ledger())[1:]]
    assert ledger == [("hold", MOST), ("debit", COST), ("release", MOST - COST)]
    receipt = await checked(shop, b"", answer.content)
    assert (receipt["charges"][0]["webSearches"], receipt["charges"][0]["webSearchPer1000Usd"]) == (3, "10.00")


async def test_more_searches_than_were_allowed_are_not_the_client_s(shop: Shop) -> None:
    usage = {**USAGE, "server_tool_use": {"web_search_requests": 50}}
    shop.upstream.answers(200, {**MESSAGE, "usage": usage})
    answer = await shop.post(CALL)
    assert (await shop.show())["spentMsat"] == COST + 14_000
    assert (await checked(shop, b"", answer.content))["charges"][0]["webSearches"] == 4


async def test_what_a_search_can_cost_must_be_there(redis: Redis) -> None:
    async with shop_over(redis, sats=1_000) as shop:
        answer = await shop.post(CALL)
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")
        assert answer.json()["requiredMsat"] > 38_000_000
        # A count of the prompt does not bound what searches find.
        assert shop.upstream.requests == []
        plain = await shop.post({**CALL, "tools": []})
        assert plain.status_code == 200


async def test_a_client_that_leaves_pays_for_the_searches_that_go_on(shop: Shop) -> None:
    shop.upstream.answers(200, MESSAGE)
    shop.upstream.gate.close()
    call = asyncio.create_task(shop.post(CALL))
    await shop.upstream.gate.wait_for_arrival()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    shop.upstream.gate.open()
    await shop.until_free()
    assert (await shop.show())["spentMsat"] == COST and shop.upstream.cut == 0


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, "tools.0.max_uses"),
        ({**SEARCH, "type": "web_search_20260209"}, "tools.0.type"),
        ({"type": "web_fetch_20250910", "name": "web_fetch", "max_uses": 1}, "tools.0.type"),
    ],
)
async def test_a_search_without_a_bound_is_refused_by_name_before_anything_is_held(
    shop: Shop, tool: Json, path: str
) -> None:
    answer = await shop.post({**CALL, "tools": [tool]})
    assert (answer.status_code, answer.json()["fields"][0]["path"]) == (400, path)
    assert len(await shop.ledger()) == 1 and shop.upstream.requests == []


async def test_the_prices_list_the_fee(shop: Shop) -> None:
    shown = {entry["model"]: entry for entry in (await shop.api.http.get("/pricing")).json()["models"]}
    assert shown[MODEL]["webSearchPer1000Usd"] == "10.00"
    assert "webSearchPer1000Usd" not in shown["claude-haiku-5-5"]
    listed = (await shop.api.http.get(f"/v1/models/{MODEL}")).json()
    assert listed["pricing"]["webSearchPer1000Usd"] == "10.00"
