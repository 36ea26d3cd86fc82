"""Idempotency keys over HTTP, at every path that costs: an answer is its buyer's, and that of those above."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from starlette.requests import Request

from satmeter.http.request.idempotency import operation_key_of
from tests.helpers.credentials import grant_of
from tests.helpers.http.messages import MODEL, Shop, shop_over

MESSAGE = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
PATHS: dict[str, Any] = {
    "/ask": {"request": "Hello", "maxTokens": 100},
    "/sessions/{id}/request": {"request": "Hello", "maxTokens": 100},
    "/v1/messages": MESSAGE,
    "/v1/chat/completions": MESSAGE,
    "/v1/responses": {"model": MODEL, "max_output_tokens": 50, "input": "Hello"},
}
BUYS = [(path, {**body, **how}) for path, body in PATHS.items() for how in ({}, {"stream": True})]
KEY = "a-key-of-mine"


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    """A session with 10,000 sats."""
    async with shop_over(redis) as found:
        yield found


async def sent(shop: Shop, path: str, body: Any, credential: str, key: str = KEY) -> Any:
    """The answer to a POST under a key."""
    headers = {"Authorization": f"Bearer {credential}", "Idempotency-Key": key}
    return await shop.api.http.post(path.format(id=shop.session_id), json=body, headers=headers)


def told(answer: Any) -> Any:
    """Return the answer's text. A repeated stream has it in one piece: its end says which one it is."""
    return answer.content.rpartition(b"event: done")[2]


async def spent(shop: Shop) -> int:
    """Return what the session has spent, in msat."""
    await shop.until_free()
    return int((await shop.show())["spentMsat"])


@pytest.mark.parametrize(("path", "body"), BUYS)
async def test_an_answer_is_given_to_its_buyer_and_those_above_and_to_no_other(
    shop: Shop, path: str, body: Any
) -> None:
    helper, other = (shop.narrowed("max_msat = 900000", f"name = {name}") for name in ("helper", "other"))
    whole = await sent(shop, path, body, shop.key)
    once = await spent(shop)
    assert whole.status_code == 200 and once > 0
    for poor in ("max_msat = 0", "max_msat_per_request = 1", "actions = read", "expires_at = 1"):
        refused = await sent(shop, path, body, shop.narrowed(poor))
        assert refused.status_code == 403
        assert "caveat_violated" in refused.text and poor in refused.text
    own = await sent(shop, path, body, helper)
    assert own.status_code == 200 and await spent(shop) == 2 * once
    assert told(await sent(shop, path, body, helper)) == told(own)
    assert told(await sent(shop, path, body, shop.key)) == told(whole)
    assert await spent(shop) == 2 * once
    # Of what was bought beneath it is given what it never bought itself.
    beneath = await sent(shop, path, body, helper, "another-key")
    above = await sent(shop, path, body, shop.key, "another-key")
    assert told(above) == told(beneath)
    assert await spent(shop) == 3 * once
    assert (await sent(shop, path, body, other, "another-key")).status_code == 200
    assert await spent(shop) == 4 * once


async def test_a_top_up_s_invoice_is_for_who_may_order_one(shop: Shop) -> None:
    path, body = "/sessions/{id}/topup", {"amountSats": 500}
    first = await sent(shop, path, body, shop.key)
    assert first.status_code == 201
    refused = await sent(shop, path, body, shop.narrowed("actions = request"))
    assert (refused.status_code, refused.json()["code"]) == (403, "caveat_violated")
    own = await sent(shop, path, body, shop.narrowed("actions = topup"))
    assert own.status_code == 201 and own.json() != first.json()
    assert (await sent(shop, path, body, shop.key)).json() == first.json()


async def test_a_closing_is_told_to_those_who_may_close(shop: Shop) -> None:
    path = "/sessions/{id}/close"
    first = await sent(shop, path, {}, shop.key)
    assert first.json()["state"] == "closed"
    for caveat in ("actions = read", "expires_at = 1"):
        refused = await sent(shop, path, {}, shop.narrowed(caveat))
        assert (refused.status_code, refused.json()["code"]) == (403, "caveat_violated")
    assert (await sent(shop, path, {}, shop.key)).json() == first.json()


async def test_the_whole_macaroon_s_keys_keep_the_names_that_are_in_stores() -> None:
    scope = {"type": "http", "method": "POST", "path": "/ask", "headers": []}
    names = [
        operation_key_of(Request(scope), KEY, b"{}", grant, "/sessions/{sessionId}/request").name
        for grant in (None, grant_of(), grant_of("name = x"))
    ]
    assert names[0] == names[1] == "k6zqRZX-fNokFCpH5wYbldzN1"
    assert names[2].startswith(f"{names[0]}.")
