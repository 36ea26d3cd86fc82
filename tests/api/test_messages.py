"""Anthropic's own SDK against /v1/messages: whole and streamed, with all that it can ask for."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.anthropic_streams import EVERY_KIND, block, delta, error, sse, start
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over


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


# What the SDK can ask for


async def test_tools_images_thoughts_and_all_other_fields_go_on_as_they_are(shop: Shop) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 4_000,
        "system": [{"type": "text", "text": "You are terse.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "metadata": {"user_id": "me"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                    {"type": "text", "text": "What is this, and the weather in Zürich?"},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Let me see…", "signature": "c2ln"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
        ],
    }
    async with shop.sdk() as sdk:
        await sdk.messages.create(
            **asked,
            extra_headers={"anthropic-beta": "tomorrow-2026-12-01"},
            extra_body={"a_field_of_tomorrow": {"x": [1]}},
        )
    assert shop.upstream.bodies == [{**asked, "a_field_of_tomorrow": {"x": [1]}}]
    assert shop.upstream.requests[0].headers["anthropic-beta"] == "tomorrow-2026-12-01"


async def test_the_beta_interface_is_the_provider_s_too(shop: Shop) -> None:
    async with shop.sdk() as sdk:
        await sdk.beta.messages.create(model=MODEL, max_tokens=50, messages=HELLO, betas=["one-2026", "two-2026"])
    await shop.post({"model": MODEL, "max_tokens": 50, "messages": HELLO}, "/v1/messages?beta=true")
    first, second = shop.upstream.requests
    assert first.headers["anthropic-beta"] == "one-2026,two-2026"
    assert (first.url.query, second.url.query) == (b"", b"beta=true")


async def test_a_tool_is_used_in_two_turns(shop: Shop) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [use],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 30, "output_tokens": 20},
    }
    shop.upstream.answers(200, message)
    async with shop.sdk() as sdk:
        first = await sdk.messages.create(model=MODEL, max_tokens=500, messages=HELLO)
        assert first.stop_reason == "tool_use" and first.content[0].type == "tool_use"
        result: Any = {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}],
        }
        shop.upstream.reply = None
        turns = [*HELLO, {"role": "assistant", "content": first.content}, result]
        second = await sdk.messages.create(model=MODEL, max_tokens=500, messages=turns)
    assert second.content[0].type == "text"
    assert shop.upstream.bodies[1]["messages"][1]["content"][0]["input"] == {"city": "Zürich"}


async def test_the_sdk_reads_every_kind_of_event_of_a_stream(shop: Shop) -> None:
    shop.upstream.streams(*(sse(event) for event in EVERY_KIND))
    async with shop.sdk() as sdk, sdk.messages.stream(model=MODEL, max_tokens=900, messages=HELLO) as stream:
        kinds = {event.type async for event in stream}
        message = await stream.get_final_message()
    assert {"thinking", "signature", "text", "input_json", "citation", "message_stop"} <= kinds
    assert [part.type for part in message.content] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert message.content[3].input == {"city": "Zürich"} and message.usage.output_tokens == 77  # type: ignore[union-attr]
    await shop.until_free()
    # 10 x 2, 77 x 10, 4 read x 0.1, 2 written x 2.5 and 1 x 4 dollars a million, and infrastructure; 40 % on top.
    assert (await shop.show())["spentMsat"] == math.ceil((20 + 770 + 0.4 + 5 + 4 + 500) * 1.4)


@pytest.mark.parametrize("size", [1, 10, 10**6])
async def test_a_stream_reaches_the_client_to_the_byte(shop: Shop, size: int) -> None:
    sent = sse(*EVERY_KIND)
    shop.upstream.streams(*(sent[at : at + size] for at in range(0, len(sent), size)))
    answer = await shop.post({"model": MODEL, "max_tokens": 900, "messages": HELLO, "stream": True})
    got, _, comment = answer.content.rpartition(b": Satmeter-Debited-Msat: ")
    seen = await shop.show()
    cost = b',"cost_msat":%d,"cost_usd":"' % seen["spentMsat"], b'","balance_msat":%d' % seen["balanceMsat"]
    before, _, rest = got.partition(cost[0])
    assert before + rest.partition(cost[1])[2] == sent and comment.endswith(b"\n\n")
    assert answer.headers["satmeter-max-tokens"] == "900"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_a_whole_answer_reaches_the_client_with_its_values_to_the_byte_and_what_it_cost(shop: Shop) -> None:
    body = b'{ "content":[], "usage":{"input_tokens":1,"output_tokens":1},\t"h\\u00e9":1e3 }'
    shop.upstream.reply = lambda _: httpx2.Response(200, content=body, headers={"content-type": "application/json"})
    sent = b'{ "max_tokens" : 10,"messages":[{"role":"user","content":"h\\u00e9"}], "model":"claude-sonnet-5-5" }'
    answer = await shop.post(sent)
    assert shop.upstream.requests[0].content == sent
    # (1 x 2 + 1 x 10) / 10**6 USD and infrastructure, at a margin of 40 %.
    cost = {"cost_msat": 717, "cost_usd": "0.000512", "balance_msat": 10_000_000 - 717}
    told = json.dumps(cost, separators=(",", ":")).encode()[1:-1]
    assert answer.content == body.replace(b'"output_tokens":1', b'"output_tokens":1,' + told)
    assert answer.headers["satmeter-debited-msat"] == "717"


@pytest.mark.parametrize("body", [b"[1]", b"no JSON", b'{"content":[],"usage":7}'])
async def test_a_whole_answer_that_has_no_place_for_its_cost_stays_as_it_is(shop: Shop, body: bytes) -> None:
    shop.upstream.reply = lambda _: httpx2.Response(200, content=body, headers={"content-type": "application/json"})
    answer = await shop.post({"model": MODEL, "max_tokens": 900, "messages": HELLO})
    assert answer.content == body or answer.status_code >= 500


# Money


async def test_max_tokens_is_lowered_to_the_balance_and_the_client_is_told(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop:
        answer = await shop.post({"model": MODEL, "max_tokens": 64_000, "messages": HELLO})
        (sent,) = shop.upstream.bodies
    assert 0 < sent["max_tokens"] < 7_000
    assert answer.headers["satmeter-max-tokens"] == str(sent["max_tokens"])


async def test_a_thought_that_does_not_fit_is_a_402_of_the_sdk_s_own(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop, shop.sdk() as sdk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await sdk.messages.create(
                model=MODEL,
                max_tokens=20_000,
                messages=HELLO,
                thinking={"type": "enabled", "budget_tokens": 16_000},
            )
        assert shop.upstream.requests == []
    body: Any = caught.value.body
    assert (caught.value.status_code, caught.value.error_code) == (402, "insufficient_balance")
    assert body["requiredMsat"] > 16_000 * 14 > body["balanceMsat"] and body["topUpInvoice"]["amountSats"] > 100
    assert body["request_id"] == body["requestId"] == caught.value.request_id
    assert "www-authenticate" not in caught.value.response.headers


async def test_a_long_prompt_that_bytes_bound_too_loosely_is_counted_and_then_fits(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop:
        # 100,000 bytes bound it at 280 sats; the stub counts 25,000 tokens, which are 73.
        answer = await shop.post(
            {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "a" * 100_000}]}
        )
        assert answer.status_code == 200, answer.text
        paths = [request.url.path for request in shop.upstream.requests]
        assert paths == ["/v1/messages/count_tokens", "/v1/messages"]
        assert 0 < (await shop.show())["spentMsat"] < 100_000


async def test_a_pdf_is_counted_before_it_is_held(shop: Shop) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x" * 100}
    call = {
        "model": MODEL,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": [{"type": "document", "source": source}]}],
    }
    assert (await shop.post(call)).status_code == 200
    assert shop.upstream.requests[0].url.path == "/v1/messages/count_tokens"
    shop.upstream.answers(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no PDF"}})
    refused = await shop.post(call)
    assert refused.status_code == 400 and "no PDF" in refused.json()["error"]["message"]
    assert (refused.json()["code"], refused.json()["retryAction"]) == ("invalid_request", "stop")
    stranger = await shop.api.http.post("/v1/messages", json=call)
    assert stranger.status_code == 401 and "counted" in stranger.json()["error"]["message"]


async def test_cache_writes_and_reads_are_charged_at_their_own_rates(shop: Shop) -> None:
    long = {"type": "text", "text": "x" * 4_000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = {"model": MODEL, "max_tokens": 1, "system": [long], "messages": HELLO}
    spent: list[int] = []
    for _ in range(2):
        await shop.post(call)
        spent.append((await shop.show())["spentMsat"] - sum(spent))
    # Written for an hour: 1,000 x 4 dollars a million; read: 1,000 x 0.1.
    rest = [msat - 1_000 * usd * 1.4 for msat, usd in zip(spent, (4, 0.1), strict=True)]
    assert abs(rest[0] - rest[1]) < 2 and rest[0] > 0


# Idempotency


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_key_gives_the_same_bytes_for_one_charge_and_one_call(shop: Shop, stream: bool) -> None:
    call = {"model": MODEL, "max_tokens": 100, "messages": HELLO, "stream": stream}
    first = await shop.post(call, **{"idempotency-key": "mine"})
    spent = (await shop.show())["spentMsat"]
    again = await shop.post(call, **{"idempotency-key": "mine"})
    assert first.status_code == 200 and again.content == first.content
    assert len(shop.upstream.requests) == 1 and (await shop.show())["spentMsat"] == spent > 0
    other = await shop.post({**call, "max_tokens": 101}, **{"idempotency-key": "mine"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


# Failures


async def test_what_the_provider_refuses_is_the_sdk_s_bad_request_and_free(shop: Shop) -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "temperature: too hot"}}
    shop.upstream.answers(400, refusal)
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(model=MODEL, max_tokens=5, messages=HELLO)
        with pytest.raises(anthropic.BadRequestError):
            async with sdk.messages.stream(model=MODEL, max_tokens=5, messages=HELLO):
                pass
    told = caught.value.body
    assert isinstance(told, dict) and told.items() >= refusal.items()
    assert (told["code"], told["retryAction"]) == ("invalid_request", "stop")
    assert (await shop.show())["spentMsat"] == 0 == (await shop.show())["heldMsat"]


@pytest.mark.parametrize("told", [False, True])
async def test_a_stream_that_breaks_off_ends_with_an_error_event_and_its_cost(shop: Shop, told: bool) -> None:
    rest = sse(error("overloaded_error", "Overloaded")) if told else b'event: content_block_delta\ndata: {"type":"con'
    begun = sse(start(), block(), delta("x" * 50))
    shop.upstream.streams(begun, rest)
    answer = await shop.post({"model": MODEL, "max_tokens": 500, "messages": HELLO, "stream": True})
    # Half an event is none: the SDK would stumble over it before it came to the error.
    assert answer.content.startswith(begun + rest.rstrip(b"}\n") if told else begun + b"event: error")
    assert answer.text.count("event: error") == 1
    shown = json.loads(answer.text.split("event: error\ndata: ")[1].split("\n\n")[0])
    seen = await shop.show()
    assert (shown["code"], shown["requestId"]) == ("model_failed", answer.headers["x-request-id"])
    assert (shown["debitedMsat"], shown["balanceMsat"]) == (seen["spentMsat"], seen["balanceMsat"])
    if told:
        assert shown["error"] == error("overloaded_error", "Overloaded")["error"]
    assert f": Satmeter-Debited-Msat: {seen['spentMsat']}, " in answer.text and seen["spentMsat"] > 0
    shop.upstream.streams(begun, rest)
    async with shop.sdk() as sdk, sdk.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream:
        with pytest.raises(anthropic.APIStatusError):
            await stream.get_final_text()


async def test_a_client_that_leaves_stops_the_call_and_pays_for_what_was_used(shop: Shop) -> None:
    body = shop.upstream.streams(sse(start(), block(), delta("x" * 50)), hangs=True)
    async with (
        shop.sdk() as sdk,
        await sdk.messages.create(model=MODEL, max_tokens=500, messages=HELLO, stream=True) as events,
    ):
        async for event in events:
            if event.type == "content_block_delta":
                break
    await shop.until_free()
    assert body.closed == 1
    # 10 in, 20 out as estimated from 50 bytes, 4 read, 2 and 1 written, and infrastructure.
    assert (await shop.show())["spentMsat"] == math.ceil((20 + 200 + 0.4 + 5 + 4 + 500) * 1.4)


@pytest.mark.parametrize(
    ("status", "kind", "send"),
    [
        (401, anthropic.AuthenticationError, {"key": "nonsense"}),
        (403, anthropic.PermissionDeniedError, {"caveats": ["actions = read"]}),
        (404, anthropic.NotFoundError, {"model": "nobody"}),
    ],
)
async def test_the_sdk_raises_its_own_errors(
    redis: Redis, status: int, kind: type[anthropic.APIStatusError], send: dict[str, Any]
) -> None:
    messages: Any = [{"role": "user", "content": send.get("content", "hello")}]
    async with shop_over(redis, llm_body_limit_bytes=1_048_576) as shop:
        key = shop.narrowed(*send["caveats"]) if "caveats" in send else send.get("key")
        async with shop.sdk(key) as sdk:
            with pytest.raises(kind) as caught:
                await sdk.messages.create(model=send.get("model", MODEL), max_tokens=5, messages=messages)
    assert caught.value.status_code == status and caught.value.request_id
    body: Any = caught.value.body
    assert body["type"] == "error" and body["error"]["message"] and body["code"] == caught.value.error_code


async def test_a_path_that_is_none_and_a_method_that_is_none_have_that_shape_too(shop: Shop) -> None:
    for answer in (await shop.post({}, "/v1/messages/batches"), await shop.api.http.get("/v1/messages")):
        assert answer.json()["type"] == "error" and answer.json()["error"]["type"]
        assert answer.headers["request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize("name", ["anthropic-beta", "anthropic-version"])
@pytest.mark.parametrize("pays", [True, False])
async def test_a_header_that_would_be_left_out_is_refused_by_name(name: str, pays: bool, shop: Shop) -> None:
    call = {"model": MODEL, "max_tokens": 100, "messages": HELLO}
    credential = {"x-api-key": shop.key} if pays else {}
    path, fits = "/v1/messages", {**credential, name: "x" * 2_000}
    assert (await shop.api.http.post(path, json=call, headers=fits)).status_code == (200 if pays else 402)
    answer = await shop.api.http.post(path, json=call, headers={**credential, name: "x" * 2_001})
    assert answer.status_code == 400
    assert answer.json()["fields"] == [{"path": name, "message": "Must have at most 2000 characters"}]
