"""Anthropic's own SDK against /v1/messages: whole and streamed, with all that it can ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anthropic
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.api.messages import HELLO, MODEL, Shop, shop_over


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def test_the_sdk_gets_an_answer_and_learns_what_it_cost(shop: Shop) -> None:
    async with shop.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.create(model=MODEL, max_tokens=500, messages=HELLO)
        message = await raw.parse()
    assert message.content[0].type == "text" and "Hello, model" in message.content[0].text
    seen = await shop.show()
    assert int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"] > 0
    assert int(raw.headers["satmeter-balance-msat"]) == seen["balanceMsat"]
    assert raw.headers["satmeter-max-tokens"] == "500"
    assert message._request_id == raw.headers["x-request-id"] == (await shop.ledger())[-1]["requestId"]


def _sync(url: str, key: str) -> tuple[str, str]:
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as sdk:
        whole = sdk.messages.create(model=MODEL, max_tokens=500, messages=HELLO)
        with sdk.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
    assert whole.content[0].type == "text"
    return whole.content[0].text, text


async def test_the_synchronous_sdk_gets_the_same_whole_and_in_pieces(shop: Shop) -> None:
    whole, streamed = await asyncio.to_thread(_sync, shop.url, shop.key)
    assert whole == streamed != ""
    assert len({entry["requestId"] for entry in (await shop.ledger())[1:]}) == 2


async def test_a_stream_ends_with_its_cost_in_a_comment(shop: Shop) -> None:
    answer = await shop.post({"model": MODEL, "max_tokens": 50, "messages": HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = await shop.show()
    cost = f": Satmeter-Debited-Msat: {seen['spentMsat']}, Satmeter-Balance-Msat: {seen['balanceMsat']}"
    assert answer.text.endswith(f"\n\n{cost}\n\n")


async def test_a_key_that_is_none_is_an_authentication_error(shop: Shop) -> None:
    async with shop.sdk("nonsense") as sdk:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            await sdk.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
    assert (caught.value.type, caught.value.error_code) == ("authentication_error", "invalid_credential")
