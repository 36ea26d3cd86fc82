"""Paths that take the session from the credential: counting tokens, and asking."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def test_counting_is_free_needs_a_session_and_has_its_bounds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop.sdk() as sdk:
        counted = await sdk.messages.count_tokens(model=MODEL, messages=HELLO)
    assert counted.input_tokens == 3 and (await shop.show())["spentMsat"] == 0
    assert (await shop.api.http.post("/v1/messages/count_tokens", json={})).status_code == 401
    monkeypatch.setattr("satmeter.http.anthropic.token_counts._PER_MINUTE", 2)
    call = {"model": MODEL, "messages": HELLO}
    statuses = [(await shop.post(call, "/v1/messages/count_tokens")).status_code for _ in range(2)]
    assert statuses == [200, 429]
    assert (
        await shop.post({**call, "tools": [{"type": "web_search_20260318"}]}, "/v1/messages/count_tokens")
    ).status_code == 400


async def test_ask_takes_the_session_from_the_credential(shop: Shop) -> None:
    for headers in ({"x-api-key": shop.key}, {"x-api-key": "", "authorization": f"Bearer {shop.key}"}):
        answer = await shop.post({"request": "say hello"}, "/ask", **headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "complete"
    assert (
        await shop.post({"request": "x"}, "/ask", **{"x-api-key": shop.narrowed("actions = llm")})
    ).status_code == 403


async def test_a_key_means_the_same_at_both_paths_by_which_a_session_is_asked(shop: Shop) -> None:
    body, headers = {"request": "say hello"}, {"x-api-key": "", "authorization": f"Bearer {shop.key}"}
    path = f"/sessions/{shop.session_id}/request"
    asked = await shop.post(body, "/ask", **headers, **{"idempotency-key": "k"})
    assert (await shop.post(body, path, **headers, **{"idempotency-key": "k"})).content == asked.content
    other = await shop.post({"request": "say goodbye"}, path, **headers, **{"idempotency-key": "k"})
    assert other.json()["code"] == "idempotency_conflict"
    assert (await shop.show())["spentMsat"] == asked.json()["debitedMsat"]
