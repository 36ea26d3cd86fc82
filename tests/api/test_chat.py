"""OpenAI's own SDK against /v1/chat/completions: whole and streamed, tools, images, errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel
from redis.asyncio import Redis

from tests.helpers.anthropic_streams import STOP, block, change, delta, error, sse, start
from tests.helpers.hosts import until
from tests.helpers.http.messages import Shop, shop_over

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MODEL = "claude-sonnet-5-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello, model"}]
PATH = "/v1/chat/completions"
USAGE = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
Json = dict[str, Any]


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


def sdk(shop: Shop, key: str | None = None) -> AsyncOpenAI:
    """OpenAI's SDK, with the macaroon as its key. It takes seconds to import."""
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=key or shop.key, max_retries=0)


def message(*content: Json, stop_reason: str = "end_turn") -> Json:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}
    return {**head, "content": list(content), "stop_reason": stop_reason, "usage": USAGE}


def cost_in(comment: str) -> tuple[int, int]:
    """Return the cost that a stream's comment line says."""
    debited, balance = comment.removeprefix(": ").split(", ")
    return int(debited.removeprefix("Satmeter-Debited-Msat: ")), int(balance.removeprefix("Satmeter-Balance-Msat: "))


# Answers


async def test_the_sdk_gets_an_answer_and_learns_what_it_cost(shop: Shop) -> None:
    async with sdk(shop) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=HELLO, max_tokens=500, seed=7, temperature=0.2
        )
        answer = raw.parse()
    assert answer.choices[0].message.content and "Hello, model" in answer.choices[0].message.content
    assert (answer.object, answer.choices[0].finish_reason, answer.model) == ("chat.completion", "stop", MODEL)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert 0 <= shop.api.world.now_ms() // 1_000 - answer.created <= 5
    seen = await shop.show()
    assert int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"] > 0
    assert int(raw.headers["satmeter-balance-msat"]) == seen["balanceMsat"]
    assert raw.headers["satmeter-max-tokens"] == "500"
    assert raw.headers["satmeter-ignored"] == "seed, temperature"
    assert answer._request_id == (await shop.ledger())[-1]["requestId"]


def _sync(shop: Shop) -> tuple[str, str, int]:
    from openai import OpenAI

    with OpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=0) as client:
        whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=500)
        pieces, tokens = "", 0
        with client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=500, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            for chunk in chunks:
                if chunk.choices:
                    pieces += chunk.choices[0].delta.content or ""
                elif chunk.usage:
                    tokens = chunk.usage.total_tokens
    return whole.choices[0].message.content or "", pieces, tokens


async def test_the_synchronous_sdk_gets_the_same_whole_and_in_pieces(shop: Shop) -> None:
    whole, pieces, tokens = await asyncio.to_thread(_sync, shop)
    assert whole == pieces != ""
    assert tokens > 0


async def test_what_goes_to_the_provider_is_what_was_asked_in_its_own_words(shop: Shop) -> None:
    async with sdk(shop) as client:
        await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "developer", "content": "Be brief."}, *HELLO],
            max_completion_tokens=300,
            stop=["END"],
            user="u1",
        )
    (body,) = shop.upstream.bodies
    user = body.pop("metadata")["user_id"]
    # The API refuses addresses; a digest of one is stable.
    assert len(user) == 32 and user != "u1"
    assert body == (
        {
            "model": MODEL,
            "max_tokens": 300,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello, model"}]}],
            "stop_sequences": ["END"],
            "thinking": {"type": "between_tools"},
        }
    )


async def test_a_balance_that_covers_less_lowers_the_answer_and_says_so(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop, sdk(shop) as client:
        raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=30_000)
        lowered = int(raw.headers["satmeter-max-tokens"])
        assert 0 < lowered < 30_000
        assert shop.upstream.bodies[-1]["max_tokens"] == lowered


