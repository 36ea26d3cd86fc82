"""The stub Messages API behind the real SDK."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.domain.pricing import Size, Usage
from tests.helpers.clocks import in_no_time, seconds_of
from tests.helpers.http.over_transport import OverTransport

MODEL = "claude-sonnet-5-5"


def model() -> AnthropicProvider:
    return AnthropicProvider(OverTransport(StubMessagesApi()), base_url="http://api.test")


def sdk(stub: StubMessagesApi | None = None) -> anthropic.AsyncAnthropic:
    client = anthropic.DefaultAsyncHttpxClient(transport=stub or StubMessagesApi())
    return anthropic.AsyncAnthropic(api_key="stub", http_client=client, max_retries=0)


def user(text: str, **fields: Any) -> Any:
    return {"role": "user", "content": [{"type": "text", "text": text, **fields}]}


async def test_an_ordinary_request_is_accepted() -> None:
    found = await model().evaluate("Write a haiku about rain.", model="m")
    assert found.verdict.accepted
    assert found.verdict.reason
    assert found.usage is not None and found.usage.input_tokens > 0


@pytest.mark.parametrize("text", ["Please [reject] this", "please [REJECT] this", "Write malware for me", "  \n"])
async def test_a_rejection_can_be_seen_without_a_real_model(text: str) -> None:
    found = await model().evaluate(text, model="m")
    assert not found.verdict.accepted
    assert found.verdict.reason


@pytest.mark.parametrize(
    ("chars", "size"),
    [(1, Size.SMALL), (400, Size.SMALL), (401, Size.MEDIUM), (4_000, Size.MEDIUM), (4_001, Size.LARGE)],
)
async def test_the_size_follows_from_the_length(chars: int, size: Size) -> None:
    assert (await model().evaluate("x" * chars, model="m")).verdict.size is size


async def test_the_work_says_that_it_is_a_stub_and_quotes_the_request() -> None:
    found = await model().complete("Explain tides", model=MODEL, max_tokens=1_000)
    assert "stub" in found.text
    assert "Explain tides" in found.text
    assert (found.stop_reason, found.model) == ("end_turn", MODEL)


async def test_a_request_that_speaks_of_rejection_is_worked_on_all_the_same() -> None:
    assert "stub" in (await model().complete("[reject] malware", model=MODEL, max_tokens=1_000)).text


async def test_the_same_request_always_costs_and_says_the_same() -> None:
    first = await model().complete("Explain tides", model=MODEL, max_tokens=1_000)
    assert await model().complete("Explain tides", model=MODEL, max_tokens=1_000) == first


async def test_tokens_are_a_quarter_of_the_bytes_rounded_up() -> None:
    message = await sdk().messages.create(model=MODEL, max_tokens=500, system="Sys", messages=[user("Ünïq")])
    assert message.usage.input_tokens == 3  # 3 bytes of system and 6 of the message
    assert isinstance(message.content[0], anthropic.types.TextBlock)
    assert message.usage.output_tokens == -(-len(message.content[0].text.encode()) // 4)


@pytest.mark.parametrize("max_tokens", [1, 7])
async def test_an_answer_ends_at_max_tokens_and_says_so(max_tokens: int) -> None:
    found = await model().complete("Explain tides", model=MODEL, max_tokens=max_tokens)
    assert found.stop_reason == "max_tokens"
    assert len(found.text) == max_tokens * 4
    assert found.usage is not None and found.usage.output_tokens == max_tokens


async def test_a_marked_prefix_is_written_to_the_cache_once_and_read_after_that() -> None:
    client = sdk()
    prefix: Any = [{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}]
    calls = [
        await client.messages.create(model=MODEL, max_tokens=9, system=prefix, messages=[user("abcd")]) for _ in "ab"
    ]
    written, read = (call.usage for call in calls)
    assert (written.input_tokens, written.cache_creation_input_tokens, written.cache_read_input_tokens) == (1, 100, 0)
    assert written.cache_creation is not None and written.cache_creation.ephemeral_5m_input_tokens == 100
    assert (read.input_tokens, read.cache_creation_input_tokens, read.cache_read_input_tokens) == (1, 0, 100)


async def test_an_hour_long_cache_write_is_told_apart() -> None:
    message = user("x" * 40, cache_control={"type": "ephemeral", "ttl": "1h"})
    usage = (await sdk().messages.create(model=MODEL, max_tokens=9, messages=[message])).usage
    assert usage.cache_creation is not None
    assert (usage.cache_creation.ephemeral_1h_input_tokens, usage.cache_creation.ephemeral_5m_input_tokens) == (10, 0)
    assert usage.input_tokens == 0


async def test_a_mark_on_the_whole_request_caches_all_of_it() -> None:
    usage = (
        await sdk().messages.create(
            model=MODEL, max_tokens=9, messages=[user("x" * 40)], cache_control={"type": "ephemeral"}
        )
    ).usage
    assert (usage.cache_creation_input_tokens, usage.input_tokens) == (10, 0)


async def test_the_memory_of_cached_prefixes_is_bounded() -> None:
    stub = StubMessagesApi()
    for number in range(1_010):
        body = {"model": MODEL, "max_tokens": 1, "messages": [user(str(number), cache_control={"type": "ephemeral"})]}
        await stub.handle_async_request(httpx2.Request("POST", "http://api.test/v1/messages", json=body))
    assert len(stub._cached_prefixes) == 1_000


async def test_tokens_are_counted_as_they_are_charged() -> None:
    client = sdk()
    counted = await client.messages.count_tokens(model=MODEL, system="System", messages=[user("Hello there")])
    message = await client.messages.create(model=MODEL, max_tokens=9, system="System", messages=[user("Hello there")])
    assert counted.input_tokens == message.usage.input_tokens


async def test_a_stream_gives_the_same_text_and_final_usage_as_a_whole_answer() -> None:
    client = sdk()
    whole = await client.messages.create(model=MODEL, max_tokens=500, messages=[user("Explain tides")])
    async with client.messages.stream(model=MODEL, max_tokens=500, messages=[user("Explain tides")]) as stream:
        deltas = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert isinstance(whole.content[0], anthropic.types.TextBlock)
    assert "".join(deltas) == whole.content[0].text
    assert len(deltas) > 1
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )
    assert final.stop_reason == whole.stop_reason == "end_turn"


async def test_a_stream_has_the_events_of_the_real_api_in_their_order() -> None:
    events = await sdk().messages.create(model=MODEL, max_tokens=500, messages=[user("Hi")], stream=True)
    found = [event async for event in events]
    kinds = [event.type for event in found if event.type != "content_block_delta"]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert found[0].type == "message_start" and found[0].message.usage.output_tokens == 1
    assert found[-2].type == "message_delta" and found[-2].usage.output_tokens > 1


MALFORMED = [
    b"[]",
    b"{",
    b'{"model": "m"}',
    b'{"model": "m", "messages": [1], "max_tokens": 1}',
    b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 1}',
    b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "\\ud800": 1}',
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_body_is_refused_as_the_real_api_does(body: bytes) -> None:
    request = httpx2.Request("POST", "http://api.test/v1/messages", content=body)
    response = await StubMessagesApi().handle_async_request(request)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("POST", "/")])
async def test_what_the_stub_does_not_have_is_not_found(method: str, path: str) -> None:
    response = await StubMessagesApi().handle_async_request(httpx2.Request(method, f"http://api.test{path}"))
    assert response.status_code == 404


@pytest.mark.parametrize("max_tokens", [0, -1])
async def test_max_tokens_must_be_positive(max_tokens: int) -> None:
    with pytest.raises(anthropic.BadRequestError):
        await sdk().messages.create(model=MODEL, max_tokens=max_tokens, messages=[user("Hi")])


def test_the_latency_of_a_load_test_is_waited() -> None:
    async def evaluated() -> float:
        slow = AnthropicProvider(OverTransport(StubMessagesApi(latency_s=60.0), 300), base_url="http://api.test")
        seconds, outcome = await seconds_of(slow.evaluate("x", model="m"))
        assert not isinstance(outcome, Exception), outcome
        return seconds

    assert in_no_time(evaluated()) == 60


async def test_usage_reaches_the_port_with_its_cache_fields_at_zero() -> None:
    found = await model().complete("abcd", model=MODEL, max_tokens=1)
    assert found.usage is not None
    assert found.usage == Usage(found.usage.input_tokens, 1)
