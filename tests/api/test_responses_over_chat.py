"""OpenAI's own SDK against /v1/responses over an upstream of chat completions: whole, streamed, tools, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from pydantic import BaseModel
from redis.asyncio import Redis

from satmeter.actors.adapters.upstream.http import HttpError
from tests.helpers.chat_answers import chat_sse, chunk, counted, tool_call
from tests.helpers.chat_upstream import answering, message, streaming
from tests.helpers.http.chat_shop import TINY, ChatShop, chat_shop_over
from tests.helpers.responses import ENCRYPTED, FUNCTION, PATCH, Json, events_in, fits

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PATH = "/v1/responses"
BODY: Json = {"model": TINY, "input": "Hello"}


@pytest_asyncio.fixture
async def shop(redis: Redis, tmp_path: Path) -> AsyncIterator[ChatShop]:
    async with chat_shop_over(redis, tmp_path) as found:
        yield found


def sdk(shop: ChatShop) -> AsyncOpenAI:
    """OpenAI's SDK, with the macaroon as its key. It takes seconds to import."""
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=0)


# Whole


async def test_the_sdk_gets_a_response_and_learns_what_it_cost(shop: ChatShop) -> None:
    async with sdk(shop) as client:
        raw = await client.responses.with_raw_response.create(
            model="small", input="Hello", instructions="Be brief.", max_output_tokens=50, prompt_cache_key="k"
        )
        answer = raw.parse()
    assert answer.output_text == "Hello, client."
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", TINY, None)
    seen = await shop.show()
    assert answer.usage is not None
    usage = answer.usage.to_dict()
    assert (usage["input_tokens"], usage["output_tokens"]) == (18, 16)
    assert usage["cost_msat"] == int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"] > 0
    assert usage["balance_msat"] == int(raw.headers["satmeter-balance-msat"]) == seen["balanceMsat"]
    assert (raw.headers["satmeter-max-tokens"], raw.headers["satmeter-ignored"]) == ("50", "prompt_cache_key")
    assert shop.chat.bodies == [
        {
            "model": "tiny-llama",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            "max_tokens": 50,
        }
    ]


async def test_a_conversation_with_thoughts_and_tools_goes_all_the_way_round(shop: ChatShop) -> None:
    calls = [
        tool_call("weather", '{"city": "Rome"}', "c1"),
        tool_call("apply_patch", '{"input": "*** x"}', "c2"),
    ]
    said = message(None, finish="tool_calls", reasoning_content="Let me see", tool_calls=calls)
    shop.chat.reply = answering(200, said)
    fields: Any = {"model": TINY, "tools": [FUNCTION, PATCH], **ENCRYPTED}
    async with sdk(shop) as client:
        first = await client.responses.create(input="How is the weather in Rome?", **fields)
        history: list[Any] = [
            {"role": "user", "content": "How is the weather in Rome?"},
            *[item.to_dict() for item in first.output],
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
        ]
        shop.chat.reply = answering(200, message("It is sunny."))
        second = await client.responses.create(input=history, **fields)
    assert [item.type for item in first.output] == ["reasoning", "function_call", "custom_tool_call"]
    assert second.output_text == "It is sunny."
    sent = shop.chat.bodies[-1]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather", "apply_patch"]
    assert sent["messages"][1] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Let me see",
        "tool_calls": [calls[0], tool_call("apply_patch", '{"input":"*** x"}', "c2")],
    }
    assert sent["messages"][2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "done"},
    ]


class Verdict(BaseModel):
    """Shape of an answer."""

    fair: bool


async def test_the_sdk_parses_answers_of_a_given_shape(shop: ChatShop) -> None:
    shop.chat.reply = answering(200, message('{"fair": true}'))
    async with sdk(shop) as client:
        answer = await client.responses.parse(model=TINY, input="Is it fair?", text_format=Verdict)
    assert answer.output_parsed == Verdict(fair=True)
    shape = shop.chat.bodies[-1]["response_format"]
    assert (shape["type"], shape["json_schema"]["strict"]) == ("json_schema", True)


async def test_a_key_makes_it_once_to_the_byte(shop: ChatShop) -> None:
    headers = {"idempotency-key": "k1"}
    shop.chat.reply = lambda sent: (
        streaming(chat_sse(chunk(content="Hi"), chunk("stop"), counted()))
        if sent.json.get("stream")
        else answering(200, message("Hi"))
    )
    for streamed in ({}, {"stream": True}):
        headers["idempotency-key"] += "+"
        first = await shop.post({**BODY, **streamed}, PATH, **headers)
        shop.api.world.offset_ms += 5_000
        again = await shop.post({**BODY, **streamed}, PATH, **headers)
        assert (first.status_code, first.content) == (200, again.content)
    assert len(shop.chat.bodies) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
    ],
)
async def test_what_can_t_be_done_is_refused_by_its_name(shop: ChatShop, fields: Json, param: str) -> None:
    answer = await shop.post({**BODY, **fields}, PATH)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert shop.chat.bodies == []


