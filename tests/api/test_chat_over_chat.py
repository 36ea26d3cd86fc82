"""OpenAI's own SDK against an upstream that speaks chat completions: the bytes go through, and are paid for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.llm.token_estimate import estimated_tokens
from tests.helpers.chat_upstream import (
    COUNTED,
    DONE,
    STOP,
    USAGE,
    WHOLE_STREAM,
    answering,
    choice,
    chunk,
    message,
    sse,
    streaming,
)
from tests.helpers.http.chat_shop import ChatShop, chat_shop_over

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
PATH = "/v1/chat/completions"


def sdk_of(shop: ChatShop) -> openai.AsyncOpenAI:
    """OpenAI's SDK, with the macaroon as its key."""
    return openai.AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=0)


def answers(shop: ChatShop, body: Any, status: int = 200) -> None:
    """Have the upstream give this answer."""
    shop.chat.reply = lambda _: answering(status, body)


def streams(shop: ChatShop, *events: Any, cut: int | None = None) -> None:
    """Have the upstream give these events, in pieces of `cut` bytes."""
    data = sse(*events)
    size = cut or len(data)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    shop.chat.reply = lambda _: streaming(*pieces)


@pytest_asyncio.fixture
async def shop(redis: Redis, tmp_path: Path) -> AsyncIterator[ChatShop]:
    async with chat_shop_over(redis, tmp_path) as found:
        yield found


async def test_a_whole_answer_is_the_upstreams_with_its_cost(shop: ChatShop) -> None:
    answers(shop, message("Hi", zip=[1]))
    async with sdk_of(shop) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(
            model="small", messages=HELLO, max_tokens=50, user="a"
        )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hi"
    usage = json.loads(raw.content)["usage"]
    seen = await shop.show()
    # 18 tokens at 1 USD for a million, and 16 at 2, are 50e-6 USD; infrastructure is ten times that.
    assert {**usage, **USAGE} == usage and usage["cost_usd"] == "0.00055"
    assert usage["cost_msat"] == seen["spentMsat"] > 0 and usage["balance_msat"] == seen["balanceMsat"]
    assert int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"]
    assert shop.chat.bodies[-1]["model"] == "tiny-llama" and shop.chat.bodies[-1]["max_tokens"] == 50
    assert len(shop.chat.bodies[-1]["user"]) == 32
    shown = json.loads(raw.content)
    assert {**shown, "usage": USAGE} == message("Hi", zip=[1])


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("cut", [None, 1, 7])
async def test_a_stream_goes_through_and_its_usage_only_to_those_who_ask(
    shop: ChatShop, tells: bool, cut: int | None
) -> None:
    streams(shop, *WHOLE_STREAM, cut=cut)
    options = {"stream_options": {"include_usage": True}} if tells else {}
    answer = await shop.post({"model": "tiny", "messages": HELLO, "stream": True, **options}, PATH)
    spent = (await shop.show())["spentMsat"]
    assert shop.chat.bodies[-1]["stream_options"] == {"include_usage": True} and shop.chat.bodies[-1]["max_tokens"] > 0
    *events, comment, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert comment.startswith(f": Satmeter-Debited-Msat: {spent}, ")
    shown = [json.loads(event.removeprefix("data: ")) for event in events]
    assert shown[:4] == list(WHOLE_STREAM[:4])
    if tells:
        assert {**shown[4]["usage"], **USAGE} == shown[4]["usage"] and shown[4]["usage"]["cost_msat"] == spent
    assert len(shown) == 4 + tells


async def test_each_of_n_answers_is_paid_for(shop: ChatShop) -> None:
    one = message("Hi")
    answers(shop, {**one, "choices": [one["choices"][0], {**one["choices"][0], "index": 1}]})
    async with sdk_of(shop) as sdk:
        answer = await sdk.chat.completions.create(model="tiny", messages=HELLO, n=2, max_tokens=50)
    assert [found.message.content for found in answer.choices] == ["Hi", "Hi"]
    assert shop.chat.bodies[-1]["n"] == 2


async def test_what_the_upstream_refuses_is_told_in_its_words_and_free(shop: ChatShop) -> None:
    error = {"message": "No tools here.", "type": "invalid_request_error", "param": "tools", "code": "no_tools"}
    answers(shop, {"error": error}, 400)
    async with sdk_of(shop) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="tiny", messages=HELLO)
    assert "No tools here." in str(caught.value)
    assert (caught.value.code, caught.value.param) == ("no_tools", "tools")
    assert (await shop.show())["spentMsat"] == 0