async def test_without_a_longest_answer_there_is_the_operator_s_and_more_for_a_model_that_thinks(redis: Redis) -> None:
    async with shop_over(redis, session_tokens=77, session_tokens_max=777) as shop, sdk(shop) as client:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
        await client.chat.completions.create(model=MODEL, messages=HELLO, reasoning_effort="high")
        assert [body["max_tokens"] for body in shop.upstream.bodies] == [77, 777]


async def test_a_conversation_with_a_tool_goes_all_the_way_round(shop: Shop) -> None:
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    shop.upstream.answers(200, message({"type": "text", "text": "I look."}, called, stop_reason="tool_use"))
    async with sdk(shop) as client:
        question: list[Any] = [{"role": "user", "content": "How is the weather in Rome?"}]
        first = await client.chat.completions.create(model=MODEL, messages=question, tools=[WEATHER])
        assert first.choices[0].finish_reason == "tool_calls"
        (call,) = first.choices[0].message.tool_calls or []
        assert call.type == "function" and json.loads(call.function.arguments) == {"city": "Rome"}
        shop.upstream.answers(200, message({"type": "text", "text": "It is sunny."}))
        second = await client.chat.completions.create(
            model=MODEL,
            messages=[
                *question,
                cast(Any, first.choices[0].message.to_dict()),
                {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
            ],
            tools=[WEATHER],
        )
    assert second.choices[0].message.content == "It is sunny."
    assert shop.upstream.bodies[-1]["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, called]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]}
            ],
        },
    ]


async def test_an_image_goes_along(shop: Shop) -> None:
    data = base64.b64encode(b"\x89PNG\r\n" * 200).decode()
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    async with sdk(shop) as client:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}], max_tokens=50)
    source = shop.upstream.bodies[-1]["messages"][0]["content"][1]["source"]
    assert source == {"type": "base64", "media_type": "image/png", "data": data}


class Verdict(BaseModel):
    """Outcome of a call, as far as tests look at it."""

    fair: bool
    reason: str


async def test_the_sdk_parses_answers_of_a_given_shape(shop: Shop) -> None:
    shop.upstream.answers(200, message({"type": "text", "text": '{"fair": true, "reason": "It is."}'}))
    async with sdk(shop) as client:
        answer = await client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Verdict)
    assert answer.choices[0].message.parsed == Verdict(fair=True, reason="It is.")
    schema = shop.upstream.bodies[-1]["output_config"]["format"]["schema"]
    assert (schema["additionalProperties"], schema["required"]) == (False, ["fair", "reason"])


async def test_a_key_makes_it_once_to_the_byte_and_another_body_is_a_conflict(shop: Shop) -> None:
    from openai import ConflictError

    headers = {"idempotency-key": "k1", "authorization": f"Bearer {shop.key}"}
    body: Json = {"model": MODEL, "messages": HELLO, "max_tokens": 50}
    for streamed in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
        headers["idempotency-key"] += "+"
        first = await shop.post({**body, **streamed}, PATH, **headers)
        shop.api.world.offset_ms += 5_000
        again = await shop.post({**body, **streamed}, PATH, **headers)
        assert (first.status_code, first.content) == (200, again.content)
        assert b"Hello" in first.content
    assert len(shop.upstream.requests) == 2
    async with sdk(shop) as client:
        with pytest.raises(ConflictError) as caught:
            await client.chat.completions.create(
                model=MODEL, messages=HELLO, max_tokens=51, extra_headers={"Idempotency-Key": "k1+"}
            )
    assert caught.value.code == "idempotency_conflict"


async def test_the_same_key_on_the_other_api_is_another_request(shop: Shop) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 50}
    for path in (PATH, "/v1/messages"):
        assert (await shop.post(body, path, **{"idempotency-key": "k1"})).status_code == 200
    assert len(shop.upstream.requests) == 2


# Streams