async def test_the_upstream_s_own_refusal_is_passed_on(shop: ChatShop) -> None:
    told = {"error": {"message": "tools: no", "type": "invalid_request_error", "code": "bad_tools"}}
    shop.chat.reply = answering(400, told)
    answer = await shop.post(BODY, PATH)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "tools: no")
    assert (answer.json()["error"]["code"], answer.json()["code"]) == ("bad_tools", "invalid_request")
    assert answer.json()["retryAction"] and answer.json()["paymentState"]
    assert (await shop.show())["spentMsat"] == 0


async def test_a_prompt_that_is_too_long_is_told_in_the_words_that_codex_knows(shop: ChatShop) -> None:
    # As llama.cpp tells it.
    told = {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}
    shop.chat.reply = answering(400, {"error": told})
    answer = await shop.post({**BODY, "stream": True}, PATH)
    assert answer.status_code == 200
    # Codex knows this code, the SDK's types don't.
    *_, error, failed = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert error["code"] == failed["response"]["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 8 tokens" in error["message"]


# Counts


async def test_an_upstream_that_does_not_count_leaves_it_to_an_estimate(shop: ChatShop) -> None:
    async with sdk(shop) as client:
        few = await client.responses.input_tokens.count(model=TINY, input="Hello")
        more = await client.responses.input_tokens.count(model=TINY, input="Hello " * 200)
    assert few.object == "response.input_tokens"
    assert 0 < few.input_tokens < 30 < more.input_tokens < 500
    assert (await shop.show())["spentMsat"] == 0 and shop.chat.bodies == []


async def test_one_that_counts_is_asked(shop: ChatShop) -> None:
    shop.chat.reply = lambda _: answering(200, {"input_tokens": 77})
    answer = await shop.post({**BODY, "tools": [FUNCTION]}, f"{PATH}/input_tokens")
    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 77}
    (sent,) = shop.chat.http.sent
    assert sent.url.endswith("/chat/completions/input_tokens") and sent.json["tools"]


# Streams


async def test_the_sdk_s_helper_puts_a_stream_together_with_its_cost(shop: ChatShop) -> None:
    shop.chat.reply = streaming(
        chat_sse(
            chunk(role="assistant", content=None),
            chunk(reasoning_content="Hm"),
            chunk(content="Hé"),
            chunk(content="llo"),
            chunk(tool_calls=[tool_call("weather", '{"city":', "c1", index=0)]),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Rome"}'}}]),
            chunk("tool_calls"),
            counted(),
        )
    )
    fields: Any = {**BODY, "tools": [FUNCTION], "reasoning": {"summary": "auto"}}
    async with sdk(shop) as client, client.responses.stream(**fields) as stream:
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert answer.output_text == "Héllo"
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    assert answer.usage is not None
    assert answer.usage.to_dict()["cost_msat"] == (await shop.show())["spentMsat"] > 0
    assert shop.chat.bodies[-1]["stream_options"] == {"include_usage": True}
    raw = await shop.post({**BODY, "stream": True}, PATH)
    assert "[DONE]" not in raw.text and ": Satmeter-Debited-Msat: " in raw.text
    fits(events_in(raw.content)[-1]["response"])


async def test_a_stream_that_breaks_off_raises_and_bills_what_was_given(shop: ChatShop) -> None:
    from openai import APIError

    shop.chat.reply = streaming(chat_sse(chunk(content="Hel"), done=False), HttpError("gone"))
    async with sdk(shop) as client:
        stream = await client.responses.create(model=TINY, input="Hi", stream=True)
        with pytest.raises(APIError) as caught:
            _ = [event async for event in stream]
    assert caught.value.code == "model_failed"
    raw = await shop.post({**BODY, "stream": True}, PATH)
    *_, told, last = events_in(raw.content)
    seen = await shop.show()
    assert told["debitedMsat"] == last["response"]["usage"]["cost_msat"] > 0
    assert last["response"]["error"]["code"] == "server_error"
    # Two calls, of which each cost the same, but for the length of their inputs.
    assert seen["spentMsat"] >= told["debitedMsat"]


async def test_who_leaves_pays_for_what_was_given_and_gets_it_again_by_the_key(shop: ChatShop) -> None:
    shop.chat.reply = reply = streaming(chat_sse(chunk(content="Hello"), done=False), hangs=True)
    fields: Any = {"model": TINY, "input": "Hi", "stream": True, "extra_headers": {"Idempotency-Key": "k1"}}
    async with sdk(shop) as client:
        stream = await client.responses.create(**fields)
        events = aiter(stream)
        kinds = [(await anext(events)).type for _ in range(5)]
        assert kinds[-1] == "response.output_text.delta"
        await stream.close()
        await shop.until_free()
        assert reply.closed == 1 and (await shop.show())["spentMsat"] > 0
        again = [event async for event in await client.responses.create(**fields)]
    assert again[-1].type == "response.incomplete"
    assert again[-1].response.output_text == "Hello"
    assert len(shop.chat.bodies) == 1
