"""Relayed calls at an upstream of chat completions: to the byte there and back, and what of it is counted."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

import pytest

from satmeter.actors.domain.llm.relays import RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.ports import ModelError, PortError, ToldError, TransientError
from tests.helpers.chat_upstream import (
    BODY,
    COUNTED,
    DONE,
    JSON,
    MODEL,
    SECRET,
    SSE,
    STOP,
    USAGE,
    WHOLE_STREAM,
    Answer,
    FakeHttp,
    answering,
    choice,
    chunk,
    data_of,
    message,
    parts_of,
    provider,
    reported,
    sse,
    streaming,
)


def end_of(parts: list[RelayPart]) -> RelayEnd:
    end = parts[-1]
    assert isinstance(end, RelayEnd)
    return end


async def test_the_body_goes_there_to_the_byte_with_our_key() -> None:
    http = FakeHttp(streaming(sse(*WHOLE_STREAM)))
    made = provider(http)
    headers = {"x-thing": "1", "authorization": "Bearer of-the-client"}
    async for _ in made.relay(BODY, headers, model=MODEL, beta=False, stream=True):
        pass
    (sent,) = http.sent
    assert (sent.url, sent.body) == ("http://upstream.test/v1/chat/completions", BODY)
    assert sent.headers == {"authorization": "Bearer sk-test", "content-type": "application/json"}, "no client's own"


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_a_stream_comes_back_to_the_byte_however_it_is_cut(size: int, newline: str) -> None:
    sent = b": OPENROUTER PROCESSING\n\n" + sse(*WHOLE_STREAM, newline=newline)
    parts = await parts_of(streaming(*(sent[at : at + size] for at in range(0, len(sent), size))))
    assert data_of(parts) == sent
    assert parts[0] == RelayBegun({"content-type": SSE})
    end = end_of(parts)
    assert (end.status, end.body, end.usage, end.given_tokens) == (200, b"", Usage(18, 16), 16)
    given = "".join(part.given for part in parts if isinstance(part, RelaySoFar))
    assert given == "Héllo, wörld 🌍"


async def test_bytes_go_on_as_they_come_and_are_not_collected() -> None:
    answer = streaming(sse(WHOLE_STREAM[0]), sse(WHOLE_STREAM[1]), hangs=True)
    async with aclosing(provider(answer).relay(BODY, {}, model=MODEL, beta=False, stream=True)) as parts:
        found = [await anext(parts) for _ in range(5)]
    assert data_of(found) == sse(*WHOLE_STREAM[:2])
    assert found[-1] == RelaySoFar(None, "Héllo, ", reported=reported(), counts_last=True)
    assert answer.closed == 1


async def test_what_is_counted_is_told_along_the_way() -> None:
    steps = (chunk(choice("a"), usage={**USAGE, "completion_tokens": 1}), chunk(choice("b"), usage=None), STOP, COUNTED)
    answer = streaming(*(sse(event) for event in (*steps, DONE)))
    counted = [part for part in await parts_of(answer) if isinstance(part, RelaySoFar)]
    begun = {**USAGE, "completion_tokens": 1}
    assert counted == [
        RelaySoFar(Usage(18, 16), "a", final=True, reported=reported(begun), counts_last=True),
        RelaySoFar(Usage(18, 16), "b", reported=reported(begun, partial=True), counts_last=True),
        RelaySoFar(Usage(18, 16), pauses=True, reported=reported(begun, partial=True), counts_last=True),
        RelaySoFar(Usage(18, 16), final=True, pauses=True, reported=reported(USAGE), counts_last=True),
        RelaySoFar(Usage(18, 16), final=True, pauses=True, reported=reported(USAGE), counts_last=True),
    ]


@pytest.mark.parametrize(
    "event",
    [
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b'data: {"choices":[5, {"index":"0","delta":7}, {"delta":{"content":{"a":1},"tool_calls":[1]}}]}\n\n',
        b"data: " + b"[" * 200_000 + b"\n\n",
        b": hm\n\n",
        b"event: ping\n\n",
        b"data:\n\n",
    ],
)
async def test_what_cannot_be_read_is_passed_on_all_the_same(event: bytes) -> None:
    parts = await parts_of(streaming(sse(WHOLE_STREAM[0]), event, sse(*WHOLE_STREAM[1:])))
    assert event in data_of(parts)
    assert end_of(parts).usage == Usage(18, 16)


USAGES: list[tuple[str, list[Any], Usage | None]] = [
    ("null in all but the last", [chunk(choice("x"), usage=None), {**STOP, "usage": None}, COUNTED], Usage(18, 16)),
    ("on the last chunk (Ollama, OpenRouter)", [chunk(choice("x")), {**STOP, "usage": USAGE}], Usage(18, 16)),
    (
        "Groq",
        [chunk(choice("x")), {**STOP, "x_groq": {"id": "req_1", "usage": {**USAGE, "total_time": 0.1}}}],
        Usage(18, 16),
    ),
    ("Groq, both ways", [chunk(choice("x")), {**STOP, "x_groq": {"usage": USAGE}}, COUNTED], Usage(18, 16)),
    (
        "llama.cpp, n=2",
        [chunk(choice("x")), chunk(choice("y", 1)), chunk(choice(finish="stop", index=1)), COUNTED, STOP, COUNTED],
        Usage(18, 32),
    ),
    (
        "vLLM, in every chunk",
        [
            chunk(choice("x"), usage={"prompt_tokens": 18, "total_tokens": 19, "completion_tokens": 1}),
            chunk(choice("y", finish="stop"), usage={"prompt_tokens": 18, "total_tokens": 20, "completion_tokens": 2}),
            chunk(usage={"prompt_tokens": 18, "total_tokens": 20, "completion_tokens": 2}),
        ],
        Usage(18, 2),
    ),
    ("thoughts alone", [chunk(choice(None, reasoning_content="hm")), STOP, COUNTED], Usage(18, 16)),
    (
        "a tier of its own",
        [chunk(choice("x"), service_tier="flex"), STOP, COUNTED],
        Usage(18, 16, billed_as=("service_tier_flex",)),
    ),
    ("missing", [chunk(choice("x")), STOP], None),
    ("null", [chunk(choice("x")), {**STOP, "usage": None}], None),
    ("zero", [chunk(choice("x")), STOP, chunk(usage={"prompt_tokens": 18, "completion_tokens": 0})], None),
    ("words", [chunk(choice("x")), STOP, chunk(usage="many")], None),
    ("half", [chunk(choice("x")), STOP, chunk(usage={"prompt_tokens": 18})], None),
    ("without a finish_reason", [chunk(choice("x")), COUNTED], Usage(18, 16)),
]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(("events", "usage"), [row[1:] for row in USAGES], ids=[row[0] for row in USAGES])
async def test_usage_wherever_it_is(events: list[Any], usage: Usage | None, done: bool) -> None:
    end = end_of(await parts_of(streaming(sse(*events, *([DONE] if done else [])))))
    assert end.usage == usage
    assert end.given_tokens == (1 if usage is None else usage.output_tokens)


async def test_usage_behind_the_last_line_counts() -> None:
    sent = sse(chunk(choice("x")), STOP, DONE), sse(COUNTED)
    parts = await parts_of(streaming(*sent))
    assert (data_of(parts), end_of(parts).usage) == (b"".join(sent), Usage(18, 16))


async def test_a_last_line_without_its_end_counts() -> None:
    sent = sse(chunk(choice("x")), STOP, COUNTED).rstrip()
    parts = await parts_of(streaming(sent))
    assert (data_of(parts), end_of(parts).usage) == (sent, Usage(18, 16))


@pytest.mark.parametrize(
    ("delta", "given"),
    [
        ({"reasoning_content": "a thought"}, "a thought"),
        ({"reasoning": "a thought", "reasoning_content": "a thought"}, "a thought"),
        ({"content": "", "reasoning": "a thought", "reasoning_details": [{"text": "a thought"}]}, "a thought"),
        ({"refusal": "I can't."}, "I can't."),
        ({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "weather", "arguments": "{"}}]}, "weather{"),
        ({"tool_calls": [{"index": 0, "function": {"arguments": '"a"}'}}]}, '"a"}'),
        ({"function_call": {"name": "weather", "arguments": "{}"}}, "weather{}"),
        ({"content": [{"type": "text", "text": "parts"}]}, "parts"),
    ],
)
async def test_all_that_is_billed_as_output_counts_as_given(delta: dict[str, Any], given: str) -> None:
    parts = await parts_of(streaming(sse(chunk(choice(**delta)), STOP, DONE)))
    assert "".join(part.given for part in parts if isinstance(part, RelaySoFar)) == given
    assert end_of(parts).given_tokens > 0 and not end_of(parts).declined


async def test_a_filter_that_lets_nothing_out_is_declined_unless_it_is_billed() -> None:
    filtered = chunk(choice(finish="content_filter"))
    assert end_of(await parts_of(streaming(sse(filtered, DONE)))).declined
    counted = chunk(usage={"prompt_tokens": 18, "completion_tokens": 0, "total_tokens": 18})
    end = end_of(await parts_of(streaming(sse(filtered, counted, DONE))))
    assert (end.declined, end.usage) == (False, Usage(18, 0))
    whole = message(None, usage=None, finish="content_filter")
    assert end_of(await parts_of(answering(200, whole), stream=False)).declined


# Whole


async def test_a_whole_answer_comes_back_to_the_byte_with_its_usage() -> None:
    body = json.dumps(message("h\u00e9"), indent=1).encode()
    (end,) = await parts_of(answering(200, body, **{"x-request-id": "theirs"}), stream=False)
    told = reported(json.dumps(USAGE, indent=1).replace("\n", "\n "), provider_id="theirs")
    assert end == RelayEnd(200, {"content-type": JSON}, body, Usage(18, 16), 16, reported=told)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None}, {"prompt_tokens": 18}, {"prompt_tokens": 18, "completion_tokens": 0}]
)
async def test_a_whole_answer_without_readable_usage_is_an_answer(usage: Any) -> None:
    (end,) = await parts_of(answering(200, message("x" * 40, usage)), stream=False)
    assert isinstance(end, RelayEnd) and (end.usage, end.declined) == (None, False) and end.given_tokens > 0


async def test_all_choices_of_a_whole_answer_are_given() -> None:
    body = message("one", None, tool_calls=[{"function": {"name": "f", "arguments": {"a": 1}}}])
    body["choices"].append({"message": {"content": "two", "reasoning_content": "hm"}})
    (end,) = await parts_of(answering(200, body), stream=False)
    (alone,) = await parts_of(answering(200, message("one", None)), stream=False)
    assert isinstance(end, RelayEnd) and isinstance(alone, RelayEnd) and end.given_tokens > alone.given_tokens


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"[]", b'{"choices":[]}', b'{"choices":[{"text":"x"}],"usage":{}}', b"[" * 9_999],
)
async def test_a_whole_answer_that_is_no_chat_completion_is_a_failure(body: bytes) -> None:
    with pytest.raises(TransientError, match="not a chat completion"):
        await parts_of(answering(200, body), stream=False)


@pytest.mark.parametrize("body", [b"<html>", b": hello\n\n", b"data: [DONE]\n\n", b"x" * (5 << 20), b'{"choices":[]}'])
async def test_of_a_stream_that_is_no_chat_completion_nothing_is_given(body: bytes) -> None:
    found: list[RelayPart] = []
    with pytest.raises(TransientError, match="not a chat completion"):
        await parts_of(streaming(body[:3], body[3:]), found=found)
    assert found == []


# Refusals and failures

INVALID = {"error": {"message": SECRET, "type": "invalid_request_error", "code": 400}}
TOO_LONG = {"error": {"code": 400, "message": SECRET, "type": "exceed_context_size_error", "n_ctx": 2048}}
OPENAI_TOO_LONG = {"error": {"message": SECRET, "type": "invalid_request_error", "code": "context_length_exceeded"}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_is_wrong_with_a_body_is_told_in_the_upstream_s_words(status: int, stream: bool) -> None:
    (end,) = await parts_of(answering(status, INVALID), stream=stream)
    assert end == RelayEnd(status, {"content-type": JSON}, json.dumps(INVALID).encode(), None)


@pytest.mark.parametrize("error", [INVALID, TOO_LONG, OPENAI_TOO_LONG])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_with_status_200_is_a_refusal_with_its_own(error: dict[str, Any], stream: bool) -> None:
    answers = [answering(200, error)]
    if stream:
        answers += [streaming(sse(error, DONE)), streaming(sse(chunk(**error))), streaming(b": hm\n\n", sse(error))]
        answers.append(streaming(b"error: " + json.dumps(error).encode() + b"\n\n"))
    for answer in answers:
        (end,) = await parts_of(answer, stream=stream)
        assert isinstance(end, RelayEnd) and (end.status, json.loads(end.body)) == (400, error)
        assert end.headers == {"content-type": "application/json"}


FAILURES: list[tuple[str, Answer, ModelFault]] = [
    ("key", answering(401, {"error": {"message": SECRET, "code": "invalid_api_key"}}), ModelFault.REFUSED),
    ("credit", answering(402, {"error": {"message": SECRET, "code": 402}}), ModelFault.REFUSED),
    ("right", answering(403, SECRET), ModelFault.REFUSED),
    ("quota", answering(429, {"error": {"code": "insufficient_quota"}}), ModelFault.REFUSED),
    ("a key, by a 400", answering(400, {"error": {"code": "invalid_api_key"}}), ModelFault.REFUSED),
    ("limit", answering(429, {"error": {"message": SECRET}}), ModelFault.LIMITED),
    ("loading", answering(503, {"error": {"code": 503, "type": "unavailable_error"}}), ModelFault.UNAVAILABLE),
    ("gateway", answering(502, b"<html>"), ModelFault.UNAVAILABLE),
    ("broken", answering(500, {"error": {"code": 500, "message": SECRET}}), ModelFault.FAILING),
    ("overloaded", answering(529, b""), ModelFault.OVERLOADED),
    ("OpenRouter, in the stream", streaming(sse({"error": {"code": 502, "message": SECRET}})), ModelFault.UNAVAILABLE),
    ("LiteLLM, in the stream", streaming(sse({"error": {"code": "429", "message": SECRET}})), ModelFault.LIMITED),
    ("vLLM, in the stream", streaming(sse({"object": "error", "message": SECRET, "code": 401})), ModelFault.REFUSED),
    ("words alone", answering(200, {"error": SECRET}), ModelFault.FAILING),
    ("in a choice", streaming(sse(chunk({**choice(""), "error": {"code": 502}}))), ModelFault.UNAVAILABLE),
]


@pytest.mark.parametrize(("answer", "fault"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
async def test_what_is_not_the_client_s_fault_is_nothing_for_a_client(answer: Answer, fault: ModelFault) -> None:
    found: list[RelayPart] = []
    with pytest.raises(ModelError) as caught:
        await parts_of(answer, stream=answer.status == 200, found=found)
    assert (caught.value.fault, caught.value.answered, found) == (fault, True, [])
    assert SECRET not in str(caught.value) and caught.value.__context__ is None


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 502, "message": SECRET}},
        {"error": {"type": "invalid_request_error", "message": SECRET}},
        {**chunk({**choice(""), "finish_reason": "error"}), "error": {"code": 502, "message": SECRET}},
    ],
)
async def test_an_error_in_the_middle_is_passed_on_and_told(error: dict[str, Any]) -> None:
    found: list[RelayPart] = []
    sent = sse(chunk(choice("x")))
    with pytest.raises(ToldError) as caught:
        await parts_of(streaming(sent, sse(error), sse(DONE)), found=found)
    assert data_of(found) == sent + sse(error) and SECRET not in str(caught.value)


@pytest.mark.parametrize("code", [502, 400])
async def test_an_answer_that_breaks_off_in_its_first_bytes_was_given(code: int) -> None:
    """Else another upstream would write it once more, and a client would get nothing of what is billed."""
    found: list[RelayPart] = []
    sent = sse(chunk(choice("x")), {"error": {"code": code, "message": SECRET}})
    with pytest.raises(ToldError):
        await parts_of(streaming(sent), found=found)
    assert data_of(found) == sent


@pytest.mark.parametrize("sent", [(chunk(choice("x")),), (chunk(choice("x")), chunk(choice(index=1, text="y")), STOP)])
async def test_a_stream_that_just_ends_in_the_middle_is_broken(sent: tuple[dict[str, Any], ...]) -> None:
    found: list[RelayPart] = []
    with pytest.raises(ModelError, match="before its end") as caught:
        await parts_of(streaming(sse(*sent)), found=found)
    assert (caught.value.fault, caught.value.answered) == (ModelFault.FAILING, False)
    assert data_of(found) == sse(*sent)


async def test_a_stream_without_an_end_of_its_body_ends_with_its_last_line() -> None:
    answer = streaming(sse(*WHOLE_STREAM), hangs=True)
    async with asyncio.timeout(5):
        parts = await parts_of(answer)
    assert end_of(parts).usage == Usage(18, 16) and answer.closed == 1


async def test_every_way_of_leaving_closes_the_exchange() -> None:
    for answer in (streaming(sse(*WHOLE_STREAM)), streaming(b"x"), answering(500, b""), answering(200, message())):
        with suppress(PortError):
            await parts_of(answer, stream=answer.headers["content-type"] == SSE)
        assert answer.closed == 1


async def test_an_empty_chunk_changes_nothing() -> None:
    parts = await parts_of(streaming(b"", sse(*WHOLE_STREAM[:2]), b"", sse(*WHOLE_STREAM[2:]), b""))
    assert data_of(parts) == sse(*WHOLE_STREAM)
    assert all(part.data for part in parts if isinstance(part, RelayBytes))
