"""The spender that a client names in a header, in the ledger and in the receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

AGENT = {"x-claude-code-agent-id": "agent-7", "x-claude-code-session-id": "4c9e4c5e-0d4e-4a0d-8a53-3f3c7f6f2b11"}
MESSAGES: Any = {"model": MODEL, "max_tokens": 50, "messages": HELLO}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def spenders(shop: Shop) -> list[Any]:
    """Those of the ledger's entries about requests."""
    return [entry.get("spender") for entry in await shop.ledger() if "requestId" in entry]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", MESSAGES),
        ("/v1/messages", {**MESSAGES, "stream": True}),
        ("/v1/chat/completions", {"model": MODEL, "messages": HELLO}),
        ("/v1/responses", {"model": MODEL, "input": "Hello"}),
        ("/ask", {"request": "Hello"}),
    ],
)
async def test_a_sub_agent_is_the_spender_in_the_ledger_and_in_the_receipt(shop: Shop, path: str, body: Any) -> None:
    answer = await shop.post(body, path, authorization=f"Bearer {shop.key}", **AGENT)
    assert answer.status_code == 200, answer.text
    await shop.until_free()
    assert await spenders(shop) == ["agent-7"] * 3
    request_id = (await shop.ledger())[-1]["requestId"]
    receipt = await shop.api.http.get(
        f"/sessions/{shop.session_id}/requests/{request_id}/receipt", headers={"authorization": f"Bearer {shop.key}"}
    )
    assert receipt.json()["receipt"]["spender"] == "agent-7"


async def test_the_name_in_the_macaroon_wins(shop: Shop) -> None:
    await shop.post(MESSAGES, **{"x-api-key": shop.narrowed("name = helper"), **AGENT})
    assert await spenders(shop) == ["helper"] * 3


async def test_a_repeated_call_stays_the_first_spender_s(shop: Shop) -> None:
    first = await shop.post(MESSAGES, **{"idempotency-key": "mine", "satmeter-spender": "one"})
    again = await shop.post(MESSAGES, **{"idempotency-key": "mine", "satmeter-spender": "other"})
    assert again.content == first.content
    assert await spenders(shop) == ["one"] * 3


async def test_the_header_does_not_go_to_the_provider(shop: Shop) -> None:
    await shop.post(MESSAGES, **AGENT)
    assert "agent-7" not in str(shop.upstream.requests[0].headers)
