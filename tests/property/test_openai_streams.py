"""A streamed answer and a whole one are the same message, however the stream's bytes are cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.http.openai.answer import completion
from satmeter.http.openai.stream import ChatStream
from tests.helpers.anthropic_streams import MODEL, sse

Json = dict[str, Any]
AT_S = 1_790_000_000

words = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
PIECES: dict[str, tuple[str, str, Json]] = {
    "text": ("text", "text_delta", {"text": ""}),
    "thinking": ("thinking", "thinking_delta", {"thinking": ""}),
    "tool_use": ("partial_json", "input_json_delta", {"input": {}}),
}
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, words),
    st.builds(lambda thought: {"type": "thinking", "thinking": thought, "signature": "s"}, words),
    st.builds(
        lambda number, given: {"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": given},
        st.integers(0, 99),
        st.dictionaries(words, values, max_size=3),
    ),
)
counts = st.none() | st.integers(0, 10_000)


@st.composite
def messages(draw: st.DrawFn) -> Json:
    stop_reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence"]))
    return {
        "id": draw(st.sampled_from(["msg_1", "msg_01Abc"])),
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": draw(st.lists(blocks, max_size=4)),
        "stop_reason": stop_reason,
        "stop_details": {"type": "refusal", "explanation": draw(st.none() | words)}
        if stop_reason == "refusal"
        else None,
        "usage": {
            "input_tokens": draw(st.integers(0, 10_000)),
            "output_tokens": draw(st.integers(0, 10_000)),
            "cache_read_input_tokens": draw(counts),
            "cache_creation_input_tokens": draw(counts),
        },
    }


def cut(text: str | bytes, places: list[int]) -> Iterator[Any]:
    """Cut the text at these places."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return (text[begin:end] for begin, end in pairwise(edges))


def events(message: Json, places: list[int]) -> Iterator[Json]:
    """The message as the Messages API streams it."""
    usage = message["usage"]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(message["content"]):
        field, kind, begins = PIECES[block["type"]]
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **begins}}
        given = json.dumps(block["input"]) if block["type"] == "tool_use" else block[field]
        for piece in cut(given if given != "{}" else "", places):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}}
        yield {"type": "content_block_stop", "index": index}
    ended = {name: message[name] for name in ("stop_reason", "stop_details")}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def gathered(translated: bytes) -> Json:
    """The chunks put together again, as OpenAI's SDKs do it."""
    chunks = [json.loads(event.removeprefix("data: ")) for event in translated.decode().split("\n\n")[:-1]]
    *spoken, last = chunks
    message: Json = {"content": "", "refusal": None}
    calls: list[Json] = []
    for chunk in spoken:
        delta = chunk["choices"][0]["delta"]
        message["role"] = delta.get("role", message.get("role"))
        message["content"] += delta.get("content", "")
        message["refusal"] = delta.get("refusal", message["refusal"])
        for call in delta.get("tool_calls", []):
            if "id" in call:
                assert call["index"] == len(calls)
                calls.append({name: call[name] for name in ("id", "type", "function")})
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    head = {name: last[name] for name in ("id", "created", "model", "usage")}
    return {**head, "message": message, "finish_reason": spoken[-1]["choices"][0]["finish_reason"]}


def expected(message: Json) -> Json:
    whole = json.loads(completion(json.dumps(message).encode(), AT_S, {}))
    (choice,) = whole["choices"]
    choice["message"]["content"] = choice["message"]["content"] or ""
    head = {name: whole[name] for name in ("id", "created", "model", "usage")}
    return {**head, "message": choice["message"], "finish_reason": choice["finish_reason"]}


def comparable(shown: Json) -> Json:
    """Arguments are JSON: what counts is what they say."""
    for call in shown["message"].get("tool_calls", []):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return shown


@settings(max_examples=200, deadline=None)
@given(messages(), st.lists(st.integers(0, 5_000), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_stream_says_what_the_whole_answer_says_wherever_it_is_cut(
    message: Json, places: list[int], newline: str
) -> None:
    sent = sse(*events(message, places), newline=newline)
    stream = ChatStream(MODEL, AT_S, include_usage=True)
    translated = b"".join(stream.read(piece) for piece in cut(sent, places))
    assert stream.ended
    assert translated == ChatStream(MODEL, AT_S, include_usage=True).read(sent), "borders show"
    translated += stream.end({})
    assert comparable(gathered(translated)) == comparable(expected(message))


@settings(max_examples=50, deadline=None)
@given(messages())
def test_nothing_is_held_back_that_has_come(message: Json) -> None:
    stream = ChatStream(MODEL, AT_S, include_usage=False)
    for event in events(message, [3, 6]):
        shown = stream.read(sse(event))
        piece = event.get("delta", {})
        if piece.get("text") or piece.get("partial_json") or event["type"] == "message_start":
            assert shown, event
