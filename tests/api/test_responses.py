"""OpenAI's own SDK against /v1/responses: whole and streamed, tools, reasoning, errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel
from redis.asyncio import Redis

from tests.helpers.anthropic_streams import EVERY_KIND, STOP, block, change, delta, error, sse, start
from tests.helpers.hosts import until
from tests.helpers.http.messages import Shop, shop_over
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH, Json, events_in, fits

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MODEL = "claude-sonnet-5-5"
PATH = "/v1/responses"
USAGE = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}


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


async def _settled(shop: Shop) -> bool:
    return bool((await shop.show())["heldMsat"] == 0)


# Whole


async def test_the_sdk_gets_a_response_and_learns_what_it_cost(shop: Shop) -> None:
    async with sdk(shop) as client:
        raw = await client.responses.with_raw_response.create(
            model=MODEL, input="Hello, model", instructions="Be brief.", max_output_tokens=500, temperature=0.2
        )
        answer = raw.parse()
    assert "Hello, model" in answer.output_text
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", MODEL, None)
    seen = await shop.show()
    assert answer.usage is not None
    usage = answer.usage.to_dict()
    assert usage["cost_msat"] == int(raw.headers["satmeter-debited-msat"]) == seen["spentMsat"] > 0
    assert usage["balance_msat"] == int(raw.headers["satmeter-balance-msat"]) == seen["balanceMsat"]
    assert usage["total_tokens"] == answer.usage.input_tokens + answer.usage.output_tokens > 0
    assert raw.headers["satmeter-max-tokens"] == "500"
    assert raw.headers["satmeter-ignored"] == "temperature"
    assert shop.upstream.bodies == [
        {
            "model": MODEL,
            "max_tokens": 500,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello, model"}]}],
            "thinking": {"type": "between_tools"},
        }
    ]


async def test_a_conversation_with_thoughts_and_tools_goes_all_the_way_round(shop: Shop) -> None:
    thought = {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "c2VjcmV0"}
    calls = [
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "toolu_2", "name": "agents__tell", "input": {"input": "hi"}},
    ]
    shop.upstream.answers(200, message(thought, hidden, *calls, stop_reason="tool_use"))
    fields: Any = {"model": MODEL, "tools": [FUNCTION, PATCH, AGENTS], **ENCRYPTED}
    async with sdk(shop) as client:
        first = await client.responses.create(input="How is the weather in Rome?", **fields)
        history: list[Any] = [
            {"role": "user", "content": "How is the weather in Rome?"},
            *[item.to_dict() for item in first.output],
            {"type": "function_call_output", "call_id": "toolu_1", "output": "sunny"},
            {
                "type": "custom_tool_call_output",
                "call_id": "toolu_2",
                "output": [{"type": "input_text", "text": "told"}],
            },
        ]
        shop.upstream.answers(200, message({"type": "text", "text": "It is sunny."}))
        second = await client.responses.create(input=history, **fields)
    assert second.output_text == "It is sunny."
    sent = shop.upstream.bodies[-1]
    assert [tool["name"] for tool in sent["tools"]] == ["weather", "apply_patch", "agents__close", "agents__tell"]
    assert sent["messages"][1:] == [
        {"role": "assistant", "content": [thought, hidden, *calls]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "told"}]},
            ],
        },
    ]


class Verdict(BaseModel):
    """Shape of an answer."""

    fair: bool
    reason: str


async def test_the_sdk_parses_answers_of_a_given_shape(shop: Shop) -> None:
    shop.upstream.answers(200, message({"type": "text", "text": '{"fair": true, "reason": "It is."}'}))
    async with sdk(shop) as client:
        answer = await client.responses.parse(model=MODEL, input="Is it fair?", text_format=Verdict)
    assert answer.output_parsed == Verdict(fair=True, reason="It is.")
    schema = shop.upstream.bodies[-1]["output_config"]["format"]["schema"]
    assert (schema["additionalProperties"], schema["required"]) == (False, ["fair", "reason"])


async def test_the_input_s_tokens_are_counted_for_nothing(shop: Shop) -> None:
    async with sdk(shop) as client:
        counted = await client.responses.input_tokens.count(model=MODEL, input="Hello", tools=[FUNCTION])  # type: ignore[list-item]
    assert (counted.object, counted.input_tokens > 0) == ("response.input_tokens", True)
    assert (await shop.show())["spentMsat"] == 0
    assert shop.upstream.requests[-1].url.path.endswith("/count_tokens")
    answer = await shop.post({"model": MODEL, "input": "x"}, f"{PATH}/input_tokens", **{"x-api-key": ""})
    assert answer.status_code == 401


async def test_a_key_makes_it_once_to_the_byte(shop: Shop) -> None:
    headers = {"idempotency-key": "k1", "authorization": f"Bearer {shop.key}"}
    body: Json = {"model": MODEL, "input": "Hello", "max_output_tokens": 50}
    for streamed in ({}, {"stream": True}):
        headers["idempotency-key"] += "+"
        first = await shop.post({**body, **streamed}, PATH, **headers)
        shop.api.world.offset_ms += 5_000
        again = await shop.post({**body, **streamed}, PATH, **headers)
        assert (first.status_code, first.content) == (200, again.content)
    assert len(shop.upstream.requests) == 2


async def test_a_call_without_a_credential_is_challenged(shop: Shop) -> None:
    answer = await shop.api.http.post(PATH, json={"model": MODEL, "input": "Hello"})
    assert answer.status_code == 402
    assert answer.headers["www-authenticate"].startswith('L402 macaroon="')
    assert answer.json()["error"]["code"] == answer.json()["code"] == "payment_required"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type"),
        ({"input": [{"type": "reasoning", "id": "r", "encrypted_content": "gAAAA"}]}, "input[0].encrypted_content"),
    ],
)
async def test_what_can_t_be_done_is_refused_by_its_name(shop: Shop, fields: Any, param: str) -> None:
    from openai import BadRequestError

    async with sdk(shop) as client:
        with pytest.raises(BadRequestError) as caught:
            await client.responses.create(**{"model": MODEL, "input": "Hello", **fields})
    assert caught.value.param == param
    assert shop.upstream.requests == []


async def test_the_provider_s_own_refusal_is_passed_on(shop: Shop) -> None:
    from openai import BadRequestError

    shop.upstream.answers(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "tools: no"}})
    async with sdk(shop) as client:
        with pytest.raises(BadRequestError, match="tools: no"):
            await client.responses.create(model=MODEL, input="Hello")
    assert (await shop.show())["spentMsat"] == 0


# Streams


async def test_a_stream_has_its_cost_in_the_last_event_and_no_mark_after_it(shop: Shop) -> None:
    answer = await shop.post({"model": MODEL, "input": "Hello", "max_output_tokens": 50, "stream": True}, PATH)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "[DONE]" not in answer.text
    events = events_in(answer.content)
    assert events[-1]["type"] in ("response.completed", "response.incomplete")
    usage = fits(events[-1]["response"])["usage"]
    seen = await shop.show()
    assert (usage["cost_msat"], usage["balance_msat"]) == (seen["spentMsat"], seen["balanceMsat"])
    assert f": Satmeter-Debited-Msat: {seen['spentMsat']}, " in answer.text


async def test_the_sdk_s_helper_puts_a_stream_together(shop: Shop) -> None:
    shop.upstream.streams(sse(*EVERY_KIND))
    asked = {"model": MODEL, "input": "Hello", "tools": [FUNCTION], "reasoning": {"summary": "auto"}}
    fields: Any = asked | ENCRYPTED
    async with sdk(shop) as client, client.responses.stream(**fields) as stream:
        kinds = [event.type async for event in stream]
        answer = await stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert [item.type for item in answer.output] == ["reasoning", "reasoning", "message", "function_call"]
    assert answer.output_text == "Héllo 🌍"
    call: Any = answer.output[-1]
    assert (call.call_id, call.name, json.loads(call.arguments)) == ("toolu_1", "weather", {"city": "Zürich"})
    assert answer.usage is not None
    assert answer.usage.to_dict()["cost_msat"] == (await shop.show())["spentMsat"]


async def test_the_first_words_come_while_the_model_still_writes_and_who_leaves_ends_it(shop: Shop) -> None:
    body = shop.upstream.streams(sse(start(USAGE), block(), delta("Hello")), hangs=True)
    headers = {"Idempotency-Key": "k1"}
    fields: Any = {"model": MODEL, "input": "Hi", "stream": True, "extra_headers": headers}
    async with sdk(shop) as client:
        stream = await client.responses.create(**fields)
        events = aiter(stream)
        kinds = [(await anext(events)).type for _ in range(5)]
        assert kinds[-1] == "response.output_text.delta"
        assert not body.closed
        await stream.close()
        await until(lambda: _settled(shop))
        assert body.closed and (await shop.show())["spentMsat"] > 0
        again = [event async for event in await client.responses.create(**fields)]
    assert again[-1].type == "response.incomplete"
    assert again[-1].response.output_text == "Hello"
    assert len(shop.upstream.requests) == 1


@pytest.mark.parametrize(
    "ending", [sse(error("overloaded_error")), httpx2.ReadError("gone")], ids=["told by an event", "cut off"]
)
async def test_a_stream_that_breaks_off_raises_and_bills_what_was_given(shop: Shop, ending: bytes | Exception) -> None:
    from openai import APIError

    shop.upstream.streams(sse(start(USAGE), block(), delta("Hel")), ending)
    async with sdk(shop) as client:
        stream = await client.responses.create(model=MODEL, input="Hi", stream=True)
        with pytest.raises(APIError) as caught:
            _ = [event async for event in stream]
    assert caught.value.code == "model_failed"
    raw = await shop.post({"model": MODEL, "input": "Hi", "stream": True}, PATH)
    *_, told, last = events_in(raw.content)
    seen = await shop.show()
    assert told["balanceMsat"] == last["response"]["usage"]["balance_msat"] == seen["balanceMsat"]
    assert told["debitedMsat"] == last["response"]["usage"]["cost_msat"] > 0
    assert told["requestId"] == raw.headers["x-request-id"]
    assert last["response"]["error"]["code"] == "server_error"
    # Two calls, of which each cost the same.
    assert seen["spentMsat"] == 2 * told["debitedMsat"]


async def test_white_space_cut_off_calls_and_an_address_as_user_are_taken(shop: Shop) -> None:
    items: list[Json] = [
        {"role": "system", "content": " "},
        {"role": "user", "content": [{"type": "input_text", "text": "\n"}, {"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c:1", "name": "weather", "arguments": '{"city": "Ro'},
        {"type": "function_call_output", "call_id": "c:1", "output": "\n"},
        {"role": "assistant", "content": "It is \n"},
    ]
    shop.upstream.streams(sse(start(USAGE), block(), delta("x"), change(), STOP))
    body: Json = {"model": MODEL, "input": items, "user": "ann@example.com", "stream": True}
    assert (await shop.post(body, PATH)).status_code == 200
    sent = shop.upstream.bodies[-1]
    assert "ann" not in sent["metadata"]["user_id"]
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c_1", "name": "weather", "input": {"arguments": '{"city": "Ro'}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c_1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is"}]},
    ]
    assert "system" not in sent
