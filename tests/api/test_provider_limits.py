"""A provider that takes no more just now: what its clients are told, and how often it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.api.test_chat import sdk as openai_sdk
from tests.helpers.anthropic_streams import error, sse
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

MESSAGES: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
CHAT: Any = {"model": MODEL, "messages": HELLO}
ASK: Any = {"request": "say hello"}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def free(shop: Shop) -> bool:
    """Return whether nothing was charged, and nothing is held."""
    seen = await shop.show()
    return bool(seen["spentMsat"] == 0 == seen["heldMsat"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "upstream", "status", "kind", "code"),
    [
        ("/v1/messages", MESSAGES, 429, 429, "rate_limit_error", "rate_limited"),
        ("/v1/messages", MESSAGES, 529, 529, "overloaded_error", "overloaded"),
        ("/v1/messages", MESSAGES, 503, 503, "overloaded_error", "unavailable"),
        ("/v1/chat/completions", CHAT, 429, 429, "rate_limit_error", "rate_limited"),
        ("/v1/chat/completions", CHAT, 529, 503, "server_error", "overloaded"),
        ("/v1/chat/completions", CHAT, 503, 503, "server_error", "unavailable"),
        ("/ask", ASK, 429, 429, None, "rate_limited"),
        ("/ask", ASK, 529, 503, None, "overloaded"),
        ("/ask", ASK, 503, 503, None, "unavailable"),
    ],
)
async def test_its_wait_is_told_in_the_words_of_each_api_and_nothing_is_charged(
    shop: Shop, path: str, body: Any, stream: bool, upstream: int, status: int, kind: str | None, code: str
) -> None:
    shop.upstream.answers(upstream, {"error": {"message": "secret-of-the-provider"}}, **{"retry-after": "37"})
    answer = await shop.post({**body, "stream": stream}, path)
    told = answer.json()
    assert (answer.status_code, told["code"], answer.headers["retry-after"]) == (status, code, "37")
    assert kind is None or told["error"]["type"] == kind
    sentence = told["error"] if kind is None else told["error"]["message"]
    assert "nothing was charged" in sentence and "37 s" in sentence and "secret" not in answer.text
    assert len(shop.upstream.requests) == 1 and await free(shop)


@pytest.mark.parametrize(("asked_s", "told_s"), [("36.2", "37"), ("0.2", "2"), (None, "2"), ("7200", "3600")])
async def test_the_wait_is_at_least_the_provider_s_in_whole_seconds(
    shop: Shop, asked_s: str | None, told_s: str
) -> None:
    shop.upstream.answers(529, {}, **({} if asked_s is None else {"retry-after": asked_s}))
    assert (await shop.post(MESSAGES)).headers["retry-after"] == told_s


async def test_anthropic_s_sdk_sees_an_overload_as_what_it_is(shop: Shop) -> None:
    shop.upstream.answers(529, {})
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await sdk.messages.create(**MESSAGES)
    assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_an_sdk_s_own_tries_are_all_that_there_are(shop: Shop, status: int) -> None:
    shop.upstream.answers(status, {}, **{"retry-after-ms": "1"})
    async with shop.sdk(max_retries=1, default_headers={"x-stainless-retry-count": "0"}) as sdk:
        with pytest.raises(anthropic.APIStatusError):
            await sdk.messages.create(**MESSAGES)
    assert len(shop.upstream.requests) == 2


@pytest.mark.parametrize(("kind", "status"), [("overloaded_error", 529), ("rate_limit_error", 429)])
async def test_what_comes_as_the_first_event_of_a_stream_has_its_status(shop: Shop, kind: str, status: int) -> None:
    shop.upstream.streams(sse(error(kind)))
    answer = await shop.post({**MESSAGES, "stream": True})
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind)
    assert len(shop.upstream.requests) == 1 and await free(shop)


async def test_openai_s_sdk_sees_the_limit(shop: Shop) -> None:
    from openai import RateLimitError

    shop.upstream.answers(429, {}, **{"retry-after": "37"})
    async with openai_sdk(shop) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "37" and caught.value.code == "rate_limited"


async def test_a_count_of_tokens_is_told_the_wait_as_well(shop: Shop) -> None:
    shop.upstream.answers(429, {}, **{"retry-after": "37"})
    answer = await shop.post({"model": MODEL, "messages": HELLO}, "/v1/messages/count_tokens")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "37")


async def test_a_passing_fault_of_an_ask_is_tried_again_here(shop: Shop) -> None:
    def once(request: httpx2.Request) -> httpx2.Response:
        shop.upstream.reply = None
        return httpx2.Response(529)

    shop.upstream.reply = once
    answer = await shop.post(ASK, "/ask")
    assert answer.status_code == 200, answer.text