async def test_a_prompt_that_does_not_fit_is_known_by_openais_code(shop: ChatShop) -> None:
    error = {"code": 400, "message": "too big", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}
    answers(shop, {"error": error}, 400)
    told = (await shop.post({"model": "tiny", "messages": HELLO}, PATH)).json()
    assert told["error"]["code"] == "context_length_exceeded"
    assert told["error"]["message"].startswith("This model's maximum context length is 8 tokens.")
    assert told["code"] == "invalid_request" and told["requestId"].startswith("req_")


async def test_a_field_with_a_price_of_its_own_is_named_before_anything_is_held(shop: ChatShop) -> None:
    body = {"model": "tiny", "messages": HELLO, "web_search_options": {"search_context_size": "low"}}
    told = (await shop.post(body, PATH)).json()
    assert (told["error"]["param"], shop.chat.bodies) == ("web_search_options", [])


async def test_an_answer_that_breaks_off_is_told_and_paid_as_far_as_it_came(shop: ChatShop) -> None:
    streams(shop, chunk(choice("Hel")), chunk(choice("lo")))
    answer = await shop.post({"model": "tiny", "messages": HELLO, "stream": True}, PATH)
    assert "Hel" in answer.text and "[DONE]" not in answer.text
    assert json.loads(answer.text.strip().split("data: ")[-1])["error"]["message"]
    await shop.until_free()


@pytest.mark.parametrize(
    "ending",
    [
        sse({"error": {"message": "gone", "type": "server_error", "code": 500}}),
        sse({"error": {"message": "gone", "type": "server_error", "code": 500}}, DONE),
        b'error: {"message": "gone"}\n\n',
        sse({"object": "error", "message": "gone", "code": 500}),
        sse(chunk({"index": 0, "delta": {}, "error": {"message": "gone", "code": 500}})),
        sse(chunk(choice("lo")))[:-9],
    ],
    ids=["an event", "and an end mark", "a field", "an event of an older server", "a choice", "half an event"],
)
async def test_an_error_in_the_middle_is_raised_with_our_fields(shop: ChatShop, ending: bytes) -> None:
    shop.chat.reply = lambda _: streaming(sse(chunk(choice("Hel"))), ending)
    body: dict[str, Any] = {"model": "tiny", "messages": HELLO}
    answer = await shop.post({**body, "stream": True}, PATH)
    last = answer.text.removesuffix("data: [DONE]\n\n").strip().split("data: ")[-1]
    told = json.loads(last)
    assert (told["code"], told["requestId"]) == ("model_failed", answer.headers["x-request-id"])
    assert told["debitedMsat"] == (await shop.show())["spentMsat"] > 0
    assert answer.text.endswith("[DONE]\n\n") == ending.endswith(b"[DONE]\n\n")
    async with sdk_of(shop) as sdk:
        with pytest.raises(openai.APIError, match=told["error"]["message"]):
            _ = [event async for event in await sdk.chat.completions.create(**body, stream=True)]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.parametrize(("parts", "media_tokens"), [([], 0), ([IMAGE], 1_000)])
@pytest.mark.parametrize("rule", ["bound", "count", "nothing"])
async def test_what_an_upstream_breaks_off_costs_an_estimate_of_its_texts(
    redis: Redis, tmp_path: Path, parts: list[Any], media_tokens: int, rule: str
) -> None:
    """Not of the bound, which is the longest prompt where there is an image. An input token costs 1.4 msat here."""
    async with chat_shop_over(redis, tmp_path, missing_usage=rule) as shop:
        streams(shop, chunk(choice("Hel")), chunk(choice("lo")))
        said = [{"role": "user", "content": [{"type": "text", "text": "Hello"}, *parts]}]
        await shop.post({"model": "tiny", "messages": said, "stream": True}, PATH)
        await shop.until_free()
        hello = estimated_tokens("Hello", "tiny")
        tokens_msat = (hello + 2 * 4 + media_tokens) * 14 + hello * 28
        due = 0 if rule == "nothing" else -(-tokens_msat // 10) + 700
        assert [entry["amountMsat"] for entry in await shop.ledger() if entry["kind"] == "debit"] == [due]


async def test_an_answer_without_tokens_of_usage_beside_its_end_is_passed_on(shop: ChatShop) -> None:
    streams(shop, chunk(choice("Hi")), {**STOP, "usage": USAGE}, DONE)
    answer = await shop.post({"model": "tiny", "messages": HELLO, "stream": True}, PATH)
    last = json.loads(answer.text.split("\n\n")[1].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "stop" and last["usage"]["cost_msat"] > 0


async def test_the_same_key_gives_the_same_answer_and_one_call(shop: ChatShop) -> None:
    streams(shop, *WHOLE_STREAM)
    body = {"model": "tiny", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    first = await shop.post(body, PATH, **{"idempotency-key": "a"})
    again = await shop.post(body, PATH, **{"idempotency-key": "a"})
    assert first.text == again.text and len(shop.chat.bodies) == 1
    assert sse(COUNTED)[:20] in first.content
