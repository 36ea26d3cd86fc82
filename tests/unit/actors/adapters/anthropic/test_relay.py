"""Relayed calls at the provider: to the byte there and back, whatever is in a stream, and what of it is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.adapters.stub.model import StubProvider
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.intents import RelayRequest
from satmeter.actors.domain.llm.relays import (
    RelayBegun,
    RelayBytes,
    RelayEnd,
    RelayOutcome,
    RelayPart,
    RelaySoFar,
    countable,
)
from satmeter.actors.domain.llm.reported_usage import reading_of
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.relay import RelayEffect
from satmeter.actors.ports import ModelError, PortError, ToldError, TransientError
from tests.helpers.anthropic_streams import (
    EVERY_KIND,
    FIRST_REPORT,
    FIRST_USAGE,
    MODEL,
    STOP,
    Body,
    block,
    change,
    delta,
    error,
    model,
    sse,
    start,
)
from tests.helpers.anthropic_upstream import BODY, CALL, ONCE, Upstream, answering, data_of, parts_of, relay, streaming
from tests.helpers.upstreams import over

# There


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("beta", [False, True])
async def test_the_body_goes_there_to_the_byte_with_the_client_s_headers(stream: bool, beta: bool) -> None:
    upstream = streaming(sse(*EVERY_KIND))[0] if stream else answering(200, b'{"content":[]}')
    await parts_of(upstream, stream=stream, beta=beta)
    (request,) = upstream.requests
    assert request.content == BODY
    assert request.url.path == "/v1/messages" and request.url.query == (b"beta=true" if beta else b"")
    assert request.headers["anthropic-beta"] == "x-2026" and request.headers["anthropic-version"] == "2023-06-01"
    assert "sk-test" in (request.headers.get("x-api-key") or request.headers["authorization"])
    assert request.headers["content-type"] == "application/json"


# And back


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_every_kind_of_event_comes_back_to_the_byte_however_it_is_cut(size: int, newline: str) -> None:
    sent = sse(*EVERY_KIND, newline=newline)
    upstream, _ = streaming(*(sent[at : at + size] for at in range(0, len(sent), size)))
    parts = await parts_of(upstream)
    assert data_of(parts) == sent
    assert parts[0] == RelayBegun({"content-type": "text/event-stream; charset=utf-8"})
    end = parts[-1]
    assert isinstance(end, RelayEnd) and (end.status, end.body) == (200, b"")
    assert end.usage == Usage(10, 77, 4, 2, 1)


async def test_bytes_go_on_as_they_come_and_are_not_collected() -> None:
    upstream, body = streaming(sse(start()), sse(block()), hangs=True)
    made = model(upstream)
    async with aclosing(made.relay(BODY, {}, model=MODEL, beta=False, stream=True)) as parts:
        found = [await anext(parts) for _ in range(5)]
    assert data_of(found) == sse(start(), block())
    assert body.closed == 1


async def test_what_was_counted_is_told_along_the_way() -> None:
    upstream, _ = streaming(*(sse(event) for event in (start(), block(), delta("x" * 50), change(), STOP)))
    counted = [part for part in await parts_of(upstream) if isinstance(part, RelaySoFar)]
    assert counted[0] == RelaySoFar(Usage(10, 1, 4, 2, 1), reported=FIRST_REPORT)
    assert counted[2] == RelaySoFar(Usage(10, 1, 4, 2, 1), "x" * 50, reported=FIRST_REPORT)


@pytest.mark.parametrize(
    "event",
    [
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b'data: {"type":5}\n\n',
        b'data: {"type":["message_stop"]}\n\n',
        b"data: " + b"[" * 200_000 + b"\n\n",
        b": hm\n\n",
    ],
)
async def test_what_cannot_be_read_is_passed_on_all_the_same(event: bytes) -> None:
    upstream, _ = streaming(sse(start()), event, sse(change(), STOP))
    parts = await parts_of(upstream)
    assert event in data_of(parts)
    assert isinstance(parts[-1], RelayEnd) and parts[-1].usage == Usage(10, 20, 4, 2, 1)


@pytest.mark.parametrize("usage", [None, {}, {"output_tokens": -1}, "many"])
async def test_unreadable_figures_leave_what_was_given_to_go_by(usage: Any) -> None:
    events = (start(usage), block(), delta("x" * 50), {**change(), "usage": usage}, STOP)
    end = (await parts_of(streaming(sse(*events))[0]))[-1]
    assert isinstance(end, RelayEnd) and (end.usage, end.given_tokens) == (None, 20)


@pytest.mark.parametrize("half", [b'"\\ud83d"', b'"\xf0\x9f"'])
@pytest.mark.parametrize("at", [0, -2])
async def test_half_a_character_beside_the_figures_takes_none_of_them(half: bytes, at: int) -> None:
    events = [
        sse(event) for event in (start(FIRST_USAGE), block(), delta("Hi"), change(usage={"output_tokens": 5}), STOP)
    ]
    events[at] = events[at].replace(b"data: {", b'data: {"note":' + half + b",")
    events[at] = events[at].replace(b'"output_tokens"', b'"tier":' + half + b',"output_tokens"')
    end = (await parts_of(streaming(b"".join(events))[0]))[-1]
    assert isinstance(end, RelayEnd) and end.usage is not None and end.reported is not None
    assert end.usage.output_tokens == 5 and end.usage.input_tokens == FIRST_USAGE["input_tokens"]
    assert reading_of(end.reported) == end.usage


async def test_a_whole_answer_comes_back_to_the_byte_with_its_usage() -> None:
    body = (
        b'{ "type":"message", "content":[{"type":"text","text":"h\\u00e9"}],"usage":%b }'
        % json.dumps(FIRST_USAGE).encode()
    )
    (end,) = await parts_of(answering(200, body, **{"request-id": "req_theirs"}), stream=False)
    assert isinstance(end, RelayEnd) and end.body == body and end.usage == Usage(10, 1, 4, 2, 1)
    assert end.headers == {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "given_tokens"),
    [
        (b'{"usage":{"input_tokens":-1,"output_tokens":3},"content":[{"type":"text","text":"xxxxxxxx"}]}', 3),
        (b'{"content":[{"type":"new","of":5}]}', 0),
    ],
)
async def test_a_whole_answer_without_readable_figures_is_an_answer(body: bytes, given_tokens: int) -> None:
    (end,) = await parts_of(answering(200, body), stream=False)
    assert isinstance(end, RelayEnd) and end.usage is None and end.body == body
    assert end.given_tokens == given_tokens


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"usage":{"input_tokens":1},"content":"xxxxxxxx"}'])
async def test_a_whole_answer_without_blocks_is_a_failure(body: bytes) -> None:
    with pytest.raises(TransientError):
        await parts_of(answering(200, body), stream=False)


@pytest.mark.parametrize("body", [b"<html>", b': hello\n\nevent: ping\ndata: {"type":"ping"}\n\n', b"x" * (5 << 20)])
async def test_of_a_stream_without_a_message_nothing_is_given(body: bytes) -> None:
    found: list[RelayPart] = []
    with pytest.raises(TransientError):
        await parts_of(streaming(body[:3], body[3:])[0], found=found)
    assert found == []


async def test_what_comes_before_a_message_is_given_with_it() -> None:
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    sent = sse(*EVERY_KIND)
    parts = await parts_of(streaming(ping, sent)[0])
    assert isinstance(parts[0], RelayBegun) and data_of(parts) == ping + sent


# Refusals and failures


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_is_wrong_with_a_body_is_told_in_the_provider_s_words(status: int, stream: bool) -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"temperature: too hot"}}'
    (end,) = await parts_of(answering(status, body), stream=stream)
    assert end == RelayEnd(status, {"content-type": "application/json"}, body, None)


async def test_a_quotation_that_ends_within_a_character_leaves_the_rest_of_a_refusal_readable() -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: \\ud83d"}}'
    (end,) = await parts_of(answering(400, body), stream=False)
    assert isinstance(end, RelayEnd)
    assert json.loads(end.body)["error"]["message"] == "prompt is too long: \ufffd"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "key"),
        (402, "money"),
        (403, "right"),
        (400, "Your credit balance is too low to access the API."),
        (400, "You have reached your specified API usage limits."),
    ],
)
async def test_what_is_wrong_with_our_account_is_nothing_for_a_client(status: int, text: str) -> None:
    upstream = answering(status, json.dumps({"error": {"message": text}}).encode())
    with pytest.raises(ModelError) as caught:
        await parts_of(upstream, stream=False)
    assert caught.value.fault is ModelFault.REFUSED and text not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (httpx2.Response(529), ModelFault.OVERLOADED),
        (httpx2.ConnectError("no"), ModelFault.UNREACHABLE),
        (httpx2.Response(200, content=sse(error("overloaded_error"))), ModelFault.OVERLOADED),
        (httpx2.Response(200, content=sse(error("rate_limit_error"))), ModelFault.LIMITED),
        (httpx2.Response(200, content=b""), ModelFault.FAILING),
    ],
)
async def test_what_fails_before_anything_was_given_is_asked_for_once_as_sdks_try_again_by_themselves(
    reply: httpx2.Response | Exception, fault: ModelFault
) -> None:
    def replies(_: httpx2.Request) -> httpx2.Response:
        if isinstance(reply, httpx2.Response):
            return reply
        raise reply

    upstream = Upstream(replies)
    with pytest.raises(ModelError) as caught:
        await relay(upstream)
    assert caught.value.fault is fault and len(upstream.requests) == 1


BEGUN = sse(start(), block(), delta("x" * 50))


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ([], False),
        ([httpx2.ReadError("gone")], False),
        ([b'event: content_block_delta\ndata: {"type":"content_blo'], False),
        ([sse(error("overloaded_error"))], True),
        ([sse(error("invalid_request_error"))], True),
    ],
)
async def test_what_breaks_off_is_charged_as_far_as_it_came(rest: list[bytes | Exception], told: bool) -> None:
    upstream, body = streaming(BEGUN, *rest)
    outcome, said = await relay(upstream)
    assert (outcome.ending, outcome.told, outcome.charged) == (Ending.BROKEN, told, True)
    assert outcome.usage == Usage(10, 20, 4, 2, 1)
    assert outcome.body == b"".join(part.data for part in said if isinstance(part, RelayBytes))
    assert outcome.body == BEGUN + b"".join(part for part in rest if isinstance(part, bytes))
    assert body.closed == 1 and len(upstream.requests) == 1


@pytest.mark.parametrize("kind", ["overloaded_error", "invalid_request_error"])
async def test_an_answer_that_breaks_off_in_its_first_bytes_was_given(kind: str) -> None:
    found: list[RelayPart] = []
    sent = sse(start(), block("text", text="Hello")) + sse(error(kind))
    with pytest.raises(ToldError):
        await parts_of(streaming(sent)[0], found=found)
    assert data_of(found) == sent


@pytest.mark.parametrize("kind", ["overloaded_error", "invalid_request_error", "nonsense !"])
async def test_an_error_in_the_middle_is_passed_on_and_known_to_be_told(kind: str) -> None:
    found: list[RelayPart] = []
    with pytest.raises(PortError) as caught:
        await parts_of(streaming(BEGUN, sse(error(kind)))[0], found=found)
    assert type(caught.value) is ToldError and data_of(found) == BEGUN + sse(error(kind))


# Leaving


async def left_after(upstream: Upstream, body: Body, clock: Callable[[], float] | None = None) -> RelayOutcome:
    progress = ProgressChannel(lambda _: None)
    relaying = RelayEffect(over(model(upstream)), *([clock] if clock else []))
    intent = RelayRequest("request:a", CALL, {}, False, True, MODEL, 5, 0, ONCE)
    task = asyncio.create_task(relaying.relay(intent, progress))
    await body.waits.wait()
    await asyncio.sleep(0)
    progress.stopped = True
    task.cancel()
    return await task


async def test_a_client_that_leaves_ends_the_call_and_pays_for_what_was_used() -> None:
    upstream, body = streaming(BEGUN, hangs=True)
    outcome = await left_after(upstream, body)
    assert (outcome.ending, outcome.charged, outcome.usage) == (Ending.LEFT, True, Usage(10, 20, 4, 2, 1))
    assert body.closed == 1


async def test_a_thought_that_was_not_shown_is_charged_by_its_time_when_the_client_leaves() -> None:
    now_s = iter([100.0, 104.0])
    upstream, body = streaming(sse(start(), block("thinking", 0, thinking="")), hangs=True)
    outcome = await left_after(upstream, body, lambda: next(now_s))
    assert outcome.usage == Usage(10, 200, 4, 2, 1)


async def test_who_has_left_before_it_began_has_used_nothing() -> None:
    upstream, _ = streaming(BEGUN)

    progress = ProgressChannel(lambda _: None, stopped=True)
    intent = RelayRequest("request:a", CALL, {}, False, True, MODEL, 5, 0, ONCE)
    outcome = await RelayEffect(over(model(upstream))).relay(intent, progress)
    assert (outcome.ending, outcome.charged, upstream.requests) == (Ending.LEFT, False, [])


# Counting


async def test_a_count_goes_there_and_back_to_the_byte() -> None:
    upstream = answering(200, b'{ "input_tokens" : 12 }')
    made = model(upstream)
    end = await made.count_tokens(BODY, {"anthropic-beta": "x"}, beta=True)
    assert end.body == b'{ "input_tokens" : 12 }' and end.status == 200
    assert upstream.requests[0].content == BODY and upstream.requests[0].url.path == "/v1/messages/count_tokens"
    refused = await model(answering(400, b'{"error":{}}')).count_tokens(BODY, {}, beta=False)
    assert (refused.status, refused.body) == (400, b'{"error":{}}')


async def test_of_a_call_only_what_is_counted_is_sent_to_be_counted() -> None:
    sent = b'{"model": "m", "max_tokens":5,"stream" : true,"system":[ "\\u00e9" ], "temperature":1, "messages": [1.50]}'
    assert countable(sent) == b'{"model":"m","system":[ "\\u00e9" ],"messages":[1.50]}'
    made = model(StubMessagesApi())
    hello = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hello wo"}]}'
    assert (await made.count_tokens(hello, {}, beta=False)).status == 400
    assert (await made.count_tokens(countable(hello), {}, beta=False)).counted == 2


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (200, b""), (400, b'{"input_tokens":5}')])
async def test_what_is_no_count_is_none(status: int, body: bytes) -> None:
    assert RelayEnd(status, {}, body, None).counted is None
    with pytest.raises(TransientError):
        await model(answering(status, body)).prompt_tokens("x", model="m", max_tokens=None)


@pytest.mark.parametrize("max_tokens", [None, 100])
async def test_a_prompt_of_ours_is_counted_as_it_would_be_sent(max_tokens: int | None) -> None:
    upstream, api = answering(200, b'{"input_tokens":77}'), answering(200, b"{}")
    made = model(upstream)
    assert await made.prompt_tokens("say hello", model=MODEL, max_tokens=max_tokens) == 77
    with pytest.raises(TransientError):
        await (
            model(api).evaluate("say hello", model=MODEL)
            if max_tokens is None
            else model(api).complete("say hello", model=MODEL, max_tokens=max_tokens)
        )
    assert upstream.requests[0].content == countable(api.requests[0].content)
    assert await StubProvider(StubMessagesApi()).prompt_tokens("say hello", model=MODEL, max_tokens=max_tokens) > 10
