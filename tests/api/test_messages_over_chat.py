"""Anthropic's own SDK against an upstream that speaks chat completions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from anthropic import beta_async_tool
from redis.asyncio import Redis

from satmeter.actors.adapters.upstream.http import HttpError
from tests.helpers.chat_answers import chat_sse, chunk, counted, tool_call
from tests.helpers.chat_upstream import Answer, Sent, answering, message, streaming
from tests.helpers.http.chat_shop import ChatShop, chat_shop_over

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 50, "messages": HELLO}


@pytest_asyncio.fixture
async def shop(redis: Redis, tmp_path: Path) -> AsyncIterator[ChatShop]:
    async with chat_shop_over(redis, tmp_path) as found:
        yield found


async def test_a_whole_answer_is_a_message_and_says_what_it_cost(shop: ChatShop) -> None:
    async with shop.sdk() as sdk:
        raw = await sdk.messages.with_raw_response.create(
            model="small", max_tokens=50, messages=HELLO, extra_body={"top_k": 5}
        )
        found = await raw.parse()
    assert found.content[0].type == "text" and found.content[0].text == "Hello, client."
    assert (found.model, found.stop_reason, found.usage.input_tokens, found.usage.output_tokens) == (
        "small",
        "end_turn",
        18,
        16,
    )
    seen = await shop.show()
    assert int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"] > 0
    assert found.usage.to_dict()["cost_msat"] == seen["spentMsat"]
    assert (raw.headers["satmeter-ignored"], raw.headers["satmeter-max-tokens"]) == ("top_k", "50")
    assert shop.chat.bodies[0]["model"] == "tiny-llama"
    assert all(not name.startswith("anthropic") for name in shop.chat.http.sent[0].headers)


@pytest.mark.parametrize("size", [1, 9, 10_000])
async def test_a_stream_is_one_of_the_messages_api(shop: ChatShop, size: int) -> None:
    sent = chat_sse(chunk(role="assistant"), chunk(content="Hel"), chunk(content="lo"), chunk("stop"), counted())
    shop.chat.reply = streaming(*(sent[at : at + size] for at in range(0, len(sent), size)))
    async with shop.sdk() as sdk, sdk.messages.stream(model="tiny", max_tokens=50, messages=HELLO) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        found = await stream.get_final_message()
    assert (text, found.stop_reason, found.usage.output_tokens) == ("Hello", "end_turn", 20)
    assert (await shop.show())["spentMsat"] > 0


async def test_the_cost_is_in_the_last_usage_and_in_a_comment(shop: ChatShop) -> None:
    shop.chat.reply = streaming(chat_sse(chunk(content="Hi"), chunk("stop"), counted()))
    answer = await shop.post({**BODY, "stream": True})
    spent = (await shop.show())["spentMsat"]
    *_, delta, stop, comment, rest = answer.text.split("\n\n")
    assert json.loads(delta.split("data: ")[1])["usage"]["cost_msat"] == spent > 0
    assert stop.startswith("event: message_stop") and rest == ""
    assert comment.startswith(f": Satmeter-Debited-Msat: {spent}, ")


@pytest.mark.parametrize("streams", [True, False])
async def test_the_sdks_own_agent_loop_calls_a_tool_and_goes_on(shop: ChatShop, streams: bool) -> None:
    asked: list[str] = []
    last: Any = None

    @beta_async_tool
    async def weather(city: str) -> str:
        """Tell the weather somewhere.

        Args:
            city: The city.
        """
        asked.append(city)
        return "Sunny"

    calls = [tool_call("weather", '{"city": "Z"}', "call_1"), tool_call("weather", '{"city": "B"}', "call_2")]

    def reply(sent: Sent) -> Answer | HttpError:
        body = sent.json
        if body["messages"][-1]["role"] == "tool":
            if body.get("stream"):
                return streaming(chat_sse(chunk(content="It is sunny."), chunk("stop"), counted()))
            return answering(200, message("It is sunny."))
        if body.get("stream"):
            pieces = [{**call, "index": number} for number, call in enumerate(calls)]
            return streaming(chat_sse(chunk(tool_calls=pieces), chunk("tool_calls"), counted()))
        return answering(200, message(None, finish="tool_calls", tool_calls=calls))

    shop.chat.reply = reply
    async with shop.sdk() as sdk:
        if streams:
            async for stream in sdk.beta.messages.tool_runner(
                model="tiny", max_tokens=500, messages=HELLO, tools=[weather], stream=True
            ):
                last = await stream.get_final_message()
        else:
            last = await sdk.beta.messages.tool_runner(
                model="tiny", max_tokens=500, messages=HELLO, tools=[weather]
            ).until_done()
    assert asked == ["Z", "B"]
    assert last.content[0].type == "text" and last.content[0].text == "It is sunny."
    said = shop.chat.bodies[-1]["messages"]
    assert [found["role"] for found in said] == ["user", "assistant", "tool", "tool"]
    assert [found["tool_call_id"] for found in said[2:]] == [call["id"] for call in said[1]["tool_calls"]]
    assert said[2]["content"] == "Sunny" and said[1]["tool_calls"][0]["id"] == "call_1"


async def test_thoughts_come_back_to_the_model_that_had_them(shop: ChatShop) -> None:
    calls = [tool_call("weather", '{"city": "Z"}', "call_1")]
    shop.chat.reply = answering(200, message(None, finish="tool_calls", tool_calls=calls, reasoning_content="Hm."))
    thinks: Any = {"type": "enabled", "budget_tokens": 1_024}
    tools: Any = [{"name": "weather", "input_schema": {"type": "object"}}]
    async with shop.sdk() as sdk:
        first = await sdk.messages.create(model="tiny", max_tokens=2_000, messages=HELLO, thinking=thinks, tools=tools)
        assert [block.type for block in first.content] == ["thinking", "tool_use"]
        assert first.content[1].type == "tool_use"
        result: Any = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "Sunny"}
        turns: list[Any] = [
            *HELLO,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        await sdk.messages.create(model="tiny", max_tokens=2_000, messages=turns, thinking=thinks, tools=tools)
    assert shop.chat.bodies[-1]["reasoning_effort"] == "low"
    assert shop.chat.bodies[-1]["messages"][1]["reasoning_content"] == "Hm."


# What goes wrong


async def test_what_the_upstream_refuses_is_told_in_this_apis_shape_and_free(shop: ChatShop) -> None:
    shop.chat.reply = answering(400, {"error": {"message": "No tools here.", "type": "invalid_request_error"}})
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await sdk.messages.create(model="tiny", max_tokens=50, messages=HELLO)
    told: Any = caught.value.body
    assert (told["error"]["type"], told["error"]["message"]) == ("invalid_request_error", "No tools here.")
    assert (await shop.show())["spentMsat"] == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}, "prompt is too long: 9 tokens > 8 "),
        ({"message": "the input exceeds the context window"}, "prompt is too long: the input exceeds"),
        (
            {
                "message": "This model's maximum context length is 8 tokens. However, you requested 9 tokens (4 in the "
                "messages, 5 in the completion)."
            },
            "input length and `max_tokens` exceed context limit: 4 + 5 > 8",
        ),
    ],
)
async def test_a_prompt_that_does_not_fit_is_told_in_anthropics_words(shop: ChatShop, error: Any, words: str) -> None:
    shop.chat.reply = answering(400, {"error": {"code": 400, "message": "too big", **error}})
    told = (await shop.post(BODY)).json()
    assert told["error"]["message"].startswith(words)
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")


async def test_a_stream_that_breaks_off_ends_in_an_error_event(shop: ChatShop) -> None:
    shop.chat.reply = streaming(chat_sse(chunk(content="Hel"), done=False), chat_sse({"error": {"message": "x"}}))
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.APIStatusError):
            async with sdk.messages.stream(model="tiny", max_tokens=50, messages=HELLO) as stream:
                _ = [event async for event in stream]
    await shop.until_free()


async def test_what_can_t_be_done_is_named_before_anything_is_held(shop: ChatShop) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    body = {**BODY, "messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}
    told = (await shop.post(body)).json()
    assert told["fields"][0]["path"] == "messages.0.content.0.source"
    assert shop.chat.http.sent == []


# Counts


async def test_a_prompt_is_estimated_where_the_upstream_does_not_count(shop: ChatShop) -> None:
    async with shop.sdk() as sdk:
        short = await sdk.messages.count_tokens(model="tiny", messages=HELLO)
        long = await sdk.messages.count_tokens(
            model="tiny", messages=[{"role": "user", "content": "Hello " * 500}], system="Be brief."
        )
    assert 1 <= short.input_tokens < 30 and 400 < long.input_tokens < 1_200
    assert (await shop.show())["spentMsat"] == 0


async def test_a_prompt_is_counted_by_an_upstream_that_counts(shop: ChatShop) -> None:
    def reply(sent: Sent) -> Answer | HttpError:
        assert sent.json["messages"] == [{"role": "user", "content": "Hello"}]
        return answering(200, {"input_tokens": 27})

    shop.chat.reply = reply
    async with shop.sdk() as sdk:
        assert (await sdk.messages.count_tokens(model="tiny", messages=HELLO)).input_tokens == 27