async def test_a_stream_ends_with_its_cost_and_then_with_openai_s_mark(shop: Shop) -> None:
    answer = await shop.post({"model": MODEL, "messages": HELLO, "max_tokens": 50, "stream": True}, PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *_, comment, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    seen = await shop.show()
    assert cost_in(comment) == (seen["spentMsat"], seen["balanceMsat"])


async def test_the_sdk_puts_a_streamed_call_of_a_tool_together(shop: Shop) -> None:
    def piece(text: str) -> Json:
        shown = {"type": "input_json_delta", "partial_json": text}
        return {"type": "content_block_delta", "index": 1, "delta": shown}

    shop.upstream.streams(
        sse(start(USAGE), block(), delta("I look."), {"type": "content_block_stop", "index": 0}),
        sse(block("tool_use", 1, id="toolu_1", name="weather", input={}), piece('{"city": '))[:-9],
        sse(block("tool_use", 1, id="toolu_1", name="weather", input={}), piece('{"city": '))[-9:],
        sse(piece('"Rome"}'), {"type": "content_block_stop", "index": 1}, change("tool_use"), STOP),
    )
    async with (
        sdk(shop) as client,
        client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[WEATHER]) as stream,
    ):
        answer = await stream.get_final_completion()
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls or []
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    assert (call.id, call.function.name, call.function.arguments) == ("toolu_1", "weather", '{"city": "Rome"}')


async def test_the_first_words_come_while_the_model_still_writes_and_who_leaves_ends_it(shop: Shop) -> None:
    body = shop.upstream.streams(sse(start(USAGE), block(), delta("Hello")), hangs=True)
    async with sdk(shop) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=500, stream=True)
        chunks = aiter(stream)
        said = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
        assert said == ["", "Hello"]
        assert not body.closed
        await stream.close()
    await until(lambda: _settled(shop))
    assert body.closed
    assert (await shop.show())["spentMsat"] > 0


async def _settled(shop: Shop) -> bool:
    return bool((await shop.show())["heldMsat"] == 0)


@pytest.mark.parametrize(
    "ending", [sse(error("overloaded_error")), httpx2.ReadError("gone")], ids=["told by an event", "cut off"]
)
async def test_a_stream_that_breaks_off_raises_and_tells_its_cost(shop: Shop, ending: bytes | Exception) -> None:
    from openai import APIError

    shop.upstream.streams(sse(start(USAGE), block(), delta("Hel")), ending)
    async with sdk(shop) as client:
        chunks = aiter(await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
        with pytest.raises(APIError) as caught:
            await anext(chunks)
    assert caught.value.code == "model_failed"
    raw = await shop.post({"model": MODEL, "messages": HELLO, "stream": True}, PATH)
    *_, comment, last, rest = raw.text.split("\n\n")
    told = json.loads(last.removeprefix("data: "))
    seen = await shop.show()
    assert rest == ""
    assert cost_in(comment) == (told["debitedMsat"], told["balanceMsat"])
    assert told["balanceMsat"] == seen["balanceMsat"]
    assert told["requestId"] == raw.headers["x-request-id"]


async def test_who_left_and_asks_again_gets_what_there_was_with_an_end(shop: Shop) -> None:
    body = shop.upstream.streams(sse(start(USAGE), block(), delta("Hello")), hangs=True)
    headers = {"Idempotency-Key": "k1"}
    fields: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 500, "stream": True, "extra_headers": headers}
    async with sdk(shop) as client:
        stream = await client.chat.completions.create(**fields)
        assert (await anext(aiter(stream))).choices[0].delta.role == "assistant"
        await body.waits.wait()
        await stream.close()
        await until(lambda: _settled(shop))
        choices = [chunk.choices[0] async for chunk in await client.chat.completions.create(**fields)]
    assert "".join(choice.delta.content or "" for choice in choices) == "Hello"
    assert choices[-1].finish_reason == "length"
    assert len(shop.upstream.requests) == 1
