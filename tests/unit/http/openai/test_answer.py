"""Answers of the Messages API as chat completions, whole and streamed, and its refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.openai.answer import completion
from satmeter.http.openai.stream import ChatStream
from satmeter.http.translation.provider_errors import of_provider
from satmeter.http.upstreams.provider_call import UnreadableAnswerError
from tests.helpers.anthropic_streams import FIRST_USAGE, MODEL, STOP, block, change, delta, error, sse, start

Json = dict[str, Any]
AT_S = 1_790_000_000
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
USAGE = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}
SHOWN_USAGE = {
    "prompt_tokens": 17,
    "completion_tokens": 20,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def message(*content: Json, **fields: Any) -> bytes:
    shown = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}
    return json.dumps({**shown, "content": list(content), "usage": USAGE, **fields}).encode()


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def tool_use(name: str, arguments: Json) -> Json:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}


def whole(*content: Json, **fields: Any) -> Json:
    shown: Json = json.loads(completion(message(*content, **fields), AT_S, {}))
    return shown


def chunks(stream: bytes, *, include_usage: bool = False) -> list[Json]:
    chat = ChatStream(MODEL, AT_S, include_usage=include_usage)
    read = (chat.read(stream) + (chat.end(COST) if chat.ended else b"")).decode()
    assert read.endswith("\n\n") or not read
    return [json.loads(event.removeprefix("data: ")) for event in read.split("\n\n")[:-1]]


def deltas(stream: bytes) -> list[Json]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(stream)]


# Whole


def test_a_whole_answer_has_all_that_a_completion_has() -> None:
    assert whole(text("Hello, "), {"type": "thinking", "thinking": "…", "signature": "x"}, text("world")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": AT_S,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, world", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": SHOWN_USAGE,
    }


def test_calls_of_tools_come_beside_the_text_or_without_any() -> None:
    (choice,) = whole(text("I look."), tool_use("weather", {"city": "Rome"}), stop_reason="tool_use")["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look."
    (call,) = choice["message"]["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("toolu_weather", "function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    assert whole(tool_use("clock", {}))["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("of a later version", "stop"),
        (None, "stop"),
    ],
)
def test_each_end_has_its_word(stop_reason: str | None, finish_reason: str) -> None:
    assert whole(text("x"), stop_reason=stop_reason)["choices"][0]["finish_reason"] == finish_reason


def test_a_refusal_says_why() -> None:
    declined = whole(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "It is harmful."})
    assert declined["choices"][0]["message"] == {"role": "assistant", "content": "", "refusal": "It is harmful."}
    assert whole(stop_reason="refusal")["choices"][0]["message"]["refusal"]


def test_thoughts_are_counted_and_usage_that_can_t_be_read_is_none() -> None:
    usage = whole(text("x"), usage={**USAGE, "output_tokens_details": {"thinking_tokens": 5}})["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 5}
    unreadable: Any
    for unreadable in (None, [], {"input_tokens": "many"}):
        assert whole(text("x"), usage=unreadable)["usage"]["total_tokens"] == 0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id": 1}', b"[" * 100_000])
def test_an_answer_that_is_none_is_no_completion(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        completion(body, AT_S, {})


# Streamed


def test_a_streamed_answer_begins_with_the_role_and_ends_with_the_reason() -> None:
    stream = sse(start(), block(), {"type": "ping"}, delta("Hel"), delta("lo"), change("max_tokens"), STOP)
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": AT_S, "model": MODEL}
    assert chunks(stream) == [
        {**head, "choices": [{"index": 0, "delta": shown, "logprobs": None, "finish_reason": ended}]}
        for shown, ended in [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "Hel"}, None),
            ({"content": "lo"}, None),
            ({}, "length"),
        ]
    ]


def test_the_usage_comes_last_and_without_a_choice_to_whom_asks_for_it() -> None:
    *others, last = chunks(sse(start(), block(), delta("x"), change(), STOP), include_usage=True)
    assert all(chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"] == {**SHOWN_USAGE, **COST}


def test_what_the_last_figures_leave_out_is_as_the_first_ones_said() -> None:
    later = {"output_tokens": 9, "input_tokens": 11, "cache_read_input_tokens": None}
    last = chunks(sse(start(FIRST_USAGE), change(usage=later), STOP), include_usage=True)[-1]
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (18, 9)


def test_calls_of_tools_are_streamed_piece_by_piece() -> None:
    def piece(index: int, text: str) -> Json:
        return {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "input_json_delta", "partial_json": text},
        }

    def stop(index: int) -> Json:
        return {"type": "content_block_stop", "index": index}

    stream = sse(
        start(),
        block("thinking", 0, thinking=""),
        delta("never shown", 0, "thinking_delta"),
        block("tool_use", 1, id="toolu_a", name="weather", input={}),
        piece(1, ""),
        piece(1, '{"city": '),
        piece(1, '"Rome"}'),
        stop(1),
        block("tool_use", 2, id="toolu_b", name="clock", input={}),
        stop(2),
        change("tool_use"),
        STOP,
    )

    def begun(number: int, call_id: str, name: str) -> Json:
        return {"index": number, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}

    assert deltas(stream)[1:-1] == [
        {"tool_calls": [begun(0, "toolu_a", "weather")]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]},
        {"tool_calls": [begun(1, "toolu_b", "clock")]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


def test_a_refusal_in_a_stream_says_why() -> None:
    ended = change("refusal")
    ended["delta"]["stop_details"] = {"type": "refusal", "explanation": "It is harmful."}
    assert deltas(sse(start(), ended, STOP))[1:] == [{"refusal": "It is harmful."}, {}]


def test_a_text_that_a_block_begins_with_is_not_lost() -> None:
    assert deltas(sse(start(), block(text="Hel"), delta("lo"), change(), STOP))[1:-1] == [
        {"content": "Hel"},
        {"content": "lo"},
    ]


@pytest.mark.parametrize(
    "noise",
    [
        b"data: {broken\n\n",
        b"data: [1]\n\n",
        b": a comment\n\n",
        b"event: only a name\n\n",
        sse({"type": "of_a_later_version", "index": 0}),
        sse({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}),
        sse({"type": "content_block_delta", "index": 9, "delta": {"type": "input_json_delta", "partial_json": "{}"}}),
        sse(error("overloaded_error")),
    ],
)
def test_what_is_not_part_of_the_answer_is_passed_over(noise: bytes) -> None:
    first, second = sse(start(), block(), delta("a")), sse(delta("b"), change(), STOP)
    assert chunks(first + noise + second) == chunks(first + second)


def test_it_has_ended_only_with_the_last_event() -> None:
    stream = ChatStream(MODEL, AT_S, include_usage=False)
    stream.read(sse(start(), block(), delta("a"), change()))
    assert not stream.ended
    stream.read(sse(STOP))
    assert stream.ended
    assert stream.read(sse(delta("after the end"))) == b""


def test_one_that_was_cut_off_ends_as_one_that_was_too_long() -> None:
    stream = ChatStream(MODEL, AT_S, include_usage=True)
    stream.read(sse(start(), block(), delta("a")))
    *_, last, usage = stream.end(COST).decode().split("\n\n")[:-1]
    assert json.loads(last.removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    assert json.loads(usage.removeprefix("data: "))["usage"]["prompt_tokens"] == 17
    assert stream.ended


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    stream = ChatStream(MODEL, AT_S, include_usage=False)
    for _ in range(60):
        stream.read(b"x" * 100_000)
    assert len(stream._reader._line) <= 4 << 20


# Refusals


def test_what_the_provider_says_of_a_request_is_passed_on() -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "tools: too many"}})
    assert of_provider(400, body.encode(), "req_1") == {
        "error": {
            "message": "tools: too many",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_request_error",
        },
        "code": "invalid_request",
        "requestId": "req_1",
        "retryAction": "stop",
        "paymentState": "unused",
        "fields": [{"path": "", "message": "tools: too many"}],
    }
    large = of_provider(413, b"<html>", "req_1")
    assert large["code"] == "body_too_large" and large["error"]["code"] == "context_length_exceeded"
    assert large["error"]["message"]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "prompt is too long: 213462 tokens > 200000 maximum",
            (
                "This model's maximum context length is 200000 tokens. However, your messages resulted in 213462 "
                "tokens. Please reduce the length of the messages."
            ),
        ),
        (
            (
                "input length and `max_tokens` exceed context limit: 198000 + 21333 > 200000, decrease input length or "
                "`max_tokens` and try again"
            ),
            (
                "This model's maximum context length is 200000 tokens. However, you requested 219333 tokens (198000 in "
                "the messages, 21333 in the completion). Please reduce the length of the messages or completion."
            ),
        ),
        ("prompt is too long for words of ours", "prompt is too long for words of ours"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_in_openai_s_words(message: str, told: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    error = of_provider(400, body.encode(), "req_1")["error"]
    assert (error["code"], error["message"]) == ("context_length_exceeded", told)
