"""Prompts that are too long for a balance or a credential: told so that programs shorten their conversation."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.ports import TransientError
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Json = dict[str, Any]
# As Claude Code and others look for it.
TOO_LONG = re.compile(r"^prompt is too long: (\d+) tokens > (\d+) maximum")
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def long(tokens: int) -> list[Any]:
    """Messages of so many tokens, as the stub counts them."""
    return [{"role": "user", "content": "a" * (4 * tokens)}]


@pytest_asyncio.fixture
async def poor(redis: Redis) -> AsyncIterator[Shop]:
    """A session that pays for some 30,000 tokens of a prompt."""
    async with shop_over(redis, sats=100) as shop:
        yield shop


def last_event(streamed: bytes) -> Json:
    """The last event of a stream of responses. OpenAI's SDK does not list this code, though its API sends it."""
    found: Json = json.loads(streamed.rstrip().rpartition(b"data: ")[2])
    return found


def openai_sdk(shop: Shop) -> AsyncOpenAI:
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_over_the_balance_is_told_in_anthropic_s_words_with_the_invoice_beside_them(
    poor: Shop, stream: bool
) -> None:
    async with poor.sdk() as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(model=MODEL, max_tokens=1_000, messages=long(50_000), stream=stream)
    body: Any = caught.value.body
    found = TOO_LONG.match(body["error"]["message"])
    assert found is not None and body["error"]["type"] == "invalid_request_error"
    tokens, most = int(found[1]), int(found[2])
    assert tokens == body["promptTokens"] >= 50_000 > most == body["promptTokensMax"] > 25_000
    assert body["topUpInvoice"]["paymentRequest"] in body["error"]["message"]
    assert (body["retryAction"], body["paymentState"]) == ("pay", "unused")
    assert [request.url.path for request in poor.upstream.requests] == ["/v1/messages/count_tokens"]
    # As much as it says does fit, less what the host of the test asks more for the smallest answer.
    answer = await poor.post({"model": MODEL, "max_tokens": 1_000, "messages": long(most - 250)})
    assert answer.status_code == 200, answer.text


async def test_a_node_that_is_down_leaves_it_to_be_shortened_and_a_prompt_beyond_that_is_a_503(poor: Shop) -> None:
    poor.api.world.lightning.fault = TransientError("down")
    body: Json = {"model": MODEL, "max_tokens": 1_000, "messages": long(50_000)}
    told = await poor.post(body)
    assert told.status_code == 400 and TOO_LONG.match(told.json()["error"]["message"])
    assert told.json()["retryAction"] == "stop" and "topUpInvoice" not in told.json()
    told = await poor.post({**body, "messages": long(500_000)})
    assert (told.status_code, told.json()["code"], told.json()["retryAction"]) == (503, "unavailable", "retry")
    assert "The balance is too small" in told.json()["error"]["message"] and int(told.headers["retry-after"]) >= 2


async def test_a_prompt_over_the_balance_is_told_in_openai_s_words(poor: Shop) -> None:
    from openai import BadRequestError

    async with openai_sdk(poor) as sdk:
        with pytest.raises(BadRequestError) as caught:
            await sdk.chat.completions.create(model=MODEL, messages=long(50_000))
    assert caught.value.code == "context_length_exceeded"
    assert "maximum context length is" in caught.value.message
    answer = await poor.post({"model": MODEL, "messages": long(50_000), "stream": True}, CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_whole_response_is_refused_and_a_streamed_one_fails_as_codex_reads_it(poor: Shop) -> None:
    asked: Json = {"model": MODEL, "input": long(50_000)}
    whole = await poor.post(asked, RESPONSES)
    assert (whole.status_code, whole.json()["error"]["code"]) == (400, "context_length_exceeded")
    streamed = await poor.post({**asked, "stream": True}, RESPONSES)
    assert streamed.status_code == 200 and streamed.headers["content-type"].startswith("text/event-stream")
    last = last_event(streamed.content)
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "context_length_exceeded"
    assert (await poor.show())["heldMsat"] == 0 == (await poor.show())["spentMsat"]


async def test_what_the_provider_says_of_a_length_is_told_in_the_same_way(redis: Redis) -> None:
    message = "prompt is too long: 1213462 tokens > 1000000 maximum"
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    async with shop_over(redis) as shop:
        shop.upstream.answers(400, refusal)
        at_anthropic = await shop.post({"model": MODEL, "max_tokens": 10, "messages": HELLO})
        assert at_anthropic.json()["error"]["message"] == message
        chat = (await shop.post({"model": MODEL, "messages": HELLO}, CHAT)).json()["error"]
        assert chat["code"] == "context_length_exceeded" and "maximum context length is 1000000" in chat["message"]
        streamed = await shop.post({"model": MODEL, "input": "Hello", "stream": True}, RESPONSES)
        assert last_event(streamed.content)["response"]["error"]["code"] == "context_length_exceeded"
        assert (await shop.show())["spentMsat"] == 0


async def test_a_prompt_that_the_provider_does_not_even_count_is_no_question_of_money(poor: Shop) -> None:
    message = "prompt is too long: 1213462 tokens > 1000000 maximum"
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    poor.upstream.answers(400, refusal)
    answer = await poor.post({"model": MODEL, "max_tokens": 10, "messages": long(50_000)})
    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(message)
    assert "topUpInvoice" not in answer.json()


@pytest.mark.parametrize("caveat", ["max_msat_per_request = 100000", "max_msat = 100000"])
async def test_a_caveat_on_spending_limits_the_prompt_as_well(redis: Redis, caveat: str) -> None:
    async with shop_over(redis) as shop:
        key = shop.narrowed(caveat)
        answer = await shop.post({"model": MODEL, "max_tokens": 100, "messages": long(50_000)}, **{"x-api-key": key})
        told = answer.json()
        assert answer.status_code == 400 and TOO_LONG.match(told["error"]["message"])
        assert told["caveat"] == caveat and told["leftMsat"] == 100_000


@pytest.mark.parametrize("tokens", [1_200, 100_000])
async def test_where_halving_would_not_do_a_person_has_to_pay(poor: Shop, tokens: int) -> None:
    assert (await poor.post({"model": MODEL, "max_tokens": 6_000, "messages": long(100)})).status_code == 200
    key = poor.narrowed("max_msat = 2000")
    answer = await poor.post({"model": MODEL, "max_tokens": 100, "messages": long(tokens)})
    if tokens > 50_000:
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")
    answer = await poor.post({"model": MODEL, "max_tokens": 100, "messages": long(tokens)}, **{"x-api-key": key})
    assert (answer.status_code, answer.json()["code"]) == (403, "caveat_violated")


async def test_a_wallet_is_challenged_and_pays(poor: Shop) -> None:
    challenged = await poor.api.http.post("/v1/messages", json={"model": MODEL, "max_tokens": 1_000, "messages": HELLO})
    told = challenged.json()
    await poor.api.pay(told["depositInvoice"])
    found = re.search(r'macaroon="([^"]+)"', challenged.headers["www-authenticate"])
    assert found is not None
    # The fake wallet's preimage does not fit; as for an internal payment the macaroon is sent alone.
    answer = await poor.post({"model": MODEL, "max_tokens": 1_000, "messages": long(50_000)}, **{"x-api-key": found[1]})
    assert answer.status_code == 400


def _uncounted(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(500, json={})


async def test_a_prompt_that_can_not_be_counted_stays_a_402(poor: Shop) -> None:
    poor.upstream.reply = _uncounted
    answer = await poor.post({"model": MODEL, "max_tokens": 100, "messages": long(50_000)})
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_balance")
